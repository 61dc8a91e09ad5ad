#include "netfilter/namespaces.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>

#include "netfilter/attributes.hpp"
#include "netfilter/errors.hpp"
#include "netfilter/netlink.hpp"
#include "netfilter/system_files.hpp"
#include "rules/text.hpp"

namespace sluice::netfilter {
namespace {

std::string path_of(const std::string& name) {
  const bool digits = std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
  if (digits) return "/proc/" + name + "/ns/net";
  if (name.find('/') != std::string::npos) return name;
  return "/run/netns/" + name;
}

/// Network namespaces are numbered from 1 in the order they were made (net/core/net_namespace.c, since Linux 5.14).
constexpr std::uint64_t first_network_namespace = 1;

bool is_namespace(const Descriptor& file) {
  struct statfs system {};
  return fstatfs(file.number(), &system) != 0 || system.f_type == NSFS_MAGIC;
}

/// Not a descriptor, with errno, where there is no answer.
Descriptor owner_of_network() {
  const Descriptor network(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  return Descriptor(network.number() < 0 ? -1 : ioctl(network.number(), NS_GET_USERNS));
}

bool is_first_network_namespace(const NamespaceSocket& socket) {
  if (const auto cookie = socket.cookie()) return *cookie == first_network_namespace;
  // An older kernel: that of the machine's init process, unless PID 1 is a container's own and says nothing of the
  // node.
  const auto own = inode_of("/proc/thread-self/ns/net");
  return own && inode_of("/proc/self/ns/pid") == first_pid_namespace && own == inode_of("/proc/1/ns/net");
}

/// An interface that only a node of a cluster has, not a pod. docker0 is no sign: pods that run Docker have it too.
bool belongs_to_node(std::string_view name) {
  constexpr std::string_view names[] = {"cni0",        "cbr0",       "cilium_host", "cilium_net",   "kube-ipvs0",
                                        "kube-bridge", "antrea-gw0", "ovn-k8s-mp0", "nodelocaldns", "vxlan.calico"};
  constexpr std::string_view prefixes[] = {"cali", "flannel."};
  return std::find(std::begin(names), std::end(names), name) != std::end(names) ||
         std::any_of(std::begin(prefixes), std::end(prefixes),
                     [&](std::string_view prefix) { return name.starts_with(prefix); });
}

std::optional<std::string> node_interface_in(std::string_view contents) {
  // After two lines of headings, `  eth0: 1296 16 ...` (net/core/net-procfs.c:dev_seq_printf_stats); no name has a
  // colon (net/core/dev.c:dev_valid_name).
  for (const std::string_view line : split(contents, '\n')) {
    const std::string_view name = trimmed(line.substr(0, line.find(':')));
    if (belongs_to_node(name)) return std::string(name);
  }
  return std::nullopt;
}

std::optional<std::string> node_interface_by_netlink() {
  NetlinkSocket socket(NETLINK_ROUTE);
  std::optional<std::string> found;
  Message request;
  request.header()->nlmsg_type = RTM_GETLINK;
  mnl_nlmsg_put_extra_header(request.header(), sizeof(ifinfomsg));
  // Names are all that is wanted; the counters of many interfaces would be most of the answer.
  mnl_attr_put_u32(request.header(), IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  const std::string step = "list the interfaces";
  const auto refusal = socket.dump(
      request, step, [&] { found.reset(); },
      [&](const nlmsghdr& reply) {
        const auto name = Attributes::after<ifinfomsg>(reply).text_view(IFLA_IFNAME);
        if (belongs_to_node(name)) found = name;
      });
  // An interface overlooked could cut a node off.
  if (refusal) throw KernelError(refusal->error, step, refusal->text);
  return found;
}

/// From a file, because that costs half of asking: sluice reads others of that folder anyway.
std::optional<std::string> node_interface() {
  if (const auto interfaces = file_text("/proc/self/net/dev")) return node_interface_in(*interfaces);
  return node_interface_by_netlink();
}

}  // namespace

NamespaceSocket::NamespaceSocket()
    : own_(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE)), socket_(own_.number()) {}
NamespaceSocket::NamespaceSocket(const NetlinkSocket& socket) : own_(-1), socket_(socket.descriptor()) {}

std::optional<std::uint64_t> NamespaceSocket::cookie() const {
  std::uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  if (getsockopt(socket_, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) != 0) return std::nullopt;
  return cookie;
}

Descriptor NamespaceSocket::file() const { return Descriptor(ioctl(socket_, SIOCGSKNS)); }

bool in_host_network(const NamespaceSocket& socket, std::string& reason) {
  if (is_first_network_namespace(socket)) {
    reason = "it is the kernel's first network namespace";
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

std::optional<std::string> no_network_namespace(const std::string& name) {
  const std::string path = path_of(name);
  const std::string place = path == name ? "" : quoted(path) + ": ";
  // What hangs when it is opened, as a pipe does, is no namespace either.
  const Descriptor descriptor(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (descriptor.number() < 0) {
    if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG && errno != ELOOP) return std::nullopt;
    return place + std::generic_category().message(errno);
  }
  if (!is_namespace(descriptor)) return place + "another kind of file";
  const int kind = ioctl(descriptor.number(), NS_GET_NSTYPE);
  // Before Linux 4.11 the kernel does not tell.
  if (kind < 0 || kind == CLONE_NEWNET) return std::nullopt;
  return place + "another kind of namespace";
}

NetworkOwner network_owner() {
  const Descriptor owner = owner_of_network();
  // EPERM is for an owner outside of the thread's user namespace.
  if (owner.number() < 0) return errno == EPERM ? NetworkOwner::outer : NetworkOwner::unknown;
  const auto own = inode_of("/proc/thread-self/ns/user");
  struct stat status {};
  if (!own || fstat(owner.number(), &status) != 0) return NetworkOwner::unknown;
  return status.st_ino == *own ? NetworkOwner::own : NetworkOwner::inner;
}

void enter_user_namespace_of_network() {
  // Where it cannot be entered, what needs it is refused later, and that is told.
  if (network_owner() != NetworkOwner::inner || setns(owner_of_network().number(), CLONE_NEWUSER) != 0) return;
  // Its root may read who has which old tables (/proc/net/ip_tables_names). Programs started from here get back the
  // user that this one has outside, to whom their lock belongs. Not the group: a changed one costs them their ambient
  // capabilities.
  setfsuid(0);
}

std::optional<ino_t> inode_of(const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) return std::nullopt;
  return status.st_ino;
}

bool is_up(const char* interface) {
  const Descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, interface, sizeof request.ifr_name - 1);
  return ioctl(socket.number(), SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) != 0;
}

}  // namespace sluice::netfilter
