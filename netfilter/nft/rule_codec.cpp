#include "netfilter/nft/rule_codec.hpp"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/rtnetlink.h>

#include <array>
#include <cstring>
#include <stdexcept>

#include "netfilter/nft/bytes.hpp"
#include "rules/nft_text.hpp"

namespace sluice::netfilter {
namespace {

constexpr std::size_t interface_name_size = 16;  // IFNAMSIZ
// ct state bits as nft_ct.c:nft_ct_get_eval makes them: 1 for INVALID, else 1 << (ctinfo % IP_CT_IS_REPLY + 1).
constexpr std::uint32_t state_invalid = 1;
constexpr std::uint32_t state_new = 1U << (IP_CT_NEW + 1U);
constexpr std::uint8_t direction_reply = 1;  // IP_CT_DIR_REPLY

// Codes of "port unreachable": RFC 792 and RFC 4443, 3.1
constexpr std::uint32_t icmp_port_unreachable = 3;
constexpr std::uint32_t icmpv6_port_unreachable = 4;

// --- Encoding -----------------------------------------------------------------------------------------------------------

class MatchEncoder {
 public:
  MatchEncoder(Expressions& out, const Ruleset& sets) : out_(out), sets_(sets) {}

  void operator()(const FamilyIs& m) { require_family(m.family == Family::ipv4 ? NFPROTO_IPV4 : NFPROTO_IPV6); }
  void operator()(const ProtocolIs& m) const {
    load_and_compare(MetaLoad{NFT_META_L4PROTO}, {static_cast<std::uint8_t>(m.protocol)});
  }
  void operator()(const PortIn& m) const {
    out_.push_back(PayloadLoad{NFT_PAYLOAD_TRANSPORT_HEADER, port_offset(m.side), 2});
    in_range_or_set(m.ports);
  }
  void operator()(const PortIsNot& m) const {
    out_.push_back(PayloadLoad{NFT_PAYLOAD_TRANSPORT_HEADER, port_offset(m.side), 2});
    out_.push_back(Compare{NFT_CMP_NEQ, network(m.port)});
  }
  template <typename Address>
  void operator()(const AddressIn<Address>& m) {
    require_family(Layout<Address>::protocol);
    out_.push_back(PayloadLoad{NFT_PAYLOAD_NETWORK_HEADER, offset_of<Address>(m.side), Address::bits / 8});
    const auto* range = std::get_if<Range<Address>>(&m.addresses);
    const auto cidr = range == nullptr || range->single() ? std::nullopt : cidr_of(*range);
    if (!cidr) return in_range_or_set(m.addresses);
    out_.push_back(And{prefix_mask<Address>(cidr->prefix)});
    out_.push_back(Compare{NFT_CMP_EQ, network(cidr->network)});
  }
  void operator()(const InterfaceIn& m) const {
    out_.push_back(MetaLoad{m.direction == Direction::in ? NFT_META_IIFNAME : NFT_META_OIFNAME});
    if (const auto* set = std::get_if<SetRef>(&m.interfaces)) {
      out_.push_back(Lookup{set->name});
      return;
    }
    const auto& pattern = std::get<InterfacePattern>(m.interfaces);
    const RegisterValue name(pattern.name.begin(), pattern.name.end());
    // A whole name is compared with its padding; a prefix only as far as it goes.
    out_.push_back(Compare{NFT_CMP_EQ, pattern.prefix ? name : name.resized_to(interface_name_size)});
  }
  void operator()(const SocketUidIn& m) const { id_in(NFT_META_SKUID, m.uids); }
  void operator()(const SocketGidIn& m) const { id_in(NFT_META_SKGID, m.gids); }
  void operator()(const PacketMarkIs& m) const { mark_is(MetaLoad{NFT_META_MARK}, m.mark); }
  void operator()(const ConnectionMarkIs& m) const { mark_is(ConntrackLoad{NFT_CT_MARK}, m.mark); }
  void operator()(const ConntrackStateIs& m) const {
    out_.push_back(ConntrackLoad{NFT_CT_STATE});
    out_.push_back(And{host(m.state == ConntrackState::fresh ? state_new : state_invalid)});
    out_.push_back(Compare{NFT_CMP_NEQ, host(0)});
  }
  void operator()(const DestinationRewritten& m) const {
    out_.push_back(ConntrackLoad{NFT_CT_STATUS});
    out_.push_back(And{host(IPS_DST_NAT)});
    out_.push_back(Compare{m.rewritten ? NFT_CMP_NEQ : NFT_CMP_EQ, host(0)});
  }
  void operator()(const NotOpening&) const {
    out_.push_back(PayloadLoad{NFT_PAYLOAD_TRANSPORT_HEADER, tcp_flags_offset, 1});
    out_.push_back(And{{tcp_fin | tcp_syn | tcp_rst | tcp_ack}});
    out_.push_back(Compare{NFT_CMP_NEQ, {tcp_syn}});
  }
  void operator()(const ReplyDirection&) const { load_and_compare(ConntrackLoad{NFT_CT_DIRECTION}, {direction_reply}); }
  void operator()(const DestinationLocal& m) const {
    out_.push_back(FibLoad{NFTA_FIB_F_DADDR, NFT_FIB_RESULT_ADDRTYPE});
    out_.push_back(Compare{m.local ? NFT_CMP_EQ : NFT_CMP_NEQ, host(RTN_LOCAL)});
  }

