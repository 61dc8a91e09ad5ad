// Which namespaces to work in.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "netfilter/descriptor.hpp"

namespace sluice::netfilter {

class NetlinkSocket;

/// Moves the calling thread into the network namespace named by a path (`/proc/123/ns/net`), a name (as `ip netns`
/// keeps them under /run/netns) or a PID. Throws KernelError: no such namespace, or CAP_SYS_ADMIN is missing.
void enter_network_namespace(const std::string& name);

/// Why that is no network namespace, for the user who named it: nothing has that name, or it names something else.
/// Nothing where it is one, and where it may not be looked at, which enter_network_namespace() then tells.
std::optional<std::string> no_network_namespace(const std::string& name);

/// The user namespace that the thread's network namespace belongs to (ioctl_ns(2)), seen from the thread's own.
/// Capabilities count in a network namespace only from its owner or from outside of that.
enum class NetworkOwner {
  own,      ///< the thread's
  inner,    ///< one made in the thread's, as a pod's is with hostUsers: false
  outer,    ///< one that the thread cannot see
  unknown,  ///< no /proc, or a kernel before 4.9
};
NetworkOwner network_owner();

/// Moves the thread into the user namespace that owns its network namespace, where that is an inner one and lets it in:
/// the kernel takes iptables' owner match only from there (net/netfilter/xt_owner.c:owner_check). All capabilities of
/// that user namespace are in effect afterwards, and none of the one left.
void enter_user_namespace_of_network();

/// A socket, which the kernel can be asked about the network namespace that the thread stood in when it was made.
class NamespaceSocket {
 public:
  NamespaceSocket();
  /// Asks through one that is there already and lives longer: a socket takes a hundredth of a first apply.
  explicit NamespaceSocket(const NetlinkSocket& socket);
  /// The number of the namespace (SO_NETNS_COOKIE, since Linux 5.14); nothing on older kernels.
  [[nodiscard]] std::optional<std::uint64_t> cookie() const;
  /// The namespace as a file, closed on exec (SIOCGSKNS, since Linux 4.10), without /proc. Not a descriptor on older
  /// kernels, and without CAP_NET_ADMIN.
  [[nodiscard]] Descriptor file() const;

 private:
  Descriptor own_;
  int socket_;
};

/// Whether that is the initial network namespace of the machine, a node's own; with why it seems so in `reason`. False
/// where it cannot be told.
bool in_host_network(const NamespaceSocket& socket, std::string& reason);

/// The inode of a file, which tells one namespace from another; nothing, with errno, where there is no answer.
std::optional<ino_t> inode_of(const std::string& path);

/// Inode that the kernel gives to the first PID namespace (linux/proc_ns.h PROC_PID_INIT_INO).
inline constexpr ino_t first_pid_namespace = 0xEFFFFFFCU;

/// Whether the interface is there and up.
bool is_up(const char* interface);

}  // namespace sluice::netfilter
