#include "rules/compile.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "rules/evaluate.hpp"
#include "rules/iptables.hpp"
#include "rules/recover.hpp"
#include "tests/rules/support.hpp"

using namespace sluice;
using test::chain_text;
using test::config;

namespace {

std::string outbound(const test::Options& options) { return chain_text(compile(config(options)), "outbound"); }
std::string inbound(const test::Options& options) { return chain_text(compile(config(options)), "inbound"); }

const char established[] = "[established] tcp flags != syn / fin,syn,rst,ack accept\n";

}  // namespace

TEST_CASE("the default captures all TCP but the proxy's own and loopback") {
  CHECK(outbound({}) == std::string(established) +
                            "[proxy] meta skuid 1337 accept\n"
                            "[loopback] oifname \"lo\" accept\n"
                            "[loopback] ip daddr 127.0.0.0/8 accept\n"
                            "[loopback] ip6 daddr ::1 accept\n"
                            "[outbound] meta l4proto tcp redirect to :15001\n");
  CHECK(inbound({}) == std::string(established) +
                           "[forwarded] fib daddr type != local accept\n"
                           "[proxy-port] tcp dport 15001 accept\n"
                           "[inbound] meta l4proto tcp redirect to :15001\n");
}

TEST_CASE("outbound steps come in the order of the contract") {
  CHECK(outbound({{"exclude-interfaces", "net1"},
                  {"exclude-outbound-ports", "22"},
                  {"exclude-outbound-ports-for-uids", "tcp:3306:1000"},
                  {"passthrough-source", "127.0.0.6"},
                  {"hairpin", "inbound"},
                  {"inbound-port", "15006"},
                  {"tunnel-ports", "15008"},
                  {"exclude-uids", "5"},
                  {"only-gids", "7"},
                  {"dns", "all"},
                  {"exclude-outbound-cidrs", "10.0.0.0/8"},
                  {"outbound-ports", "443"},
                  {"outbound-cidrs", "192.0.2.0/24,fd00::/8"}}) ==
        std::string(established) +
            "[exclude-interface] oifname \"net1\" accept\n"
            "[exclude-port] tcp dport 22 accept\n"
            "[exclude-port] udp dport 22 accept\n"
            "[exclude-port] tcp dport 3306 meta skuid 1000 accept\n"
            "[passthrough] oifname \"lo\" ip saddr 127.0.0.6 accept\n"
            "[proxy] meta skuid 1337 oifname \"lo\" ip daddr 127.0.0.0/8 accept\n"
            "[proxy] meta skuid 1337 oifname \"lo\" ip6 daddr ::1 accept\n"
            "[proxy] meta skuid 1337 oifname \"lo\" tcp dport @hairpin_direct_ports accept\n"
            "[hairpin] meta skuid 1337 oifname \"lo\" meta l4proto tcp redirect to :15006\n"
            "[proxy] meta skuid 1337 accept\n"
            "[loopback] oifname \"lo\" tcp dport != 53 accept\n"
            "[loopback] oifname \"lo\" udp dport != 53 accept\n"
            "[owner] meta skuid 5 accept\n"
            "[owner] meta skgid @other_gids accept\n"
            "[dns] udp dport 53 redirect to :15053\n"
            "[dns] tcp dport 53 redirect to :15053\n"
            "[loopback] ip daddr 127.0.0.0/8 accept\n"
            "[loopback] ip6 daddr ::1 accept\n"
            "[exclude-cidr] ip daddr 10.0.0.0/8 accept\n"
            "[outbound-port] tcp dport 443 redirect to :15001\n"
            "[outbound] ip daddr 192.0.2.0/24 meta l4proto tcp redirect to :15001\n"
            "[outbound] ip6 daddr fd00::/8 meta l4proto tcp redirect to :15001\n");
}

TEST_CASE("inbound steps come in the order of the contract") {
  CHECK(inbound({{"exclude-interfaces", "net1"},
                 {"virtual-interfaces", "tap+"},
                 {"exclude-outbound-cidrs", "10.0.0.0/8"},
                 {"tunnel-ports", "15008"},
                 {"exclude-inbound-cidrs", "192.0.2.1"},
                 {"exclude-inbound-ports", "22"},
                 {"inbound-ports", "80-90"}}) ==
        std::string(established) +
            "[exclude-interface] iifname \"net1\" accept\n"
            "[exclude-cidr] iifname \"tap*\" ip daddr 10.0.0.0/8 accept\n"
            "[virtual-interface] iifname \"tap*\" meta l4proto tcp redirect to :15001\n"
            "[virtual-interface] iifname \"tap*\" accept\n"
            "[forwarded] fib daddr type != local accept\n"
            "[proxy-port] tcp dport 15001 accept\n"
            "[tunnel] tcp dport 15008 accept\n"
            "[exclude-cidr] ip saddr 192.0.2.1 accept\n"
            "[exclude-port] tcp dport 22 accept\n"
            "[inbound] tcp dport 80-90 redirect to :15001\n");
}

