// Which namespaces to work in.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

namespace sluice::netfilter {

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

/// Whether the thread stands in the initial network namespace of the machine, a node's own; with why it seems so in
/// `reason`. False where that cannot be told.
bool in_host_network(std::string& reason);

/// The inode of a file, which tells one namespace from another; nothing, with errno, where there is no answer.
std::optional<ino_t> inode_of(const std::string& path);

/// Inode that the kernel gives to the first PID namespace (linux/proc_ns.h PROC_PID_INIT_INO).
inline constexpr ino_t first_pid_namespace = 0xEFFFFFFCU;

/// Whether the interface is there and up.
bool is_up(const char* interface);

}  // namespace sluice::netfilter
