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

namespace {

AskedChain chain(std::string name, ChainType type, Hook hook, int priority, std::vector<AskedRule> rules) {
  return {std::move(name), type, hook, priority, std::move(rules)};
}

AskedRule rule(std::string name, std::vector<Match> matches, const Action& action) {
  return {std::move(name), std::move(matches), action, ""};
}

Connection to(const char* address, Flow flow) {
  Connection connection;
  connection.flow = flow;
  connection.source = *parse_address(flow == Flow::outbound ? "10.9.0.2" : "10.9.0.1");
  connection.destination = *parse_address(address);
  connection.source_port = 40000;
  connection.destination_port = 80;
  connection.interface = "eth0";
  connection.uid = Uid{2000};
  connection.gid = Gid{2000};
  return connection;
}

std::string ruled(const std::vector<AskedChain>& chains, const Connection& connection) {
  return evaluate(Ruleset{}, chains, connection).rule;
}

Match port_is(std::uint16_t port, Side side = Side::destination) {
  return PortIn{side, Range<Port>{*Port::from(port), *Port::from(port)}};
}

constexpr auto filter = ChainType::filter;
constexpr auto nat = ChainType::nat;
constexpr auto output = Hook::output;
constexpr auto prerouting = Hook::prerouting;
constexpr auto input = Hook::input;
const Redirect to_nine{*Port::from(9)};

}  // namespace

TEST_CASE("marks that one chain sets, the next one sees") {
  const Connection arriving = to("10.9.0.2", Flow::inbound);
  const auto marked = [&](const Action& action, const Match& match) {
    return ruled({chain("first", filter, prerouting, -150, {rule("set", {}, action)}),
                  chain("second", filter, input, 0, {rule("seen", {match}, Drop{})})},
                 arriving) == "seen";
  };
  CHECK(marked(SetConnectionMark{7}, ConnectionMarkIs{{7}}));
  CHECK(marked(SetConnectionMark{7}, ConnectionMarkIs{{3, 3}}));
  CHECK_FALSE(marked(SetConnectionMark{7}, ConnectionMarkIs{{6}}));
  CHECK_FALSE(marked(SetConnectionMark{7}, PacketMarkIs{{7}}));
  CHECK(marked(SetPacketMark{7}, PacketMarkIs{{7}}));
  CHECK_FALSE(marked(SetPacketMark{7}, ConnectionMarkIs{{7}}));
  CHECK(marked(Tproxy{*Port::from(9), 7}, PacketMarkIs{{7}}));
}

TEST_CASE("a redirected packet goes on with the new port, and from here to the loopback address") {
  const std::vector<AskedChain> chains = {
      chain("nat", nat, output, -100, {rule("redirected", {}, to_nine)}),
      chain("filter", filter, output, 0,
            {rule("v4", {Ipv4In{Side::destination, Range<Ipv4>{Ipv4{0x7f000001U}, Ipv4{0x7f000001U}}}, port_is(9)},
                  Drop{}),
             rule("v6", {Ipv6In{Side::destination, Range<Ipv6>{Ipv6{0, 1}, Ipv6{0, 1}}}, port_is(9)}, Drop{}),
             rule("neither", {}, Drop{})})};
  CHECK(ruled(chains, to("192.0.2.1", Flow::outbound)) == "v4");
  CHECK(ruled(chains, to("2001:db8::1", Flow::outbound)) == "v6");
}

TEST_CASE("an arriving packet is delivered where it is addressed to this host, or redirected to it") {
  const AskedChain guard = chain("guard", filter, input, 0, {rule("guard", {port_is(9)}, Drop{})});
  const AskedChain any = chain("any", filter, input, 0, {rule("any", {DestinationLocal{true}}, Drop{})});
  const AskedChain redirects = chain("nat", nat, prerouting, -100, {rule("redirected", {}, to_nine)});
  Connection passing = to("10.9.0.9", Flow::inbound);
  passing.to_this_host = false;
  CHECK(ruled({any}, passing) == "default");
  CHECK(ruled({guard}, passing) == "default");
  CHECK(ruled({redirects, guard}, passing) == "guard");
  CHECK(ruled({redirects, any}, passing) == "any");
  CHECK(ruled({any}, to("10.9.0.2", Flow::inbound)) == "any");
  // It keeps its address: that of the interface it came in by.
  const Range<Ipv4> own{Ipv4{0x0a090002U}, Ipv4{0x0a090002U}};
  const AskedChain same = chain("same", filter, input, 0, {rule("same", {Ipv4In{Side::destination, own}}, Drop{})});
  CHECK(ruled({redirects, same}, to("10.9.0.2", Flow::inbound)) == "same");
}

