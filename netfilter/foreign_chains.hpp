// The chains that other tools have in this namespace, over netlink. Nothing is interpreted that sluice cannot read
// exactly: another tool's table may hold what crashes nft.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rules/evaluate.hpp"

namespace sluice::netfilter {

/// A chain of any table, as the kernel names it.
struct NamedChain {
  std::string family;  ///< ip, ip6, inet, ...
  std::string table;
  std::string name;
  std::string type;                   ///< filter, nat or route; empty for a chain without a hook
  std::optional<std::uint32_t> hook;  ///< enum nf_inet_hooks, linux/netfilter.h
  int priority = 0;
  bool accepts_by_default = true;
  bool dormant = false;  ///< its table is
};

/// Every chain of every table of nf_tables, sluice's own too. Empty where the kernel has no nf_tables. Throws
/// KernelError.
std::vector<NamedChain> all_chains();

/// Base chains of the families ip, ip6 and inet on the hooks prerouting, input and output that are not in table
/// inet sluice, each named `family table chain`. Rules of the ip and ip6 families carry a match of that family. A rule
/// that cannot be read to its end (a jump, a set, a match of xtables) keeps the matches that could be read before that;
/// one that only counts or logs is left out. Throws KernelError.
std::vector<AskedChain> foreign_chains();

}  // namespace sluice::netfilter