 private:
  /// Once in a rule, as nft does.
  void require_family(std::uint8_t protocol) {
    if (family_ == protocol) return;
    load_and_compare(MetaLoad{NFT_META_NFPROTO}, {protocol});
    family_ = protocol;
  }

  void load_and_compare(const Expression& load, const RegisterValue& value) const {
    out_.push_back(load);
    out_.push_back(Compare{NFT_CMP_EQ, value});
  }

  template <typename T>
  void in_range_or_set(const Operand<T>& operand) const {
    if (const auto* set = std::get_if<SetRef>(&operand)) {
      out_.push_back(Lookup{set->name});
      return;
    }
    const auto& range = std::get<Range<T>>(operand);
    if (range.single()) {
      out_.push_back(Compare{NFT_CMP_EQ, network(range.first)});
    } else {
      out_.push_back(Compare{NFT_CMP_GTE, network(range.first)});
      out_.push_back(Compare{NFT_CMP_LTE, network(range.last)});
    }
  }

  template <typename Kind>
  void id_in(std::uint32_t key, const Operand<Kind>& operand) const {
    out_.push_back(MetaLoad{key});
    if (const auto* reference = std::get_if<SetRef>(&operand)) {
      const Set* set = sets_.find_set(reference->name);
      if (set == nullptr)
        throw std::logic_error("a rule refers to the set " + reference->name + ", which does not exist");
      if (needs_intervals(set->elements)) out_.push_back(ToNetworkOrder{});
      out_.push_back(Lookup{reference->name});
      return;
    }
    const auto& range = std::get<Range<Kind>>(operand);
    if (range.single()) {
      out_.push_back(Compare{NFT_CMP_EQ, host(range.first.number)});
    } else {
      out_.push_back(ToNetworkOrder{});
      out_.push_back(Compare{NFT_CMP_GTE, network(range.first.number)});
      out_.push_back(Compare{NFT_CMP_LTE, network(range.last.number)});
    }
  }

  void mark_is(const Expression& load, const Mark& mark) const {
    out_.push_back(load);
    if (mark.mask != 0xffffffffU) out_.push_back(And{host(mark.mask)});
    out_.push_back(Compare{NFT_CMP_EQ, host(mark.value)});
  }

  Expressions& out_;
  const Ruleset& sets_;
  std::uint8_t family_ = NFPROTO_UNSPEC;  ///< that the rule requires already
};

struct ActionEncoder {
  Expressions& out;
  std::optional<Family> family;