TEST_CASE("on input NAT is about the source: asked of a redirected packet, too, and after the filters below 100") {
  const AskedChain redirects = chain("nat", nat, prerouting, -100, {rule("redirected", {}, to_nine)});
  const AskedChain guard = chain("guard", nat, input, 0, {rule("guard", {port_is(9)}, Drop{})});
  const Connection arriving = to("10.9.0.2", Flow::inbound);
  CHECK(ruled({redirects, guard}, arriving) == "guard");
  const auto filter_at = [&](int priority) {
    return chain("filter", filter, input, priority, {rule("filtered", {}, Drop{})});
  };
  CHECK(ruled({redirects, guard, filter_at(99)}, arriving) == "filtered");
  CHECK(ruled({redirects, guard, filter_at(101)}, arriving) == "guard");
}

TEST_CASE("interfaces and owners are known only on the hooks where the kernel knows them") {
  const auto asked_on = [](Hook hook, const Match& match) {
    const Flow flow = hook == output ? Flow::outbound : Flow::inbound;
    return ruled({chain("asked", filter, hook, 0, {rule("asked", {match}, Drop{})})}, to("10.9.0.2", flow)) == "asked";
  };
  const InterfacePattern eth0{"eth0", false};
  for (const Hook hook : {output, prerouting, input}) {
    CHECK(asked_on(hook, InterfaceIn{Direction::out, eth0}) == (hook == output));
    CHECK(asked_on(hook, InterfaceIn{Direction::in, eth0}) == (hook != output));
    CHECK(asked_on(hook, SocketUidIn{Range<Uid>{Uid{2000}, Uid{2000}}}) == (hook == output));
    CHECK(asked_on(hook, SocketGidIn{Range<Gid>{Gid{2000}, Gid{2000}}}) == (hook == output));
  }
}

TEST_CASE("the first packet of a connection opens it, in its own direction") {
  const auto asked = [](const Match& match) {
    return ruled({chain("asked", filter, output, 0, {rule("asked", {match}, Drop{})})},
                 to("192.0.2.1", Flow::outbound)) == "asked";
  };
  CHECK(asked(ConntrackStateIs{ConntrackState::fresh}));
  CHECK_FALSE(asked(ConntrackStateIs{ConntrackState::invalid}));
  CHECK_FALSE(asked(NotOpening{}));
  CHECK_FALSE(asked(ReplyDirection{}));
  CHECK(asked(DestinationRewritten{false}));
  CHECK(asked(FamilyIs{Family::ipv4}));
  CHECK_FALSE(asked(FamilyIs{Family::ipv6}));
  CHECK(asked(port_is(40000, Side::source)));
  CHECK(asked(PortIsNot{Side::source, *Port::from(80)}));
  CHECK_FALSE(asked(PortIsNot{Side::source, *Port::from(40000)}));
}

TEST_CASE("a rule that lets pass gives the decision its name where our own chain captures, and nowhere else") {
  const Connection leaving = to("192.0.2.1", Flow::outbound);
  const AskedRule passes = rule("passes", {}, Pass{});
  const auto named = [&](AskedChain asked, bool ours) {
    const Connection connection = asked.hook == output ? leaving : to("10.9.0.2", Flow::inbound);
    asked.ours = ours;
    return ruled({std::move(asked)}, connection) == "passes";
  };
  CHECK(named(chain("outbound", nat, output, -105, {passes}), true));
  CHECK_FALSE(named(chain("outbound", nat, output, -105, {passes}), false));
  CHECK_FALSE(named(chain("outbound_zone", filter, output, -300, {passes}), true));
  CHECK_FALSE(named(chain("inbound_guard", nat, input, 0, {passes}), true));
  CHECK(named(chain("inbound_tproxy", filter, prerouting, -150, {passes}), true));
  CHECK_FALSE(named(chain("inbound_tproxy", filter, prerouting, -150, {passes}), false));
  // What was decided before is not renamed by what lets it pass.
  CHECK(ruled({chain("inbound_tproxy", filter, prerouting, -150, {rule("taken", {}, Tproxy{*Port::from(9), 1})}),
               chain("inbound", nat, prerouting, -105, {passes})},
              to("10.9.0.2", Flow::inbound)) == "taken");
}

