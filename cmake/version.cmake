# `sluice --version` names the commit it was built from; a tarball without git says "unknown".
find_package(Git QUIET)
set(SLUICE_COMMIT "unknown")
if(Git_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} -C ${CMAKE_SOURCE_DIR} rev-parse --short=12 HEAD
                  OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed ERROR_QUIET)
  if(NOT failed)
    set(SLUICE_COMMIT ${commit})
  endif()
endif()
