// Runs a program and lets one of its system calls come to less than it asked for.
//
//   sluice_cut_short CALL NUMBER LENGTH PROGRAM ARGUMENT...
//
// The NUMBERth CALL of the program reads or writes no more than LENGTH bytes. Of a datagram (recvfrom) the rest is
// lost, as where a buffer is too small; of a file it is there for the next call. Exits as the program does.

#include <elf.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <system_error>

namespace {

// The registers of a call: its third argument is how many bytes are wanted, its result how many there were.
#if defined(__x86_64__)
using Registers = user_regs_struct;
unsigned long long& wanted(Registers& registers) { return registers.rdx; }
unsigned long long& result(Registers& registers) { return registers.rax; }
#elif defined(__aarch64__)
using Registers = user_regs_struct;
unsigned long long& wanted(Registers& registers) { return registers.regs[2]; }
unsigned long long& result(Registers& registers) { return registers.regs[0]; }
#else
#error "the registers of this architecture are not known here"
#endif

const std::map<std::string, std::uint64_t> calls = {{"recvfrom", SYS_recvfrom},
                                                    {"read", SYS_read},
                                                    {"pread64", SYS_pread64},
                                                    {"write", SYS_write},
                                                    {"pwrite64", SYS_pwrite64}};

struct Order {
  std::uint64_t call;
  unsigned long number;
  unsigned long long length;
};

void must(long answer, const char* what) {
  if (answer < 0) throw std::system_error(errno, std::generic_category(), what);
}

class Tracee {
 public:
  explicit Tracee(char** command) : process_(fork()) {
    must(process_, "fork");
    if (process_ == 0) {
      ptrace(PTRACE_TRACEME, 0, nullptr, nullptr);
      execvp(command[0], command);
      std::perror(command[0]);
      _exit(127);
    }
    wait();
    if (WIFSTOPPED(status_)) {
      must(ptrace(PTRACE_SETOPTIONS, process_, nullptr, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL), "set options");
    }
  }

  /// Goes on to the next entry into or exit from a system call; false where the program has ended. Other signals are
  /// handed on.
  bool next_stop() {
    for (long signal = 0; !ended(); signal = WSTOPSIG(status_)) {
      must(ptrace(PTRACE_SYSCALL, process_, nullptr, signal), "continue");
      wait();
      if (WIFSTOPPED(status_) && WSTOPSIG(status_) == (SIGTRAP | 0x80)) return true;
      if (WIFSTOPPED(status_) && WSTOPSIG(status_) == SIGTRAP) status_ = 0x7f;  // of exec: not to be handed on
    }
    return false;
  }

  [[nodiscard]] bool enters(std::uint64_t call) const {
    __ptrace_syscall_info info{};
    must(ptrace(static_cast<__ptrace_request>(PTRACE_GET_SYSCALL_INFO), process_, sizeof info, &info), "look");
    return info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == call;
  }

  template <typename Change>
  void change(const Change& change) const {
    Registers registers{};
    iovec place{&registers, sizeof registers};
    must(ptrace(PTRACE_GETREGSET, process_, NT_PRSTATUS, &place), "read the registers");
    change(registers);
    must(ptrace(PTRACE_SETREGSET, process_, NT_PRSTATUS, &place), "write the registers");
  }

  [[nodiscard]] int exit_status() const { return WIFEXITED(status_) ? WEXITSTATUS(status_) : 128 + WTERMSIG(status_); }

 private:
  [[nodiscard]] bool ended() const { return WIFEXITED(status_) || WIFSIGNALED(status_); }
  void wait() { must(waitpid(process_, &status_, 0), "wait"); }

  pid_t process_;
  int status_ = 0;
};

void run(Tracee& program, const Order& order) {
  unsigned long seen = 0;
  while (program.next_stop()) {
    if (!program.enters(order.call) || ++seen != order.number) continue;
    if (order.call != SYS_recvfrom) {
      program.change([&](Registers& registers) { wanted(registers) = std::min(wanted(registers), order.length); });
    } else if (program.next_stop()) {
      program.change([&](Registers& registers) {
        if (static_cast<long long>(result(registers)) > 0)
          result(registers) = std::min(result(registers), order.length);
      });
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const auto call = argc > 4 ? calls.find(argv[1]) : calls.end();
  if (call == calls.end()) {
    std::fputs("usage: sluice_cut_short CALL NUMBER LENGTH PROGRAM ARGUMENT...\n", stderr);
    return 2;
  }
  try {
    Tracee program(argv + 4);
    run(program, {call->second, std::strtoul(argv[2], nullptr, 10), std::strtoull(argv[3], nullptr, 10)});
    return program.exit_status();
  } catch (const std::system_error& error) {
    std::fprintf(stderr, "sluice_cut_short: %s\n", error.what());
    return 2;
  }
}
