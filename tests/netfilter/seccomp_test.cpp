// Each call is made by a child under the real filter: it returns, or the kernel ends the child with SIGSYS.

#include "netfilter/seccomp.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <vector>

using namespace sluice::netfilter;

namespace {

constexpr int filtered = 0;
constexpr int not_filtered = 77;

struct Call {
  const char* name;
  std::function<void()> make;
};

/// How a child ended that made the call under the filter.
int end_of(FileAccess access, const std::function<void()>& make) {
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    prctl(PR_SET_DUMPABLE, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    // doctest's own handlers would report the signal that is expected here.
    for (const int number : {SIGABRT, SIGSEGV}) signal(number, SIG_DFL);
    if (!install_seccomp_filter(access).empty()) _exit(not_filtered);
    make();
    _exit(filtered);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0) REQUIRE(errno == EINTR);
  return status;
}

bool killed_by(int status, int number) { return WIFSIGNALED(status) && WTERMSIG(status) == number; }
bool returned(int status) { return WIFEXITED(status) && WEXITSTATUS(status) == filtered; }

bool there_is_a_filter() {
  const int status = end_of(FileAccess::read, [] {});
  return !(WIFEXITED(status) && WEXITSTATUS(status) == not_filtered);
}

template <typename... Arguments>
std::function<void()> raw(long number, Arguments... arguments) {
  return [=] { syscall(number, arguments...); };
}

std::function<void()> opening(int flags) {
  return [=] { open("/dev/null", flags, 0600); };
}

std::function<void()> opening_socket(int family, int type, int protocol) {
  return [=] { socket(family, type, protocol); };
}

template <typename Address>
std::function<void()> addressing(int family, int (*use)(int, const sockaddr*, socklen_t)) {
  return [=] {
    const int descriptor = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    Address to{};
    use(descriptor, reinterpret_cast<const sockaddr*>(&to), sizeof to);
  };
}

int send_to(int descriptor, const sockaddr* to, socklen_t length) {
  return static_cast<int>(sendto(descriptor, "x", 1, 0, to, length));
}

void use_memory() {
  std::vector<std::string> many;
  for (std::size_t size = 1; size < (64U << 20U); size *= 2) many.emplace_back(size, 'x');
  many.clear();
}

void set_option(int level, int option) {
  const int on = 1;
  setsockopt(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), level, option, &on, sizeof on);
}

void ask_interface(unsigned long request) {
  ifreq interface {};
  ioctl(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), request, &interface);
}

constexpr char program[] = "/bin/true";

}  // namespace

TEST_CASE("what sluice has no use for ends it") {
  if (!there_is_a_filter()) {
    MESSAGE("built without the filter");
    return;
  }
  static char* const no_words[] = {nullptr};
  const std::vector<Call> forbidden = {
      {"execve", [] { execve(program, no_words, no_words); }},
      {"execveat", raw(SYS_execveat, AT_FDCWD, program, no_words, no_words, 0)},
      {"fork", [] { fork(); }},
      {"clone3", raw(SYS_clone3, nullptr, 0)},
      {"TCP over IPv4", opening_socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)},
      {"TCP over IPv6", opening_socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0)},
      {"a raw socket", opening_socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW)},
      {"a packet socket", opening_socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0)},
      {"a UNIX socket", opening_socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)},
      {"another netlink bus", opening_socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC)},
      {"connect over IPv4", addressing<sockaddr_in>(AF_INET, connect)},
      {"bind over IPv4", addressing<sockaddr_in>(AF_INET, bind)},
      {"listening to a netlink group",
       [] {
         sockaddr_nl group{};
         group.nl_family = AF_NETLINK;
         group.nl_groups = 1;
         static_cast<void>(bind(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE),
                                reinterpret_cast<sockaddr*>(&group), sizeof group));
       }},
      {"a datagram over IPv4", addressing<sockaddr_in>(AF_INET, send_to)},
      {"a datagram over IPv6", addressing<sockaddr_in6>(AF_INET6, send_to)},
      {"replacing an iptables table", [] { set_option(IPPROTO_IP, 64); }},
      {"setting an interface's flags", [] { ask_interface(SIOCSIFFLAGS); }},
      {"typing into a terminal", [] { ioctl(0, TIOCSTI, "x"); }},
      {"open for writing", opening(O_WRONLY | O_CLOEXEC)},
      {"open for reading and writing", opening(O_RDWR | O_CLOEXEC)},
      {"making a file", opening(O_RDONLY | O_CREAT | O_CLOEXEC)},
      {"emptying a file", opening(O_RDONLY | O_TRUNC | O_CLOEXEC)},
      {"unlink", [] { unlink("/nowhere/at/all"); }},
      {"rename", [] { rename("/nowhere/at/all", "/nowhere/else"); }},
      {"chmod", [] { chmod("/nowhere/at/all", 0); }},
      {"mount", [] { mount(nullptr, "/nowhere", nullptr, MS_BIND, nullptr); }},
      {"unshare", [] { unshare(CLONE_NEWUSER); }},
      {"setns", [] { setns(-1, 0); }},
      {"ptrace", [] { ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); }},
      {"process_vm_writev", raw(SYS_process_vm_writev, 1, nullptr, 0, nullptr, 0, 0)},
      {"kill", [] { kill(getpid(), 0); }},
      {"a signal other than abort's", raw(SYS_tgkill, getpid(), getpid(), 0)},
      {"prctl", [] { prctl(PR_GET_DUMPABLE); }},
      {"another filter", [] { install_seccomp_filter(FileAccess::read); }},
      {"capset", raw(SYS_capset, nullptr, nullptr)},
      {"setuid", raw(SYS_setuid, getuid())},
      {"memory for code",
       [] { static_cast<void>(mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)); }},
      {"code made of memory",
       [] {
         void* page = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         mprotect(page, 4096, PROT_READ | PROT_EXEC);
       }},
      {"bpf", raw(SYS_bpf, 0, nullptr, 0)},
      {"io_uring", raw(SYS_io_uring_setup, 0, nullptr)},
      {"userfaultfd", raw(SYS_userfaultfd, 0)},
      {"a kernel module", raw(SYS_init_module, nullptr, 0, "")},
      {"a number that no kernel knows", raw(100000)},
