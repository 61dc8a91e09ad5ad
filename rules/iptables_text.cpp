#include "rules/iptables_text.hpp"

#include <cstdio>
#include <vector>

#include "rules/text.hpp"

namespace sluice {
namespace {

/// `0x539`, or `0x539/0xfff`.
std::string hex(std::uint32_t number) {
  char text[sizeof "0x" + 8];
  std::snprintf(text, sizeof text, "0x%x", number);
  return text;
}

std::string mark_text(const Mark& mark) {
  return hex(mark.value) + (mark.mask == 0xffffffffU ? "" : "/" + hex(mark.mask));
}

std::string network_text(const Network& network) {
  return std::visit([](const auto& cidr) { return to_text(cidr.network) + "/" + std::to_string(cidr.prefix); },
                    network);
}

std::string interface_text(const InterfacePattern& pattern) { return pattern.name + (pattern.prefix ? "+" : ""); }

std::string range_text(const Range<Port>& range) {
  const std::string first = std::to_string(range.first.number());
  return range.single() ? first : first + ":" + std::to_string(range.last.number());
}

template <typename Kind>
std::string range_text(const Range<Kind>& range) {
  const std::string first = std::to_string(range.first.number);
  return range.single() ? first : first + "-" + std::to_string(range.last.number);
}

const char* port_option(Side side) { return side == Side::source ? "--sport " : "--dport "; }

/// `protocol` is the rule's: its own match carries ports and flags.
std::string match_text(const IptablesMatch& match, const std::string& protocol) {
  return std::visit(
      Overloaded{
          [&](const PortRange& m) { return protocol + " " + port_option(m.side) + range_text(m.ports); },
          [&](const PortsIn& m) {
            std::vector<std::string> ports;
            for (const Range<Port>& range : m.ports) ports.push_back(range_text(range));
            return (m.side == Side::source ? "multiport --sports " : "multiport --dports ") + join(ports, ",");
          },
          [&](const PortIsNot& m) { return protocol + " ! " + port_option(m.side) + std::to_string(m.port.number()); },
          [&](const NotOpening&) { return protocol + " ! --tcp-flags FIN,SYN,RST,ACK SYN"; },
          [](const UidRange& m) { return "owner --uid-owner " + range_text(m.uids); },
          [](const GidRange& m) { return "owner --gid-owner " + range_text(m.gids); },
          [](const PacketMarkIs& m) { return "mark --mark " + mark_text(m.mark); },
          [](const ConnectionMarkIs& m) { return "connmark --mark " + mark_text(m.mark); },
          [](const ConntrackStateIs& m) {
            return std::string("conntrack --ctstate ") + (m.state == ConntrackState::fresh ? "NEW" : "INVALID");
          },
          [](const DestinationRewritten& m) {
            return std::string("conntrack ") + (m.rewritten ? "" : "! ") + "--ctstate DNAT";
          },
          [](const ReplyDirection&) { return std::string("conntrack --ctdir REPLY"); },
          [](const DestinationLocal& m) {
            return std::string("addrtype ") + (m.local ? "" : "! ") + "--dst-type LOCAL";
          },
      },
      match);
}

std::string target_text(const IptablesTarget& target, Family family) {
  const bool four = family == Family::ipv4;
  return std::visit(
      Overloaded{
          [](const Return&) -> std::string { return "-j RETURN"; },
          [](const JumpTo& t) { return "-j " + t.chain; },
          [](const GoTo& t) { return "-g " + t.chain; },
          [](const Redirect& t) { return "-j REDIRECT --to-ports " + std::to_string(t.port.number()); },
          [&](const Tproxy& t) {
            return "-j TPROXY --on-port " + std::to_string(t.port.number()) + " --on-ip " + (four ? "0.0.0.0" : "::") +
                   " --tproxy-mark " + hex(t.mark) + "/0xffffffff";
          },
          [&](const Reject& t) -> std::string {
            if (t.with == RejectWith::tcp_reset) return "-j REJECT --reject-with tcp-reset";
            return four ? "-j REJECT --reject-with icmp-port-unreachable"
                        : "-j REJECT --reject-with icmp6-port-unreachable";
          },
          [](const Drop&) -> std::string { return "-j DROP"; },
          [](const SetZone& t) { return "-j CT --zone " + std::to_string(t.zone); },
          [](const SetConnectionMark& t) { return "-j CONNMARK --set-xmark " + hex(t.mark) + "/0xffffffff"; },
          [](const SetPacketMark& t) { return "-j MARK --set-xmark " + hex(t.mark) + "/0xffffffff"; },
      },
      target);
}

std::string table_text(const IptablesTable& table) {
  std::string text = "*" + std::string(to_text(table.kind)) + "\n";
  for (const BuiltinChain& chain : builtin_chains(table.kind))
    text += ":" + std::string(chain.name) + " ACCEPT [0:0]\n";
  for (const IptablesChain& chain : table.chains) text += ":" + chain.name + " - [0:0]\n";
  for (const IptablesJump& jump : table.jumps) {
    text += "-A " + std::string(iptables_name(jump.hook)) + " -j " + jump.chain + "\n";
  }
  for (const IptablesChain& chain : table.chains) {
    for (const IptablesRule& rule : chain.rules) text += to_text(chain.name, rule, table.family) + "\n";
  }
  return text + "COMMIT\n";
}

}  // namespace

std::string to_text(const IptablesRule& rule, Family family) {
  std::vector<std::string> words;
  if (rule.source) words.push_back("-s " + network_text(*rule.source));
  if (rule.destination) words.push_back("-d " + network_text(*rule.destination));
  if (rule.in) words.push_back("-i " + interface_text(*rule.in));
  if (rule.out) words.push_back("-o " + interface_text(*rule.out));
  const std::string protocol(rule.protocol ? to_text(*rule.protocol) : "");
  if (rule.protocol) words.push_back("-p " + protocol);
  for (const IptablesMatch& match : rule.matches) words.push_back("-m " + match_text(match, protocol));
  if (!rule.name.empty()) words.push_back("-m comment --comment " + rule.name);
  words.push_back(target_text(rule.target, family));
  return join(words, " ");
}

std::string to_text(const std::string& chain, const IptablesRule& rule, Family family) {
  return "-A " + chain + " " + to_text(rule, family);
}

std::string to_iptables_save(const IptablesRuleset& ruleset, Family family) {
  std::string text;
  for (const IptablesTable& table : ruleset.tables) {
    if (table.family == family) text += table_text(table);
  }
  return text;
}

std::string to_iptables_plan(const IptablesRuleset& ruleset) {
  std::string text;
  const std::string four = to_iptables_save(ruleset, Family::ipv4);
  const std::string six = to_iptables_save(ruleset, Family::ipv6);
  if (!four.empty()) text += "# IPv4: iptables-restore --noflush\n" + four;
  if (!six.empty()) text += "# IPv6: ip6tables-restore --noflush\n" + six;
  return text;
}

}  // namespace sluice
