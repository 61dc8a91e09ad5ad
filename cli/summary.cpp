#include "cli/summary.hpp"

#include <vector>

#include "rules/text.hpp"

namespace sluice::cli {
namespace {

std::string to_port(const char* what, Port port) {
  return std::string(what) + " to port " + std::to_string(port.number());
}

std::string families(FamilyMode mode) {
  switch (mode) {
    case FamilyMode::dual:
      return "IPv4 and IPv6";
    case FamilyMode::ipv4:
      return "IPv4 only";
    case FamilyMode::ipv6:
      return "IPv6 only";
  }
  return "";
}

}  // namespace

std::string summary(const Settings& s) {
  std::vector<std::string> parts;
  if (!s.outbound_cidrs.empty() || !s.outbound_ports.empty()) parts.push_back(to_port("outbound TCP", s.proxy_port));
  if (s.inbound_mode != InboundMode::off && !s.inbound_ports.empty()) {
    parts.push_back(to_port("inbound TCP", s.inbound_port) +
                    (s.inbound_mode == InboundMode::tproxy ? " (TPROXY)" : ""));
  }
  if (s.dns != DnsMode::off) parts.push_back(to_port("DNS", s.dns_port));
  if (parts.empty()) return "nothing is captured";
  parts.push_back(families(s.ip_family));
  return join(parts, ", ");
}

}  // namespace sluice::cli
