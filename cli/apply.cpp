#include <chrono>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>

#include "cli/commands.hpp"
#include "cli/failure.hpp"
#include "cli/output.hpp"
#include "cli/preparation.hpp"
#include "cli/summary.hpp"
#include "netfilter/backend.hpp"
#include "netfilter/namespace_keeper.hpp"
#include "netfilter/namespace_lock.hpp"
#include "netfilter/namespaces.hpp"
#include "netfilter/system_files.hpp"
#include "rules/compile.hpp"
#include "rules/namespace_state.hpp"

namespace sluice::cli {
namespace {

/// `sluice 0.1.0, applied 2026-11-24T08:00:00Z`: kept in the table's comment, where `status` finds it. Computed without
/// gmtime, which reads the local time zone's file.
std::string stamp() {
  using namespace std::chrono;
  const auto now = floor<seconds>(system_clock::now());
  const auto today = floor<days>(now);
  const year_month_day date(today);
  const hh_mm_ss time(now - today);
  const auto digits = [](auto number) { return (number < 10 ? "0" : "") + std::to_string(number); };
  return "sluice " SLUICE_VERSION ", applied " + std::to_string(int{date.year()}) + "-" +
         digits(unsigned{date.month()}) + "-" + digits(unsigned{date.day()}) + "T" + digits(time.hours().count()) +
         ":" + digits(time.minutes().count()) + ":" + digits(time.seconds().count()) + "Z";
}

const char* outcome_text(netfilter::Outcome outcome) {
  switch (outcome) {
    case netfilter::Outcome::unchanged:
      return "unchanged";
    case netfilter::Outcome::created:
      return "created";
    case netfilter::Outcome::replaced:
      return "replaced";
  }
  return "";
}

const char* show_command(netfilter::BackendKind backend) {
  switch (backend) {
    case netfilter::BackendKind::nftables:
      return "nft list table inet sluice";
    case netfilter::BackendKind::iptables_nft:
      return "iptables-save; ip6tables-save";
    case netfilter::BackendKind::iptables_legacy:
      return "iptables-legacy-save; ip6tables-legacy-save";
  }
  return "";
}

void report(const Settings& settings, const netfilter::Applied& applied, const Log& log) {
  const std::string backend(to_text(applied.backend));
  if (settings.format == OutputFormat::json) {
    const nlohmann::ordered_json json = {{"backend", backend},
                                         {"outcome", outcome_text(applied.outcome)},
                                         {"captured", summary(settings)},
                                         {"show", show_command(applied.backend)}};
    print_what_was_done(json.dump() + "\n", log);
    return;
  }
  print_what_was_done(backend + ", rules " + outcome_text(applied.outcome) + ": " + summary(settings) +
                          "; show them: " + show_command(applied.backend) + "\n",
                      log);
}

/// That the first choice was possible is no news.
void log_choice(const netfilter::Applied& applied, const netfilter::BackendWish& wanted, const Log& log) {
  const std::string text = "backend " + std::string(to_text(applied.backend)) + ": " + applied.reason;
  if (applied.backend == candidates(wanted).front()) {
    log.debug(text);
  } else {
    log.info(text);
  }
}

ExitCode refuse_host_network(const netfilter::NamespaceSocket& here, const Settings& settings, const Log& log) {
  std::string reason;
  if (settings.allow_host_network || !netfilter::in_host_network(here, reason)) return ExitCode::done;
  log.error("this is a node's own network namespace (" + reason +
            "), where capture would cut the node off; nothing was changed");
  log.hint("run sluice in the pod's namespace (no hostNetwork, or --netns), or insist with --allow-host-network");
  return ExitCode::unsupported;
}

/// After the rules, because conntrack has no settings in a namespace that does not use it. Never a failure.
void set_close_wait_timeout(std::chrono::seconds timeout, const Log& log) {
  if (const int error = netfilter::write_close_wait_timeout(timeout); error != 0) {
    log.warning("--close-wait-timeout: cannot be set here (" + std::generic_category().message(error) +
                "); the kernel's own value stays");
  }
}

bool other_family_passes(const Settings& settings) {
  return settings.ip_family != FamilyMode::dual && settings.other_family != OtherFamily::reject;
}

/// Somebody who captures one family may have forgotten that connections can be made in the other.
void warn_of_the_other_family(const Settings& settings, const Log& log) {
  if (!other_family_passes(settings)) return;
  const bool only_v4 = settings.ip_family == FamilyMode::ipv4;
  if (!netfilter::has_global_address(only_v4 ? Family::ipv6 : Family::ipv4)) return;
  const std::string captured = only_v4 ? "IPv4" : "IPv6";
  const std::string other = only_v4 ? "IPv6" : "IPv4";
  log.warning("--ip-family: only " + captured + " is captured, but this namespace has a global " + other +
              " address: " + other +
              " traffic bypasses the proxy; capture it with --ip-family dual or refuse it with "
              "--other-family reject");
}

void take_back(const netfilter::KeptChanges& added, const Log& log) {
  try {
    if (added.take_back) added.take_back();
  } catch (const netfilter::KernelError& error) {
    log.warning(std::string("what the rules would have needed stays until the next run: ") + error.what());
  }
}

/// Addresses and routes come before the rules that need them, and go after.
netfilter::Applied program_rules(netfilter::Backends& backends, const Settings& settings, const Ruleset& ruleset,
                                 const NamespaceState& state, netfilter::OldTables old_tables, const Log& log) {
  const netfilter::KeptChanges added = netfilter::add_missing(state);
  for (const std::string& line : added.done) log.debug("done: " + line);
  for (const std::string& line : added.warnings) log.warning(line);
  try {
    return backends.apply(wish(settings), ruleset, stamp(), old_tables);
  } catch (const netfilter::KernelError& error) {
    // Whoever has the new rules, or may have them, needs the routes.
    if (error.left() == netfilter::KernelError::Left::as_it_was) take_back(added, log);
    throw;
  }
}

/// Whether the kernel is asked for anything once the rules are in place.
bool more_to_do(const Settings& settings, netfilter::Outcome outcome) {
  return outcome != netfilter::Outcome::created || settings.close_wait_timeout || other_family_passes(settings);
}

/// The rules are in place, so nothing here is a failure.
void finish(const Settings& settings, const NamespaceState& state, netfilter::Outcome outcome, const Log& log) {
  try {
    // Even if nothing changed: the run that replaced the rules may have been killed before it got here.
    // A first apply looks for nothing, which would be a fifth of its time: where an earlier run with other options was
    // killed before it made any rule, verify tells what it left, and the next apply removes it.
    if (outcome != netfilter::Outcome::created) {
      for (const std::string& line : netfilter::remove_unwanted(state).done) log.debug("done: " + line);
    }
  } catch (const netfilter::KernelError& error) {
    log.warning(std::string("what former rules needed stays until the next run: ") + error.what());
  }
  if (settings.close_wait_timeout) set_close_wait_timeout(*settings.close_wait_timeout, log);
  try {
    warn_of_the_other_family(settings, log);
  } catch (const netfilter::KernelError& error) {
    log.warning(std::string("--ip-family: whether the other family bypasses the proxy cannot be seen: ") +
                error.what());
  }
}

ExitCode program(const Config& config, const Ruleset& ruleset, const Log& log) {
  std::optional<netfilter::NamespaceLock> turn;
  netfilter::Backends backends(config->lock_timeout);
  const auto check = [&](const Settings& settings, const Log&) {
    // In a namespace that was entered rules may have to be made by another user, who gets a socket of their own.
    const auto here = settings.netns.empty() ? backends.here() : netfilter::NamespaceSocket();
    if (const ExitCode code = refuse_host_network(here, settings, log); code != ExitCode::done) return code;
    turn.emplace(here, settings.lock_timeout);
    return ExitCode::done;
  };
  const Footing footing = stand_in_namespace_to_apply(*config, log, check);
  if (footing.code != ExitCode::done) return footing.code;
  const NamespaceState state = namespace_state(config);
  const netfilter::Applied applied = program_rules(backends, *config, ruleset, state, footing.old_tables, log);
  log_choice(applied, wish(*config), log);
  // Not for the line that is left to print: the kernel takes a thirtieth of the run to prepare a filter.
  if (footing.helpers_possible && applied.backend != netfilter::BackendKind::iptables_legacy &&
      more_to_do(*config, applied.outcome)) {
    settle(*config, log);
  }
  finish(*config, state, applied.outcome, log);
  report(*config, applied, log);
  return ExitCode::done;
}

}  // namespace

ExitCode apply(const Config& config, const Log& log) {
  const Ruleset ruleset = compile(config);
  if (config->backend == BackendChoice::iptables && !iptables_rules(ruleset, log)) return ExitCode::bad_input;
  return changing(log, "the new rules are in place", [&] { return program(config, ruleset, log); });
}

}  // namespace sluice::cli
