# One interface target carries every flag, so that a folder's CMakeLists.txt says only what it links.
if(NOT SLUICE_STATIC)
  # Lets CMake add -pie to the link. Not beside -static-pie: the -pie would come last, win, and leave a
  # dynamically linked binary without a word.
  include(CheckPIESupported)
  check_pie_supported(LANGUAGES CXX)
endif()
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

add_library(sluice_flags INTERFACE)
target_include_directories(sluice_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(sluice_flags INTERFACE
  -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Wnon-virtual-dtor -Werror)

if(SLUICE_SANITIZE)
  target_compile_options(sluice_flags INTERFACE
    -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(sluice_flags INTERFACE -fsanitize=address,undefined)
  if(SLUICE_FUZZ)
    # Every library tells the fuzzer where it has been; the fuzzer's own main is linked into its targets only.
    target_compile_options(sluice_flags INTERFACE -fsanitize=fuzzer-no-link)
  endif()
elseif(CMAKE_BUILD_TYPE STREQUAL "Release")
  target_compile_options(sluice_flags INTERFACE
    # The same binary in whatever folder it is built.
    -ffile-prefix-map=${CMAKE_SOURCE_DIR}=.
    -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2 -ffunction-sections -fdata-sections
    # Nothing asks an object for its type. What would be told of every lambda is relocated at every start.
    $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti>)
  target_link_options(sluice_flags INTERFACE -Wl,-z,relro,-z,now,-z,noexecstack -Wl,--gc-sections)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
    # -Os copies even a name of ten letters with `rep movsb`, whose start takes longer than a call of memcpy in all.
    target_compile_options(sluice_flags INTERFACE -mstringop-strategy=libcall)
  endif()
  if(SLUICE_STRIP)
    target_link_options(sluice_flags INTERFACE -Wl,--strip-all)
  endif()
  # What a static program reads at every start, made small: five thousand relocations in their dense form, and, where
  # lld is there, the functions that an apply runs side by side, so that they are a few pages and not a few in each of
  # thirty (`./dev order` writes the list; a name in it that no longer exists is skipped). Functions of the same code
  # are one there: nothing here compares the addresses of functions.
  find_program(SLUICE_LLD ld.lld)
  if(SLUICE_LLD)
    if(CMAKE_CROSSCOMPILING)
      # A compiler for another processor looks for a linker of its own; lld is one for all of them.
      file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/linker)
      file(CREATE_LINK ${SLUICE_LLD} ${CMAKE_BINARY_DIR}/linker/ld.lld SYMBOLIC)
      target_link_options(sluice_flags INTERFACE -B${CMAKE_BINARY_DIR}/linker/)
    endif()
    target_link_options(sluice_flags INTERFACE -fuse-ld=lld -Wl,-O2 -Wl,--icf=all -Wl,--pack-dyn-relocs=relr
      -Wl,--no-warn-symbol-ordering,--symbol-ordering-file=${CMAKE_SOURCE_DIR}/cmake/symbol-order.txt
      # The text begins a window of its own; layout.ld says what a window is.
      -Wl,-T,${CMAKE_SOURCE_DIR}/cmake/layout.ld -Wl,-z,separate-loadable-segments -Wl,-z,max-page-size=65536)
    set_property(TARGET sluice_flags APPEND PROPERTY INTERFACE_LINK_DEPENDS
      ${CMAKE_SOURCE_DIR}/cmake/layout.ld ${CMAKE_SOURCE_DIR}/cmake/symbol-order.txt)
  else()
    target_link_options(sluice_flags INTERFACE -Wl,-z,pack-relative-relocs)
  endif()
endif()

if(SLUICE_STATIC)
  # -static-pie keeps address space randomisation in a binary that needs no loader.
  target_link_options(sluice_flags INTERFACE -static-pie)
  if(EXISTS ${SLUICE_STATIC_LIBS}/libc/libc.a)
    # The C library that static-libs.sh fetched; its header says why.
    target_link_options(sluice_flags INTERFACE -B${SLUICE_STATIC_LIBS}/libc -L${SLUICE_STATIC_LIBS}/libc)
  endif()
endif()