  void operator()(const Pass&) const { out.push_back(Verdict{NF_ACCEPT}); }
  void operator()(const Drop&) const { out.push_back(Verdict{NF_DROP}); }
  void operator()(const Redirect& a) const {
    out.push_back(LoadValue{network(a.port)});
    out.push_back(RedirectToRegister{});
  }
  void operator()(const Tproxy& a) const {
    out.push_back(LoadValue{network(a.port)});
    out.push_back(TproxyToRegister{});
    out.push_back(LoadValue{host(a.mark)});
    out.push_back(MetaStore{NFT_META_MARK});
    out.push_back(Verdict{NF_ACCEPT});
  }
  void operator()(const Reject& a) const {
    if (a.with == RejectWith::tcp_reset) {
      out.push_back(RejectPacket{NFT_REJECT_TCP_RST, 0});
    } else if (family) {
      // nft writes it so where a rule names its family, and reads a bare "reject" there as this.
      out.push_back(RejectPacket{NFT_REJECT_ICMP_UNREACH,
                                 family == Family::ipv4 ? icmp_port_unreachable : icmpv6_port_unreachable});
    } else {
      out.push_back(RejectPacket{NFT_REJECT_ICMPX_UNREACH, NFT_REJECT_ICMPX_PORT_UNREACH});
    }
  }
  void operator()(const SetZone& a) const {
    std::array<std::uint8_t, sizeof a.zone> zone{};
    std::memcpy(zone.data(), &a.zone, sizeof a.zone);
    store({zone.begin(), zone.end()}, ConntrackStore{NFT_CT_ZONE});
  }
  void operator()(const SetConnectionMark& a) const { store(host(a.mark), ConntrackStore{NFT_CT_MARK}); }
  void operator()(const SetPacketMark& a) const { store(host(a.mark), MetaStore{NFT_META_MARK}); }

 private:
  void store(const RegisterValue& value, const Expression& where) const {
    out.push_back(LoadValue{value});
    out.push_back(where);
    out.push_back(Verdict{NF_ACCEPT});
  }
};

// --- Decoding -----------------------------------------------------------------------------------------------------------

/// Reads expressions from the front. What it yields is only a guess at the rule: the guess is encoded again and must
/// give the very same expressions, so no check is written twice.
class Guess {
 public:
  explicit Guess(const Expressions& in) : in_(in) {}

  std::optional<Rule> rule(const std::string& name) {
    Rule rule{name, {}, Pass{}};
    while (at_ < in_.size() && !peek<Count>()) {
      auto match = next_match();
      if (!match) return std::nullopt;
      rule.matches.push_back(std::move(*match));
    }
    if (!take<Count>()) return std::nullopt;
    const auto action = next_action();
    if (!action || at_ != in_.size()) return std::nullopt;
    rule.action = *action;
    return rule;
  }

 private:
  template <typename Kind>
  const Kind* peek(std::size_t ahead = 0) const {
    return at_ + ahead < in_.size() ? std::get_if<Kind>(&in_[at_ + ahead]) : nullptr;
  }
  template <typename Kind>
  const Kind* take() {
    const Kind* found = peek<Kind>();
    if (found != nullptr) ++at_;
    return found;
  }

  std::optional<Match> next_match() {
    if (const auto* load = take<MetaLoad>()) return after_meta(load->key);
    if (const auto* load = take<ConntrackLoad>()) return after_conntrack(load->key);
    if (const auto* load = take<PayloadLoad>()) {
      return load->base == NFT_PAYLOAD_NETWORK_HEADER ? address_of_family(*load) : after_payload(*load);
    }
    if (take<FibLoad>() != nullptr) {
      const auto* compare = take<Compare>();
      if (compare == nullptr) return std::nullopt;
      return DestinationLocal{compare->operation == NFT_CMP_EQ};
    }
    return std::nullopt;
  }

