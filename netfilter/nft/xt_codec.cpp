#include "netfilter/nft/xt_codec.hpp"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_conntrack_common.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/x_tables.h>
#include <linux/netfilter/xt_CT.h>
#include <linux/netfilter/xt_TPROXY.h>
#include <linux/netfilter/xt_addrtype.h>
#include <linux/netfilter/xt_comment.h>
#include <linux/netfilter/xt_connmark.h>
#include <linux/netfilter/xt_conntrack.h>
#include <linux/netfilter/xt_mark.h>
#include <linux/netfilter/xt_multiport.h>
#include <linux/netfilter/xt_owner.h>
#include <linux/netfilter_ipv4/ipt_REJECT.h>
#include <linux/netfilter_ipv6/ip6t_REJECT.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "netfilter/nft/bytes.hpp"

namespace sluice::netfilter {
namespace {

constexpr std::uint32_t every_bit = 0xffffffffU;

/// The struct of an extension with its alignment (XT_ALIGN): the kernel insists on exactly that length.
template <typename Info>
Bytes info_bytes(const Info& info) {
  Bytes bytes((sizeof info + alignof(_xt_align) - 1) / alignof(_xt_align) * alignof(_xt_align), 0);
  std::memcpy(bytes.data(), &info, sizeof info);
  return bytes;
}

/// All zero where the bytes are too few; what is encoded again from it differs then.
template <typename Info>
Info info_from(const Bytes& bytes) {
  Info info{};
  if (bytes.size() >= sizeof info) std::memcpy(&info, bytes.data(), sizeof info);
  return info;
}

std::uint16_t network16(Port port) {
  std::uint16_t number = 0;
  const RegisterValue bytes = network(port);
  std::memcpy(&number, bytes.data(), sizeof number);
  return number;
}

std::optional<Port> port_from_network(std::uint16_t number) {
  std::array<std::uint8_t, sizeof number> bytes{};
  std::memcpy(bytes.data(), &number, sizeof number);
  return Port::from(static_cast<std::uint64_t>(bytes[0] << 8U | bytes[1]));
}

std::optional<Port> port_from(const RegisterValue& bytes) {
  if (bytes.size() != 2) return std::nullopt;
  return Port::from(static_cast<std::uint64_t>(bytes[0] << 8U | bytes[1]));
}

// --- Encoding -----------------------------------------------------------------------------------------------------------

class MatchWriter {
 public:
  explicit MatchWriter(Expressions& out) : out_(out) {}

  void operator()(const PortRange& m) const {
    load_port(m.side);
    if (m.ports.single()) {
      out_.push_back(Compare{NFT_CMP_EQ, network(m.ports.first)});
    } else {
      out_.push_back(CompareRange{network(m.ports.first), network(m.ports.last)});
    }
  }
  void operator()(const PortIsNot& m) const {
    load_port(m.side);
    out_.push_back(Compare{NFT_CMP_NEQ, network(m.port)});
  }
  void operator()(const PortsIn& m) const {
    xt_multiport_v1 info{};
    info.flags = m.side == Side::source ? XT_MULTIPORT_SOURCE : XT_MULTIPORT_DESTINATION;
    std::size_t at = 0;
    for (const Range<Port>& range : m.ports) {
      info.ports[at] = range.first.number();
      if (!range.single()) {
        info.pflags[at++] = 1;
        info.ports[at] = range.last.number();
      }
      ++at;
    }
    info.count = static_cast<std::uint8_t>(at);
    xt("multiport", 1, info);
  }
  void operator()(const NotOpening&) const {
    out_.push_back(PayloadLoad{NFT_PAYLOAD_TRANSPORT_HEADER, tcp_flags_offset, 1});
    out_.push_back(And{{tcp_fin | tcp_syn | tcp_rst | tcp_ack}});
    out_.push_back(Compare{NFT_CMP_NEQ, {tcp_syn}});
  }
  void operator()(const UidRange& m) const {
    xt_owner_match_info info{};
    info.uid_min = m.uids.first.number;
    info.uid_max = m.uids.last.number;
    info.match = XT_OWNER_UID;
    xt("owner", 1, info);
  }
  void operator()(const GidRange& m) const {
    xt_owner_match_info info{};
    info.gid_min = m.gids.first.number;
    info.gid_max = m.gids.last.number;
    info.match = XT_OWNER_GID;
    xt("owner", 1, info);
  }
  void operator()(const PacketMarkIs& m) const {
    out_.push_back(MetaLoad{NFT_META_MARK});
    if (m.mark.mask != every_bit) out_.push_back(And{host(m.mark.mask)});
    out_.push_back(Compare{NFT_CMP_EQ, host(m.mark.value)});
  }
  void operator()(const ConnectionMarkIs& m) const {
    xt_connmark_mtinfo1 info{};
    info.mark = m.mark.value;
    info.mask = m.mark.mask;
    xt("connmark", 1, info);
  }
  void operator()(const ConntrackStateIs& m) const {
    state(m.state == ConntrackState::fresh ? XT_CONNTRACK_STATE_BIT(IP_CT_NEW) : XT_CONNTRACK_STATE_INVALID, false);
  }
  void operator()(const DestinationRewritten& m) const { state(XT_CONNTRACK_STATE_DNAT, !m.rewritten); }
  void operator()(const ReplyDirection&) const {
    xt_conntrack_mtinfo3 info{};
    info.match_flags = XT_CONNTRACK_DIRECTION;
    info.invert_flags = XT_CONNTRACK_DIRECTION;  // the opposite of "original"
    xt("conntrack", 3, info);
  }
  void operator()(const DestinationLocal& m) const {
    xt_addrtype_info_v1 info{};
    info.dest = XT_ADDRTYPE_LOCAL;
    if (!m.local) info.flags = XT_ADDRTYPE_INVERT_DEST;
    xt("addrtype", 1, info);
  }

