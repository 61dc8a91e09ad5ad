#include "rules/drift.hpp"

#include <algorithm>

#include "rules/list_diff.hpp"
#include "rules/nft_text.hpp"

namespace sluice {
namespace {

std::string shown(const ObservedRule& observed) {
  if (const auto* rule = std::get_if<Rule>(&observed.rule)) return to_nft(*rule);
  return std::get<Opaque>(observed.rule).text;
}

bool same(const Rule& wanted, const ObservedRule& found) {
  const auto* rule = std::get_if<Rule>(&found.rule);
  return rule != nullptr && *rule == wanted;
}

/// A long list is told by its size, so that a report stays readable.
std::string shown(const SetElements& elements) {
  constexpr std::size_t readable = 200;
  std::string text = to_nft(elements);
  if (text.size() <= readable) return "{ " + text + " }";
  const std::size_t count = std::visit([](const auto& list) { return list.size(); }, elements);
  return std::to_string(count) + " elements { " + text.substr(0, readable) + "... }";
}

class Differ {
 public:
  std::vector<Difference> run(const Ruleset& wanted, const Observed& found) {
    if (found.dormant) note({"", "", "changed", "an active table", "a dormant table"});
    if (found.other_objects > 0) {
      note({"", "", "unexpected", "",
            std::to_string(found.other_objects) + " objects in the table that are neither set nor chain"});
    }
    sets(wanted, found);
    chains(wanted, found);
    return std::move(differences_);
  }

 private:
  void note(Difference difference) { differences_.push_back(std::move(difference)); }

  void sets(const Ruleset& wanted, const Observed& found) {
    for (const Set& set : wanted.sets) {
      const auto match =
          std::find_if(found.sets.begin(), found.sets.end(), [&](const auto& s) { return s.name == set.name; });
      if (match == found.sets.end()) {
        note({"", "", "missing", "set " + set.name, ""});
        continue;
      }
      const auto* elements = std::get_if<SetElements>(&match->elements);
      if (elements != nullptr && *elements == set.elements) continue;
      note({"", "", "changed", "set " + set.name + " " + shown(set.elements),
            elements != nullptr ? shown(*elements) : std::get<Opaque>(match->elements).text});
    }
    for (const ObservedSet& set : found.sets) {
      if (wanted.find_set(set.name) == nullptr) note({"", "", "unexpected", "", "set " + set.name});
    }
  }

  void chains(const Ruleset& wanted, const Observed& found) {
    for (const Chain& chain : wanted.chains) {
      const auto match =
          std::find_if(found.chains.begin(), found.chains.end(), [&](const auto& c) { return c.name == chain.name; });
      if (match == found.chains.end()) {
        note({"", chain.name, "missing", to_nft_hook(chain), ""});
      } else {
        one_chain(chain, *match);
      }
    }
    for (const ObservedChain& chain : found.chains) {
      if (wanted.find_chain(chain.name) == nullptr) note({"", chain.name, "unexpected", "", "chain " + chain.name});
    }
  }

  void one_chain(const Chain& wanted, const ObservedChain& found) {
    const bool same_base = found.base && found.base->type == wanted.type && found.base->hook == wanted.hook &&
                           found.base->priority == wanted.priority && found.accepts_by_default;
    if (!same_base) {
      note({"", wanted.name, "changed", to_nft_hook(wanted),
            found.base ? to_nft_hook(*found.base) + (found.accepts_by_default ? "" : " (policy is drop)")
                       : "a chain without a hook, or with another"});
    }
    rules(wanted, found);
  }

  void rules(const Chain& wanted, const ObservedChain& found) {
    compare_lists(
        wanted.rules, found.rules, same,
        [&](const Rule& rule) {
          note({rule.name, wanted.name, "missing", to_nft(rule), ""});
        },
        [&](const ObservedRule& rule) {
          note({rule.comment, wanted.name, "unexpected", "", shown(rule)});
        },
        [&](const Rule& rule, const ObservedRule& other) {
          note({rule.name, wanted.name, "changed", to_nft(rule), shown(other)});
        });
  }

  std::vector<Difference> differences_;
};

}  // namespace

std::vector<Difference> diff(const Ruleset& wanted, const std::optional<Observed>& found) {
  if (!found) return {{"", "", "missing", "table inet sluice", ""}};
  return Differ().run(wanted, *found);
}

}  // namespace sluice
