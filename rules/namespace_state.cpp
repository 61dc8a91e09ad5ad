#include "rules/namespace_state.hpp"

#include "rules/compile.hpp"
#include "rules/text.hpp"

namespace sluice {
namespace {

/// lo has 127.0.0.1/8 and ::1 by nature, so these need no address of their own.
bool always_local(const IpAddress& address) {
  if (const auto* four = std::get_if<Ipv4>(&address)) return four->value >> 24 == 127;
  return std::get<Ipv6>(address) == Ipv6{0, 1};
}

std::string ip(Family family) { return family == Family::ipv4 ? "ip -4 " : "ip -6 "; }

}  // namespace

NamespaceState namespace_state(const Config& config) {
  NamespaceState state;
  for (const IpAddress& address : config->passthrough_source) {
    if (captures(*config, family_of(address)) && !always_local(address)) state.local_addresses.push_back(address);
  }
  if (config->inbound_mode == InboundMode::tproxy) {
    state.tproxy = TproxyRouting{config->tproxy_mark, config->tproxy_table, {}};
    for (const Family family : {Family::ipv4, Family::ipv6}) {
      if (captures(*config, family)) state.tproxy->families.push_back(family);
    }
  }
  return state;
}

std::vector<std::string> to_ip_commands(const NamespaceState& state) {
  std::vector<std::string> commands;
  for (const IpAddress& address : state.local_addresses) {
    const Family family = family_of(address);
    commands.push_back(ip(family) + "address add " + to_text(address) + (family == Family::ipv4 ? "/32" : "/128") +
                       " dev lo");
  }
  if (!state.tproxy) return commands;
  for (const Family family : state.tproxy->families) {
    const std::string table = std::to_string(state.tproxy->table);
    commands.push_back(ip(family) + "route add local default dev lo table " + table);
    commands.push_back(ip(family) + "rule add fwmark " + hex32(state.tproxy->mark) + " lookup " + table);
  }
  return commands;
}

}  // namespace sluice