  void comment(const std::string& text) const {
    xt_comment_info info{};
    std::memcpy(info.comment, text.data(), std::min(text.size(), sizeof info.comment - 1));
    xt("comment", 0, info);
  }

  void interface(std::uint32_t key, const InterfacePattern& pattern) const {
    out_.push_back(MetaLoad{key});
    const RegisterValue name(pattern.name.begin(), pattern.name.end());
    out_.push_back(Compare{NFT_CMP_EQ, pattern.prefix ? name : name.resized_to(name.size() + 1)});
  }

  template <typename Address>
  void address(Side side, const Cidr<Address>& cidr) const {
    const bool whole_bytes = cidr.prefix % 8 == 0;
    const std::uint32_t length = whole_bytes ? cidr.prefix / 8 : Address::bits / 8;
    out_.push_back(PayloadLoad{NFT_PAYLOAD_NETWORK_HEADER, offset_of<Address>(side), length});
    if (!whole_bytes) out_.push_back(And{prefix_mask<Address>(cidr.prefix)});
    const RegisterValue whole = network(cidr.network);
    out_.push_back(Compare{NFT_CMP_EQ, {whole.begin(), whole.begin() + length}});
  }

 private:
  void load_port(Side side) const {
    out_.push_back(PayloadLoad{NFT_PAYLOAD_TRANSPORT_HEADER, port_offset(side), sizeof(std::uint16_t)});
  }
  void state(unsigned bits, bool inverted) const {
    xt_conntrack_mtinfo3 info{};
    info.match_flags = XT_CONNTRACK_STATE;
    if (inverted) info.invert_flags = XT_CONNTRACK_STATE;
    info.state_mask = static_cast<std::uint16_t>(bits);
    xt("conntrack", 3, info);
  }
  template <typename Info>
  void xt(const char* name, std::uint32_t revision, const Info& info) const {
    out_.push_back(XtMatch{name, revision, info_bytes(info)});
  }

  Expressions& out_;
};

class TargetWriter {
 public:
  explicit TargetWriter(Family family) : family_(family) {}

