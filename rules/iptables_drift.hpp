// iptables' rules as found, and how they differ from what should be: drift.hpp for the iptables backend.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rules/drift.hpp"
#include "rules/iptables.hpp"

namespace sluice {

struct ObservedIptablesRule {
  std::string text;  ///< without the `-A CHAIN`, as iptables-save prints it
  std::string name;  ///< its comment
  Counters counters;
  std::optional<IptablesRule> rule;  ///< absent where sluice never wrote such a rule
};

struct ObservedIptablesChain {
  std::string name;
  std::vector<ObservedIptablesRule> rules;
};

/// A rule in a chain of iptables' own that leads into one of ours.
struct ObservedJump {
  Hook hook;
  std::string chain;
  std::size_t position;  ///< 0 for the first rule of that chain
  bool plain;            ///< does nothing else and takes every packet
};

struct ObservedIptablesTable {
  Family family;
  IptablesTableKind kind;
  std::vector<ObservedJump> jumps;
  std::vector<ObservedIptablesChain> chains;  ///< ours
};

struct ObservedIptables {
  std::vector<ObservedIptablesTable> tables;  ///< only those in which something of ours is
};

/// Nothing exactly when the kernel does what `wanted` says and our jumps come first.
std::vector<Difference> diff(const IptablesRuleset& wanted, const ObservedIptables& found);

/// The same rules in the Ruleset's vocabulary, those of IPv4 before those of IPv6 in each chain. A rule that iptables
/// spelled out several times appears as often; a list of ports becomes a set named by its ports.
Observed to_observed(const ObservedIptables& found);

}  // namespace sluice
