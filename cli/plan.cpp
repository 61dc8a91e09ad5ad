#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/comparison.hpp"
#include "cli/output.hpp"
#include "cli/preparation.hpp"
#include "cli/ruleset_json.hpp"
#include "rules/compile.hpp"
#include "rules/iptables_text.hpp"
#include "rules/namespace_state.hpp"
#include "rules/nft_text.hpp"
#include "rules/packet_path.hpp"

namespace sluice::cli {
namespace {

/// What neither nft nor iptables can make stands above the rules as comments.
std::string with_commands(const NamespaceState& state, const std::string& rules) {
  std::string text;
  for (const std::string& command : to_ip_commands(state)) text += "# " + command + "\n";
  return text + rules;
}

/// What apply would change, by rule.
ExitCode compare_with_kernel(const Config& config, const Log& log) {
  if (const ExitCode code = stand_in_namespace(*config, log); code != ExitCode::done) return code;
  const std::vector<Difference> differences = differences_in_kernel(config);
  std::string text;
  if (config->format == OutputFormat::json) {
    const nlohmann::ordered_json json = {{"match", differences.empty()}, {"drift", to_json(differences)}};
    text = json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  } else if (differences.empty()) {
    text = "no difference\n";
  } else {
    for (const Difference& difference : differences) text += to_text(difference);
  }
  print(text);
  return differences.empty() ? ExitCode::done : ExitCode::drift;
}

/// Nothing, with an explanation, where the rules cannot be said in that format.
std::optional<std::string> rendered(const Config& config, const Log& log) {
  const Ruleset ruleset = compile(config);
  const NamespaceState state = namespace_state(config);
  const OutputFormat usual = config->backend == BackendChoice::iptables ? OutputFormat::iptables : OutputFormat::nft;
  switch (config->format.value_or(usual)) {
    case OutputFormat::json:
      return to_json_text(ruleset, state);
    case OutputFormat::mermaid:
      return to_mermaid(ruleset);
    case OutputFormat::dot:
      return to_dot(ruleset);
    case OutputFormat::iptables: {
      const auto rules = iptables_rules(ruleset, log);
      return rules ? std::optional(with_commands(state, to_iptables_plan(*rules))) : std::nullopt;
    }
    default:
      return with_commands(state, to_nft(ruleset));
  }
}

}  // namespace

ExitCode plan(const Config& config, const Log& log) {
  if (config->diff) return compare_with_kernel(config, log);
  const auto text = rendered(config, log);
  if (!text) return ExitCode::bad_input;
  print(*text);
  return ExitCode::done;
}

}  // namespace sluice::cli
