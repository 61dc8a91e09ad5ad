// Writes the seccomp filters of sluice as C++, with libseccomp, which knows the numbers that each architecture gives
// its system calls. Runs on the machine that builds, so that the program itself needs no library for it and no time to
// make them.
//
//   generate >programs.inc
//
// This list is the whole of what sluice may do once it has dropped its other privileges. Whatever is not in it ends the
// process (SIGSYS). A call that an architecture does not have is left out of that one's filter.

#include <linux/sockios.h>
#include <seccomp.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

// After seccomp.h, which defines what it lacks.
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

namespace {

enum class Files {
  read,          ///< open them to read
  write_as_well  ///< also to write to one that is there, for --close-wait-timeout
};

/// All arguments compared here are 32 bits wide; the upper half of the register may hold anything.
constexpr scmp_datum_t word = 0xffffffffU;

scmp_arg_cmp is(unsigned argument, scmp_datum_t value) { return {argument, SCMP_CMP_MASKED_EQ, word, value & word}; }
scmp_arg_cmp without(unsigned argument, scmp_datum_t bits) { return {argument, SCMP_CMP_MASKED_EQ, bits, 0}; }

void must(int result, const std::string& what) {
  if (result < 0) throw std::runtime_error(what + ": " + std::to_string(-result));
}

class Filter {
 public:
  Filter(std::uint32_t architecture, Files files) : context_(seccomp_init(SCMP_ACT_KILL_PROCESS)) {
    if (context_ == nullptr) throw std::runtime_error("seccomp_init");
    must(seccomp_attr_set(context_, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS), "SCMP_FLTATR_ACT_BADARCH");
    if (architecture != seccomp_arch_native()) {
      must(seccomp_arch_add(context_, architecture), "seccomp_arch_add");
      must(seccomp_arch_remove(context_, SCMP_ARCH_NATIVE), "seccomp_arch_remove");
    }
    kernel_conversation();
    reading(files);
    memory_and_time();
    ending();
  }
  Filter(const Filter&) = delete;
  Filter& operator=(const Filter&) = delete;
  ~Filter() { seccomp_release(context_); }

  [[nodiscard]] std::vector<sock_filter> program() const {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::tmpfile(), std::fclose);
    if (!file) throw std::runtime_error("tmpfile");
    must(seccomp_export_bpf(context_, fileno(file.get())), "seccomp_export_bpf");
    std::rewind(file.get());
    std::vector<sock_filter> instructions = start();
    for (sock_filter one{}; std::fread(&one, sizeof one, 1, file.get()) == 1;) instructions.push_back(one);
    return instructions;
  }

 private:
  /// An instruction that does nothing, and then: a tracer that wants a call not to be made, as strace does to have it
  /// fail, writes the number -1 for it, and the kernel makes none. libseccomp has no rule for that number.
  ///
  /// The first one keeps the kernel from working out in advance what the filter says of each of 900 numbers
  /// (seccomp_cache_prepare gives up at an instruction that it does not know): sluice makes some thirty calls.
  static std::vector<sock_filter> start() {
    return {BPF_STMT(BPF_LDX | BPF_W | BPF_IMM, 0), BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xffffffffU, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  }

  void allow(const char* call, const std::vector<scmp_arg_cmp>& arguments = {}) {
    const int number = seccomp_syscall_resolve_name(call);
    if (number == __NR_SCMP_ERROR) throw std::runtime_error(std::string("no architecture has the system call ") + call);
    must(seccomp_rule_add_array(context_, SCMP_ACT_ALLOW, number, static_cast<unsigned>(arguments.size()),
                                arguments.empty() ? nullptr : arguments.data()),
         call);
  }
  void allow_all(std::initializer_list<const char*> calls) {
    for (const char* call : calls) allow(call);
  }

  void kernel_conversation() {
    for (const int bus : {NETLINK_NETFILTER, NETLINK_ROUTE}) {
      allow("socket", {is(0, AF_NETLINK), is(1, SOCK_RAW | SOCK_CLOEXEC), is(2, static_cast<scmp_datum_t>(bus))});
    }
    // To ask about interfaces and old iptables tables (ioctl, getsockopt). Nothing can be sent through them: an address
    // of IPv4 or IPv6 is longer than what sendto takes here, and neither bind nor connect is allowed.
    for (const int family : {AF_INET, AF_INET6}) {
      allow("socket", {is(0, static_cast<scmp_datum_t>(family)), is(1, SOCK_DGRAM | SOCK_CLOEXEC), is(2, 0)});
    }
    allow("sendto", {is(5, sizeof(sockaddr_nl))});
    allow_all({"recvfrom", "getsockopt"});
    // Buffer sizes and extended ACKs; not iptables' replacing of tables, which is at the level of the IP protocol.
    for (const int level : {SOL_SOCKET, SOL_NETLINK}) allow("setsockopt", {is(1, static_cast<scmp_datum_t>(level))});
    for (const auto request : {SIOCGIFFLAGS, SIOCGIFINDEX, static_cast<int>(NS_GET_USERNS)}) {
      allow("ioctl", {is(1, static_cast<scmp_datum_t>(request))});
    }
    allow("capget");
  }

  void reading(Files files) {
    // Never made, emptied or appended to.
    constexpr scmp_datum_t changing = O_ACCMODE | O_CREAT | O_TRUNC | O_APPEND | (O_TMPFILE & ~O_DIRECTORY);
    allow("openat", {without(2, changing)});
    if (files == Files::write_as_well) allow("openat", {{2, SCMP_CMP_MASKED_EQ, changing, O_WRONLY}});
    allow_all({"read", "write", "writev", "close", "lseek", "fstat", "newfstatat"});
    allow_all({"access", "faccessat", "faccessat2", "readlink", "readlinkat", "poll", "ppoll"});
  }

  void memory_and_time() {
    allow_all({"brk", "munmap", "mremap", "madvise", "futex"});
    // Memory that holds no code.
    allow("mmap", {without(2, PROT_EXEC)});
    allow("mprotect", {without(2, PROT_EXEC)});
    // Where there is no vDSO, the clock is a system call, too.
    allow_all(
        {"clock_gettime", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "restart_syscall", "getrandom"});
  }

  void ending() {
    allow_all({"exit_group", "exit", "rt_sigprocmask", "rt_sigreturn", "getpid", "gettid"});
    allow("tgkill", {is(2, SIGABRT)});
  }

  scmp_filter_ctx context_;
};

void print_program(const char* name, std::uint32_t architecture, Files files) {
  const auto instructions = Filter(architecture, files).program();
  std::printf("inline constexpr sock_filter %s[] = {\n", name);
  for (const sock_filter& one : instructions) {
    std::printf("    {0x%04x, %u, %u, 0x%08x},\n", one.code, one.jt, one.jf, one.k);
  }
  std::printf("};\n");
}

void print_architecture(const char* condition, std::uint32_t architecture) {
  std::printf("#%s\n", condition);
  print_program("reading_program", architecture, Files::read);
  print_program("writing_program", architecture, Files::write_as_well);
}

}  // namespace

int main() {
  try {
    std::printf("// Written by netfilter/seccomp/generate.cpp.\n");
    print_architecture("if defined(__x86_64__) && !defined(__ILP32__)", SCMP_ARCH_X86_64);
    print_architecture("elif defined(__aarch64__) && defined(__LP64__)", SCMP_ARCH_AARCH64);
    std::printf("#else\n#define SLUICE_NO_SECCOMP_PROGRAM\n#endif\n");
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cannot make the seccomp filters: %s\n", error.what());
    return 1;
  }
  return std::fflush(stdout) == 0 ? 0 : 1;
}
