// Rule <-> nf_tables expressions, each direction the inverse of the other. Offsets, registers and byte orders of the
// native backend appear here and in expression.cpp only.
#pragma once

#include <optional>

#include "netfilter/nft/expression.hpp"
#include "rules/ruleset.hpp"

namespace sluice::netfilter {

/// The expressions of one rule: its matches, a counter, its action. `sets` tells how a set's keys are ordered, which
/// decides whether a lookup needs network order. Total for what compile() makes; std::logic_error for a SetRef to no
/// set.
Expressions to_expressions(const Rule& rule, const Ruleset& sets);

/// Nothing where the expressions are not what to_expressions makes of some rule over these sets, or what nft makes of
/// that rule's text. `likely` is what it may well be, as the rule that is wanted in this place: tried first.
std::optional<Rule> rule_from_expressions(const Expressions& expressions, const std::string& name, const Ruleset& sets,
                                          const Rule* likely = nullptr);

}  // namespace sluice::netfilter
