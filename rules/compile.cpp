#include "rules/compile.hpp"

#include <algorithm>

namespace sluice {
namespace {

// Netfilter hook priorities, linux/netfilter_ipv4.h (enum nf_ip_hook_priorities).
constexpr int priority_raw = -300;     // before conntrack
constexpr int priority_mangle = -150;  // after conntrack, before NAT
constexpr int priority_filter = 0;     // after NAT of the destination

/// The most ranges of addresses in one set.
constexpr std::size_t longest_set = 2048;

const Port dns_query_port = *Port::from(53);
const InterfacePattern loopback_interface{"lo", false};

using Matches = std::vector<Match>;

Matches operator+(Matches left, const Matches& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

class Compiler {
 public:
  explicit Compiler(const Settings& settings) : s(settings) {}

  Ruleset run() {
    outbound_zone();
    outbound_route();
    outbound();
    outbound_reject();
    inbound_invalid();
    inbound_tproxy();
    inbound();
    inbound_guard();
    return std::move(ruleset_);
  }

 private:
  // --- Chains, in the order of their hooks ---------------------------------------------------------------------------

  /// Captured DNS over UDP gets a conntrack zone of its own: the proxy may ask the same server from a source port that
  /// the application used a moment ago, and must not meet the application's redirected entry.
  void outbound_zone() {
    if (s.dns == DnsMode::off) return;
    begin(chain_name::outbound_zone, ChainType::filter, Hook::output, priority_raw);
    other_family_passes();
    add("dns", {out(loopback_interface), udp(), PortIn{Side::source, one(s.dns_port)}}, SetZone{dns_zone});
    never_captured_outbound(Hairpin::direct);
    for (const Matches& server : dns_servers()) add("dns", server + Matches{udp(), to_dns()}, SetZone{dns_zone});
  }

  /// The application answers the client's own address, which only the proxy impersonates: back to the proxy with it.
  void outbound_route() {
    if (s.inbound_mode != InboundMode::tproxy) return;
    begin(chain_name::outbound_route, ChainType::route, Hook::output, priority_mangle);
    other_family_passes();
    add("tproxy", {tcp(), ReplyDirection{}, ConnectionMarkIs{{s.tproxy_mark}}}, SetPacketMark{s.tproxy_mark});
  }

  void outbound() {
    begin(chain_name::outbound, ChainType::nat, Hook::output, s.priority);
    other_family_passes();
    running_connections_pass();
    never_captured_outbound(s.hairpin);
    if (s.dns != DnsMode::off) {
      for (const Matches& server : dns_servers()) {
        add("dns", server + Matches{udp(), to_dns()}, Redirect{s.dns_port});
        add("dns", server + Matches{tcp(), to_dns()}, Redirect{s.dns_port});
      }
    }
    loopback_destinations();
    excluded_destinations({});
    captured_destinations("outbound-port", "outbound", {});
  }

  /// What is not captured but refused, so that the client turns to something that is.
  void outbound_reject() {
    const bool refuse_family = s.other_family == OtherFamily::reject && s.ip_family != FamilyMode::dual;
    if (s.udp_reject.empty() && !refuse_family) return;
    begin(chain_name::outbound_reject, ChainType::filter, Hook::output, priority_filter);
    if (refuse_family) {
      running_connections_pass();
    } else {
      other_family_passes();
    }
    if (s.dns != DnsMode::off && s.udp_reject.contains(s.dns_port)) {
      add("dns", {udp(), DestinationRewritten{true}}, Pass{});
    }
    never_captured_outbound(Hairpin::direct);
    loopback_destinations();
    excluded_destinations({});
    const Match fresh = ConntrackStateIs{ConntrackState::fresh};
    if (!s.udp_reject.empty()) {
      const Matches ours = s.ip_family == FamilyMode::dual ? Matches{} : Matches{FamilyIs{captured_family()}};
      add("udp", ours + Matches{udp(), PortIn{Side::destination, list("udp_reject_ports", s.udp_reject)}, fresh},
          Reject{RejectWith::port_unreachable});
    }
    if (refuse_family) {
      const Match other = FamilyIs{other_family()};
      add("other-family", {other, tcp(), fresh}, Reject{RejectWith::tcp_reset});
      add("other-family", {other, udp(), fresh}, Reject{RejectWith::port_unreachable});
      add("other-family", {other, ProtocolIs{Protocol::sctp}, fresh}, Reject{RejectWith::port_unreachable});
    }
  }

  /// A segment outside the window is not translated, reaches the wrong socket and draws a reset.
  void inbound_invalid() {
    if (!s.drop_invalid) return;
    begin(chain_name::inbound_invalid, ChainType::filter, Hook::prerouting, priority_mangle);
    other_family_passes();
    interfaces("exclude-interface", Direction::in, "exclude_interfaces", s.exclude_interfaces);
    add("drop-invalid", {tcp(), ConntrackStateIs{ConntrackState::invalid}}, Drop{});
  }

  void inbound_tproxy() {
    if (s.inbound_mode != InboundMode::tproxy || s.inbound_ports.empty()) return;
    begin(chain_name::inbound_tproxy, ChainType::filter, Hook::prerouting, priority_mangle);
    other_family_passes();
    // The proxy's connection to the application, from the client's address: remembered for outbound_route.
    add("tproxy", {in(loopback_interface), tcp(), PacketMarkIs{{s.tproxy_mark}}}, SetConnectionMark{s.tproxy_mark});
    add("loopback", {in(loopback_interface)}, Pass{});
    running_connections_pass();
    interfaces("exclude-interface", Direction::in, "exclude_interfaces", s.exclude_interfaces);
    interfaces("virtual-interface", Direction::in, "virtual_interfaces", s.virtual_interfaces);
    never_captured_inbound();
    const Matches captured = Matches{tcp(), ConntrackStateIs{ConntrackState::fresh}} + inbound_ports();
    add("inbound", captured, Tproxy{s.inbound_port, s.tproxy_mark});
    // Without a listener nf_tables' tproxy lets the packet go on (NFT_BREAK, nft_tproxy.c), to the application and past
    // the proxy; iptables' TPROXY drops it.
    add("inbound", captured, Drop{});
  }

  void inbound() {
    const bool redirects = s.inbound_mode == InboundMode::redirect && !s.inbound_ports.empty();
    if (!redirects && s.virtual_interfaces.empty()) return;
    begin(chain_name::inbound, ChainType::nat, Hook::prerouting, s.priority);
    other_family_passes();
    running_connections_pass();
    interfaces("exclude-interface", Direction::in, "exclude_interfaces", s.exclude_interfaces);
    for (const Match& arriving : interface_matches(Direction::in, "virtual_interfaces", s.virtual_interfaces)) {
      excluded_destinations({arriving});
      captured_destinations("virtual-interface", "virtual-interface", {arriving});
      add("virtual-interface", {arriving}, Pass{});
    }
    if (!redirects) return;
    never_captured_inbound();
    add("inbound", Matches{tcp()} + inbound_ports(), Redirect{s.inbound_port});
  }

  /// Whoever dials the proxy's port directly would make it dial itself. iptables cannot refuse where destinations are
  /// translated (ipt_REJECT.c: only in the table filter), so the chain `inbound` lets it pass and this one, where the
  /// packet is delivered, resets it. A NAT chain, because that sees only the first packet of a connection and the
  /// others cost nothing; before those of others (NF_IP_PRI_NAT_SRC), because the first that translates the source is
  /// the last that is asked.
  void inbound_guard() {
    if (s.proxy_port_access == ProxyPortAccess::capture) return;
    begin(chain_name::inbound_guard, ChainType::nat, Hook::input, priority_filter);
    other_family_passes();
    running_connections_pass();
    add("loopback", {in(loopback_interface)}, Pass{});
    interfaces("exclude-interface", Direction::in, "exclude_interfaces", s.exclude_interfaces);
    interfaces("virtual-interface", Direction::in, "virtual_interfaces", s.virtual_interfaces);
    add("proxy-port", {tcp(), to_proxy_ports(), ConntrackStateIs{ConntrackState::fresh}, DestinationRewritten{false}},
        Reject{RejectWith::tcp_reset});
  }

  // --- Steps that several chains share -------------------------------------------------------------------------------

  /// A connection that was there before the rules stays as it is, even where conntrack first hears of it now.
  void running_connections_pass() { add("established", {tcp(), NotOpening{}}, Pass{}); }

  void other_family_passes() {
    if (s.ip_family == FamilyMode::dual) return;
    add("other-family", {FamilyIs{other_family()}}, Pass{});
    other_family_left_ = false;
  }

  /// Outbound steps 1 to 6.
  void never_captured_outbound(Hairpin hairpin) {
    interfaces("exclude-interface", Direction::out, "exclude_interfaces", s.exclude_interfaces);
    excluded_ports();
    for (const Matches& source : passthrough_sources())
      add("passthrough", Matches{out(loopback_interface)} + source, Pass{});
    for (const Match& identity : proxy_identities()) the_proxys_own(identity, hairpin);
    on_loopback();
    owners();
  }

  void excluded_ports() {
    if (!s.exclude_outbound_ports.empty()) {
      const PortIn excluded{Side::destination, list("exclude_outbound_ports", s.exclude_outbound_ports)};
      add("exclude-port", {tcp(), excluded}, Pass{});
      add("exclude-port", {udp(), excluded}, Pass{});
    }
    std::size_t count = 0;
    for (const PortsForUids& entry : s.exclude_outbound_ports_for_uids) {
      const std::string suffix = "_" + std::to_string(++count);
      const PortIn excluded{Side::destination, list("ports_for_uids" + suffix, entry.ports)};
      const SocketUidIn users{list("uids_for_ports" + suffix, entry.uids)};
      for (const Protocol protocol : {Protocol::tcp, Protocol::udp}) {
        if (entry.protocol && *entry.protocol != protocol) continue;
        add("exclude-port", {ProtocolIs{protocol}, excluded, users}, Pass{});
      }
    }
  }

  /// With --hairpin inbound, the proxy's call to its own pod's service address takes the way of a call from outside.
  void the_proxys_own(const Match& identity, Hairpin hairpin) {
    if (hairpin == Hairpin::inbound) {
      const Matches local = {identity, out(loopback_interface)};
      if (s.inbound_mode == InboundMode::tproxy) {
        // The inbound listener's connection to the application, in the client's name.
        add("proxy", local + Matches{PacketMarkIs{{s.tproxy_mark}}}, Pass{});
      }
      for (const Matches& loopback : loopback_ranges(loopback_v4(), loopback_v6()))
        add("proxy", local + loopback, Pass{});
      Ranges<Port> direct = s.tunnel_ports;
      if (s.dns != DnsMode::off) direct = direct.united(Ranges<Port>{{dns_query_port, dns_query_port}});
      if (!direct.empty()) {
        add("proxy", local + Matches{tcp(), PortIn{Side::destination, list("hairpin_direct_ports", direct)}}, Pass{});
      }
      add("hairpin", local + Matches{tcp()}, Redirect{s.inbound_port});
    }
    add("proxy", {identity}, Pass{});
  }

  void on_loopback() {
    if (!s.named_loopback.empty()) return;
    const Match local = out(loopback_interface);
    if (s.dns == DnsMode::off) {
      add("loopback", {local}, Pass{});
      return;
    }
    add("loopback", {local, tcp(), PortIsNot{Side::destination, dns_query_port}}, Pass{});
    add("loopback", {local, udp(), PortIsNot{Side::destination, dns_query_port}}, Pass{});
  }

  void owners() {
    if (!s.exclude_uids.empty()) add("owner", {SocketUidIn{list("exclude_uids", s.exclude_uids)}}, Pass{});
    if (!s.exclude_gids.empty()) add("owner", {SocketGidIn{list("exclude_gids", s.exclude_gids)}}, Pass{});
    if (s.only_gids.empty()) return;
    // "Not in only-gids" as the groups that are left: one lookup, and no negation to get wrong in any backend.
    const Ranges<Gid> everyone{{Gid{0}, Gid{Gid::highest}}};
    add("owner", {SocketGidIn{list("other_gids", everyone.without(s.only_gids))}}, Pass{});
  }

  /// Outbound step 8.
  void loopback_destinations() {
    for (const Matches& loopback :
         loopback_ranges(loopback_v4().without(s.named_loopback.v4), loopback_v6().without(s.named_loopback.v6))) {
      add("loopback", loopback, Pass{});
    }
  }

  /// Outbound step 9.
  void excluded_destinations(const Matches& when) {
    for (const Matches& excluded : addresses(Side::destination, "exclude_outbound", s.exclude_outbound_cidrs)) {
      add("exclude-cidr", when + excluded, Pass{});
    }
  }

  /// Outbound steps 10 and 11.
  void captured_destinations(const std::string& by_port, const std::string& by_address, const Matches& when) {
    if (!s.outbound_ports.empty()) {
      add(by_port, when + Matches{tcp()} + ports(Side::destination, "outbound_ports", s.outbound_ports),
          Redirect{s.proxy_port});
    }
    for (const Matches& captured : addresses(Side::destination, "outbound", s.outbound_cidrs)) {
      add(by_address, when + captured + Matches{tcp()}, Redirect{s.proxy_port});
    }
  }

  /// Inbound steps 3 to 5.
  void never_captured_inbound() {
    if (s.forwarded == Forwarded::pass) add("forwarded", {DestinationLocal{false}}, Pass{});
    if (s.proxy_port_access == ProxyPortAccess::reject) add("proxy-port", {tcp(), to_proxy_ports()}, Pass{});
    if (!s.tunnel_ports.empty())
      add("tunnel", Matches{tcp()} + ports(Side::destination, "tunnel_ports", s.tunnel_ports), Pass{});
    for (const Matches& source : addresses(Side::source, "exclude_inbound", s.exclude_inbound_cidrs)) {
      add("exclude-cidr", source, Pass{});
    }
    if (!s.exclude_inbound_ports.empty()) {
      add("exclude-port", Matches{tcp()} + ports(Side::destination, "exclude_inbound_ports", s.exclude_inbound_ports),
          Pass{});
    }
  }

  void interfaces(const std::string& name, Direction direction, const std::string& set, const InterfaceSet& patterns) {
    for (const Match& match : interface_matches(direction, set, patterns)) add(name, {match}, Pass{});
  }

  // --- Matches -------------------------------------------------------------------------------------------------------

  static Match tcp() { return ProtocolIs{Protocol::tcp}; }
  static Match udp() { return ProtocolIs{Protocol::udp}; }
  static Match in(const InterfacePattern& pattern) { return InterfaceIn{Direction::in, pattern}; }
  static Match out(const InterfacePattern& pattern) { return InterfaceIn{Direction::out, pattern}; }
  static Match to_dns() { return PortIn{Side::destination, one(dns_query_port)}; }
  static Range<Port> one(Port port) { return {port, port}; }

  [[nodiscard]] Family captured_family() const { return s.ip_family == FamilyMode::ipv6 ? Family::ipv6 : Family::ipv4; }
  [[nodiscard]] Family other_family() const { return s.ip_family == FamilyMode::ipv6 ? Family::ipv4 : Family::ipv6; }

  /// Every port needs no match.
  Matches ports(Side side, const std::string& set, const Ranges<Port>& wanted) {
    if (wanted.covers(every_port())) return {};
    return {PortIn{side, list(set, wanted)}};
  }

  Matches inbound_ports() { return ports(Side::destination, "inbound_ports", s.inbound_ports); }

  Match to_proxy_ports() {
    std::vector<Range<Port>> own = {one(s.proxy_port)};
    if (s.inbound_mode != InboundMode::off || s.hairpin == Hairpin::inbound) own.push_back(one(s.inbound_port));
    if (s.dns != DnsMode::off) own.push_back(one(s.dns_port));
    return PortIn{Side::destination, list("proxy_ports", Ranges<Port>(std::move(own)))};
  }

  Matches proxy_identities() {
    Matches identities;
    if (!s.proxy_uids.empty()) identities.push_back(SocketUidIn{list("proxy_uids", s.proxy_uids)});
    if (!s.proxy_gids.empty()) identities.push_back(SocketGidIn{list("proxy_gids", s.proxy_gids)});
    if (s.proxy_mark) identities.push_back(PacketMarkIs{*s.proxy_mark});
    return identities;
  }

  Matches interface_matches(Direction direction, const std::string& set, const InterfaceSet& patterns) {
    if (patterns.empty()) return {};
    if (patterns.size() == 1) return {InterfaceIn{direction, patterns.front()}};
    return {InterfaceIn{direction, SetRef{named_set(set, patterns)}}};
  }

  [[nodiscard]] Ranges<Ipv4> loopback_v4() const { return Ranges<Ipv4>{range_of(s.loopback_cidr)}; }
  [[nodiscard]] static Ranges<Ipv6> loopback_v6() { return Ranges<Ipv6>{{Ipv6{0, 1}, Ipv6{0, 1}}}; }

  std::vector<Matches> loopback_ranges(const Ranges<Ipv4>& v4, const Ranges<Ipv6>& v6) {
    return addresses(Side::destination, "loopback", {v4, v6});
  }

  std::vector<Matches> passthrough_sources() {
    AddressRanges sources;
    for (const IpAddress& address : s.passthrough_source) {
      if (const auto* four = std::get_if<Ipv4>(&address)) sources.v4 = sources.v4.united(Ranges<Ipv4>{{*four, *four}});
      if (const auto* six = std::get_if<Ipv6>(&address)) sources.v6 = sources.v6.united(Ranges<Ipv6>{{*six, *six}});
    }
    return addresses(Side::source, "passthrough", sources);
  }

  std::vector<Matches> dns_servers() {
    if (s.dns == DnsMode::all) return {Matches{}};
    return addresses(Side::destination, "dns_servers", s.dns_servers);
  }

  /// One alternative for each family that is captured and listed; a single empty one when nothing restricts.
  std::vector<Matches> addresses(Side side, const std::string& set, const AddressRanges& wanted) {
    const bool all_v4 = wanted.v4.covers(every_address<Ipv4>());
    const bool all_v6 = wanted.v6.covers(every_address<Ipv6>());
    if (all_v4 && all_v6) return {Matches{}};
    std::vector<Matches> alternatives;
    if (all_v4 && emits(Family::ipv4)) alternatives.push_back({FamilyIs{Family::ipv4}});
    if (!all_v4 && !wanted.v4.empty() && emits(Family::ipv4)) {
      list_addresses(alternatives, side, set + "_v4", wanted.v4);
    }
    if (all_v6 && emits(Family::ipv6)) alternatives.push_back({FamilyIs{Family::ipv6}});
    if (!all_v6 && !wanted.v6.empty() && emits(Family::ipv6)) {
      list_addresses(alternatives, side, set + "_v6", wanted.v6);
    }
    return alternatives;
  }

  /// A very long list is divided into pieces, each behind the range that it lies in. Of the pieces a connection meets
  /// one at most, and walks a smaller tree; and the kernel, which for every 32 KB of a listing walks a set from its
  /// beginning (nf_tables_dump_set), lists pieces in a time that grows with the list and not with its square. Single
  /// addresses need no tree.
  template <typename Address>
  void list_addresses(std::vector<Matches>& alternatives, Side side, const std::string& set,
                      const Ranges<Address>& wanted) {
    const std::size_t pieces = (wanted.size() + longest_set - 1) / longest_set;
    if (pieces <= 1 || wanted.all_single()) {
      alternatives.push_back({AddressIn<Address>{side, list(set, wanted)}});
      return;
    }
    const auto start_of = [&](std::size_t piece) {
      return wanted.begin() + static_cast<std::ptrdiff_t>(wanted.size() * piece / pieces);
    };
    for (std::size_t piece = 0; piece < pieces; ++piece) {
      const Ranges<Address> part(std::vector<Range<Address>>(start_of(piece), start_of(piece + 1)));
      const Range<Address> around{part.front().first, std::prev(part.end())->last};
      const SetRef listed{named_set(set + "_" + std::to_string(piece + 1), part)};
      alternatives.push_back({AddressIn<Address>{side, around}, AddressIn<Address>{side, listed}});
    }
  }

  /// Rules for a family that is let through at the top of the chain would never be reached.
  [[nodiscard]] bool emits(Family family) const { return captures(s, family) || other_family_left_; }

  // --- Building --------------------------------------------------------------------------------------------------------

  template <typename T>
  Operand<T> list(const std::string& set, const Ranges<T>& ranges) {
    if (ranges.size() == 1) return ranges.front();
    return SetRef{named_set(set, ranges)};
  }

  std::string named_set(const std::string& name, const SetElements& elements) {
    if (ruleset_.find_set(name) == nullptr) ruleset_.sets.push_back({name, elements});
    return name;
  }

  void begin(std::string_view name, ChainType type, Hook hook, int priority) {
    ruleset_.chains.push_back({std::string(name), type, hook, priority, {}});
    other_family_left_ = true;
  }

  void add(const std::string& name, Matches matches, const Action& action) {
    ruleset_.chains.back().rules.push_back({name, std::move(matches), action});
  }

  const Settings& s;
  Ruleset ruleset_;
  bool other_family_left_ = true;  ///< in the chain being built
};

}  // namespace

bool captures(const Settings& settings, Family family) {
  switch (settings.ip_family) {
    case FamilyMode::dual:
      return true;
    case FamilyMode::ipv4:
      return family == Family::ipv4;
    case FamilyMode::ipv6:
      return family == Family::ipv6;
  }
  return false;
}

Ruleset compile(const Config& config) { return Compiler(*config).run(); }

}  // namespace sluice
