#include "cli/commands.hpp"
#include "cli/output.hpp"
#include "cli/preparation.hpp"
#include "cli/ruleset_json.hpp"
#include "rules/compile.hpp"
#include "rules/namespace_state.hpp"
#include "rules/nft_text.hpp"

namespace sluice::cli {
namespace {

/// Loads with nft as it is; what nft cannot make stands above it as comments.
std::string nft_plan(const Ruleset& ruleset, const NamespaceState& state) {
  std::string text;
  for (const std::string& command : to_ip_commands(state)) text += "# " + command + "\n";
  return text + to_nft(ruleset);
}

}  // namespace

ExitCode plan(const Config& config, const Log& log) {
  if (!format_is_one_of(*config, {OutputFormat::nft, OutputFormat::json}, "nft, json", log)) return ExitCode::bad_input;
  if (const ExitCode code = check_backend(*config, log); code != ExitCode::done) return code;
  const Ruleset ruleset = compile(config);
  const NamespaceState state = namespace_state(config);
  print(config->format == OutputFormat::json ? to_json_text(ruleset, state) : nft_plan(ruleset, state));
  return ExitCode::done;
}

}  // namespace sluice::cli
