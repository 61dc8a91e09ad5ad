#include "rules/iptables.hpp"

#include <doctest/doctest.h>

#include <algorithm>

#include "rules/evaluate.hpp"
#include "rules/iptables_drift.hpp"
#include "rules/iptables_text.hpp"
#include "tests/rules/support.hpp"

using namespace sluice;
using test::config;

namespace {

IptablesRuleset translated(const test::Options& options) {
  auto translation = to_iptables(compile(config(options)));
  REQUIRE(std::holds_alternative<IptablesRuleset>(translation));
  return std::get<IptablesRuleset>(std::move(translation));
}

const IptablesTable* table(const IptablesRuleset& ruleset, Family family, IptablesTableKind kind) {
  for (const IptablesTable& candidate : ruleset.tables) {
    if (candidate.family == family && candidate.kind == kind) return &candidate;
  }
  return nullptr;
}

/// The rules of one chain of one IPv4 table, one per line, without their comments.
std::string chain(const test::Options& options, IptablesTableKind kind, const std::string& name,
                  Family family = Family::ipv4) {
  const IptablesRuleset ruleset = translated(options);
  const IptablesTable* found = table(ruleset, family, kind);
  if (found == nullptr) return "no such table";
  for (const IptablesChain& candidate : found->chains) {
    if (candidate.name != name) continue;
    std::string text;
    for (IptablesRule rule : candidate.rules) {
      rule.name.clear();
      text += to_text(rule, family) + "\n";
    }
    return text;
  }
  return "no such chain";
}

std::size_t rules_named(const test::Options& options, const std::string& name, const std::string& chain_name) {
  std::size_t count = 0;
  const IptablesRuleset ruleset = translated(options);
  for (const IptablesTable& found : ruleset.tables) {
    for (const IptablesChain& candidate : found.chains) {
      if (found.family != Family::ipv4 || candidate.name != chain_name) continue;
      count += static_cast<std::size_t>(std::count_if(candidate.rules.begin(), candidate.rules.end(),
                                                      [&](const IptablesRule& rule) { return rule.name == name; }));
    }
  }
  return count;
}

/// As if the kernel had been read right after an apply.
ObservedIptables observed(const IptablesRuleset& ruleset) {
  ObservedIptables all;
  for (const IptablesTable& wanted : ruleset.tables) {
    ObservedIptablesTable& found = all.tables.emplace_back(ObservedIptablesTable{wanted.family, wanted.kind, {}, {}});
    Hook hook = Hook::prerouting;
    std::size_t position = 0;
    for (const IptablesJump& jump : wanted.jumps) {
      position = jump.hook == hook ? position : 0;
      hook = jump.hook;
      found.jumps.push_back({jump.hook, jump.chain, position++, true});
    }
    for (const IptablesChain& candidate : wanted.chains) {
      ObservedIptablesChain& lines = found.chains.emplace_back(ObservedIptablesChain{candidate.name, {}});
      for (const IptablesRule& rule : candidate.rules) {
        lines.rules.push_back({to_text(rule, wanted.family), rule.name, {}, rule});
      }
    }
  }
  return all;
}

/// What `explain --live` would judge by.
Ruleset live(const Observed& observed) {
  Ruleset ruleset;
  for (const ObservedSet& set : observed.sets) ruleset.sets.push_back({set.name, std::get<SetElements>(set.elements)});
  for (const ObservedChain& found : observed.chains) {
    REQUIRE(found.base);
    Chain chain = *found.base;
    for (const ObservedRule& rule : found.rules) chain.rules.push_back(std::get<Rule>(rule.rule));
    ruleset.chains.push_back(std::move(chain));
  }
  return ruleset;
}

const test::Options configurations[] = {
    {},
    {{"preset", "istio"}, {"dns", "all"}},
    {{"exclude-outbound-ports", "22,8000-8100,8443"},
     {"exclude-outbound-cidrs", "10.0.0.0/8,192.0.2.7,fd00::/9"},
     {"outbound-ports", "80,443"},
     {"outbound-cidrs", "198.18.0.0/15,2001:db8::/32"},
     {"proxy-uid", "1337,1338"},
     {"exclude-interfaces", "net1,docker+"},
     {"inbound-ports", "80,5000-5010"},
     {"exclude-inbound-cidrs", "10.9.0.9,fd00:9::9"}},
    {{"only-gids", "7,9,2000"}, {"exclude-uids", "100-200,300"}, {"proxy-mark", "0x539/0xfff"}},
    {{"exclude-outbound-ports-for-uids", "tcp:3306,5432:1000-1010"}, {"virtual-interfaces", "vm0,tap*"}},
    {{"inbound-mode", "tproxy"}, {"hairpin", "inbound"}, {"inbound-port", "15006"}, {"drop-invalid", "true"}},
    {{"ip-family", "ipv4"}, {"other-family", "reject"}},
    {{"ip-family", "ipv6"}},
    {{"dns", "resolv-conf"}, {"udp", "reject:443,15053"}},
    {{"forwarded", "capture"}, {"proxy-port-access", "capture"}, {"outbound-cidrs", "*,127.0.0.0/8"}},
};

/// A small generator of its own, so that every run asks the same.
class Random {
 public:
  template <typename T, std::size_t N>
  const T& of(const T (&values)[N]) {
    state_ = state_ * 6364136223846793005ULL + 1442695040888963407ULL;
    return values[(state_ >> 33U) % N];
  }

