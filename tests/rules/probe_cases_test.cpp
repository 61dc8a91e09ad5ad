#include "rules/probe_cases.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "rules/verdict.hpp"
#include "tests/rules/support.hpp"

using namespace sluice;
using test::config;

namespace {

std::vector<ProbeCase> cases(const test::Options& options, Family family = Family::ipv4) {
  const bool v4 = family == Family::ipv4;
  return probe_cases(*config(options), family, *parse_address(v4 ? "192.0.2.2" : "2001:db8::2"),
                     *parse_address(v4 ? "192.0.2.1" : "2001:db8::1"));
}

/// `redirect to port 15001 [outbound]` of the case with this description.
std::string expected(const test::Options& options, const std::string& what, Family family = Family::ipv4) {
  for (const ProbeCase& probe : cases(options, family)) {
    if (probe.what != what) continue;
    const Decision decided = evaluate(compile(config(options)), probe.connection);
    return verdict_text(decided.verdict) + " [" + decided.rule + "]";
  }
  return "no such case";
}

}  // namespace

TEST_CASE("the probes meet every kind of decision, in both families") {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    for (const char* preset : {"none", "istio", "linkerd", "kuma", "consul"}) {
      CAPTURE(preset);
      const test::Options options = {{"preset", preset}};
      std::set<std::string_view> verdicts;
      for (const ProbeCase& probe : cases(options, family)) {
        CHECK(family_of(probe.connection.destination) == family);
        verdicts.insert(verdict_word(evaluate(compile(config(options)), probe.connection).verdict));
      }
      CHECK(verdicts.count("redirect") == 1);
      CHECK(verdicts.count("pass") == 1);
    }
  }
}

TEST_CASE("the application of a probe is one that is captured, wherever the options leave one") {
  const char* const application = "outbound, an application";
  CHECK(expected({}, application) == "redirect to port 15001 [outbound]");
  CHECK(expected({{"proxy-uid", "1000"}, {"proxy-gid", "1000"}}, application) == "redirect to port 15001 [outbound]");
  CHECK(expected({{"exclude-uids", "0-2000"}, {"exclude-gids", "1000"}}, application) ==
        "redirect to port 15001 [outbound]");
  CHECK(expected({{"only-gids", "7"}}, application) == "redirect to port 15001 [outbound]");
  CHECK(expected({{"exclude-outbound-ports", "80-90"}}, application) == "redirect to port 15001 [outbound]");
  CHECK(expected({{"outbound-cidrs", "10.0.0.0/8"}}, application) == "redirect to port 15001 [outbound]");
  CHECK(expected({{"proxy-port", "80"}}, application) == "redirect to port 80 [outbound]");
  CHECK(expected({{"ip-family", "ipv4"}}, application, Family::ipv6) == "pass [other-family]");
}

TEST_CASE("the proxy of a probe is known by whatever sign the options give") {
  const char* const proxy = "outbound, the proxy";
  CHECK(expected({}, proxy) == "pass [proxy]");
  CHECK(expected({{"proxy-uid", ""}, {"proxy-gid", "9"}}, proxy) == "pass [proxy]");
  CHECK(expected({{"proxy-uid", ""}, {"proxy-mark", "0x5/0xf"}}, proxy) == "pass [proxy]");
  CHECK(expected({{"preset", "istio"}}, "the proxy to its own pod's address") == "redirect to port 15006 [hairpin]");
}

TEST_CASE("what is excluded is probed where something is") {
  CHECK(expected({{"exclude-outbound-ports", "22"}}, "outbound, an application to an excluded port") ==
        "pass [exclude-port]");
  CHECK(expected({{"exclude-outbound-cidrs", "10.0.0.0/8"}}, "outbound, an application to an excluded network") ==
        "pass [exclude-cidr]");
  CHECK(expected({{"exclude-uids", "33"}}, "outbound, an excluded user") == "pass [owner]");
  CHECK(expected({{"exclude-inbound-ports", "8080"}}, "inbound") == "redirect to port 15001 [inbound]");
  CHECK(expected({{"inbound-ports", "9000"}}, "inbound") == "redirect to port 15001 [inbound]");
  CHECK(expected({}, "inbound to the proxy's own port") == "reject with a TCP reset [proxy-port]");
  CHECK(expected({}, "outbound, an excluded user") == "no such case");
}

TEST_CASE("whom a long range leaves is found without counting") {
  // One by one, this would take minutes.
  CHECK(expected({{"exclude-uids", "1000-4294967293"}, {"exclude-gids", "1000-4294967293"}},
                 "outbound, an application") == "redirect to port 15001 [outbound]");
}
