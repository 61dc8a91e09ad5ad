#include "netfilter/nft/xt_codec.hpp"

#include <doctest/doctest.h>
#include <linux/netfilter/nf_tables.h>

#include "rules/iptables_text.hpp"
#include "tests/rules/support.hpp"

using namespace sluice;
using namespace sluice::netfilter;
using test::config;

namespace {

const test::Options configurations[] = {
    {},
    {{"preset", "istio"}, {"dns", "all"}, {"udp", "reject:443"}},
    {{"exclude-outbound-ports", "22,8000-8100,8443"},
     {"exclude-outbound-cidrs", "10.0.0.0/9,192.0.2.7,192.168.0.0/17,fd00::/9,2001:db8::1"},
     {"outbound-ports", "80-90"},
     {"exclude-interfaces", "net1,docker+"},
     {"only-gids", "7"}},
    {{"inbound-mode", "tproxy"}, {"hairpin", "inbound"}, {"drop-invalid", "true"}, {"proxy-mark", "0x539/0xfff"}},
    {{"ip-family", "ipv6"}, {"other-family", "reject"}},
};

IptablesRuleset translated(const test::Options& options) {
  return std::get<IptablesRuleset>(to_iptables(compile(config(options))));
}

}  // namespace

TEST_CASE("decoding is the inverse of encoding, for every rule of every configuration") {
  std::size_t count = 0;
  for (const test::Options& options : configurations) {
    const IptablesRuleset ruleset = translated(options);
    for (const IptablesTable& table : ruleset.tables) {
      for (const IptablesChain& chain : table.chains) {
        for (const IptablesRule& rule : chain.rules) {
          INFO(to_text(chain.name, rule, table.family));
          const auto decoded = iptables_rule_from(to_expressions(rule, table.family), table.family);
          REQUIRE(decoded);
          CHECK(*decoded == rule);
          ++count;
        }
      }
    }
  }
  CHECK(count > 100);
}

TEST_CASE("a rule that differs in any expression is not ours") {
  const IptablesRuleset ruleset = translated(configurations[1]);
  for (const IptablesTable& table : ruleset.tables) {
    for (const IptablesChain& chain : table.chains) {
      const Expressions expressions = to_expressions(chain.rules.front(), table.family);
      for (std::size_t at = 0; at < expressions.size(); ++at) {
        Expressions shorter = expressions;
        shorter.erase(shorter.begin() + static_cast<std::ptrdiff_t>(at));
        const auto decoded = iptables_rule_from(shorter, table.family);
        CHECK((!decoded || *decoded != chain.rules.front()));
      }
    }
  }
}

TEST_CASE("a match with other bits than ours set is not ours") {
  for (const char* name : {"owner", "conntrack", "multiport", "connmark", "addrtype"}) {
    for (const std::size_t size : {std::size_t{0}, std::size_t{8}, std::size_t{200}}) {
      const Expressions expressions = {XtMatch{name, 1, Bytes(size, 0xff)}, Count{},
                                       Verdict{static_cast<std::uint32_t>(NFT_RETURN)}};
      CHECK_FALSE(iptables_rule_from(expressions, Family::ipv4));
    }
  }
  for (const char* name : {"REDIRECT", "TPROXY", "REJECT", "CT", "CONNMARK", "MARK"}) {
    CHECK_FALSE(iptables_rule_from({Count{}, XtTarget{name, 2, Bytes(3, 0xff)}}, Family::ipv6));
  }
}

TEST_CASE("an interface prefix is compared without its end, a name with it") {
  IptablesRule rule{{}, {}, {}, InterfacePattern{"eth", true}, {}, {}, {}, Return{}};
  CHECK(std::get<Compare>(to_expressions(rule, Family::ipv4)[1]).value == RegisterValue{'e', 't', 'h'});
  rule.in->prefix = false;
  CHECK(std::get<Compare>(to_expressions(rule, Family::ipv4)[1]).value == RegisterValue{'e', 't', 'h', 0});
}