 private:
  std::uint64_t state_ = 4;
};

Connection random_connection(Random& random) {
  const char* v4[] = {"127.0.0.1",   "127.0.0.6", "10.9.0.2", "10.96.0.10",
                      "198.18.0.10", "192.0.2.7", "8.8.8.8",  "10.9.0.9"};
  const char* v6[] = {"::1", "::6", "fd00:9::2", "fd00::a", "2001:db8::1", "fd80::1", "2a00::1", "fd00:9::9"};
  const char* interfaces[] = {"lo", "eth0", "net1", "docker7", "vm0", "tap3"};
  const std::uint16_t ports[] = {22, 53, 80, 443, 3306, 5000, 5001, 8050, 8443, 15001, 15006, 15008, 15053, 15090};
  const std::uint32_t ids[] = {0, 7, 9, 150, 300, 1005, 1337, 1338, 2000, 4294967294};
  const std::uint32_t marks[] = {0, 0x539, 0x1539, 1337};
  const std::uint8_t protocols[] = {6, 6, 6, 17, 132, 1};
  const bool coin[] = {false, true};
  Connection connection;
  connection.flow = random.of(coin) ? Flow::outbound : Flow::inbound;
  connection.protocol = random.of(protocols);
  const bool four = random.of(coin);
  connection.source = *parse_address(four ? random.of(v4) : random.of(v6));
  connection.destination = *parse_address(four ? random.of(v4) : random.of(v6));
  connection.source_port = random.of(ports);
  connection.destination_port = random.of(ports);
  connection.interface = random.of(interfaces);
  if (connection.flow == Flow::outbound && random.of(coin)) {
    connection.uid = Uid{random.of(ids)};
    connection.gid = Gid{random.of(ids)};
  }
  connection.mark = random.of(marks);
  connection.to_this_host = random.of(coin) || random.of(coin);
  return connection;
}

}  // namespace

TEST_CASE("the default configuration in iptables' words") {
  CHECK(chain({}, IptablesTableKind::nat, "SLUICE_OUTBOUND") ==
        "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j RETURN\n"
        "-m owner --uid-owner 1337 -j RETURN\n"
        "-o lo -j RETURN\n"
        "-d 127.0.0.0/8 -j RETURN\n"
        "-p tcp -j SLUICE_REDIRECT\n");
  CHECK(chain({}, IptablesTableKind::nat, "SLUICE_REDIRECT", Family::ipv6) == "-p tcp -j REDIRECT --to-ports 15001\n");
  CHECK(chain({}, IptablesTableKind::nat, "SLUICE_INBOUND") ==
        "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j RETURN\n"
        "-m addrtype ! --dst-type LOCAL -j RETURN\n"
        "-p tcp -m tcp --dport 15001 -j RETURN\n"
        "-p tcp -j SLUICE_IN_REDIRECT\n");
  CHECK(chain({}, IptablesTableKind::filter, "SLUICE_INBOUND_GUARD", Family::ipv6) ==
        "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -j RETURN\n"
        "-i lo -j RETURN\n"
        "-p tcp -m tcp --dport 15001 -m conntrack --ctstate NEW -m conntrack ! --ctstate DNAT "
        "-j REJECT --reject-with tcp-reset\n");
}

