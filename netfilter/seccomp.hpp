// The filter of system calls. Which of them it allows stands in seccomp/generate.cpp.
#pragma once

#include <string>

namespace sluice::netfilter {

enum class FileAccess { read, read_and_write };

/// From now on a system call that is not in the list ends the process (SIGSYS), here and in whatever it starts; with
/// `read_and_write`, files that exist may also be opened for writing. Needs no_new_privs. Returns why there is no
/// filter: a kernel without seccomp, or a build without it; empty where there is one.
std::string install_seccomp_filter(FileAccess access);

}  // namespace sluice::netfilter
