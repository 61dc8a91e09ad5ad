#include "rules/ruleset.hpp"

#include <algorithm>

namespace sluice {

const Set* Ruleset::find_set(std::string_view name) const {
  const auto found = std::find_if(sets.begin(), sets.end(), [&](const Set& set) { return set.name == name; });
  return found == sets.end() ? nullptr : &*found;
}

const Chain* Ruleset::find_chain(std::string_view name) const {
  const auto found = std::find_if(chains.begin(), chains.end(), [&](const Chain& chain) { return chain.name == name; });
  return found == chains.end() ? nullptr : &*found;
}

std::string_view to_text(ChainType type) {
  switch (type) {
    case ChainType::filter:
      return "filter";
    case ChainType::nat:
      return "nat";
    case ChainType::route:
      return "route";
  }
  return "";
}

std::string_view to_text(Hook hook) {
  switch (hook) {
    case Hook::prerouting:
      return "prerouting";
    case Hook::input:
      return "input";
    case Hook::output:
      return "output";
  }
  return "";
}

}  // namespace sluice
