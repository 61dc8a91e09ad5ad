# Toolchain file: the release for arm64, built on another machine. Debian's compiler for arm64 brings the C++ library; the C
# library and those of netfilter come from static-libs.sh, and headers without code from this machine.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
# Where this machine's packages of headers say that they are there.
file(GLOB CMAKE_PREFIX_PATH /usr/lib/*-linux-gnu/cmake)
