#include "rules/recover.hpp"

#include <doctest/doctest.h>

#include "rules/options.hpp"
#include "tests/rules/support.hpp"

using namespace sluice;

TEST_CASE("the options recovered from rules make the same rules again") {
  const std::vector<test::Options> samples = {
      {},
      {{"preset", "istio"}},
      {{"preset", "linkerd"}},
      {{"preset", "kuma"}},
      {{"preset", "consul"}},
      {{"proxy-port", "4000"}, {"inbound-port", "4001"}, {"proxy-uid", "5,7-9"}, {"proxy-gid", "mesh"}},
      {{"proxy-uid", ""}, {"proxy-mark", "0x539/0xfff"}},
      {{"inbound-ports", "80,443"}, {"exclude-inbound-ports", "443"}, {"exclude-inbound-cidrs", "10.0.0.0/8,fd00::/8"}},
      {{"exclude-inbound-ports", "1-443,5-65535"}},
      {{"inbound-mode", "tproxy"}, {"tunnel-ports", "1-65535"}},
      {{"exclude-inbound-cidrs", "0.0.0.0/0,fd00::1"}},
      {{"exclude-inbound-cidrs", "0.0.0.0/0,::/0"}, {"exclude-outbound-cidrs", "0.0.0.0/0,::/0"}},
      {{"exclude-inbound-cidrs", "::/0"}, {"exclude-outbound-cidrs", "10.0.0.0/8"}, {"virtual-interfaces", "tap0"}},
      {{"inbound-mode", "off"}},
      {{"inbound-mode", "off"}, {"hairpin", "inbound"}, {"tunnel-ports", "80-84,65535,15001"}},
      {{"inbound-mode", "off"}, {"hairpin", "inbound"}, {"tunnel-ports", "50-60"}, {"dns", "all"}},
      {{"inbound-mode", "off"}, {"hairpin", "inbound"}, {"tunnel-ports", "1-65535"}},
      {{"inbound-mode", "off"}, {"hairpin", "inbound"}, {"dns", "all"}},
      {{"inbound-mode", "off"}, {"tunnel-ports", "15008"}},
      {{"inbound-ports", ""}, {"hairpin", "inbound"}, {"tunnel-ports", "15008"}, {"virtual-interfaces", "tap0"}},
      {{"inbound-mode", "tproxy"}, {"inbound-ports", ""}},
      {{"preset", "istio"}, {"inbound-ports", ""}},
      {{"preset", "istio"}, {"inbound-ports", ""}, {"outbound-cidrs", ""}},
      {{"preset", "istio"}, {"inbound-ports", ""}, {"inbound-mode", "tproxy"}, {"dns", "all"}},
      {{"inbound-ports", ""}, {"outbound-cidrs", ""}, {"inbound-port", "7"}, {"proxy-port", "9"}, {"dns", "all"}},
      {{"inbound-ports", ""}, {"outbound-cidrs", ""}, {"inbound-port", "9"}, {"proxy-port", "7"}},
      {{"inbound-mode", "tproxy"}, {"inbound-ports", ""}, {"tproxy-mark", "7"}, {"hairpin", "inbound"}},
      {{"outbound-cidrs", ""}, {"proxy-port", "53"}},
      {{"outbound-cidrs", ""}, {"proxy-port", "53"}, {"inbound-port", "15001"}},
      {{"outbound-cidrs", ""}, {"proxy-port", "53"}, {"inbound-port", "54"}},
      {{"outbound-cidrs", ""}, {"inbound-port", "15000"}, {"dns", "all"}, {"dns-port", "15002"}},
      {{"outbound-cidrs", ""}, {"inbound-mode", "off"}, {"proxy-port", "4000"}},
      {{"outbound-cidrs", ""}, {"proxy-port", "4000"}, {"dns", "all"}, {"dns-port", "4001"}},
      {{"outbound-cidrs", ""}, {"proxy-port", "4000"}, {"proxy-port-access", "capture"}},
      {{"inbound-mode", "tproxy"}, {"tproxy-mark", "7"}, {"tunnel-ports", "15008"}, {"hairpin", "inbound"}},
      {{"outbound-cidrs", "10.0.0.0/8"}, {"exclude-outbound-cidrs", "10.1.0.0/16,10.9.9.9,fd00::/8"}},
      {{"outbound-cidrs", ""}, {"outbound-ports", "80,8000-8100"}},
      {{"outbound-cidrs", "0.0.0.0/0"}},
      {{"outbound-cidrs", "*,127.0.0.0/8"}},
      {{"outbound-cidrs", "*,127.0.0.1,::1"}},
      {{"exclude-outbound-ports", "22,25-30"}, {"exclude-uids", "1-5,9"}, {"exclude-gids", "50"}, {"only-gids", "7,9"}},
      {{"only-gids", "0"}},
      {{"exclude-gids", "0-7,9-4294967294"}},
      {{"exclude-gids", "5-4294967294"}},
      {{"exclude-gids", "5-4294967294"}, {"only-gids", "0-9"}},
      {{"exclude-gids", "0-1079975486"}, {"only-gids", "24-4294967294"}},
      {{"exclude-gids", "5-4294967294"}, {"only-gids", "24-4294967294"}},
      {{"exclude-gids", "5,7"}, {"only-gids", "24-4294967294"}},
      {{"exclude-gids", "5-4294967294"}, {"only-gids", "7,9"}},
      {{"exclude-gids", "0-7,9-4294967294"}, {"only-gids", "0-9"}},
      {{"exclude-outbound-ports-for-uids", "tcp:3306,5432:1000-1010"}},
      {{"exclude-outbound-ports-for-uids", "53:1,5"}},
      {{"exclude-interfaces", "eth1,docker*"}, {"virtual-interfaces", "tap*,vm0"}, {"forwarded", "capture"}},
      {{"dns", "all"}, {"dns-port", "5353"}, {"udp", "reject:443,15053"}},
      {{"dns", "resolv-conf"}},
      {{"drop-invalid", "on"}, {"priority", "-150"}, {"proxy-port-access", "capture"}},
      {{"ip-family", "ipv4"}, {"other-family", "reject"}},
      {{"ip-family", "ipv6"}, {"passthrough-source", "::6"}},
      {{"passthrough-source", "127.0.0.6,127.0.0.7,::6"}, {"loopback-cidr", "127.0.0.1/32"}},
      {{"loopback-cidr", "127.255.0.0/32"}, {"outbound-cidrs", "::1,fe80::/14"}, {"hairpin", "inbound"}},
      {{"loopback-cidr", "127.255.0.0/32"}, {"outbound-cidrs", "::1,10.0.0.0/8"}},
      {{"loopback-cidr", "127.0.0.1/32"}, {"outbound-cidrs", "0.0.0.0/0,127.255.255.255"}, {"hairpin", "inbound"}},
      {{"loopback-cidr", "127.0.0.0/16"}, {"outbound-cidrs", "127.0.0.5"}},
      {{"loopback-cidr", "127.0.0.0/30"}, {"outbound-cidrs", "127.0.0.2/31"}},
      {{"loopback-cidr", "127.0.0.1/32"}, {"outbound-cidrs", "127.0.0.1,10.0.0.0/8"}},
      {{"loopback-cidr", "127.0.0.1/32"}, {"outbound-cidrs", "*,::1"}},
      {{"loopback-cidr", "127.0.0.1/32"}, {"outbound-cidrs", "127.0.0.0/8"}},
  };
  for (const test::Options& options : samples) {
    std::string told;
    for (const auto& [name, text] : options) told.append("--").append(name).append(" ").append(text).append(" ");
    CAPTURE(told);
    const Ruleset ruleset = compile(test::config(options));
    const Recovered recovered = recover(ruleset);
    std::string found;
    for (const auto& [name, text] : recovered.options)
      found.append("--").append(name).append(" ").append(text).append(" ");
    CAPTURE(found);
    const auto config = config_of(recovered);
    REQUIRE(config);
    CHECK(to_nft(compile(*config)) == to_nft(ruleset));
    for (const auto& [name, text] : recovered.options) CHECK(text != find_option(name)->fallback);
  }
}

TEST_CASE("the defaults are recovered as nothing to say") { CHECK(recover(compile(test::config({}))).options.empty()); }
