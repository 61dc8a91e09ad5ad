#include <doctest/doctest.h>

#include "tests/rules/support.hpp"

using namespace sluice;
using test::lookups;
using test::Options;
using test::raw;

namespace {

std::vector<std::string> warnings(const Options& options) {
  const Validation validation = validate(raw(options), lookups());
  REQUIRE_MESSAGE(validation.config, options.front().first);
  std::vector<std::string> lines;
  for (const Problem& warning : validation.problems.warnings) lines.push_back(to_text(warning));
  return lines;
}

struct Odd {
  Options options;
  std::string where;  ///< the option that the warning is about
  std::string names;  ///< the other one, or the value, that makes it odd
  Options sound;      ///< nearly the same, and nothing to warn of
};

}  // namespace

TEST_CASE("what is allowed but surely not meant is told with both settings; its sound neighbour is not") {
  const Odd table[] = {
      {{{"exclude-inbound-ports", "15000-15002"}},
       "exclude-inbound-ports",
       "15001 is also --proxy-port",
       {{"exclude-inbound-ports", "15000"}}},
      {{{"exclude-inbound-ports", "15006"}, {"inbound-port", "15006"}, {"proxy-port-access", "capture"}},
       "exclude-inbound-ports",
       "15006 is also --inbound-port",
       {{"exclude-inbound-ports", "15007"}, {"inbound-port", "15006"}, {"proxy-port-access", "capture"}}},
      {{{"tunnel-ports", "15001"}}, "tunnel-ports", "--proxy-port", {{"tunnel-ports", "15008"}}},
      {{{"exclude-outbound-ports", "15001"}},
       "exclude-outbound-ports",
       "--proxy-port",
       {{"exclude-outbound-ports", "15002"}}},
      {{{"exclude-inbound-ports", "15053"}, {"dns", "all"}},
       "exclude-inbound-ports",
       "--dns-port",
       {{"exclude-inbound-ports", "15053"}}},
      {{{"exclude-inbound-ports", "80-90"}, {"inbound-ports", "85"}},
       "exclude-inbound-ports",
       "--inbound-mode off",
       {{"exclude-inbound-ports", "80-84"}, {"inbound-ports", "80-90"}}},
      {{{"exclude-inbound-ports", "22"}, {"inbound-ports", "80"}},
       "exclude-inbound-ports",
       "22 is not in --inbound-ports",
       {{"exclude-inbound-ports", "22"}, {"inbound-ports", "22-80"}}},
      {{{"exclude-inbound-ports", "15008"}, {"tunnel-ports", "15008"}},
       "exclude-inbound-ports",
       "--tunnel-ports",
       {{"exclude-inbound-ports", "15008-15009"}, {"tunnel-ports", "15008"}}},
      {{{"tunnel-ports", "9"}, {"inbound-ports", "80"}},
       "tunnel-ports",
       "9 is not in --inbound-ports",
       {{"tunnel-ports", "9"}, {"inbound-ports", "9,80"}}},
      {{{"exclude-outbound-ports", "1-65535"}},
       "exclude-outbound-ports",
       "--outbound-cidrs",
       {{"exclude-outbound-ports", "1-15000"}}},
      {{{"outbound-ports", "80,443"}, {"exclude-outbound-ports", "443"}},
       "outbound-ports",
       "443 is in --exclude-outbound-ports",
       {{"outbound-ports", "80-443"}, {"exclude-outbound-ports", "443"}}},
      {{{"udp", "reject:443"}, {"exclude-outbound-ports", "443"}},
       "udp",
       "--exclude-outbound-ports",
       {{"udp", "reject:443"}, {"exclude-outbound-ports", "444"}}},
      {{{"udp", "reject:53"}}, "udp", "--dns", {{"udp", "reject:53"}, {"dns", "all"}}},
      {{{"exclude-outbound-ports", "53"}, {"dns", "all"}},
       "exclude-outbound-ports",
       "--dns",
       {{"exclude-outbound-ports", "54"}, {"dns", "all"}}},
      {{{"exclude-outbound-ports-for-uids", "tcp:443:5"}, {"exclude-outbound-ports", "443"}},
       "exclude-outbound-ports-for-uids",
       "--exclude-outbound-ports",
       {{"exclude-outbound-ports-for-uids", "tcp:443:5"}, {"exclude-outbound-ports", "80"}}},
      {{{"exclude-outbound-ports-for-uids", "tcp:443:1337"}},
       "exclude-outbound-ports-for-uids",
       "1337 is in --proxy-uid",
       {{"exclude-outbound-ports-for-uids", "tcp:443:1337-1338"}}},
      {{{"outbound-cidrs", ""}, {"outbound-ports", "80"}, {"exclude-outbound-ports", "22"}},
       "exclude-outbound-ports",
       "22 is not in --outbound-ports",
       {{"outbound-cidrs", ""}, {"outbound-ports", "80-90"}, {"exclude-outbound-ports", "85"}}},
      {{{"exclude-uids", "1337"}}, "exclude-uids", "--proxy-uid", {{"exclude-uids", "1336-1337"}}},
      {{{"exclude-uids", "0-4294967294"}}, "exclude-uids", "--outbound-cidrs", {{"exclude-uids", "0-9"}}},
      {{{"exclude-gids", "7"}, {"proxy-gid", "7"}},
       "exclude-gids",
       "--proxy-gid",
       {{"exclude-gids", "7"}, {"proxy-gid", "8"}}},
      {{{"exclude-gids", "7"}, {"only-gids", "8"}},
       "exclude-gids",
       "--only-gids",
       {{"exclude-gids", "7"}, {"only-gids", "7-8"}}},
      {{{"exclude-gids", "7-8"}, {"only-gids", "8"}},
       "only-gids",
       "--exclude-gids",
       {{"exclude-gids", "8"}, {"only-gids", "8-9"}}},
      {{{"only-gids", "8"}, {"proxy-gid", "8"}},
       "only-gids",
       "--proxy-gid",
       {{"only-gids", "8-9"}, {"proxy-gid", "8"}}},
      {{{"exclude-outbound-cidrs", "0.0.0.0/0"}},
       "exclude-outbound-cidrs",
       "0.0.0.0/0 leaves no ipv4",
       {{"exclude-outbound-cidrs", "0.0.0.0/1"}}},
      {{{"exclude-outbound-cidrs", "::/0"}},
       "exclude-outbound-cidrs",
       "::/0 leaves no ipv6",
       {{"exclude-outbound-cidrs", "::/1"}}},
      {{{"exclude-inbound-cidrs", "0.0.0.0/1,128.0.0.0/1"}},
       "exclude-inbound-cidrs",
       "--inbound-ports",
       {{"exclude-inbound-cidrs", "0.0.0.0/1"}}},
      {{{"exclude-outbound-cidrs", "127.0.0.1"}},
       "exclude-outbound-cidrs",
       "127.0.0.1 is loopback",
       {{"exclude-outbound-cidrs", "127.0.0.1"}, {"outbound-cidrs", "127.0.0.0/8"}}},
      {{{"exclude-outbound-cidrs", "10.0.0.0/8"}, {"outbound-cidrs", "192.168.0.0/16"}},
       "exclude-outbound-cidrs",
       "10.0.0.0/8 is not in --outbound-cidrs",
       {{"exclude-outbound-cidrs", "10.0.0.0/8"}, {"outbound-cidrs", "192.168.0.0/16"}, {"outbound-ports", "80"}}},
      {{{"exclude-outbound-cidrs", "fd00::/8"}, {"ip-family", "ipv4"}},
       "exclude-outbound-cidrs",
       "--ip-family",
       {{"exclude-outbound-cidrs", "fd00::/8"}, {"ip-family", "ipv4"}, {"other-family", "reject"}}},
      {{{"outbound-cidrs", "10.0.0.0/8,fd00::/8"}, {"ip-family", "ipv6"}},
       "outbound-cidrs",
       "--ip-family",
       {{"outbound-cidrs", "*"}, {"ip-family", "ipv6"}}},
      {{{"virtual-interfaces", "tap1"}, {"exclude-interfaces", "tap*"}},
       "virtual-interfaces",
       "--exclude-interfaces",
       {{"virtual-interfaces", "tap*"}, {"exclude-interfaces", "tap1"}}},
      {{{"priority", "-100"}}, "priority", "other tools", {{"priority", "-101"}}},
      {{{"outbound-cidrs", ""}, {"inbound-mode", "off"}},
       "outbound-cidrs",
       "--inbound-mode",
       {{"outbound-cidrs", ""}, {"inbound-mode", "redirect"}}},
      {{{"tunnel-ports", "9"}, {"inbound-mode", "off"}},
       "tunnel-ports",
       "--inbound-mode",
       {{"tunnel-ports", "9"}, {"inbound-mode", "tproxy"}}},
  };
  for (const Odd& odd : table) {
    const auto told = warnings(odd.options);
    INFO(odd.where << " / " << odd.names);
    REQUIRE(told.size() == 1);
    CHECK_MESSAGE(told.front().find("--" + odd.where + ": ") == 0, told.front());
    CHECK_MESSAGE(told.front().find(odd.names) != std::string::npos, told.front());
    const auto none = warnings(odd.sound);
    CHECK_MESSAGE(none.empty(), none.front());
  }
}

TEST_CASE("a preset's own lists are not the user's mistake") {
  CHECK(warnings({{"preset", "istio"}, {"inbound-ports", "80"}}).empty());
  CHECK(warnings({{"preset", "istio"}, {"ip-family", "ipv4"}}).empty());
  CHECK(warnings({{"preset", "consul"}, {"proxy-uid", "5996"}}).size() == 1);  // that the list is replaced
  // A port of the user's that the preset excludes is one.
  CHECK(warnings({{"preset", "linkerd"}, {"proxy-port", "4567"}}).size() == 2);
}
