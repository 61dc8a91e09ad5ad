#include "cli/comparison.hpp"

#include "cli/preparation.hpp"
#include "netfilter/backend.hpp"
#include "netfilter/namespace_keeper.hpp"
#include "rules/compile.hpp"
#include "rules/namespace_state.hpp"

namespace sluice::cli {

std::vector<Difference> differences_in_kernel(const Config& config) {
  auto differences = netfilter::Backends(config->lock_timeout).differences(wish(*config), compile(config));
  for (const std::string& line : netfilter::missing(namespace_state(config))) {
    differences.push_back({"", "", "missing", line, ""});
  }
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

}  // namespace sluice::cli
