// What is in the kernel, as values, and how it differs from what should be.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "rules/ruleset.hpp"

namespace sluice {

/// A rule that sluice did not write, or that was changed: kept as the netlink expressions it consists of, so that it is
/// shown and counted as drift and never skipped.
struct Opaque {
  std::string text;
  bool operator==(const Opaque&) const = default;
};

struct Counters {
  std::uint64_t packets = 0;
  std::uint64_t bytes = 0;
};

struct ObservedRule {
  std::variant<Rule, Opaque> rule;
  std::string comment;
  Counters counters;
};

struct ObservedChain {
  /// Type, hook and priority as found; no rules. Absent for a chain without a hook, or with one sluice never uses.
  std::optional<Chain> base;
  std::string name;
  bool accepts_by_default = true;
  std::vector<ObservedRule> rules;
};

struct ObservedSet {
  std::string name;
  std::variant<SetElements, Opaque> elements;
};

/// One sluice table as the kernel has it.
struct Observed {
  std::string comment;  ///< of the table: the version and time of the apply
  bool dormant = false;
  std::vector<ObservedSet> sets;
  std::vector<ObservedChain> chains;
  /// Objects in the table that are neither sets nor chains nor rules; there should be none.
  std::size_t other_objects = 0;
};

/// One difference between the rules that should be and those that are.
struct Difference {
  std::string rule;   ///< the rule's name, or empty where a set, chain or table differs
  std::string chain;  ///< empty for a set or the table
  std::string kind;   ///< missing, unexpected, changed
  std::string expected;
  std::string found;
  bool operator==(const Difference&) const = default;
};

/// Nothing exactly when the kernel does what `wanted` says: same chains, hooks and priorities, same rules in the same
/// order, same set elements. Counters, handles and the table's comment do not count.
std::vector<Difference> diff(const Ruleset& wanted, const std::optional<Observed>& found);

}  // namespace sluice
