#include "rules/nft_text.hpp"

#include <algorithm>

#include "rules/text.hpp"

namespace sluice {
namespace {

std::string element_text(const Range<Port>& range) {
  const std::string first = std::to_string(range.first.number());
  return range.single() ? first : first + "-" + std::to_string(range.last.number());
}

template <typename Tag>
std::string element_text(const Range<Id<Tag>>& range) {
  const std::string first = std::to_string(range.first.number);
  return range.single() ? first : first + "-" + std::to_string(range.last.number);
}

std::string element_text(const Range<Ipv4>& range) { return to_text(range); }
std::string element_text(const Range<Ipv6>& range) { return to_text(range); }
std::string element_text(const InterfacePattern& pattern) {
  return "\"" + pattern.name + (pattern.prefix ? "*\"" : "\"");
}

template <typename Operand>
std::string operand_text(const Operand& operand) {
  if (const auto* set = std::get_if<SetRef>(&operand)) return "@" + set->name;
  return element_text(std::get<0>(operand));
}

std::string side_text(Side side, std::string_view what) {
  return (side == Side::source ? "s" : "d") + std::string(what);
}

/// The part of a rule that matches. nft writes the protocol into a port match, so it is held back until it is known
/// whether a port follows.
class MatchWriter {
 public:
  std::string write(const std::vector<Match>& matches) {
    for (const Match& match : matches) std::visit(*this, match);
    flush_protocol();
    return join(words_, " ");
  }

  void operator()(const FamilyIs& m) { say("meta nfproto " + std::string(to_text(m.family))); }
  void operator()(const ProtocolIs& m) {
    flush_protocol();
    protocol_ = to_text(m.protocol);
  }
  void operator()(const PortIn& m) { say_port(side_text(m.side, "port ") + operand_text(m.ports)); }
  void operator()(const PortIsNot& m) { say_port(side_text(m.side, "port != ") + std::to_string(m.port.number())); }
  void operator()(const Ipv4In& m) { say("ip " + side_text(m.side, "addr ") + operand_text(m.addresses)); }
  void operator()(const Ipv6In& m) { say("ip6 " + side_text(m.side, "addr ") + operand_text(m.addresses)); }
  void operator()(const InterfaceIn& m) {
    say((m.direction == Direction::in ? "iifname " : "oifname ") + operand_text(m.interfaces));
  }
  void operator()(const SocketUidIn& m) { say("meta skuid " + operand_text(m.uids)); }
  void operator()(const SocketGidIn& m) { say("meta skgid " + operand_text(m.gids)); }
  void operator()(const PacketMarkIs& m) { say("meta mark " + mark_text(m.mark)); }
  void operator()(const ConnectionMarkIs& m) { say("ct mark " + mark_text(m.mark)); }
  void operator()(const ConntrackStateIs& m) {
    say(m.state == ConntrackState::fresh ? "ct state new" : "ct state invalid");
  }
  void operator()(const DestinationRewritten& m) { say(m.rewritten ? "ct status dnat" : "ct status ! dnat"); }
  void operator()(const NotOpening&) { say_port("flags != syn / fin,syn,rst,ack"); }
  void operator()(const ReplyDirection&) { say("ct direction reply"); }
  void operator()(const DestinationLocal& m) { say(m.local ? "fib daddr type local" : "fib daddr type != local"); }

 private:
  static std::string mark_text(const Mark& mark) {
    if (mark.mask == 0xffffffffU) return hex32(mark.value);
    return "& " + hex32(mark.mask) + " == " + hex32(mark.value);
  }

  void flush_protocol() {
    if (!protocol_.empty()) words_.push_back("meta l4proto " + protocol_);
    protocol_.clear();
  }

  void say(const std::string& words) {
    flush_protocol();
    words_.push_back(words);
  }

  void say_port(const std::string& words) {
    words_.push_back((protocol_.empty() ? "th " : protocol_ + " ") + words);
    protocol_.clear();
  }

