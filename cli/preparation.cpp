#include "cli/preparation.hpp"

#include <algorithm>

#include "netfilter/iptables_legacy.hpp"
#include "netfilter/namespaces.hpp"
#include "netfilter/privileges.hpp"

namespace sluice::cli {

namespace {

/// iptables' own programs can be the last resort, and are there. Where they are not, no backend is lost: the legacy
/// variant then fails at its first step.
bool may_end_with_legacy(const Settings& settings) {
  return candidates(wish(settings)).back() == netfilter::BackendKind::iptables_legacy &&
         netfilter::legacy_programs_installed();
}

netfilter::Needs needs(const Settings& settings, bool helper_programs) {
  return {helper_programs, settings.close_wait_timeout.has_value()};
}

void log_filter(const std::string& missing, const Log& log) {
  log.debug(missing.empty() ? "a seccomp filter holds from here on" : "no seccomp filter: " + missing);
}

Footing stand(const Settings& settings, const Log& log, const Check& check, bool (*may_need_helpers)(const Settings&)) {
  if (!settings.netns.empty()) netfilter::enter_network_namespace(settings.netns);
  // Before privileges go: without them another process's namespace cannot be looked at.
  if (check) {
    if (const ExitCode code = check(settings, log); code != ExitCode::done)
      return {code, false, netfilter::OldTables::unknown};
  }
  const bool old_rules = netfilter::legacy_rules_present();
  if (!settings.netns.empty() && (settings.backend == BackendChoice::iptables || old_rules)) {
    netfilter::enter_user_namespace_of_network();
  }
  const bool helpers = old_rules || may_need_helpers(settings);
  const netfilter::Dropped dropped = netfilter::drop_privileges(needs(settings, helpers));
  log_filter(dropped.no_filter, log);
  const auto old_tables = old_rules ? netfilter::OldTables::unknown : netfilter::OldTables::without_ours;
  if (!dropped.shortfall) return {ExitCode::done, helpers, old_tables};
  log.error("the capability CAP_NET_ADMIN is missing: " + dropped.shortfall->why + "; nothing was changed");
  log.hint(dropped.shortfall->remedy);
  return {ExitCode::unsupported, helpers, old_tables};
}

}  // namespace

ExitCode stand_in_namespace(const Settings& settings, const Log& log, const Check& check) {
  return stand(settings, log, check, [](const Settings&) { return false; }).code;
}

Footing stand_in_namespace_to_apply(const Settings& settings, const Log& log, const Check& check) {
  return stand(settings, log, check, may_end_with_legacy);
}

void settle(const Settings& settings, const Log& log) {
  log_filter(netfilter::give_up_helper_programs(needs(settings, false)), log);
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
