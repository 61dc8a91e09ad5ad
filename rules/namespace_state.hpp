// What a configuration needs of the network namespace besides rules: addresses on lo, and routing for TPROXY.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rules/config.hpp"

namespace sluice {

/// Packets with `mark` look into `table`, where everything is local: how a transparent proxy gets to see them.
struct TproxyRouting {
  std::uint32_t mark;
  std::uint32_t table;
  std::vector<Family> families;
  bool operator==(const TproxyRouting&) const = default;
};

struct NamespaceState {
  std::vector<IpAddress> local_addresses;  ///< must exist; on lo unless another interface has them
  std::optional<TproxyRouting> tproxy;
  bool operator==(const NamespaceState&) const = default;
};

NamespaceState namespace_state(const Config& config);

/// One line per item, as ip(8) would be told: `ip -6 address add ::6/128 dev lo`.
std::vector<std::string> to_ip_commands(const NamespaceState& state);

}  // namespace sluice
