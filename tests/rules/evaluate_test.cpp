#include "rules/evaluate.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "rules/question.hpp"
#include "rules/words.hpp"
#include "tests/rules/support.hpp"

using namespace sluice;
using test::config;

namespace {

struct Ask {
  Flow flow = Flow::outbound;
  const char* to = "192.0.2.1";
  std::uint16_t port = 80;
  std::uint32_t uid = 2000;
  const char* interface = "eth0";
  std::uint8_t protocol = 6;
  const char* from = "10.9.0.2";
};

/// `redirect 15001 [outbound]`
std::string decision(const test::Options& options, const Ask& ask) {
  Connection connection;
  connection.flow = ask.flow;
  connection.protocol = ask.protocol;
  connection.source = *parse_address(ask.from);
  connection.destination = *parse_address(ask.to);
  connection.source_port = 40000;
  connection.destination_port = ask.port;
  connection.interface = ask.interface;
  if (ask.flow == Flow::outbound) connection.uid = Uid{ask.uid}, connection.gid = Gid{ask.uid};
  const Decision decided = evaluate(compile(config(options)), connection);
  const std::string verdict = std::visit(
      Overloaded{[](const Redirect& a) { return "redirect " + std::to_string(a.port.number()); },
                 [](const Tproxy& a) { return "tproxy " + std::to_string(a.port.number()); },
                 [](const Reject&) { return std::string("reject"); }, [](const auto&) { return std::string("pass"); }},
      decided.verdict);
  return verdict + " [" + decided.rule + "]";
}

constexpr auto in = Flow::inbound;

}  // namespace

TEST_CASE("the decisions of the default configuration") {
  CHECK(decision({}, {}) == "redirect 15001 [outbound]");
  CHECK(decision({}, {.to = "2001:db8::1"}) == "redirect 15001 [outbound]");
  CHECK(decision({}, {.uid = 1337}) == "pass [proxy]");
  CHECK(decision({}, {.to = "10.9.0.2", .interface = "lo"}) == "pass [loopback]");
  CHECK(decision({}, {.protocol = 17}) == "pass [default]");
  CHECK(decision({}, {.flow = in, .to = "10.9.0.2", .from = "10.9.0.1"}) == "redirect 15001 [inbound]");
  CHECK(decision({}, {.flow = in, .to = "10.9.0.2", .port = 15001, .from = "10.9.0.1"}) == "reject [proxy-port]");
}

TEST_CASE("the istio preset decides what Istio documents") {
  const test::Options istio = {{"preset", "istio"}};
  CHECK(decision(istio, {.to = "10.9.0.2", .port = 5000, .uid = 1337, .interface = "lo"}) ==
        "redirect 15006 [hairpin]");
  CHECK(decision(istio, {.to = "10.9.0.2", .port = 15008, .uid = 1337, .interface = "lo"}) == "pass [proxy]");
  CHECK(decision(istio, {.to = "127.0.0.1", .port = 5000, .uid = 1337, .interface = "lo"}) == "pass [proxy]");
  CHECK(decision(istio, {.to = "10.9.0.2", .port = 5000, .uid = 1337, .interface = "lo", .from = "127.0.0.6"}) ==
        "pass [passthrough]");
  CHECK(decision(istio, {.flow = in, .to = "10.9.0.2", .port = 15021, .from = "10.9.0.1"}) == "pass [exclude-port]");
  CHECK(decision(istio, {.flow = in, .to = "10.9.0.2", .port = 15008, .from = "10.9.0.1"}) == "pass [tunnel]");
}

TEST_CASE("DNS, refused UDP and the other family") {
  CHECK(decision({{"dns", "all"}}, {.port = 53, .protocol = 17}) == "redirect 15053 [dns]");
  CHECK(decision({{"dns", "all"}}, {.to = "127.0.0.53", .port = 53, .interface = "lo", .protocol = 17}) ==
        "redirect 15053 [dns]");
  CHECK(decision({{"dns", "all"}}, {.port = 53, .uid = 1337, .protocol = 17}) == "pass [proxy]");
  CHECK(decision({{"dns", "resolv-conf"}}, {.port = 53, .protocol = 17}) == "pass [default]");
  CHECK(decision({{"dns", "resolv-conf"}}, {.to = "10.96.0.10", .port = 53}) == "redirect 15053 [dns]");
  CHECK(decision({{"udp", "reject:443"}}, {.port = 443, .protocol = 17}) == "reject [udp]");
  CHECK(decision({{"udp", "reject:443"}}, {.port = 443, .uid = 1337, .protocol = 17}) == "pass [proxy]");
  CHECK(decision({{"ip-family", "ipv4"}}, {.to = "2001:db8::1"}) == "pass [other-family]");
  CHECK(decision({{"ip-family", "ipv4"}, {"other-family", "reject"}}, {.to = "2001:db8::1"}) ==
        "reject [other-family]");
  CHECK(decision({{"dns", "all"}, {"udp", "reject:15053"}}, {.port = 53, .protocol = 17}) == "redirect 15053 [dns]");
}

TEST_CASE("a transparent listener gets inbound connections as they are") {
  const test::Options tproxy = {{"inbound-mode", "tproxy"}, {"inbound-port", "15006"}};
  CHECK(decision(tproxy, {.flow = in, .to = "10.9.0.2", .from = "10.9.0.1"}) == "tproxy 15006 [inbound]");
  CHECK(decision(tproxy, {.flow = in, .to = "10.9.0.2", .port = 15006, .from = "10.9.0.1"}) == "reject [proxy-port]");
}

