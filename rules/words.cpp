#include "rules/words.hpp"

#include "rules/nft_text.hpp"
#include "rules/text.hpp"

namespace sluice {
namespace {

std::string list_text(const SetElements& elements) {
  constexpr std::size_t shown = 8;
  std::vector<std::string> texts = element_texts(elements);
  const std::size_t count = texts.size();
  if (count > shown + 1) texts.resize(shown);
  const std::string text = join(texts, ", ");
  return count > texts.size() ? text + " and " + std::to_string(count - texts.size()) + " more" : text;
}

class MatchWords {
 public:
  explicit MatchWords(const Ruleset& sets) : sets_(sets) {}

  std::string operator()(const FamilyIs& m) const { return m.family == Family::ipv4 ? "IPv4" : "IPv6"; }
  std::string operator()(const ProtocolIs& m) const {
    switch (m.protocol) {
      case Protocol::tcp:
        return "TCP";
      case Protocol::udp:
        return "UDP";
      case Protocol::sctp:
        return "SCTP";
    }
    return "";
  }
  std::string operator()(const PortIn& m) const { return side(m.side) + "port " + operand(m.ports); }
  std::string operator()(const PortIsNot& m) const {
    return side(m.side) + "any port but " + std::to_string(m.port.number());
  }
  template <typename Address>
  std::string operator()(const AddressIn<Address>& m) const {
    return side(m.side) + operand(m.addresses);
  }
  std::string operator()(const InterfaceIn& m) const {
    const auto* pattern = std::get_if<InterfacePattern>(&m.interfaces);
    return (m.direction == Direction::in ? "arriving on " : "leaving by ") +
           (pattern != nullptr ? list_text(InterfaceSet{*pattern}) : set(std::get<SetRef>(m.interfaces)));
  }
  std::string operator()(const SocketUidIn& m) const { return "of user " + operand(m.uids); }
  std::string operator()(const SocketGidIn& m) const { return "of group " + operand(m.gids); }
  std::string operator()(const PacketMarkIs& m) const { return "with the packet mark " + mark(m.mark); }
  std::string operator()(const ConnectionMarkIs& m) const { return "with the connection mark " + mark(m.mark); }
  std::string operator()(const ConntrackStateIs& m) const {
    return m.state == ConntrackState::fresh ? "of a new connection" : "invalid to conntrack";
  }
  std::string operator()(const DestinationRewritten& m) const {
    return m.rewritten ? "already redirected" : "not redirected before";
  }
  std::string operator()(const NotOpening&) const { return "of a connection that is already running"; }
  std::string operator()(const ReplyDirection&) const { return "answering"; }
  std::string operator()(const DestinationLocal& m) const {
    return m.local ? "addressed to this namespace" : "merely forwarded through this namespace";
  }

 private:
  static std::string side(Side side) { return side == Side::source ? "from " : "to "; }

  static std::string mark(const Mark& mark) {
    return hex32(mark.value) + (mark.mask == 0xffffffffU ? "" : "/" + hex32(mark.mask));
  }

  [[nodiscard]] std::string set(const SetRef& reference) const {
    const Set* found = sets_.find_set(reference.name);
    return found == nullptr ? "the set " + reference.name : list_text(found->elements);
  }

  template <typename T>
  std::string operand(const Operand<T>& operand) const {
    if (const auto* range = std::get_if<Range<T>>(&operand)) return list_text(Ranges<T>{*range});
    return set(std::get<SetRef>(operand));
  }

  const Ruleset& sets_;
};

std::string action_words(const Action& action) {
  return std::visit(
      Overloaded{
          [](const Pass&) -> std::string { return "left alone"; },
          [](const Redirect& a) -> std::string { return "redirected to port " + std::to_string(a.port.number()); },
          [](const Tproxy& a) -> std::string {
            return "handed to the transparent listener on port " + std::to_string(a.port.number()) + ", with mark " +
                   hex32(a.mark);
          },
          [](const Reject& a) -> std::string {
            return a.with == RejectWith::tcp_reset ? "refused with a TCP reset" : "refused with ICMP port unreachable";
          },
          [](const Drop&) -> std::string { return "dropped"; },
          [](const SetZone& a) -> std::string { return "tracked in conntrack zone " + std::to_string(a.zone); },
          [](const SetConnectionMark& a) -> std::string { return "its connection marked " + hex32(a.mark); },
          [](const SetPacketMark& a) -> std::string { return "marked " + hex32(a.mark) + " and routed again"; },
      },
      action);
}

}  // namespace

std::string in_words(const Match& match, const Ruleset& sets) { return std::visit(MatchWords(sets), match); }

std::string in_words(const Rule& rule, const Ruleset& sets) {
  std::vector<std::string> words;
  for (const Match& match : rule.matches) words.push_back(in_words(match, sets));
  return (words.empty() ? "everything" : join(words, " ")) + ": " + action_words(rule.action);
}

}  // namespace sluice
