#include "cli/commands.hpp"
#include "cli/comparison.hpp"
#include "cli/output.hpp"
#include "cli/preparation.hpp"
#include "cli/ruleset_json.hpp"
#include "rules/compile.hpp"
#include "rules/namespace_state.hpp"
#include "rules/nft_text.hpp"
#include "rules/packet_path.hpp"

namespace sluice::cli {
namespace {

/// Loads with nft as it is; what nft cannot make stands above it as comments.
std::string nft_plan(const Ruleset& ruleset, const NamespaceState& state) {
  std::string text;
  for (const std::string& command : to_ip_commands(state)) text += "# " + command + "\n";
  return text + to_nft(ruleset);
}

/// What apply would change, by rule.
ExitCode compare_with_kernel(const Config& config, const Log& log) {
  if (const ExitCode code = stand_in_namespace(*config, log); code != ExitCode::done) return code;
  std::string text;
  for (const Difference& difference : differences_in_kernel(config)) text += to_text(difference);
  print(text.empty() ? "no difference\n" : text);
  return text.empty() ? ExitCode::done : ExitCode::drift;
}

std::string rendered(const Config& config) {
  const Ruleset ruleset = compile(config);
  switch (config->format.value_or(OutputFormat::nft)) {
    case OutputFormat::json:
      return to_json_text(ruleset, namespace_state(config));
    case OutputFormat::mermaid:
      return to_mermaid(ruleset);
    case OutputFormat::dot:
      return to_dot(ruleset);
    default:
      return nft_plan(ruleset, namespace_state(config));
  }
}

}  // namespace

ExitCode plan(const Config& config, const Log& log) {
  const auto known = {OutputFormat::nft, OutputFormat::json, OutputFormat::mermaid, OutputFormat::dot};
  if (!format_is_one_of(*config, known, "nft, json, mermaid, dot", log)) return ExitCode::bad_input;
  if (const ExitCode code = check_backend(*config, log); code != ExitCode::done) return code;
  if (config->diff) return compare_with_kernel(config, log);
  print(rendered(config));
  return ExitCode::done;
}

}  // namespace sluice::cli
