// In a static binary only: what happens when an exception finds no handler. libstdc++ would name its type, and carries
// the demangler for that; this is the variable which it reads, so its own is not linked.
#include <unistd.h>

#include <cstdlib>
#include <exception>

namespace {

[[noreturn]] void say_so_and_abort() {
  constexpr char message[] =
      "sluice: error: this is a bug in sluice, please report it: an exception without a handler\n";
  // Nothing can be done where this cannot be written.
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, message, sizeof message - 1);
  std::abort();
}

}  // namespace

namespace __cxxabiv1 {  // NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the library's name for it
extern std::terminate_handler __terminate_handler;
std::terminate_handler __terminate_handler = say_so_and_abort;
}  // namespace __cxxabiv1
