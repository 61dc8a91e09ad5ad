// cleanup --format json prints { "dry_run": bool, "removed": ["..."] }; with --dry-run, what would be removed.

#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/output.hpp"
#include "cli/preparation.hpp"
#include "netfilter/backend.hpp"
#include "netfilter/namespace_keeper.hpp"
#include "rules/namespace_state.hpp"

namespace sluice::cli {

ExitCode cleanup(const Config& config, const Log& log) {
  if (const ExitCode code = stand_in_namespace(*config, log); code != ExitCode::done) return code;
  const auto rules = netfilter::Backends(config->lock_timeout).remove(config->dry_run);
  const auto removed = netfilter::remove_unwanted(NamespaceState{}, config->dry_run);
  if (config->format == OutputFormat::json) {
    nlohmann::ordered_json json = {{"dry_run", config->dry_run}, {"removed", rules}};
    for (const std::string& line : removed.done) json["removed"].push_back(line);
    print_what_was_done(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n", log);
    return ExitCode::done;
  }
  const std::string verb = config->dry_run ? "would remove: " : "removed: ";
  std::string text;
  for (const std::string& line : rules) text += verb + line + "\n";
  for (const std::string& line : removed.done) text += verb + line + "\n";
  print_what_was_done(text.empty() ? "nothing of sluice is here\n" : text, log);
  return ExitCode::done;
}

}  // namespace sluice::cli