TEST_CASE("a family that is not captured has no chains, and a table that is not needed is not there") {
  const IptablesRuleset ruleset = translated({{"ip-family", "ipv4"}});
  for (const IptablesTable& found : ruleset.tables) CHECK(found.family == Family::ipv4);
  CHECK(table(ruleset, Family::ipv4, IptablesTableKind::raw) == nullptr);
  CHECK(table(ruleset, Family::ipv4, IptablesTableKind::mangle) == nullptr);
}

TEST_CASE("what marks or moves a packet and then passes leaves the chain, as in nftables") {
  CHECK(chain({{"dns", "all"}}, IptablesTableKind::raw, "SLUICE_OUTBOUND_ZONE").find("-g SLUICE_SET_ZONE") !=
        std::string::npos);
  CHECK(chain({{"dns", "all"}}, IptablesTableKind::raw, "SLUICE_SET_ZONE") == "-j CT --zone 1\n");
  const test::Options tproxy = {{"inbound-mode", "tproxy"}};
  CHECK(chain(tproxy, IptablesTableKind::mangle, "SLUICE_SET_CONNMARK") ==
        "-j CONNMARK --set-xmark 0x539/0xffffffff\n");
  CHECK(chain(tproxy, IptablesTableKind::mangle, "SLUICE_OUTBOUND_ROUTE") ==
        "-p tcp -m conntrack --ctdir REPLY -m connmark --mark 0x539 -g SLUICE_SET_MARK\n");
}

TEST_CASE("ports come fifteen to a rule, a range counting as two, in the fewest rules") {
  const auto rules = [](const std::string& ports) {
    return rules_named({{"exclude-inbound-ports", ports}}, "exclude-port", "SLUICE_INBOUND");
  };
  CHECK(rules("1") == 1);
  CHECK(rules("1,3,5,7,9,11,13,15,17,19,21,23,25,27,29") == 1);
  CHECK(rules("1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31") == 2);
  CHECK(rules("10-12,20-22,30-32,40-42,50-52,60-62,70-72,80") == 1);
  CHECK(rules("10-12,20-22,30-32,40-42,50-52,60-62,70-72,80,90") == 2);
  // Fourteen ranges and two ports: full groups, although the ports come in between.
  CHECK(rules("2,10-12,20-22,30-32,40-42,50-52,60-62,70-72,80-82,90-92,95,100-102,110-112,120-122,130-132,140-142") ==
        2);
  CHECK(chain({{"exclude-inbound-ports", "22-24"}}, IptablesTableKind::nat, "SLUICE_INBOUND").find("--dport 22:24") !=
        std::string::npos);
}

TEST_CASE("several lists in one rule give every combination") {
  const test::Options options = {
      {"exclude-outbound-ports-for-uids", "tcp:1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31:5,7-9"}};
  CHECK(rules_named(options, "exclude-port", "SLUICE_OUTBOUND") == 4);
}

TEST_CASE("networks are merged, and a range becomes the fewest prefixes") {
  const test::Options options = {{"exclude-outbound-cidrs", "10.0.0.0/9,10.128.0.0/9,192.0.2.1,192.0.2.2,192.0.2.3"}};
  CHECK(rules_named(options, "exclude-cidr", "SLUICE_OUTBOUND") == 3);
}

TEST_CASE("an interface prefix ends in a plus, unless the name is as long as names get") {
  const std::string text =
      chain({{"exclude-interfaces", "docker+,abcdefghijklmno+"}}, IptablesTableKind::nat, "SLUICE_INBOUND");
  CHECK(text.find("-i docker+ ") != std::string::npos);
  CHECK(text.find("-i abcdefghijklmno ") != std::string::npos);
}

TEST_CASE("lists that would explode are refused before anything is built") {
  std::string networks;
  for (int number = 0; number < 6000; ++number) {
    networks += (number == 0 ? "" : ",") + std::string("10.") + std::to_string(number >> 7) + "." +
                std::to_string(number * 2 & 255) + ".0/24";
  }
  CHECK(std::holds_alternative<IptablesRuleset>(to_iptables(compile(config({{"exclude-outbound-cidrs", networks}})))));
  const auto both = to_iptables(compile(config({{"exclude-outbound-cidrs", networks}, {"udp", "reject:443"}})));
  REQUIRE(std::holds_alternative<TooManyRules>(both));
  CHECK(std::get<TooManyRules>(both).rule == "exclude-cidr");
  CHECK(std::get<TooManyRules>(both).count > 12000);
}