TEST_CASE("loopback that outbound-cidrs names is captured, the rest of it is not") {
  const std::string chain = outbound({{"outbound-cidrs", "127.0.0.8/29,10.0.0.0/8"}});
  CHECK(chain.find("oifname \"lo\"") == std::string::npos);
  CHECK(chain.find("[loopback] ip daddr @loopback_v4 accept") != std::string::npos);
  const Ruleset ruleset = compile(config({{"outbound-cidrs", "127.0.0.8/29,10.0.0.0/8"}}));
  CHECK(to_nft(ruleset.find_set("loopback_v4")->elements) == "127.0.0.0/29, 127.0.0.16-127.255.255.255");
}

TEST_CASE("nothing is captured where nothing is asked for") {
  CHECK(outbound({{"outbound-cidrs", ""}}).find("redirect") == std::string::npos);
  CHECK(compile(config({{"inbound-ports", ""}})).find_chain("inbound") == nullptr);
  CHECK(compile(config({{"inbound-mode", "off"}})).find_chain("inbound") == nullptr);
  CHECK(compile(config({{"proxy-port-access", "capture"}})).find_chain("inbound_guard") == nullptr);
}

TEST_CASE("one family leaves the other alone, or refuses it") {
  CHECK(outbound({{"ip-family", "ipv4"}}).rfind("[other-family] meta nfproto ipv6 accept\n", 0) == 0);
  CHECK(outbound({{"ip-family", "ipv4"}}).find("ip6 ") == std::string::npos);
  const Ruleset ruleset = compile(config({{"ip-family", "ipv4"}, {"other-family", "reject"}}));
  CHECK(chain_text(ruleset, "outbound_reject")
            .find("[other-family] meta nfproto ipv6 meta l4proto tcp ct state new reject with tcp reset") !=
        std::string::npos);
}

TEST_CASE("captured DNS over UDP is tracked in a zone of its own, and nothing else is") {
  const std::string zone = chain_text(compile(config({{"dns", "resolv-conf"}})), "outbound_zone");
  CHECK(zone.find("[dns] oifname \"lo\" udp sport 15053 ct zone set 1 accept") != std::string::npos);
  CHECK(zone.find("[dns] ip daddr 10.96.0.10 udp dport 53 ct zone set 1 accept") != std::string::npos);
  CHECK(zone.find("[dns] ip6 daddr fd00::a udp dport 53 ct zone set 1 accept") != std::string::npos);
  CHECK(zone.find("[proxy]") < zone.find("10.96.0.10"));
}

TEST_CASE("every reference has its set, every port its protocol, and equal settings give equal rulesets") {
  const test::Options options = {{"preset", "istio"},
                                 {"dns", "all"},
                                 {"udp", "reject:443,8443"},
                                 {"exclude-outbound-cidrs", "10.0.0.0/8,192.0.2.1,fd00::/8,::2"},
                                 {"exclude-interfaces", "a,b*"},
                                 {"inbound-mode", "tproxy"},
                                 {"drop-invalid", "true"},
                                 {"virtual-interfaces", "c,d"},
                                 {"only-gids", "1,3"},
                                 {"exclude-inbound-cidrs", "10.0.0.0/30,10.1.0.0/30"}};
  const Ruleset ruleset = compile(config(options));
  CHECK(ruleset == compile(config(options)));
  for (const Chain& chain : ruleset.chains) {
    for (const Rule& rule : chain.rules) {
      const std::string text = to_nft(rule);
      CAPTURE(text);
      for (const char* bare : {"th dport", "th sport", "th flags"}) CHECK(text.find(bare) == std::string::npos);
      for (std::size_t at = text.find('@'); at != std::string::npos; at = text.find('@', at + 1)) {
        CHECK(ruleset.find_set(text.substr(at + 1, text.find_first_of(' ', at) - at - 1)) != nullptr);
      }
    }
  }
}

TEST_CASE("no rule stands behind one that always decides before it") {
  const auto covers = [](const Rule& first, const Rule& second) {
    // nf_tables' tproxy lets a packet go on where nobody listens.
    if (std::holds_alternative<Tproxy>(first.action)) return false;
    return std::all_of(first.matches.begin(), first.matches.end(), [&](const Match& match) {
      return std::find(second.matches.begin(), second.matches.end(), match) != second.matches.end();
    });
  };
  const test::Options table[] = {
      {},
      {{"preset", "istio"}, {"dns", "all"}, {"drop-invalid", "true"}},
      {{"preset", "linkerd"}, {"forwarded", "capture"}},
      {{"preset", "kuma"}, {"dns", "resolv-conf"}, {"proxy-port-access", "capture"}},
      {{"preset", "consul"}, {"udp", "reject:443"}, {"tunnel-ports", "15008"}},
      {{"inbound-mode", "tproxy"}, {"proxy-mark", "7"}, {"exclude-interfaces", "a,b*"}, {"virtual-interfaces", "c*"}},
      {{"ip-family", "ipv4"}, {"other-family", "reject"}, {"outbound-ports", "*"}, {"outbound-cidrs", ""}},
      {{"inbound-mode", "off"}, {"only-gids", "5,7-9"}, {"outbound-cidrs", "127.0.0.0/8,10.0.0.0/8"}},
  };
  for (const test::Options& options : table) {
    const Ruleset ruleset = compile(config(options));
    for (const Chain& chain : ruleset.chains) {
      for (auto later = chain.rules.begin(); later != chain.rules.end(); ++later) {
        const auto decides =
            std::find_if(chain.rules.begin(), later, [&](const Rule& one) { return covers(one, *later); });
        CHECK_MESSAGE(decides == later, chain.name << ": [" << later->name << "] " << to_nft(*later) << " is behind ["
                                                   << decides->name << "] " << to_nft(*decides));
      }
    }
  }
}

