// What sluice may do: its capabilities, no_new_privs and its seccomp filter. And, where CAP_NET_ADMIN is missing, why.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace sluice::netfilter {

/// What a run may still have to do after privileges are dropped, beyond speaking netlink and reading files.
struct Needs {
  /// iptables' own programs, which open a raw socket. They would inherit a seccomp filter, so there is none.
  bool helper_programs = false;
  /// write_close_wait_timeout()
  bool write_setting = false;
};

/// Where CAP_NET_ADMIN went.
struct Shortfall {
  std::string why;
  std::string remedy;
};

struct Dropped {
  std::optional<Shortfall> shortfall;  ///< nothing where CAP_NET_ADMIN is there
  std::string no_filter;               ///< why there is no seccomp filter; empty where there is one
};

/// Drops every capability but CAP_NET_ADMIN from all sets (with helper programs CAP_NET_RAW stays permitted, though
/// without effect here), sets no_new_privs and, without helper programs, installs the seccomp filter: from then on a
/// system call that sluice has no use for ends it (SIGSYS). A capability that was permitted and not in effect is in
/// effect afterwards. Throws KernelError where capabilities or no_new_privs cannot be set; a kernel without seccomp is
/// no error.
Dropped drop_privileges(const Needs& needs);

/// For when it has turned out that no helper program will be started: drops what was kept for them and installs the
/// filter. Returns why there is none; empty where there is. Throws KernelError.
std::string give_up_helper_programs(const Needs& needs);

/// Lets programs started from now on have CAP_NET_ADMIN and CAP_NET_RAW; false where one of them is not ours to give,
/// so also under the filter. Throws KernelError where the kernel fails to say or to do so.
bool share_privileges_with_helpers();

/// Whether CAP_NET_ADMIN is in the effective set of this thread.
bool has_net_admin();

/// What to do where the kernel answers EPERM although CAP_NET_ADMIN is in effect: it does not count in this network
/// namespace, or a security module says no. Looks at the thread's namespaces.
std::string remedy_for_denial();

/// What there is to know about a process without CAP_NET_ADMIN.
struct CapabilityFacts {
  std::uint32_t user = 0;
  bool in_bounding_set = false;
  bool no_new_privs = false;        ///< before sluice set it
  bool on_program_file = false;     ///< the file that is running permits it (setcap)
  bool file_system_nosuid = false;  ///< so that what is on the file counts for nothing
};

/// In words; pure.
Shortfall explain(const CapabilityFacts& facts);

}  // namespace sluice::netfilter
