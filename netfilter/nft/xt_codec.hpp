// IptablesRule <-> the nf_tables expressions by which iptables-nft keeps it, each direction the inverse of the other.
// The encoding is that of iptables 1.8.9: interfaces, protocol, addresses, ports, TCP flags and packet marks as native
// expressions, everything else as xt matches and targets.
#pragma once

#include <optional>

#include "netfilter/nft/expression.hpp"
#include "rules/iptables.hpp"

namespace sluice::netfilter {

/// Total.
Expressions to_expressions(const IptablesRule& rule, Family family);

/// Nothing where the expressions are not exactly what to_expressions makes of some rule.
std::optional<IptablesRule> iptables_rule_from(const Expressions& expressions, Family family);

}  // namespace sluice::netfilter
