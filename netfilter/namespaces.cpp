#include "netfilter/namespaces.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <optional>

#include "netfilter/errors.hpp"
#include "rules/text.hpp"

namespace sluice::netfilter {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  [[nodiscard]] int number() const { return number_; }

 private:
  int number_;
};

std::string path_of(const std::string& name) {
  const bool digits = std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (digits) return "/proc/" + name + "/ns/net";
  if (name.find('/') != std::string::npos) return name;
  return "/run/netns/" + name;
}

/// Version 3 of the capability interface holds 64 bits in two words (linux/capability.h).
struct Capabilities {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[_LINUX_CAPABILITY_U32S_3]{};

  [[nodiscard]] bool read() { return syscall(SYS_capget, &header, sets) == 0; }
  [[nodiscard]] bool write() { return syscall(SYS_capset, &header, sets) == 0; }
};

constexpr std::uint32_t net_admin_bit = 1U << static_cast<unsigned>(CAP_NET_ADMIN);
static_assert(CAP_NET_ADMIN < 32);

/// Inodes that the kernel gives to the first namespaces (linux/nsfs.h NET_NS_INIT_INO, since 6.18; PID_NS_INIT_INO).
constexpr ino_t first_network_namespace = 0xEFFFFFF9U;
constexpr ino_t first_pid_namespace = 0xEFFFFFFCU;

std::optional<ino_t> inode_of(const char* path) {
  struct stat status {};
  if (stat(path, &status) != 0) return std::nullopt;
  return status.st_ino;
}

/// An interface that only a node of a cluster has, not a pod. docker0 is no sign: pods that run Docker have it too.
std::optional<std::string> node_interface() {
  constexpr std::string_view names[] = {"cni0",        "cbr0",       "cilium_host", "cilium_net",   "kube-ipvs0",
                                        "kube-bridge", "antrea-gw0", "ovn-k8s-mp0", "nodelocaldns", "vxlan.calico"};
  constexpr std::string_view prefixes[] = {"cali", "flannel."};
  struct Free {
    void operator()(struct if_nameindex* list) const { if_freenameindex(list); }
  };
  const std::unique_ptr<struct if_nameindex, Free> list(if_nameindex());
  for (const auto* entry = list.get(); entry != nullptr && entry->if_index != 0; ++entry) {
    const std::string_view name = entry->if_name;
    for (const std::string_view known : names) {
      if (name == known) return std::string(name);
    }
    for (const std::string_view prefix : prefixes) {
      if (name.substr(0, prefix.size()) == prefix) return std::string(name);
    }
  }
  return std::nullopt;
}

}  // namespace

bool in_host_network(std::string& reason) {
  const auto own = inode_of("/proc/thread-self/ns/net");
  if (own == first_network_namespace) {
    reason = "it is the kernel's first network namespace";
    return true;
  }
  // In a container the process with PID 1 is the container's own, and says nothing of the node.
  const bool sees_the_nodes_init = inode_of("/proc/self/ns/pid") == first_pid_namespace;
  if (own && sees_the_nodes_init && own == inode_of("/proc/1/ns/net")) {
    reason = "it is that of the machine's init process";
    return true;
  }
  if (const auto interface = node_interface()) {
    reason = "it has the interface " + *interface + ", which belongs to a node";
    return true;
  }
  return false;
}

void enter_network_namespace(const std::string& name) {
  const std::string path = path_of(name);
  const Descriptor descriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  const std::string step = "enter the network namespace " + quoted(name) + " (" + path + ")";
  if (descriptor.number() < 0) {
    throw KernelError(errno, step, {},
                      "--netns takes a path, a name that `ip netns list` shows, or the PID of a live process");
  }
  if (setns(descriptor.number(), CLONE_NEWNET) == 0) return;
  const int error = errno;
  const std::string remedy = error == EPERM
                                 ? "entering another namespace needs CAP_SYS_ADMIN; it is dropped right afterwards"
                             : error == EINVAL ? "that file is not a network namespace"
                                               : "";
  throw KernelError(error, step, {}, remedy);
}

void drop_privileges() {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) throw KernelError(errno, "set no_new_privs");
  // Ambient capabilities would survive; a kernel without them (before 4.3) has none to clear.
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  Capabilities own;
  if (!own.read()) throw KernelError(errno, "read the capabilities");
  own.sets[0].permitted &= net_admin_bit;
  own.sets[0].effective = own.sets[0].permitted;
  own.sets[0].inheritable = 0;
  own.sets[1] = {};
  if (!own.write()) throw KernelError(errno, "drop the other capabilities");
}

bool has_net_admin() {
  Capabilities own;
  return own.read() && (own.sets[0].effective & net_admin_bit) != 0;
}

}  // namespace sluice::netfilter