  std::optional<Match> after_meta(std::uint32_t key) {
    switch (key) {
      case NFT_META_NFPROTO:
        return after_family();
      case NFT_META_L4PROTO: {
        const auto* compare = take<Compare>();
        if (compare == nullptr || compare->value.size() != 1) return std::nullopt;
        for (const Protocol protocol : {Protocol::tcp, Protocol::udp, Protocol::sctp}) {
          if (compare->value[0] == static_cast<std::uint8_t>(protocol)) return ProtocolIs{protocol};
        }
        return std::nullopt;
      }
      case NFT_META_IIFNAME:
        return after_interface(Direction::in);
      case NFT_META_OIFNAME:
        return after_interface(Direction::out);
      case NFT_META_SKUID:
        return id_match<Uid, SocketUidIn>();
      case NFT_META_SKGID:
        return id_match<Gid, SocketGidIn>();
      case NFT_META_MARK:
        return mark_match<PacketMarkIs>();
      default:
        return std::nullopt;
    }
  }

  /// A family on its own, or before the address that implies it.
  std::optional<Match> after_family() {
    const auto* compare = take<Compare>();
    if (compare == nullptr || compare->value.size() != 1) return std::nullopt;
    family_ = compare->value[0] == NFPROTO_IPV4 ? Family::ipv4 : Family::ipv6;
    const auto* load = peek<PayloadLoad>();
    if (load == nullptr || load->base != NFT_PAYLOAD_NETWORK_HEADER) return FamilyIs{*family_};
    return address_of_family(*take<PayloadLoad>());
  }

  std::optional<Match> address_of_family(const PayloadLoad& load) {
    if (!family_) return std::nullopt;
    return family_ == Family::ipv4 ? address_match<Ipv4>(load) : address_match<Ipv6>(load);
  }

  std::optional<Match> after_conntrack(std::uint32_t key) {
    if (key == NFT_CT_MARK) return mark_match<ConnectionMarkIs>();
    if (key == NFT_CT_DIRECTION)
      return take<Compare>() != nullptr ? std::optional<Match>(ReplyDirection{}) : std::nullopt;
    const auto* mask = take<And>();
    const auto* compare = take<Compare>();
    if (mask == nullptr || compare == nullptr) return std::nullopt;
    if (key == NFT_CT_STATUS) return DestinationRewritten{compare->operation == NFT_CMP_NEQ};
    return ConntrackStateIs{mask->mask == host(state_new) ? ConntrackState::fresh : ConntrackState::invalid};
  }

  std::optional<Match> after_interface(Direction direction) {
    if (const auto* lookup = take<Lookup>()) return InterfaceIn{direction, SetRef{lookup->set}};
    const auto* compare = take<Compare>();
    if (compare == nullptr) return std::nullopt;
    std::string name(compare->value.begin(), compare->value.end());
    const bool whole = name.size() == interface_name_size;
    name.erase(std::min(name.find('\0'), name.size()));
    if (!is_interface_name(name)) return std::nullopt;
    return InterfaceIn{direction, InterfacePattern{name, !whole}};
  }

  std::optional<Match> after_payload(const PayloadLoad& load) {
    if (load.base != NFT_PAYLOAD_TRANSPORT_HEADER) return std::nullopt;
    if (load.offset == tcp_flags_offset) {
      const bool whole = take<And>() != nullptr && take<Compare>() != nullptr;
      return whole ? std::optional<Match>(NotOpening{}) : std::nullopt;
    }
    const Side side = load.offset == 0 ? Side::source : Side::destination;
    const auto* compare = peek<Compare>();
    if (compare != nullptr && compare->operation == NFT_CMP_NEQ) {
      const auto port = port_from(take<Compare>()->value);
      return port ? std::optional<Match>(PortIsNot{side, *port}) : std::nullopt;
    }
    const auto operand = range_or_set<Port>(port_from);
    return operand ? std::optional<Match>(PortIn{side, *operand}) : std::nullopt;
  }

  template <typename Address>
  std::optional<Match> address_match(const PayloadLoad& load) {
    const Side side = load.offset == Layout<Address>::source ? Side::source : Side::destination;
    if (const auto* mask = take<And>()) {
      const auto* compare = take<Compare>();
      const auto network = compare == nullptr ? std::nullopt : address_from<Address>(compare->value);
      if (!network) return std::nullopt;
      unsigned prefix = 0;
      while (prefix < Address::bits && prefix_mask<Address>(prefix) != mask->mask) ++prefix;
      return AddressIn<Address>{side, range_of(Cidr<Address>{*network, prefix})};
    }
    const auto operand = range_or_set<Address>(address_from<Address>);
    return operand ? std::optional<Match>(AddressIn<Address>{side, *operand}) : std::nullopt;
  }

