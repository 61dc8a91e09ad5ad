#include "netfilter/namespaces.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "netfilter/descriptor.hpp"
#include "netfilter/errors.hpp"
#include "netfilter/netlink.hpp"
#include "rules/text.hpp"

namespace sluice::netfilter {
namespace {

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
constexpr std::uint32_t net_raw_bit = 1U << static_cast<unsigned>(CAP_NET_RAW);
static_assert(CAP_NET_ADMIN < 32 && CAP_NET_RAW < 32);

/// Inode that the kernel gives to the first PID namespace (linux/proc_ns.h PROC_PID_INIT_INO).
constexpr ino_t first_pid_namespace = 0xEFFFFFFCU;
/// Network namespaces are numbered from 1 in the order they were made (net/core/net_namespace.c, since Linux 5.14).
constexpr std::uint64_t first_network_namespace = 1;

std::optional<ino_t> inode_of(const char* path) {
  struct stat status {};
  if (stat(path, &status) != 0) return std::nullopt;
  return status.st_ino;
}

bool is_first_network_namespace(const NetlinkSocket& socket) {
  if (const auto cookie = socket.namespace_cookie()) return *cookie == first_network_namespace;
  // An older kernel: that of the machine's init process, unless PID 1 is a container's own and says nothing of the
  // node.
  const auto own = inode_of("/proc/thread-self/ns/net");
  return own && inode_of("/proc/self/ns/pid") == first_pid_namespace && own == inode_of("/proc/1/ns/net");
}

/// An interface that only a node of a cluster has, not a pod. docker0 is no sign: pods that run Docker have it too.
std::optional<std::string> node_interface(NetlinkSocket& socket) {
  constexpr std::string_view names[] = {"cni0",        "cbr0",       "cilium_host", "cilium_net",   "kube-ipvs0",
                                        "kube-bridge", "antrea-gw0", "ovn-k8s-mp0", "nodelocaldns", "vxlan.calico"};
  constexpr std::string_view prefixes[] = {"cali", "flannel."};
  std::optional<std::string> found;
  Message request;
  request.header()->nlmsg_type = RTM_GETLINK;
  mnl_nlmsg_put_extra_header(request.header(), sizeof(ifinfomsg));
  // Names are all that is wanted; the counters of many interfaces would be most of the answer.
  mnl_attr_put_u32(request.header(), IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  NetlinkSocket::Status status{};
  socket.request(
      request, NetlinkSocket::Answer::dump,
      [&](const nlmsghdr& reply) {
        for_each_attribute(reply, sizeof(ifinfomsg), [&](const nlattr& attribute) {
          if (mnl_attr_get_type(&attribute) != IFLA_IFNAME) return;
          const std::string_view name = mnl_attr_get_str(&attribute);
          const bool known = std::find(std::begin(names), std::end(names), name) != std::end(names) ||
                             std::any_of(std::begin(prefixes), std::end(prefixes), [&](std::string_view prefix) {
                               return name.substr(0, prefix.size()) == prefix;
                             });
          if (known) found = name;
        });
      },
      status);
  return found;
}

}  // namespace

bool in_host_network(std::string& reason) {
  NetlinkSocket socket(NETLINK_ROUTE);
  if (is_first_network_namespace(socket)) {
    reason = "it is the kernel's first network namespace";
    return true;
  }
  if (const auto interface = node_interface(socket)) {
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

void drop_privileges(HelperPrograms helpers) {
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) throw KernelError(errno, "set no_new_privs");
  // Ambient capabilities would survive; a kernel without them (before 4.3) has none to clear.
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  Capabilities own;
  if (!own.read()) throw KernelError(errno, "read the capabilities");
  own.sets[0].permitted &= helpers == HelperPrograms::possible ? net_admin_bit | net_raw_bit : net_admin_bit;
  own.sets[0].effective = own.sets[0].permitted & net_admin_bit;
  own.sets[0].inheritable = 0;
  own.sets[1] = {};
  if (!own.write()) throw KernelError(errno, "drop the other capabilities");
}

bool is_up(const char* interface) {
  const Descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, interface, sizeof request.ifr_name - 1);
  return ioctl(socket.number(), SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) != 0;
}

bool share_privileges_with_helpers() {
  Capabilities own;
  constexpr std::uint32_t both = net_admin_bit | net_raw_bit;
  if (!own.read() || (own.sets[0].permitted & both) != both) return false;
  own.sets[0].inheritable = both;
  if (!own.write()) return false;
  // Root's programs get them anyway; for another user this is the only way.
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0);
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0);
  return true;
}

bool has_net_admin() {
  Capabilities own;
  return own.read() && (own.sets[0].effective & net_admin_bit) != 0;
}

}  // namespace sluice::netfilter