  std::string protocol_;
  std::vector<std::string> words_;
};

std::string action_text(const Action& action) {
  return std::visit(
      Overloaded{
          [](const Pass&) -> std::string { return "accept"; },
          [](const Redirect& a) -> std::string { return "redirect to :" + std::to_string(a.port.number()); },
          [](const Tproxy& a) -> std::string {
            return "tproxy to :" + std::to_string(a.port.number()) + " meta mark set " + hex32(a.mark) + " accept";
          },
          [](const Reject& a) -> std::string {
            return a.with == RejectWith::tcp_reset ? "reject with tcp reset" : "reject";
          },
          [](const Drop&) -> std::string { return "drop"; },
          [](const SetZone& a) -> std::string { return "ct zone set " + std::to_string(a.zone) + " accept"; },
          [](const SetConnectionMark& a) -> std::string { return "ct mark set " + hex32(a.mark) + " accept"; },
          [](const SetPacketMark& a) -> std::string { return "meta mark set " + hex32(a.mark) + " accept"; },
      },
      action);
}

std::string rule_text(const Rule& rule, bool decorated) {
  std::string text = MatchWriter{}.write(rule.matches);
  if (!text.empty()) text += " ";
  if (decorated) text += "counter ";
  text += action_text(rule.action);
  if (decorated) text += " comment \"" + rule.name + "\"";
  return text;
}

}  // namespace

std::string_view set_type(const SetElements& elements) {
  return std::visit(Overloaded{
                        [](const Ranges<Port>&) { return "inet_service"; },
                        [](const Ranges<Ipv4>&) { return "ipv4_addr"; },
                        [](const Ranges<Ipv6>&) { return "ipv6_addr"; },
                        [](const Ranges<Uid>&) { return "uid"; },
                        [](const Ranges<Gid>&) { return "gid"; },
                        [](const InterfaceSet&) { return "ifname"; },
                    },
                    elements);
}

/// Linux keeps a set of two-byte keys as a bitmap beside a list (net/netfilter/nft_set_bitmap.c) and walks the list for
/// every element that is added: 10,000 ports take it 0.4 s, and an interval set 0.02 s.
constexpr std::size_t most_in_a_bitmap = 256;

bool needs_intervals(const SetElements& elements) {
  return std::visit(
      Overloaded{
          [](const InterfaceSet& set) {
            for (const auto& pattern : set) {
              if (pattern.prefix) return true;
            }
            return false;
          },
          [](const Ranges<Port>& ports) { return !ports.all_single() || ports.size() > most_in_a_bitmap; },
          [](const auto& ranges) { return !ranges.all_single(); },
      },
      elements);
}

std::vector<std::string> element_texts(const SetElements& elements) {
  std::vector<std::string> texts;
  std::visit(
      [&](const auto& set) {
        texts.reserve(set.size());
        for (const auto& element : set) texts.push_back(element_text(element));
      },
      elements);
  return texts;
}

bool is_nft_name(std::string_view name) {
  constexpr std::string_view letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
  return !name.empty() && letters.find(name.front()) != std::string_view::npos &&
         std::all_of(name.begin(), name.end(), [letters](char c) {
           return letters.find(c) != std::string_view::npos || (c >= '0' && c <= '9') || c == '-' || c == '.';
         });
}

std::string to_nft(const SetElements& elements) { return join(element_texts(elements), ", "); }

std::string to_nft(const Match& match) { return MatchWriter{}.write({match}); }

std::string to_nft(const Rule& rule) { return rule_text(rule, false); }

std::string to_nft_hook(const Chain& chain) {
  // Priorities as numbers: nft 1.0.6 does not take every name in every hook.
  return "type " + std::string(to_text(chain.type)) + " hook " + std::string(to_text(chain.hook)) + " priority " +
         std::to_string(chain.priority) + "; policy accept;";
}

std::string to_nft(const Ruleset& ruleset) {
  std::string text = "table inet sluice {\n";
  for (const Set& set : ruleset.sets) {
    text += "\tset " + set.name + " {\n\t\ttype " + std::string(set_type(set.elements)) + "\n";
    if (needs_intervals(set.elements)) {
      text += "\t\tflags interval\n";
    } else {
      text += "\t\tsize " + std::to_string(element_texts(set.elements).size()) + "\n";
    }
    text += "\t\telements = { " + to_nft(set.elements) + " }\n\t}\n\n";
  }
  for (const Chain& chain : ruleset.chains) {
    if (&chain != &ruleset.chains.front()) text += "\n";
    text += "\tchain " + chain.name + " {\n\t\t" + to_nft_hook(chain) + "\n";
    for (const Rule& rule : chain.rules) text += "\t\t" + rule_text(rule, true) + "\n";
    text += "\t}\n";
  }
  return text + "}\n";
}

}  // namespace sluice