  template <typename Kind, typename Result>
  std::optional<Match> id_match() {
    const bool ordered = take<ToNetworkOrder>() != nullptr;
    const auto operand = range_or_set<Kind>([ordered](const RegisterValue& bytes) -> std::optional<Kind> {
      const auto number = ordered ? network_number(bytes) : host_number(bytes);
      return number ? Kind::from(*number) : std::nullopt;
    });
    return operand ? std::optional<Match>(Result{*operand}) : std::nullopt;
  }

  template <typename Result>
  std::optional<Match> mark_match() {
    const auto* mask = take<And>();
    const auto* compare = take<Compare>();
    const auto mask_number = mask == nullptr ? 0xffffffffU : host_number(mask->mask);
    const auto value = compare == nullptr ? std::nullopt : host_number(compare->value);
    if (!mask_number || !value) return std::nullopt;
    return Result{Mark{*value, *mask_number}};
  }

  template <typename T, typename Read>
  std::optional<Operand<T>> range_or_set(const Read& read) {
    if (const auto* lookup = take<Lookup>()) return Operand<T>(SetRef{lookup->set});
    const auto* first = take<Compare>();
    if (first == nullptr) return std::nullopt;
    const auto* second = first->operation == NFT_CMP_GTE ? take<Compare>() : first;
    const auto low = read(first->value);
    const auto high = second == nullptr ? std::nullopt : read(second->value);
    if (!low || !high) return std::nullopt;
    return Operand<T>(Range<T>{*low, *high});
  }

  static std::optional<Port> port_from(const RegisterValue& bytes) {
    if (bytes.size() != 2) return std::nullopt;
    return Port::from(static_cast<std::uint64_t>(bytes[0] << 8U | bytes[1]));
  }

  template <typename Address>
  static std::optional<Address> address_from(const RegisterValue& bytes) {
    typename Address::Bytes array{};
    if (bytes.size() != array.size()) return std::nullopt;
    std::copy(bytes.begin(), bytes.end(), array.begin());
    return from_bytes(array);
  }

  std::optional<Action> next_action() {
    if (const auto* verdict = take<Verdict>()) return verdict->code == NF_DROP ? Action(Drop{}) : Action(Pass{});
    if (const auto* reject = take<RejectPacket>()) {
      return Reject{reject->type == NFT_REJECT_TCP_RST ? RejectWith::tcp_reset : RejectWith::port_unreachable};
    }
    const auto* value = take<LoadValue>();
    if (value == nullptr) return std::nullopt;
    if (take<RedirectToRegister>() != nullptr) {
      const auto port = port_from(value->value);
      return port ? std::optional<Action>(Redirect{*port}) : std::nullopt;
    }
    if (take<TproxyToRegister>() != nullptr) return tproxy(*value);
    return store(*value);
  }

  std::optional<Action> tproxy(const LoadValue& to) {
    const auto* mark = take<LoadValue>();
    const auto port = port_from(to.value);
    const auto number = mark == nullptr ? std::nullopt : host_number(mark->value);
    if (!port || !number || take<MetaStore>() == nullptr || take<Verdict>() == nullptr) return std::nullopt;
    return Tproxy{*port, *number};
  }

  std::optional<Action> store(const LoadValue& value) {
    const auto number = host_number(value.value);
    if (take<MetaStore>() != nullptr) {
      return number && take<Verdict>() != nullptr ? std::optional<Action>(SetPacketMark{*number}) : std::nullopt;
    }
    const auto* where = take<ConntrackStore>();
    if (where == nullptr || take<Verdict>() == nullptr) return std::nullopt;
    if (where->key == NFT_CT_ZONE && value.value.size() == sizeof(std::uint16_t)) {
      std::uint16_t zone = 0;
      std::memcpy(&zone, value.value.data(), sizeof zone);
      return SetZone{zone};
    }
    return number ? std::optional<Action>(SetConnectionMark{*number}) : std::nullopt;
  }

