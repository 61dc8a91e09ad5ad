#include "rules/evaluate.hpp"

#include <algorithm>

#include "rules/nft_text.hpp"

namespace sluice {
namespace {

/// The packet as it is between two hooks: NAT changes it on the way.
struct Packet {
  Connection c;
  Hook hook = Hook::output;
  bool rewritten = false;
  std::uint32_t connection_mark = 0;
};

class Asker {
 public:
  Asker(const Ruleset& ruleset, const Packet& packet) : ruleset_(ruleset), p_(packet) {}

  bool operator()(const FamilyIs& m) const { return family_of(p_.c.destination) == m.family; }
  bool operator()(const ProtocolIs& m) const { return p_.c.protocol == static_cast<std::uint8_t>(m.protocol); }
  bool operator()(const PortIn& m) const {
    const auto port = Port::from(port_on(m.side));
    return port && in(*port, m.ports);
  }
  bool operator()(const PortIsNot& m) const { return port_on(m.side) != m.port.number(); }
  template <typename Address>
  bool operator()(const AddressIn<Address>& m) const {
    const IpAddress& address = m.side == Side::source ? p_.c.source : p_.c.destination;
    const auto* own = std::get_if<Address>(&address);
    return own != nullptr && in(*own, m.addresses);
  }
  bool operator()(const InterfaceIn& m) const {
    const bool known = m.direction == Direction::out ? p_.hook == Hook::output : p_.hook != Hook::output;
    if (!known) return false;
    if (const auto* pattern = std::get_if<InterfacePattern>(&m.interfaces)) return pattern->matches(p_.c.interface);
    const auto& patterns = elements<InterfaceSet>(std::get<SetRef>(m.interfaces));
    return std::any_of(patterns.begin(), patterns.end(),
                       [&](const auto& pattern) { return pattern.matches(p_.c.interface); });
  }
  bool operator()(const SocketUidIn& m) const { return has_socket() && p_.c.uid && in(*p_.c.uid, m.uids); }
  bool operator()(const SocketGidIn& m) const { return has_socket() && p_.c.gid && in(*p_.c.gid, m.gids); }
  bool operator()(const PacketMarkIs& m) const { return (p_.c.mark & m.mark.mask) == m.mark.value; }
  bool operator()(const ConnectionMarkIs& m) const { return (p_.connection_mark & m.mark.mask) == m.mark.value; }
  bool operator()(const ConntrackStateIs& m) const { return m.state == ConntrackState::fresh; }
  bool operator()(const DestinationRewritten& m) const { return p_.rewritten == m.rewritten; }
  bool operator()(const NotOpening&) const { return false; }
  bool operator()(const ReplyDirection&) const { return false; }
  bool operator()(const DestinationLocal& m) const { return p_.c.to_this_host == m.local; }

 private:
  [[nodiscard]] std::uint16_t port_on(Side side) const {
    return side == Side::source ? p_.c.source_port : p_.c.destination_port;
  }
  [[nodiscard]] bool has_socket() const { return p_.hook == Hook::output; }

  template <typename List>
  const List& elements(const SetRef& reference) const {
    static const List none;
    const Set* set = ruleset_.find_set(reference.name);
    const auto* list = set == nullptr ? nullptr : std::get_if<List>(&set->elements);
    return list == nullptr ? none : *list;
  }

  template <typename T>
  bool in(const T& value, const Operand<T>& operand) const {
    if (const auto* range = std::get_if<Range<T>>(&operand)) return range->contains(value);
    return elements<Ranges<T>>(std::get<SetRef>(operand)).contains(value);
  }

  const Ruleset& ruleset_;
  const Packet& p_;
};

bool final_for_all(const Action& action) {
  return std::holds_alternative<Reject>(action) || std::holds_alternative<Drop>(action);
}

bool decides(const Action& action) {
  return final_for_all(action) || std::holds_alternative<Redirect>(action) || std::holds_alternative<Tproxy>(action);
}

class Walk {
 public:
  Walk(const Ruleset& ruleset, const Connection& connection) : ruleset_(ruleset), packet_{connection} {}

  Decision run() {
    decision_.rule = default_rule;
    if (packet_.c.flow == Flow::outbound) {
      through(Hook::output);
    } else {
      through(Hook::prerouting);
      if (packet_.c.to_this_host || packet_.rewritten) through(Hook::input);
    }
    return std::move(decision_);
  }

 private:
  void through(Hook hook) {
    packet_.hook = hook;
    std::vector<const Chain*> chains;
    for (const Chain& chain : ruleset_.chains) {
      if (chain.hook == hook) chains.push_back(&chain);
    }
    std::stable_sort(chains.begin(), chains.end(),
                     [](const auto* a, const auto* b) { return a->priority < b->priority; });
    for (const Chain* chain : chains) {
      if (!final_for_all(decision_.verdict)) through(*chain);
    }
  }

  void through(const Chain& chain) {
    for (const Rule& rule : chain.rules) {
      if (!matches(rule, chain)) continue;
      take(rule, chain);
      return;
    }
  }

  bool matches(const Rule& rule, const Chain& chain) {
    const Asker asker(ruleset_, packet_);
    const auto failing = std::find_if(rule.matches.begin(), rule.matches.end(),
                                      [&](const Match& match) { return !std::visit(asker, match); });
    const bool all = failing == rule.matches.end();
    decision_.steps.push_back({rule.name, chain.name, all, all ? to_nft(rule) : "not " + to_nft(*failing)});
    return all;
  }

  void take(const Rule& rule, const Chain& chain) {
    if (decides(rule.action)) {
      decision_.verdict = rule.action;
      decision_.rule = rule.name;
    } else if (!decides(decision_.verdict) && is_main(chain)) {
      decision_.rule = rule.name;
    }
    if (const auto* redirect = std::get_if<Redirect>(&rule.action)) rewrite(*redirect);
    if (const auto* mark = std::get_if<SetConnectionMark>(&rule.action)) packet_.connection_mark = mark->mark;
    if (const auto* mark = std::get_if<SetPacketMark>(&rule.action)) packet_.c.mark = mark->mark;
    if (const auto* tproxy = std::get_if<Tproxy>(&rule.action)) packet_.c.mark = tproxy->mark;
  }

  /// Whether passing here is what happens to the connection: the chains that capture. The others only prepare or
  /// refuse.
  static bool is_main(const Chain& chain) {
    return chain.type == ChainType::nat || chain.name == chain_name::inbound_tproxy;
  }

  /// nf_nat_redirect.c: a local packet goes to the loopback address, an arriving one to its interface's own address.
  void rewrite(const Redirect& redirect) {
    packet_.rewritten = true;
    packet_.c.destination_port = redirect.port.number();
    packet_.c.to_this_host = true;
    if (packet_.hook != Hook::output) return;
    packet_.c.destination =
        family_of(packet_.c.destination) == Family::ipv4 ? IpAddress(Ipv4{0x7f000001U}) : IpAddress(Ipv6{0, 1});
  }

  const Ruleset& ruleset_;
  Packet packet_;
  Decision decision_;
};

}  // namespace

Decision evaluate(const Ruleset& ruleset, const Connection& connection) { return Walk(ruleset, connection).run(); }

}  // namespace sluice
