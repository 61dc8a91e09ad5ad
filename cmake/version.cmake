# `sluice --version` names the commit it was built from: what SLUICE_COMMIT in the environment says, for a build without the
# repository, else what git says; a tarball with neither says "unknown".
set(SLUICE_COMMIT "$ENV{SLUICE_COMMIT}")
find_package(Git QUIET)
if(NOT SLUICE_COMMIT AND Git_FOUND)
  set(ask_git ${GIT_EXECUTABLE} -C ${CMAKE_SOURCE_DIR} rev-parse)
  execute_process(COMMAND ${ask_git} --short=12 HEAD OUTPUT_VARIABLE SLUICE_COMMIT OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  execute_process(COMMAND ${ask_git} --git-path logs/HEAD OUTPUT_VARIABLE log OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  # That is written at every commit and checkout: an old build folder must not name an old commit.
  get_filename_component(log "${log}" ABSOLUTE BASE_DIR ${CMAKE_SOURCE_DIR})
  if(SLUICE_COMMIT AND EXISTS ${log})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${log})
  endif()
endif()
if(NOT SLUICE_COMMIT)
  set(SLUICE_COMMIT "unknown")
endif()
