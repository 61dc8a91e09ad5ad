#include "cli/comparison.hpp"

#include <nlohmann/json.hpp>

#include "cli/preparation.hpp"
#include "netfilter/backend.hpp"
#include "netfilter/namespace_keeper.hpp"
#include "rules/compile.hpp"
#include "rules/namespace_state.hpp"

namespace sluice::cli {

std::vector<Difference> differences_in_kernel(const Config& config) {
  auto differences = netfilter::Backends(config->lock_timeout).differences(wish(*config), compile(config));
  const NamespaceState state = namespace_state(config);
  for (const std::string& line : netfilter::missing(state)) differences.push_back({"", "", "missing", line, ""});
  for (const std::string& line : netfilter::unwanted(state)) differences.push_back({"", "", "unexpected", "", line});
  return differences;
}

std::string to_text(const Difference& difference) {
  std::string place = difference.chain.empty() ? "" : difference.chain + " ";
  if (!difference.rule.empty()) place += "[" + difference.rule + "] ";
  std::string text;
  if (!difference.found.empty()) text += "- " + place + difference.found + "\n";
  if (!difference.expected.empty()) text += "+ " + place + difference.expected + "\n";
  return text;
}

nlohmann::ordered_json to_json(const std::vector<Difference>& differences) {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const Difference& d : differences) {
    // The chain of a difference names its table, too, wherever it is not the one of our own.
    const std::size_t end = d.chain.rfind(' ');
    const bool elsewhere = end != std::string::npos;
    all.push_back({{"rule", d.rule},
                   {"table", elsewhere ? d.chain.substr(0, end) : "inet sluice"},
                   {"chain", elsewhere ? d.chain.substr(end + 1) : d.chain},
                   {"kind", d.kind},
                   {"expected", d.expected},
                   {"found", d.found}});
  }
  return all;
}

}  // namespace sluice::cli