TEST_CASE("read back, the rules differ in nothing, and decide as the ruleset does") {
  for (const test::Options& options : configurations) {
    const Ruleset native = compile(config(options));
    const IptablesRuleset iptables = translated(options);
    const ObservedIptables found = observed(iptables);
    CHECK(diff(iptables, found).empty());
    const Ruleset judged = live(to_observed(found));
    Random random;
    for (int number = 0; number < 4000; ++number) {
      const Connection connection = random_connection(random);
      const Decision expected = evaluate(native, connection);
      const Decision decided = evaluate(judged, connection);
      CHECK(decided.verdict == expected.verdict);
      // A family that is let through as a whole has no rule to say so.
      if (expected.rule != "other-family") CHECK(decided.rule == expected.rule);
    }
  }
}

TEST_CASE("every kind of difference is told") {
  const IptablesRuleset wanted = translated({});
  const auto first = [&](const ObservedIptables& found) {
    const auto differences = diff(wanted, found);
    return differences.empty() ? std::string("none") : differences.front().kind + " " + differences.front().chain;
  };
  ObservedIptables found = observed(wanted);
  found.tables[1].chains[2].rules.erase(found.tables[1].chains[2].rules.begin());
  CHECK(first(found) == "missing ip nat SLUICE_OUTBOUND");

  found = observed(wanted);
  found.tables[1].jumps.pop_back();
  CHECK(first(found) == "missing ip nat OUTPUT");

  found = observed(wanted);
  found.tables[1].jumps.back().position = 3;
  CHECK(first(found) == "changed ip nat OUTPUT");

  found = observed(wanted);
  found.tables[1].chains.push_back({"SLUICE_OLD", {}});
  CHECK(first(found) == "unexpected ip nat SLUICE_OLD");

  found = observed(wanted);
  found.tables.push_back({Family::ipv6, IptablesTableKind::raw, {}, {{"SLUICE_OUTBOUND_ZONE", {}}}});
  CHECK(first(found) == "unexpected ip6 raw SLUICE_OUTBOUND_ZONE");

  found = observed(wanted);
  found.tables.erase(found.tables.begin() + 1);
  CHECK(diff(wanted, found).size() >= 4);

  // Where only the text is known, as from iptables-legacy-save, the text is what counts.
  found = observed(wanted);
  for (ObservedIptablesTable& each : found.tables) {
    for (ObservedIptablesChain& lines : each.chains) {
      for (ObservedIptablesRule& rule : lines.rules) rule.rule.reset();
    }
  }
  CHECK(diff(wanted, found).empty());
  found.tables[0].chains[0].rules[0].text += " ";
  CHECK(first(found) == "changed ip filter SLUICE_INBOUND_GUARD");
}

TEST_CASE("a rule's text is read back as that rule") {
  std::size_t rules = 0;
  for (const test::Options& options :
       {test::Options{}, test::Options{{"preset", "istio"}, {"dns", "all"}, {"udp", "reject:443"}},
        test::Options{
            {"inbound-mode", "tproxy"}, {"hairpin", "inbound"}, {"drop-invalid", "true"}, {"proxy-mark", "7/0xff"}},
        test::Options{{"exclude-outbound-ports", "1,3,5,7-9,80-90"}, {"only-gids", "5-9"}, {"exclude-uids", "1-3,9"}},
        test::Options{{"exclude-interfaces", "eth+,net1"}, {"exclude-outbound-cidrs", "10.0.0.0/8,fd00::/8"}},
        test::Options{{"ip-family", "ipv4"}, {"other-family", "reject"}}}) {
    for (const IptablesTable& one : translated(options).tables) {
      for (const IptablesChain& found : one.chains) {
        for (const IptablesRule& rule : found.rules) {
          CHECK(iptables_rule_from_text(to_text(rule, one.family), one.family) == rule);
          ++rules;
        }
      }
    }
  }
  CHECK(rules > 100);
}

TEST_CASE("a text that sluice would not write is not read") {
  for (const char* text : {"", "-j", "-p tcp", "-p tcp -m tcp --dport 0 -j RETURN", "-j ACCEPT -m", "-p icmp -j RETURN",
                           "-m comment --comment x -p tcp -j RETURN", "-m time --utc -j RETURN", "-j REDIRECT",
                           "-p tcp -m tcp --dport 1:99999 -j RETURN", "-m owner --uid-owner root -j RETURN"}) {
    CHECK_FALSE(iptables_rule_from_text(text, Family::ipv4));
  }
}