  Expression operator()(const Return&) const { return Verdict{static_cast<std::uint32_t>(NFT_RETURN)}; }
  Expression operator()(const Drop&) const { return Verdict{NF_DROP}; }
  Expression operator()(const JumpTo& t) const { return Jump{NFT_JUMP, t.chain}; }
  Expression operator()(const GoTo& t) const { return Jump{NFT_GOTO, t.chain}; }
  Expression operator()(const Redirect& t) const {
    if (family_ == Family::ipv4) {
      nf_nat_ipv4_multi_range_compat info{};
      info.rangesize = 1;
      info.range[0].flags = NF_NAT_RANGE_PROTO_SPECIFIED;
      info.range[0].min.all = info.range[0].max.all = network16(t.port);
      return XtTarget{"REDIRECT", 0, info_bytes(info)};
    }
    nf_nat_range info{};
    info.flags = NF_NAT_RANGE_PROTO_SPECIFIED;
    info.min_proto.all = info.max_proto.all = network16(t.port);
    return XtTarget{"REDIRECT", 0, info_bytes(info)};
  }
  Expression operator()(const Tproxy& t) const {
    xt_tproxy_target_info_v1 info{};
    info.mark_mask = every_bit;
    info.mark_value = t.mark;
    info.lport = network16(t.port);
    return XtTarget{"TPROXY", 1, info_bytes(info)};
  }
  Expression operator()(const Reject& t) const {
    const bool reset = t.with == RejectWith::tcp_reset;
    if (family_ == Family::ipv4) {
      const ipt_reject_info info{reset ? IPT_TCP_RESET : IPT_ICMP_PORT_UNREACHABLE};
      return XtTarget{"REJECT", 0, info_bytes(info)};
    }
    const ip6t_reject_info info{reset ? IP6T_TCP_RESET : IP6T_ICMP6_PORT_UNREACH};
    return XtTarget{"REJECT", 0, info_bytes(info)};
  }
  Expression operator()(const SetZone& t) const {
    xt_ct_target_info_v1 info{};
    info.zone = t.zone;
    return XtTarget{"CT", 2, info_bytes(info)};
  }
  Expression operator()(const SetConnectionMark& t) const {
    xt_connmark_tginfo2 info{};
    info.ctmark = t.mark;
    info.ctmask = every_bit;
    info.nfmask = every_bit;
    info.mode = XT_CONNMARK_SET;
    return XtTarget{"CONNMARK", 2, info_bytes(info)};
  }
  Expression operator()(const SetPacketMark& t) const {
    return XtTarget{"MARK", 2, info_bytes(xt_mark_tginfo2{t.mark, every_bit})};
  }

 private:
  Family family_;
};

void write_network(const MatchWriter& writer, Side side, const std::optional<Network>& network) {
  if (network) std::visit([&](const auto& cidr) { writer.address(side, cidr); }, *network);
}

// --- Decoding -----------------------------------------------------------------------------------------------------------

/// The kernel's number as it is: an enum of C++ may hold only what it names.
std::uint32_t reject_with(const Bytes& info) {
  static_assert(sizeof(ipt_reject_info) == sizeof(std::uint32_t) && sizeof(ip6t_reject_info) == sizeof(std::uint32_t));
  return info_from<std::uint32_t>(info);
}

/// A guess at the rule; encoding it again tells whether it was right.
class Guess {
 public:
  Guess(const Expressions& in, Family family) : in_(in), family_(family) {}

  std::optional<IptablesRule> rule() {
    while (at_ < in_.size() && !peek<Count>()) {
      if (!next_match()) return std::nullopt;
    }
    if (!take<Count>()) return std::nullopt;
    if (!next_target() || at_ != in_.size()) return std::nullopt;
    return std::move(rule_);
  }

 private:
  template <typename Kind>
  const Kind* peek() const {
    return at_ < in_.size() ? std::get_if<Kind>(&in_[at_]) : nullptr;
  }
  template <typename Kind>
  const Kind* take() {
    const Kind* found = peek<Kind>();
    if (found != nullptr) ++at_;
    return found;
  }

  bool next_match() {
    if (const auto* load = take<MetaLoad>()) return after_meta(load->key);
    if (const auto* load = take<PayloadLoad>()) {
      if (load->base != NFT_PAYLOAD_NETWORK_HEADER) return after_transport(*load);
      return family_ == Family::ipv4 ? address<Ipv4>(*load) : address<Ipv6>(*load);
    }
    if (const auto* match = take<XtMatch>()) return after_xt(*match);
    return false;
  }

  bool after_meta(std::uint32_t key) {
    const auto* mask = key == NFT_META_MARK ? take<And>() : nullptr;
    const auto* compare = take<Compare>();
    if (compare == nullptr) return false;
    if (key == NFT_META_MARK) return mark(mask, compare->value);
    if (key == NFT_META_L4PROTO) return protocol(compare->value);
    if (key != NFT_META_IIFNAME && key != NFT_META_OIFNAME) return false;
    InterfacePattern pattern{{compare->value.begin(), compare->value.end()}, true};
    if (!pattern.name.empty() && pattern.name.back() == '\0') pattern.name.pop_back(), pattern.prefix = false;
    if (!is_interface_name(pattern.name)) return false;
    (key == NFT_META_IIFNAME ? rule_.in : rule_.out) = std::move(pattern);
    return true;
  }

