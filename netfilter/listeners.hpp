// Who listens in this network namespace, and on which address.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "rules/address.hpp"
#include "rules/scalars.hpp"

namespace sluice::netfilter {

/// A TCP socket that listens.
struct Listener {
  IpAddress address;  ///< IPv4 also where it was given as ::ffff:a.b.c.d
  Port port;
  bool both_families = false;     ///< on ::, and not IPv6 only
  bool on_one_interface = false;  ///< SO_BINDTODEVICE
  std::uint32_t user = 0;         ///< who made it, in the user namespace of the thread
  std::uint32_t inode = 0;        ///< as in the link /proc/PID/fd/N: `socket:[inode]`
};

/// Those in the network namespace of the thread (sock_diag(7)): /proc/net/tcp6 does not tell IPV6_V6ONLY. Nothing where
/// the kernel cannot say, that is without CONFIG_INET_DIAG or in a sandbox. To be called before the seccomp filter.
std::optional<std::vector<Listener>> listeners();

}  // namespace sluice::netfilter