namespace {

/// Networks that cannot be merged: every second /25 from 10.0.0.0 on.
std::string every_second(unsigned count) {
  std::string text;
  for (unsigned number = 0; number < count; ++number) {
    if (number > 0) text += ',';
    text.append("10.").append(std::to_string(number >> 8)).append(".").append(std::to_string(number & 255U));
    text += ".0/25";
  }
  return text;
}

}  // namespace

TEST_CASE("a list of 2,048 networks is one set, a longer one is divided, each piece behind the range it lies in") {
  CHECK(chain_text(compile(config({{"exclude-outbound-cidrs", every_second(2048)}})), "outbound")
            .find("[exclude-cidr] ip daddr @exclude_outbound_v4 accept\n") != std::string::npos);
  const Config divided = config({{"exclude-outbound-cidrs", every_second(9000)}, {"udp", "reject:443"}});
  const Ruleset ruleset = compile(divided);
  const std::string pieces =
      "[exclude-cidr] ip daddr 10.0.0.0-10.7.7.127 ip daddr @exclude_outbound_v4_1 accept\n"
      "[exclude-cidr] ip daddr 10.7.8.0-10.14.15.127 ip daddr @exclude_outbound_v4_2 accept\n"
      "[exclude-cidr] ip daddr 10.14.16.0-10.21.23.127 ip daddr @exclude_outbound_v4_3 accept\n"
      "[exclude-cidr] ip daddr 10.21.24.0-10.28.31.127 ip daddr @exclude_outbound_v4_4 accept\n"
      "[exclude-cidr] ip daddr 10.28.32.0-10.35.39.127 ip daddr @exclude_outbound_v4_5 accept\n";
  for (const char* chain : {"outbound", "outbound_reject"})
    CHECK(chain_text(ruleset, chain).find(pieces) != std::string::npos);
  CHECK(ruleset.sets.size() == 5);
  Ranges<Ipv4> together;
  for (const Set& set : ruleset.sets) {
    const auto& piece = std::get<Ranges<Ipv4>>(set.elements);
    CHECK(piece.size() == 1800);
    together = together.united(piece);
  }
  CHECK(together == divided->exclude_outbound_cidrs.v4);

  std::string addresses;
  for (unsigned number = 0; number < 3000; ++number) {
    addresses += "10.0." + std::to_string(number >> 7) + "." + std::to_string(number * 2 & 255U) + ",";
  }
  CHECK(chain_text(compile(config({{"exclude-outbound-cidrs", addresses + "10.1.0.0"}})), "outbound")
            .find("ip daddr @exclude_outbound_v4 accept") != std::string::npos);
}

TEST_CASE("a divided list decides as a whole one, in every backend, and is told as the list") {
  const Config divided = config({{"exclude-outbound-cidrs", every_second(9000) + ",fd00::/8"}});
  const Ruleset ruleset = compile(divided);
  const auto& excluded = divided->exclude_outbound_cidrs.v4;
  Connection connection;
  connection.flow = Flow::outbound;
  connection.protocol = 6;
  connection.source = *parse_address("10.250.0.2");
  connection.interface = "eth0";
  connection.uid = Uid{1000};
  connection.destination_port = 80;
  const auto captured = [&](const std::optional<Ipv4>& address) {
    connection.destination = address.value();
    return std::holds_alternative<Redirect>(evaluate(ruleset, connection).verdict);
  };
  for (const Range<Ipv4>& network : excluded) {
    REQUIRE_FALSE(captured(network.first));
    REQUIRE_FALSE(captured(network.last));
    REQUIRE(captured(previous(network.first)));
    REQUIRE(captured(next(network.last)));
  }

  const auto translated = to_iptables(ruleset);
  std::size_t rules = 0;
  for (const IptablesTable& table : std::get<IptablesRuleset>(translated).tables) {
    for (const IptablesChain& chain : table.chains) {
      rules += static_cast<std::size_t>(std::count_if(chain.rules.begin(), chain.rules.end(),
                                                      [](const auto& rule) { return rule.name == "exclude-cidr"; }));
    }
  }
  CHECK(rules == 9001);

  const Recovered recovered = recover(ruleset);
  CHECK(compile(config_of(recovered).value()) == ruleset);
}