namespace {

/// The verdict's rule when one more chain is there; a question mark where that is not certain.
std::string with_chain(const AskedChain& chain, const Question& question = {}) {
  const Ruleset ruleset = compile(config({}));
  auto chains = asked_chains(ruleset);
  chains.push_back(chain);
  const Decision decided = evaluate(ruleset, chains, connection_of(question).connection);
  return decided.rule + (decided.certain ? "" : "?");
}

AskedChain foreign(ChainType type, int priority, const AskedRule& rule) {
  return {"ip other out", type, Hook::output, priority, {rule}, false, true};
}

const Match to_https = PortIn{Side::destination, Range<Port>{*Port::from(443), *Port::from(443)}};
const Question https{.destination = Endpoint{*parse_address("192.0.2.1"), Port::from(443)}};

}  // namespace

TEST_CASE("of two NAT chains the first that translates decides, by priority among NAT chains") {
  const AskedRule theirs{"theirs", {}, Redirect{*Port::from(9)}, ""};
  CHECK(with_chain(foreign(ChainType::nat, -110, theirs)) == "theirs");
  CHECK(with_chain(foreign(ChainType::nat, -100, theirs)) == "outbound");
  // A filter chain between the priorities of NAT chains and NAT's own hook at -100 is asked first all the same.
  const AskedRule refusal{"theirs", {ProtocolIs{Protocol::tcp}, to_https}, Drop{}, ""};
  CHECK(with_chain(foreign(ChainType::filter, -103, refusal), https) == "theirs");
  CHECK(with_chain(foreign(ChainType::filter, -99, refusal), https) == "outbound");
  CHECK(with_chain(foreign(ChainType::nat, -100, {"theirs", {}, Pass{}, ""})) == "outbound");
}

TEST_CASE("a chain's policy decides where no rule of it does") {
  AskedChain chain = foreign(ChainType::filter, -200, {"theirs", {to_https}, Pass{}, ""});
  chain.accepts_by_default = false;
  CHECK(with_chain(chain) == "policy");
  CHECK(with_chain(chain, https) == "outbound");
  // Behind NAT it sees the proxy's port, not the one that was dialled.
  chain.priority = 0;
  CHECK(with_chain(chain, https) == "policy");
}

TEST_CASE("a rule that cannot be read makes the decision uncertain only where it may match") {
  const AskedRule unreadable{"theirs", {ProtocolIs{Protocol::tcp}, to_https}, std::nullopt, "[jump]"};
  CHECK(with_chain(foreign(ChainType::nat, -110, unreadable)) == "outbound");
  CHECK(with_chain(foreign(ChainType::nat, -110, unreadable), https) == "outbound?");
  // After ours has translated nobody asks it any more.
  CHECK(with_chain(foreign(ChainType::nat, -100, unreadable), https) == "outbound");
}

TEST_CASE("what was read from the kernel is judged like what was compiled, and a dormant table not at all") {
  const Ruleset ruleset = compile(config({{"exclude-outbound-ports", "22,80"}}));
  Observed observed;
  for (const Set& set : ruleset.sets) observed.sets.push_back({set.name, set.elements});
  for (const Chain& chain : ruleset.chains) {
    observed.chains.push_back({Chain{chain.name, chain.type, chain.hook, chain.priority, {}}, chain.name, true, {}});
    for (const Rule& rule : chain.rules) observed.chains.back().rules.push_back({rule, rule.name, {}});
  }
  const Connection connection = connection_of({}).connection;
  const auto judged = [&] { return evaluate(readable_sets(observed), asked_chains(observed), connection).rule; };
  CHECK(judged() == "exclude-port");
  observed.dormant = true;
  CHECK(judged() == "default");
}

TEST_CASE("what is not said of a connection is assumed, and told") {
  const AssumedConnection plain = connection_of({});
  CHECK(plain.assumed.size() == 8);
  CHECK(plain.connection.interface == "eth0");
  const AssumedConnection local = connection_of({.destination = Endpoint{*parse_address("::1"), Port::from(80)}});
  CHECK(local.connection.interface == "lo");
  CHECK(local.connection.source == *parse_address("::1"));
  const AssumedConnection arriving = connection_of({.direction = Direction::in});
  CHECK_FALSE(arriving.connection.uid);
  CHECK(arriving.connection.interface == "eth0");
}

TEST_CASE("every kind of rule can be told in words") {
  const Ruleset ruleset = compile(config({{"exclude-outbound-ports", "1,3,5,7,9,11,13,15,17,19"},
                                          {"inbound-mode", "tproxy"},
                                          {"dns", "all"},
                                          {"udp", "reject:443"},
                                          {"drop-invalid", "on"},
                                          {"proxy-mark", "0x5/0xf"},
                                          {"virtual-interfaces", "vm0,tap*"}}));
  std::string all;
  for (const Chain& chain : ruleset.chains) {
    for (const Rule& rule : chain.rules) all += in_words(rule, ruleset) + "\n";
  }
  for (const char* words :
       {"TCP to port 1, 3, 5, 7, 9, 11, 13, 15 and 2 more: left alone\n", "of user 1337: left alone\n",
        "with the packet mark 0x00000005/0x0000000f: left alone\n", "redirected to port 15001\n",
        "handed to the transparent listener on port 15001, with mark 0x00000539\n", "tracked in conntrack zone 1\n",
        "invalid to conntrack: dropped\n", "refused with a TCP reset\n", "refused with ICMP port unreachable\n",
        "arriving on \"tap*\", \"vm0\": left alone\n", "merely forwarded through this namespace: left alone\n"}) {
    CAPTURE(words);
    CHECK(all.find(words) != std::string::npos);
  }
}