TEST_CASE("a refusal ends the walk, a policy of drop as well") {
  const AskedRule refuses = rule("refuses", {}, Reject{RejectWith::tcp_reset});
  const AskedChain later = chain("later", filter, output, 50, {rule("later", {}, Drop{})});
  const Connection leaving = to("192.0.2.1", Flow::outbound);
  CHECK(ruled({later, chain("first", filter, output, 0, {refuses})}, leaving) == "refuses");
  AskedChain closed = chain("closed", filter, output, 0, {});
  closed.accepts_by_default = false;
  const Decision decided = evaluate(Ruleset{}, {later, closed}, leaving);
  CHECK(decided.rule == "policy");
  CHECK(decided.verdict == Action(Drop{}));
  REQUIRE(decided.steps.size() == 1);
  CHECK(decided.steps[0].chain == "closed");
  CHECK(decided.steps[0].matched);
}

TEST_CASE("why a rule did not match is told with what the packet has") {
  const Connection leaving = to("192.0.2.1", Flow::outbound);
  const auto reason = [&](const Match& match) {
    return evaluate(Ruleset{}, {chain("c", filter, output, 0, {rule("r", {match}, Drop{})})}, leaving)
        .steps.at(0)
        .reason;
  };
  CHECK(reason(port_is(443)).ends_with(", but port 80"));
  CHECK(reason(port_is(443, Side::source)).ends_with(", but port 40000"));
  CHECK(reason(PortIsNot{Side::destination, *Port::from(80)}).ends_with(", but port 80"));
  CHECK(reason(Ipv4In{Side::destination, Range<Ipv4>{Ipv4{1}, Ipv4{1}}}).ends_with(", but 192.0.2.1"));
  CHECK(reason(Ipv4In{Side::source, Range<Ipv4>{Ipv4{1}, Ipv4{1}}}).ends_with(", but 10.9.0.2"));
  CHECK(reason(Ipv6In{Side::source, Range<Ipv6>{Ipv6{1, 1}, Ipv6{1, 1}}}).ends_with(", but 10.9.0.2"));
  CHECK(reason(InterfaceIn{Direction::out, InterfacePattern{"eth1", false}}).ends_with(", but eth0"));
  CHECK(reason(SocketUidIn{Range<Uid>{Uid{1}, Uid{1}}}).ends_with(", but 2000"));
  CHECK(reason(SocketGidIn{Range<Gid>{Gid{1}, Gid{1}}}).ends_with(", but 2000"));
  CHECK(reason(PacketMarkIs{{5}}).ends_with(", but 0x00000000"));
  CHECK(reason(ConnectionMarkIs{{5}}).ends_with(", but 0x00000000"));
  CHECK(reason(FamilyIs{Family::ipv6}).find("but") == std::string::npos);
}

TEST_CASE("the steps tell each rule that was asked, in order, and what came of it") {
  const AskedRule unreadable{"theirs", {}, std::nullopt, "[jump]"};
  const std::vector<AskedChain> chains = {
      chain("first", filter, output, 0,
            {rule("other", {port_is(443)}, Drop{}), unreadable, rule("passes", {}, Pass{})}),
      // Of two chains in one place, the one that was there first is asked first.
      chain("second", filter, output, 0, {rule("refuses", {}, Drop{}), rule("unasked", {}, Drop{})}),
      chain("third", filter, output, 0, {rule("unasked", {}, Drop{})})};
  const Decision decided = evaluate(Ruleset{}, chains, to("192.0.2.1", Flow::outbound));
  CHECK(decided.rule == "refuses");
  CHECK_FALSE(decided.certain);
  std::string told;
  for (const Step& step : decided.steps) {
    told += step.chain + " " + step.rule + (step.matched ? " matched" : "") + (step.known ? "" : " unknown") + "\n";
  }
  CHECK(told == "first other\nfirst theirs unknown\nfirst passes matched\nsecond refuses matched\n");
  CHECK(decided.steps.at(1).reason == "cannot be read: [jump]");
}
