#include "cli/commands.hpp"
#include "cli/output.hpp"
#include "cli/preparation.hpp"
#include "cli/ruleset_json.hpp"
#include "netfilter/backend.hpp"
#include "rules/compile.hpp"
#include "rules/drift.hpp"
#include "rules/iptables_text.hpp"
#include "rules/namespace_state.hpp"
#include "rules/nft_text.hpp"

namespace sluice::cli {
namespace {

/// What neither nft nor iptables can make stands above the rules as comments.
std::string with_commands(const NamespaceState& state, const std::string& rules) {
  std::string text;
  for (const std::string& command : to_ip_commands(state)) text += "# " + command + "\n";
  return text + rules;
}

/// `- outbound [proxy] meta skuid 1337 accept`, then `+` with what would stand there instead.
std::string difference_text(const Difference& difference) {
  std::string place = difference.chain.empty() ? "" : difference.chain + " ";
  if (!difference.rule.empty()) place += "[" + difference.rule + "] ";
  std::string text;
  if (!difference.found.empty()) text += "- " + place + difference.found + "\n";
  if (!difference.expected.empty()) text += "+ " + place + difference.expected + "\n";
  return text;
}

/// What apply would change, by rule.
ExitCode compare_with_kernel(const Config& config, const Log& log) {
  if (const ExitCode code = stand_in_namespace(*config, log); code != ExitCode::done) return code;
  netfilter::Backends backends(config->lock_timeout);
  std::string text;
  for (const Difference& difference : backends.differences(wish(*config), compile(config)))
    text += difference_text(difference);
  print(text.empty() ? "no difference\n" : text);
  return text.empty() ? ExitCode::done : ExitCode::drift;
}

}  // namespace

ExitCode plan(const Config& config, const Log& log) {
  if (!format_is_one_of(*config, {OutputFormat::nft, OutputFormat::iptables, OutputFormat::json}, "nft, iptables, json",
                        log)) {
    return ExitCode::bad_input;
  }
  if (config->diff) return compare_with_kernel(config, log);
  const Ruleset ruleset = compile(config);
  const NamespaceState state = namespace_state(config);
  const OutputFormat usual = config->backend == BackendChoice::iptables ? OutputFormat::iptables : OutputFormat::nft;
  const OutputFormat format = config->format.value_or(usual);
  if (format == OutputFormat::json) {
    print(to_json_text(ruleset, state));
  } else if (format == OutputFormat::iptables) {
    const auto rules = iptables_rules(ruleset, log);
    if (!rules) return ExitCode::bad_input;
    print(with_commands(state, to_iptables_plan(*rules)));
  } else {
    print(with_commands(state, to_nft(ruleset)));
  }
  return ExitCode::done;
}

}  // namespace sluice::cli
