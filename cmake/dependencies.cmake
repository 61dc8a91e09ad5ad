find_package(PkgConfig REQUIRED)
pkg_check_modules(NFTNL REQUIRED libnftnl>=1.2.0)
pkg_check_modules(MNL REQUIRED libmnl>=1.0.4)
find_package(CLI11 REQUIRED)
find_package(spdlog REQUIRED)
find_package(fmt REQUIRED)
# Debian's header-only spdlog still asks for the shared libfmt; the headers of fmt serve it as well, and
# the static binary could not be linked otherwise.
set_target_properties(spdlog::spdlog_header_only PROPERTIES
  INTERFACE_LINK_LIBRARIES "fmt::fmt-header-only;Threads::Threads")
find_package(nlohmann_json REQUIRED)

add_library(sluice_netlink INTERFACE)
target_include_directories(sluice_netlink SYSTEM INTERFACE ${NFTNL_INCLUDE_DIRS} ${MNL_INCLUDE_DIRS})
if(SLUICE_STATIC)
  # What static-libs.sh got first: Debian 12 ships no libmnl.a, and for another processor no archive of this machine's serves.
  # Such an archive has a version of its own.
  foreach(library NFTNL MNL)
    string(TOLOWER lib${library} name)
    find_library(${library}_ARCHIVE ${name}.a REQUIRED HINTS ${SLUICE_STATIC_LIBS})
    if(EXISTS ${SLUICE_STATIC_LIBS}/${name}.version)
      file(STRINGS ${SLUICE_STATIC_LIBS}/${name}.version ${library}_VERSION)
    endif()
  endforeach()
  target_link_libraries(sluice_netlink INTERFACE ${NFTNL_ARCHIVE} ${MNL_ARCHIVE})
else()
  target_link_libraries(sluice_netlink INTERFACE ${NFTNL_LINK_LIBRARIES} ${MNL_LINK_LIBRARIES})
endif()
