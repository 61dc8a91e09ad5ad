#include "cli/preparation.hpp"

#include <algorithm>

#include "netfilter/iptables_legacy.hpp"
#include "netfilter/namespaces.hpp"

namespace sluice::cli {

ExitCode stand_in_namespace(const Settings& settings, const Log& log, ExitCode (*check)(const Settings&, const Log&)) {
  if (!settings.netns.empty()) netfilter::enter_network_namespace(settings.netns);
  // Before privileges go: without them another process's namespace cannot be looked at.
  if (check != nullptr) {
    if (const ExitCode code = check(settings, log); code != ExitCode::done) return code;
  }
  // Only iptables' own programs need more, and only where its old tables are meant, or hold rules that have to go.
  const auto kinds = candidates(wish(settings));
  const bool helpers = kinds.back() == netfilter::BackendKind::iptables_legacy || netfilter::legacy_rules_present();
  netfilter::drop_privileges(helpers ? netfilter::HelperPrograms::possible : netfilter::HelperPrograms::never);
  if (netfilter::has_net_admin()) return ExitCode::done;
  log.error("the capability CAP_NET_ADMIN is missing; nothing was changed");
  log.hint("add NET_ADMIN to securityContext.capabilities.add of the container, or run as root");
  return ExitCode::unsupported;
}

netfilter::BackendWish wish(const Settings& settings) { return {settings.backend, settings.iptables_variant}; }

std::optional<IptablesRuleset> iptables_rules(const Ruleset& ruleset, const Log& log) {
  auto translated = to_iptables(ruleset);
  if (auto* rules = std::get_if<IptablesRuleset>(&translated)) return std::move(*rules);
  const auto& refused = std::get<TooManyRules>(translated);
  log.error("--backend: \"iptables\" has no sets, and would need " + std::to_string(refused.count) +
            " rules for these lists, most of them for [" + refused.rule +
            "]; allowed: " + std::to_string(iptables_rule_limit) + "; nothing was touched");
  log.hint("use --backend nftables, which keeps lists of any length in sets, or shorten the lists");
  return std::nullopt;
}

}  // namespace sluice::cli