  const Expressions& in_;
  std::size_t at_ = 0;
  std::optional<Family> family_;  ///< that the rule has named so far
};

/// nft loads of a network whose prefix is whole bytes only those bytes; sluice loads the address and masks it. Both
/// mean the same, so a table that nft loaded from sluice's own text is read like sluice's.
Expressions with_whole_addresses(const Expressions& expressions) {
  Expressions whole;
  whole.reserve(expressions.size() + 1);
  const PayloadLoad* partial = nullptr;
  std::size_t width = 0;
  for (const Expression& expression : expressions) {
    if (const auto* compare = std::get_if<Compare>(&expression);
        compare != nullptr && partial != nullptr && compare->operation == NFT_CMP_EQ) {
      const RegisterValue mask = RegisterValue::filled(partial->length, 0xff).resized_to(width);
      const RegisterValue value = compare->value.resized_to(width);
      whole.back() = PayloadLoad{partial->base, partial->offset, static_cast<std::uint32_t>(width)};
      whole.emplace_back(And{mask});
      whole.emplace_back(Compare{NFT_CMP_EQ, value});
      partial = nullptr;
      continue;
    }
    whole.push_back(expression);
    partial = std::get_if<PayloadLoad>(&expression);
    if (partial == nullptr || partial->base != NFT_PAYLOAD_NETWORK_HEADER) {
      partial = nullptr;
      continue;
    }
    const bool v4 = partial->offset == Layout<Ipv4>::source || partial->offset == Layout<Ipv4>::destination;
    const bool v6 = partial->offset == Layout<Ipv6>::source || partial->offset == Layout<Ipv6>::destination;
    width = v4 ? sizeof(Ipv4::Bytes) : v6 ? sizeof(Ipv6::Bytes) : 0;
    if (partial->length >= width) partial = nullptr;
  }
  return whole;
}

/// Whether a rule's expressions are these. A reference to a set that is not there, or cannot be read, has no meaning to
/// encode.
bool is_encoded_as(const Rule& rule, const Ruleset& sets, const Expressions& expressions) {
  for (const Match& match : rule.matches) {
    const SetRef* reference =
        std::visit(Overloaded{[](const PortIn& m) { return std::get_if<SetRef>(&m.ports); },
                              [](const Ipv4In& m) { return std::get_if<SetRef>(&m.addresses); },
                              [](const Ipv6In& m) { return std::get_if<SetRef>(&m.addresses); },
                              [](const InterfaceIn& m) { return std::get_if<SetRef>(&m.interfaces); },
                              [](const SocketUidIn& m) { return std::get_if<SetRef>(&m.uids); },
                              [](const SocketGidIn& m) { return std::get_if<SetRef>(&m.gids); },
                              [](const auto&) -> const SetRef* { return nullptr; }},
                   match);
    if (reference != nullptr && sets.find_set(reference->name) == nullptr) return false;
  }
  return to_expressions(rule, sets) == expressions;
}

}  // namespace

Expressions to_expressions(const Rule& rule, const Ruleset& sets) {
  Expressions out;
  out.reserve(12);  // grown one by one, a rule's expressions would be moved several times
  MatchEncoder encoder(out, sets);
  for (const Match& match : rule.matches) std::visit(encoder, match);
  out.push_back(Count{});
  std::visit(ActionEncoder{out, only_family(rule)}, rule.action);
  return out;
}

std::optional<Rule> rule_from_expressions(const Expressions& found, const std::string& name, const Ruleset& sets,
                                          const Rule* likely) {
  if (likely != nullptr && likely->name == name && is_encoded_as(*likely, sets, found)) return *likely;
  const Expressions expressions = with_whole_addresses(found);
  auto guess = Guess(expressions).rule(name);
  if (!guess || !is_encoded_as(*guess, sets, expressions)) return std::nullopt;
  return guess;
}

}  // namespace sluice::netfilter
