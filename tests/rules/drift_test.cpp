#include "rules/drift.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "tests/rules/support.hpp"

using namespace sluice;

namespace {

Observed as_found(const Ruleset& ruleset) {
  Observed found;
  for (const Set& set : ruleset.sets) found.sets.push_back({set.name, set.elements});
  for (const Chain& chain : ruleset.chains) {
    ObservedChain observed{Chain{chain.name, chain.type, chain.hook, chain.priority, {}}, chain.name, true, {}};
    for (const Rule& rule : chain.rules) observed.rules.push_back({rule, rule.name, {5, 300}});
    found.chains.push_back(observed);
  }
  return found;
}

const Ruleset& wanted() {
  static const Ruleset ruleset = compile(test::config({{"exclude-outbound-ports", "22,80"}}));
  return ruleset;
}

/// `kind chain [rule]` of every difference after one change.
template <typename Change>
std::string after(const Change& change) {
  Observed found = as_found(wanted());
  change(found);
  std::string text;
  for (const Difference& difference : diff(wanted(), found)) {
    text += difference.kind + " " + difference.chain + " [" + difference.rule + "]; ";
  }
  return text;
}

}  // namespace

TEST_CASE("the same rules are no drift, whatever they counted") {
  CHECK(after([](Observed&) {}).empty());
}

TEST_CASE("a table that is not there is drift") { CHECK(diff(wanted(), std::nullopt).size() == 1); }

TEST_CASE("every kind of change is told, by rule") {
  CHECK(after([](Observed& o) { o.chains[0].rules.erase(o.chains[0].rules.begin() + 3); }) ==
        "missing outbound [proxy]; ");
  CHECK(after([](Observed& o) {
          o.chains[0].rules.insert(o.chains[0].rules.begin(), {Opaque{"x"}, "mine", {}});
        }) == "unexpected outbound [mine]; ");
  CHECK(after([](Observed& o) { o.chains[0].rules[3].rule = Opaque{"x"}; }) == "changed outbound [proxy]; ");
  CHECK(after([](Observed& o) { std::get<Rule>(o.chains[0].rules.back().rule).action = Drop{}; }) ==
        "changed outbound [outbound]; ");
  CHECK_FALSE(after([](Observed& o) { std::swap(o.chains[0].rules[3], o.chains[0].rules[4]); }).empty());
  CHECK(after([](Observed& o) { o.chains[0].base->priority = -100; }) == "changed outbound []; ");
  CHECK(after([](Observed& o) { o.chains[0].accepts_by_default = false; }) == "changed outbound []; ");
  CHECK(after([](Observed& o) { o.chains[0].base.reset(); }) == "changed outbound []; ");
  CHECK(after([](Observed& o) { o.chains.pop_back(); }) == "missing inbound_guard []; ");
  CHECK(after([](Observed& o) { o.chains.push_back({std::nullopt, "mine", true, {}}); }) == "unexpected mine []; ");
  CHECK(after([](Observed& o) { o.sets[0].elements = Ranges<Port>{}; }) == "changed  []; ");
  CHECK(after([](Observed& o) { o.sets.push_back({"mine", Opaque{"x"}}); }) == "unexpected  []; ");
  CHECK(after([](Observed& o) { o.dormant = true; }) == "changed  []; ");
  CHECK(after([](Observed& o) { o.other_objects = 1; }) == "unexpected  []; ");
}
