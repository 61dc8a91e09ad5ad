#include "cli/commands.hpp"
#include "cli/output.hpp"
#include "cli/preparation.hpp"
#include "netfilter/namespace_keeper.hpp"
#include "netfilter/nftables_backend.hpp"
#include "rules/namespace_state.hpp"

namespace sluice::cli {

ExitCode cleanup(const Config& config, const Log& log) {
  if (!format_is_one_of(*config, {OutputFormat::text}, "text", log)) return ExitCode::bad_input;
  if (const ExitCode code = stand_in_namespace(*config, log); code != ExitCode::done) return code;
  netfilter::NftablesBackend backend(config->lock_timeout);
  const bool table = config->dry_run ? backend.observe().has_value() : backend.remove();
  const auto removed = netfilter::remove_unwanted(NamespaceState{}, config->dry_run);
  const std::string verb = config->dry_run ? "would remove: " : "removed: ";
  std::string text;
  if (table) text += verb + "table inet sluice\n";
  for (const std::string& line : removed.done) text += verb + line + "\n";
  print_what_was_done(text.empty() ? "nothing of sluice is here\n" : text, log);
  return ExitCode::done;
}

}  // namespace sluice::cli
