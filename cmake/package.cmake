# Where `cmake --install` puts things, and the Debian package that CPack makes of them.
include(GNUInstallDirs)
# Debian's zsh looks there; others want share/zsh/site-functions.
set(SLUICE_ZSH_FOLDER ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions CACHE STRING "Folder of zsh completions")

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME sluice)
set(CPACK_PACKAGE_CONTACT "The sluice developers <sluice@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY ${PROJECT_DESCRIPTION})
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION
"A pod's init container runs sluice to program its network namespace, so that its TCP goes through a sidecar proxy.
 It writes nftables rules over netlink, in one transaction, and says why a connection is or is not captured.")
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
# The static binary depends on nothing.
if(NOT SLUICE_STATIC)
  set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
endif()
include(CPack)
