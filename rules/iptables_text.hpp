// iptables' rules in its own language, exactly as iptables-save prints them.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "rules/iptables.hpp"

namespace sluice {

/// What one of the two restore programs loads: `*nat` to `COMMIT` for each table of the family; empty where there is
/// none.
std::string to_iptables_save(const IptablesRuleset& ruleset, Family family);

/// Both families, each under a comment that names the program which loads it.
std::string to_iptables_plan(const IptablesRuleset& ruleset);

/// Without the `-A CHAIN`: `-p tcp -m owner --uid-owner 1337 -m comment --comment proxy -j RETURN`.
std::string to_text(const IptablesRule& rule, Family family);

/// The rule of such a text, without the `-A CHAIN`; nothing where it is not exactly what to_text writes of some rule.
std::optional<IptablesRule> iptables_rule_from_text(std::string_view text, Family family);

/// `-A SLUICE_OUTBOUND` and the rule.
std::string to_text(const std::string& chain, const IptablesRule& rule, Family family);

}  // namespace sluice
