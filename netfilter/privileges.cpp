#include "netfilter/privileges.hpp"

#include <endian.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "netfilter/errors.hpp"
#include "netfilter/namespaces.hpp"
#include "netfilter/seccomp.hpp"

namespace sluice::netfilter {
namespace {

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

constexpr char own_program[] = "/proc/self/exe";

/// The extended attribute that setcap(8) writes: struct vfs_cap_data of linux/capability.h, little endian.
bool program_file_permits_net_admin() {
  vfs_ns_cap_data data{};
  const ssize_t length = getxattr(own_program, "security.capability", &data, sizeof data);
  constexpr auto least = static_cast<ssize_t>(offsetof(vfs_ns_cap_data, data) + sizeof data.data[0]);
  return length >= least && (le32toh(data.data[0].permitted) & net_admin_bit) != 0;
}

CapabilityFacts facts() {
  CapabilityFacts found;
  found.user = geteuid();
  found.in_bounding_set = prctl(PR_CAPBSET_READ, CAP_NET_ADMIN, 0, 0, 0) == 1;
  found.no_new_privs = prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
  found.on_program_file = program_file_permits_net_admin();
  struct statvfs file_system {};
  found.file_system_nosuid = statvfs(own_program, &file_system) == 0 && (file_system.f_flag & ST_NOSUID) != 0;
  return found;
}

void keep(Capabilities& own, std::uint32_t permitted) {
  own.sets[0].permitted &= permitted;
  own.sets[0].effective = own.sets[0].permitted & net_admin_bit;
  // What is not inheritable leaves the ambient set as well (kernel/capability.c:cap_capset).
  own.sets[0].inheritable = 0;
  own.sets[1] = {};
  if (!own.write()) throw KernelError(errno, "drop the other capabilities");
}

std::string filter(const Needs& needs) {
  return install_seccomp_filter(needs.write_setting ? FileAccess::read_and_write : FileAccess::read);
}

}  // namespace

Dropped drop_privileges(const Needs& needs) {
  Capabilities own;
  if (!own.read()) throw KernelError(errno, "read the capabilities");
  Dropped dropped;
  // Before no_new_privs is set, because whether it was tells a part of the reason.
  if ((own.sets[0].permitted & net_admin_bit) == 0) dropped.shortfall = explain(facts());
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) throw KernelError(errno, "set no_new_privs");
  keep(own, needs.helper_programs ? net_admin_bit | net_raw_bit : net_admin_bit);
  dropped.no_filter = needs.helper_programs ? "iptables' own programs may have to be started" : filter(needs);
  return dropped;
}

std::string give_up_helper_programs(const Needs& needs) {
  Capabilities own;
  if (!own.read()) throw KernelError(errno, "read the capabilities");
  keep(own, net_admin_bit);
  return filter(needs);
}

bool share_privileges_with_helpers() {
  Capabilities own;
  constexpr std::uint32_t both = net_admin_bit | net_raw_bit;
  if (!own.read()) throw KernelError(errno, "read the capabilities");
  if ((own.sets[0].permitted & both) != both) return false;
  own.sets[0].inheritable = both;
  if (!own.write()) throw KernelError(errno, "give capabilities to the programs of iptables");
  // Root's programs get them anyway; for another user this is the only way.
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_ADMIN, 0, 0);
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0);
  return true;
}

bool has_net_admin() {
  Capabilities own;
  return own.read() && (own.sets[0].effective & net_admin_bit) != 0;
}

Shortfall explain(const CapabilityFacts& facts) {
  if (!facts.in_bounding_set) {
    return {"it is in none of this process's capability sets",
            "add NET_ADMIN to securityContext.capabilities.add of the container"};
  }
  if (facts.user == 0) {
    return {"it is in the bounding set only, although this is user 0: what started sluice gave it up",
            "start sluice as the container's own command, or by a program that keeps CAP_NET_ADMIN"};
  }
  const std::string user = "user " + std::to_string(facts.user);
  if (!facts.on_program_file) {
    return {
        "it is in the bounding set only: " + user + " gets none of the container's capabilities when a program starts",
        "run as root (runAsUser: 0), or put the capability on the program file (setcap cap_net_admin=p)"};
  }
  if (facts.file_system_nosuid) {
    return {"the program file has it, but lies on a file system mounted nosuid, where that does not count",
            "keep sluice on another file system, such as the image's own"};
  }
  if (facts.no_new_privs) {
    return {
        "the program file has it, but no_new_privs was set by a process without it (allowPrivilegeEscalation: false)",
        "add NET_ADMIN to securityContext.capabilities.add and start sluice as the container's own command, not "
        "through "
        "a shell; or set allowPrivilegeEscalation: true"};
  }
  return {"the program file has it, but the kernel does not accept that here",
          "the file was given it in another user namespace, or sluice is being traced: run as root (runAsUser: 0)"};
}

std::string remedy_for_denial() {
  switch (network_owner()) {
    case NetworkOwner::outer:
      return "this network namespace belongs to another user namespace, where CAP_NET_ADMIN of this one does not "
             "count: run "
             "sluice in the user namespace that the network namespace was made in, or from the node with --netns";
    case NetworkOwner::own:
    case NetworkOwner::inner:
      return "CAP_NET_ADMIN is there and counts in this network namespace, so a security module says no: look for a "
             "denial "
             "by SELinux or AppArmor in the node's audit log (ausearch -m avc, dmesg)";
    case NetworkOwner::unknown:
      break;
  }
  return "CAP_NET_ADMIN is needed over this network namespace";
}

}  // namespace sluice::netfilter
