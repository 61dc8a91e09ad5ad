#include "netfilter/namespaces.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>

#include "netfilter/attributes.hpp"
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
  // An interface overlooked could cut a node off.
  constexpr int read_limit = 100;
  NetlinkSocket::Status status = NetlinkSocket::Status::inconsistent;
  Message request;
  request.header()->nlmsg_type = RTM_GETLINK;
  mnl_nlmsg_put_extra_header(request.header(), sizeof(ifinfomsg));
  // Names are all that is wanted; the counters of many interfaces would be most of the answer.
  mnl_attr_put_u32(request.header(), IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  const auto note = [&](const nlmsghdr& reply) {
    const std::string name = Attributes::after<ifinfomsg>(reply).text(IFLA_IFNAME);
    const bool known = std::find(std::begin(names), std::end(names), name) != std::end(names) ||
                       std::any_of(std::begin(prefixes), std::end(prefixes),
                                   [&](std::string_view prefix) { return name.starts_with(prefix); });
    if (known) found = name;
  };
  for (int attempt = 0; attempt < read_limit && status == NetlinkSocket::Status::inconsistent; ++attempt) {
    if (const auto refusal = socket.request(request, NetlinkSocket::Answer::dump, note, status)) {
      throw KernelError(refusal->error, "list the interfaces", refusal->text);
    }
  }
  if (status == NetlinkSocket::Status::inconsistent)
    throw KernelError(EAGAIN, "list the interfaces", "they keep changing");
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
