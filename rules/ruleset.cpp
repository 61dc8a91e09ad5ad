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

namespace {

template <typename Address>
bool encloses(const Match& match, const Match& next) {
  const auto* range = std::get_if<AddressIn<Address>>(&match);
  const auto* list = std::get_if<AddressIn<Address>>(&next);
  return range != nullptr && list != nullptr && range->side == list->side &&
         std::holds_alternative<Range<Address>>(range->addresses) && std::holds_alternative<SetRef>(list->addresses);
}

}  // namespace

std::optional<Family> only_family(const Rule& rule) {
  std::optional<Family> family;
  for (const Match& match : rule.matches) {
    if (const auto* named = std::get_if<FamilyIs>(&match)) family = named->family;
    if (std::holds_alternative<Ipv4In>(match)) family = Family::ipv4;
    if (std::holds_alternative<Ipv6In>(match)) family = Family::ipv6;
  }
  return family;
}

std::vector<Match> without_enclosing_ranges(const std::vector<Match>& matches) {
  std::vector<Match> kept;
  for (std::size_t at = 0; at < matches.size(); ++at) {
    const bool last = at + 1 == matches.size();
    if (!last && (encloses<Ipv4>(matches[at], matches[at + 1]) || encloses<Ipv6>(matches[at], matches[at + 1]))) {
      continue;
    }
    kept.push_back(matches[at]);
  }
  return kept;
}

}  // namespace sluice
