#include "rules/evaluate.hpp"

#include <doctest/doctest.h>

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
