// cleanup --format json prints { "dry_run": bool, "removed": ["..."] }; with --dry-run, what would be removed.

#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.hpp"
#include "cli/failure.hpp"
#include "cli/output.hpp"
#include "cli/preparation.hpp"
#include "netfilter/backend.hpp"
#include "netfilter/namespace_keeper.hpp"
#include "netfilter/namespace_lock.hpp"
#include "rules/namespace_state.hpp"

namespace sluice::cli {
namespace {

netfilter::KeptChanges remove_the_rest(bool pretend, bool nothing_yet) {
  try {
    return netfilter::remove_unwanted(NamespaceState{}, pretend);
  } catch (const netfilter::KernelError& error) {
    throw nothing_yet ? error : error.leaving(netfilter::KernelError::Left::as_wanted);
  }
}

ExitCode remove_everything(const Settings& settings, const Log& log) {
  std::optional<netfilter::NamespaceLock> turn;
  const auto wait_for_turn = [&](const Settings&, const Log&) {
    if (!settings.dry_run) turn.emplace(netfilter::NamespaceSocket(), settings.lock_timeout);
    return ExitCode::done;
  };
  if (const ExitCode code = stand_in_namespace(settings, log, wait_for_turn); code != ExitCode::done) return code;
  const auto rules = netfilter::Backends(settings.lock_timeout).remove(settings.dry_run);
  const auto removed = remove_the_rest(settings.dry_run, rules.empty());
  if (settings.format == OutputFormat::json) {
    nlohmann::ordered_json json = {{"dry_run", settings.dry_run}, {"removed", rules}};
    for (const std::string& line : removed.done) json["removed"].push_back(line);
    print_what_was_done(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n", log);
    return ExitCode::done;
  }
  const std::string verb = settings.dry_run ? "would remove: " : "removed: ";
  std::string text;
  for (const std::string& line : rules) text += verb + line + "\n";
  for (const std::string& line : removed.done) text += verb + line + "\n";
  print_what_was_done(text.empty() ? "nothing of sluice is here\n" : text, log);
  return ExitCode::done;
}

}  // namespace

ExitCode cleanup(const Config& config, const Log& log) {
  return changing(log, "the rules are removed", [&] { return remove_everything(*config, log); });
}

}  // namespace sluice::cli