#ifdef __x86_64__
      {"the same numbers as x32", raw(0x40000000 | SYS_getpid)},
#endif
  };
  for (const FileAccess access : {FileAccess::read, FileAccess::read_and_write}) {
    for (const Call& call : forbidden) {
      // The one thing in which the two differ.
      if (access == FileAccess::read_and_write && std::string(call.name) == "open for writing") continue;
      const bool killed = killed_by(end_of(access, call.make), SIGSYS);
      CHECK_MESSAGE(killed, call.name);
    }
  }
}

TEST_CASE("what sluice does goes on") {
  const std::vector<Call> allowed = {
      {"netfilter's bus", opening_socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER)},
      {"routing's bus", opening_socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)},
      {"a socket to ask with", opening_socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0)},
      {"an interface's flags", [] { ask_interface(SIOCGIFFLAGS); }},
      {"buffers of a socket", [] { set_option(SOL_SOCKET, SO_SNDBUFFORCE); }},
      {"extended ACKs", [] { set_option(SOL_NETLINK, NETLINK_EXT_ACK); }},
      {"reading a file", opening(O_RDONLY | O_CLOEXEC)},
      {"stat",
       [] {
         struct stat status {};
         stat("/", &status);
       }},
      {"access", [] { static_cast<void>(access("/", R_OK)); }},
      {"a link",
       [] {
         char text[8];
         if (readlink("/proc/self/exe", text, sizeof text) < 0) return;
       }},
      {"memory", use_memory},
      {"a failure thrown and caught",
       [] {
         try {
           throw std::runtime_error("x");
         } catch (const std::exception&) {
         }
       }},
      {"waiting",
       [] {
         timespec moment{0, 1};
         nanosleep(&moment, nullptr);
         poll(nullptr, 0, 0);
       }},
      {"saying something",
       [] {
         std::fputs("", stderr);
         std::fflush(stderr);
       }},
      {"what a tracer withheld", raw(-1)},
      {"exit", [] { std::_Exit(filtered); }},
  };
  for (const FileAccess access : {FileAccess::read, FileAccess::read_and_write}) {
    for (const Call& call : allowed) {
      const int status = end_of(access, call.make);
      const bool lives = returned(status) || !there_is_a_filter();
      CHECK_MESSAGE(lives, call.name);
    }
  }
  const int writing = end_of(FileAccess::read_and_write, opening(O_WRONLY | O_CLOEXEC));
  CHECK((returned(writing) || !there_is_a_filter()));
}

TEST_CASE("our own mistakes still end in abort, not in the filter") {
  if (!there_is_a_filter()) return;
  CHECK(killed_by(end_of(FileAccess::read, [] { std::abort(); }), SIGABRT));
  CHECK(killed_by(end_of(FileAccess::read, [] { std::terminate(); }), SIGABRT));
}
