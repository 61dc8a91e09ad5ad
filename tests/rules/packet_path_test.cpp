#include "rules/packet_path.hpp"

#include <doctest/doctest.h>

#include "rules/compile.hpp"
#include "tests/rules/support.hpp"

using namespace sluice;
using test::config;

namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++found;
  return found;
}

}  // namespace

TEST_CASE("every question has two ways out, and every way leads to a node") {
  for (const test::Options& options :
       {test::Options{}, test::Options{{"preset", "istio"}}, test::Options{{"inbound-mode", "tproxy"}, {"dns", "all"}},
        test::Options{{"udp", "reject:443"}, {"drop-invalid", "true"}}}) {
    const Ruleset ruleset = compile(config(options));
    const std::string text = to_mermaid(ruleset);
    CHECK(count(text, "-->|yes") == count(text, "-->|no|"));
    for (const Chain& chain : ruleset.chains) {
      CHECK(contains(text, chain.name + ": " + std::string(to_text(chain.type))));
      for (const Rule& rule : chain.rules) CHECK(contains(text, "[" + rule.name + "]"));
    }
    CHECK(count(to_dot(ruleset), " -> ") == count(text, " -->"));
  }
}

TEST_CASE("rules of one name and verdict in a row are one question") {
  const std::string text = to_mermaid(compile(config({})));
  CHECK(
      contains(text, "outbound_2[\"[loopback]<br>oifname #quot;lo#quot;<br>ip daddr 127.0.0.0/8<br>ip6 daddr ::1\"]"));
}

TEST_CASE("chains of one hook follow each other by priority") {
  const std::string text = to_mermaid(compile(config({{"dns", "all"}})));
  CHECK(contains(text, "made --> outbound_zone_0\n"));
  CHECK(contains(text, "-->|yes: conntrack zone 1| outbound_0\n"));
}

TEST_CASE("quotes cannot end a label") {
  const Match odd = InterfaceIn{Direction::out, InterfacePattern{"a\"b\\", false}};
  const Ruleset ruleset{{}, {{"outbound", ChainType::nat, Hook::output, -105, {{"exclude-interface", {odd}, Pass{}}}}}};
  CHECK(contains(to_dot(ruleset), R"(oifname \"a\"b\\\")"));
  CHECK(contains(to_mermaid(ruleset), R"(oifname #quot;a#quot;b\#quot;)"));
}

TEST_CASE("a ruleset without chains is an empty picture") {
  CHECK(to_mermaid(Ruleset{}) == "flowchart TD\n");
  CHECK(to_dot(Ruleset{}) == "digraph sluice {\n  node [fontname=monospace];\n}\n");
}