  bool mark(const And* mask, const RegisterValue& value) {
    const auto number = host_number(value);
    const auto bits = mask == nullptr ? every_bit : host_number(mask->mask);
    if (!number || !bits) return false;
    rule_.matches.emplace_back(PacketMarkIs{{*number, *bits}});
    return true;
  }

  bool protocol(const RegisterValue& value) {
    for (const Protocol known : {Protocol::tcp, Protocol::udp, Protocol::sctp}) {
      if (value.size() == 1 && value[0] == static_cast<std::uint8_t>(known)) rule_.protocol = known;
    }
    return rule_.protocol.has_value();
  }

  template <typename Address>
  bool address(const PayloadLoad& load) {
    const auto* mask = take<And>();
    const auto* compare = take<Compare>();
    typename Address::Bytes bytes{};
    if (compare == nullptr || compare->value.size() > bytes.size()) return false;
    std::copy(compare->value.begin(), compare->value.end(), bytes.begin());
    unsigned prefix = static_cast<unsigned>(compare->value.size()) * 8;
    if (mask != nullptr) {
      prefix = 0;
      while (prefix < Address::bits && prefix_mask<Address>(prefix) != mask->mask) ++prefix;
    }
    const bool source = load.offset == offset_of<Address>(Side::source);
    (source ? rule_.source : rule_.destination) = Cidr<Address>{from_bytes(bytes), prefix};
    return true;
  }

  bool after_transport(const PayloadLoad& load) {
    if (load.offset == tcp_flags_offset) {
      rule_.matches.emplace_back(NotOpening{});
      return take<And>() != nullptr && take<Compare>() != nullptr;
    }
    const Side side = load.offset == port_offset(Side::source) ? Side::source : Side::destination;
    if (const auto* range = take<CompareRange>()) {
      const auto first = port_from(range->first);
      const auto last = port_from(range->last);
      if (first && last) rule_.matches.emplace_back(PortRange{side, {*first, *last}});
      return first && last;
    }
    const auto* compare = take<Compare>();
    const auto port = compare == nullptr ? std::nullopt : port_from(compare->value);
    if (!port) return false;
    if (compare->operation == NFT_CMP_NEQ) {
      rule_.matches.emplace_back(PortIsNot{side, *port});
    } else {
      rule_.matches.emplace_back(PortRange{side, {*port, *port}});
    }
    return true;
  }

  bool after_xt(const XtMatch& match) {
    if (match.name == "comment") return comment(match.info);
    auto known = xt_match(match);
    if (!known) return false;
    rule_.matches.push_back(*std::move(known));
    return true;
  }

  bool comment(const Bytes& info) {
    rule_.name.assign(info.begin(), std::find(info.begin(), info.end(), 0));
    return true;
  }

  static std::optional<IptablesMatch> xt_match(const XtMatch& match) {
    if (match.name == "multiport") return ports(info_from<xt_multiport_v1>(match.info));
    if (match.name == "owner") {
      const auto info = info_from<xt_owner_match_info>(match.info);
      if (info.match == XT_OWNER_UID) return UidRange{{Uid{info.uid_min}, Uid{info.uid_max}}};
      return GidRange{{Gid{info.gid_min}, Gid{info.gid_max}}};
    }
    if (match.name == "connmark") {
      const auto info = info_from<xt_connmark_mtinfo1>(match.info);
      return ConnectionMarkIs{{info.mark, info.mask}};
    }
    if (match.name == "addrtype") {
      return DestinationLocal{(info_from<xt_addrtype_info_v1>(match.info).flags & XT_ADDRTYPE_INVERT_DEST) == 0};
    }
    if (match.name != "conntrack") return std::nullopt;
    const auto info = info_from<xt_conntrack_mtinfo3>(match.info);
    if (info.match_flags == XT_CONNTRACK_DIRECTION) return ReplyDirection{};
    if (info.state_mask == XT_CONNTRACK_STATE_DNAT) return DestinationRewritten{info.invert_flags == 0};
    return ConntrackStateIs{info.state_mask == XT_CONNTRACK_STATE_INVALID ? ConntrackState::invalid
                                                                          : ConntrackState::fresh};
  }

