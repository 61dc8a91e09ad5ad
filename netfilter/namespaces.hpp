// Which network namespace to work in, and with which privileges.
#pragma once

#include <string>

namespace sluice::netfilter {

/// Moves the calling thread into the network namespace named by a path (`/proc/123/ns/net`), a name (as `ip netns`
/// keeps them under /run/netns) or a PID. Throws KernelError: no such namespace, or CAP_SYS_ADMIN is missing.
void enter_network_namespace(const std::string& name);

/// Whether the thread stands in the initial network namespace of the machine, a node's own; with why it seems so in
/// `reason`. False where that cannot be told.
bool in_host_network(std::string& reason);

/// Whether iptables' own programs may have to be started: they open a raw socket.
enum class HelperPrograms { never, possible };

/// Drops every capability but CAP_NET_ADMIN from all sets and sets no_new_privs (prctl(2), capabilities(7)). Where
/// helper programs are possible, CAP_NET_RAW stays permitted, though without effect here. Throws KernelError.
void drop_privileges(HelperPrograms helpers);

/// Lets programs started from now on have CAP_NET_ADMIN and CAP_NET_RAW; false where one of them is not ours to give.
bool share_privileges_with_helpers();

/// Whether the interface is there and up.
bool is_up(const char* interface);

/// Whether CAP_NET_ADMIN is in the effective set of this thread.
bool has_net_admin();

}  // namespace sluice::netfilter