  static std::optional<IptablesMatch> ports(const xt_multiport_v1& info) {
    PortsIn match{info.flags == XT_MULTIPORT_SOURCE ? Side::source : Side::destination, {}};
    for (std::size_t at = 0; at < std::min<std::size_t>(info.count, XT_MULTI_PORTS); ++at) {
      const bool wide = info.pflags[at] != 0 && at + 1 < XT_MULTI_PORTS;
      const auto first = Port::from(info.ports[at]);
      const auto last = Port::from(info.ports[wide ? ++at : at]);
      if (!first || !last) return std::nullopt;
      match.ports.push_back({*first, *last});
    }
    return match;
  }

  bool next_target() {
    if (const auto* verdict = take<Verdict>()) {
      if (verdict->code == NF_DROP) rule_.target = Drop{};
      return true;
    }
    if (const auto* jump = take<Jump>()) {
      if (jump->code == NFT_GOTO) {
        rule_.target = GoTo{jump->chain};
      } else {
        rule_.target = JumpTo{jump->chain};
      }
      return true;
    }
    const auto* target = take<XtTarget>();
    return target != nullptr && xt_target(*target);
  }

  bool xt_target(const XtTarget& target) {
    const Bytes& info = target.info;
    if (target.name == "REDIRECT") return redirect(info);
    if (target.name == "TPROXY") return tproxy(info_from<xt_tproxy_target_info_v1>(info));
    if (target.name == "REJECT") {
      const bool reset =
          family_ == Family::ipv4 ? reject_with(info) == IPT_TCP_RESET : reject_with(info) == IP6T_TCP_RESET;
      rule_.target = Reject{reset ? RejectWith::tcp_reset : RejectWith::port_unreachable};
    } else if (target.name == "CT") {
      rule_.target = SetZone{info_from<xt_ct_target_info_v1>(info).zone};
    } else if (target.name == "CONNMARK") {
      rule_.target = SetConnectionMark{info_from<xt_connmark_tginfo2>(info).ctmark};
    } else if (target.name == "MARK") {
      rule_.target = SetPacketMark{info_from<xt_mark_tginfo2>(info).mark};
    } else {
      return false;
    }
    return true;
  }

  bool redirect(const Bytes& info) {
    const auto port =
        port_from_network(family_ == Family::ipv4 ? info_from<nf_nat_ipv4_multi_range_compat>(info).range[0].min.all
                                                  : info_from<nf_nat_range>(info).min_proto.all);
    if (port) rule_.target = Redirect{*port};
    return port.has_value();
  }

  bool tproxy(const xt_tproxy_target_info_v1& info) {
    const auto port = port_from_network(info.lport);
    if (port) rule_.target = Tproxy{*port, info.mark_value};
    return port.has_value();
  }

  const Expressions& in_;
  Family family_;
  std::size_t at_ = 0;
  IptablesRule rule_{};
};

}  // namespace

Expressions to_expressions(const IptablesRule& rule, Family family) {
  Expressions out;
  const MatchWriter writer(out);
  if (rule.in) writer.interface(NFT_META_IIFNAME, *rule.in);
  if (rule.out) writer.interface(NFT_META_OIFNAME, *rule.out);
  if (rule.protocol) {
    out.push_back(MetaLoad{NFT_META_L4PROTO});
    out.push_back(Compare{NFT_CMP_EQ, {static_cast<std::uint8_t>(*rule.protocol)}});
  }
  write_network(writer, Side::source, rule.source);
  write_network(writer, Side::destination, rule.destination);
  for (const IptablesMatch& match : rule.matches) std::visit(writer, match);
  if (!rule.name.empty()) writer.comment(rule.name);
  out.push_back(Count{});
  out.push_back(std::visit(TargetWriter(family), rule.target));
  return out;
}

std::optional<IptablesRule> iptables_rule_from(const Expressions& expressions, Family family) {
  auto guess = Guess(expressions, family).rule();
  if (!guess || to_expressions(*guess, family) != expressions) return std::nullopt;
  return guess;
}

}  // namespace sluice::netfilter
