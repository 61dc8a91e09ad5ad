#include "rules/evaluate.hpp"

#include <algorithm>

#include "rules/nft_text.hpp"
#include "rules/text.hpp"
#include "rules/words.hpp"

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

/// nf_nat_core.c: NAT chains are not called at their own priority but in its order, all from the one hook of NAT
/// (NF_IP_PRI_NAT_DST, on input NF_IP_PRI_NAT_SRC, linux/netfilter_ipv4.h).
std::pair<int, int> place_of(const AskedChain& chain) {
  if (chain.type != ChainType::nat) return {chain.priority, chain.priority};
  return {chain.hook == Hook::input ? 100 : -100, chain.priority};
}

class Walk {
 public:
  Walk(const Ruleset& sets, const std::vector<AskedChain>& chains, const Connection& connection)
      : sets_(sets), chains_(chains), packet_{connection} {}

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
    std::vector<const AskedChain*> chains;
    for (const AskedChain& chain : chains_) {
      if (chain.hook == hook) chains.push_back(&chain);
    }
    std::stable_sort(chains.begin(), chains.end(),
                     [](const auto* a, const auto* b) { return place_of(*a) < place_of(*b); });
    for (const AskedChain* chain : chains) {
      // nf_nat_core.c:nf_nat_inet_fn: the first NAT chain that translates is the last that is asked; on input it is the
      // source that would be.
      const bool settled = packet_.rewritten && chain->type == ChainType::nat && hook != Hook::input;
      if (!settled && !final_for_all(decision_.verdict)) through(*chain);
    }
  }

  void through(const AskedChain& chain) {
    for (const AskedRule& rule : chain.rules) {
      if (!matches(rule, chain)) continue;
      take(rule, chain);
      return;
    }
    if (chain.accepts_by_default) return;
    decision_.steps.push_back({policy_rule, chain.name, true, "policy drop"});
    decision_.verdict = Drop{};
    decision_.rule = policy_rule;
  }

  bool matches(const AskedRule& rule, const AskedChain& chain) {
    const Asker asker(sets_, packet_);
    const auto failing = std::find_if(rule.matches.begin(), rule.matches.end(),
                                      [&](const Match& match) { return !std::visit(asker, match); });
    if (failing != rule.matches.end()) {
      decision_.steps.push_back({rule.name, chain.name, false, why_not(*failing)});
      return false;
    }
    if (!rule.action) {
      decision_.steps.push_back({rule.name, chain.name, false, "cannot be read: " + rule.text, false});
      decision_.certain = false;
      return false;
    }
    decision_.steps.push_back({rule.name, chain.name, true, rule.text});
    return true;
  }

  /// `not of user 1337, but of user 1000`
  [[nodiscard]] std::string why_not(const Match& match) const {
    const auto port_on = [&](Side side) {
      return " port " + std::to_string(side == Side::source ? packet_.c.source_port : packet_.c.destination_port);
    };
    const auto address_on = [&](Side side) {
      return " " + to_text(side == Side::source ? packet_.c.source : packet_.c.destination);
    };
    const std::string actual = std::visit(
        Overloaded{
            [&](const PortIn& m) { return port_on(m.side); },
            [&](const PortIsNot& m) { return port_on(m.side); },
            [&](const Ipv4In& m) { return address_on(m.side); },
            [&](const Ipv6In& m) { return address_on(m.side); },
            [&](const InterfaceIn&) { return " " + packet_.c.interface; },
            [&](const SocketUidIn&) { return packet_.c.uid ? " " + std::to_string(packet_.c.uid->number) : " none"; },
            [&](const SocketGidIn&) { return packet_.c.gid ? " " + std::to_string(packet_.c.gid->number) : " none"; },
            [&](const PacketMarkIs&) { return " " + hex32(packet_.c.mark); },
            [&](const ConnectionMarkIs&) { return " " + hex32(packet_.connection_mark); },
            [](const auto&) { return std::string(); },
        },
        match);
    return "not " + in_words(match, sets_) + (actual.empty() ? "" : ", but" + actual);
  }

  void take(const AskedRule& rule, const AskedChain& chain) {
    const Action& action = *rule.action;
    if (decides(action)) {
      decision_.verdict = action;
      decision_.rule = rule.name;
    } else if (!decides(decision_.verdict) && is_main(chain)) {
      decision_.rule = rule.name;
    }
    if (const auto* redirect = std::get_if<Redirect>(&action)) rewrite(*redirect);
    if (const auto* mark = std::get_if<SetConnectionMark>(&action)) packet_.connection_mark = mark->mark;
    if (const auto* mark = std::get_if<SetPacketMark>(&action)) packet_.c.mark = mark->mark;
    if (const auto* tproxy = std::get_if<Tproxy>(&action)) packet_.c.mark = tproxy->mark;
  }

  /// Whether passing here is what happens to the connection: the chains that capture. The others only prepare or
  /// refuse.
  static bool is_main(const AskedChain& chain) {
    if (!chain.ours) return false;
    return chain.name == chain_name::inbound_tproxy || (chain.type == ChainType::nat && chain.hook != Hook::input);
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

  static constexpr const char* policy_rule = "policy";

  const Ruleset& sets_;
  const std::vector<AskedChain>& chains_;
  Packet packet_;
  Decision decision_;
};

AskedRule asked(const Rule& rule) { return {rule.name, rule.matches, rule.action, to_nft(rule)}; }

AskedRule asked(const ObservedRule& observed) {
  if (const auto* rule = std::get_if<Rule>(&observed.rule)) return asked(*rule);
  return {
      observed.comment.empty() ? "unnamed" : observed.comment, {}, std::nullopt, std::get<Opaque>(observed.rule).text};
}

}  // namespace

std::vector<AskedChain> asked_chains(const Ruleset& ruleset) {
  std::vector<AskedChain> chains;
  for (const Chain& chain : ruleset.chains) {
    chains.push_back({chain.name, chain.type, chain.hook, chain.priority, {}});
    for (const Rule& rule : chain.rules) chains.back().rules.push_back(asked(rule));
  }
  return chains;
}

std::vector<AskedChain> asked_chains(const Observed& observed) {
  std::vector<AskedChain> chains;
  if (observed.dormant) return chains;
  for (const ObservedChain& chain : observed.chains) {
    if (!chain.base) continue;
    chains.push_back({chain.name, chain.base->type, chain.base->hook, chain.base->priority, {}});
    chains.back().accepts_by_default = chain.accepts_by_default;
    for (const ObservedRule& rule : chain.rules) chains.back().rules.push_back(asked(rule));
  }
  return chains;
}

Ruleset readable_sets(const Observed& observed) {
  Ruleset sets;
  for (const ObservedSet& set : observed.sets) {
    if (const auto* elements = std::get_if<SetElements>(&set.elements)) sets.sets.push_back({set.name, *elements});
  }
  return sets;
}

Decision evaluate(const Ruleset& ruleset, const Connection& connection) {
  return evaluate(ruleset, asked_chains(ruleset), connection);
}

Decision evaluate(const Ruleset& sets, const std::vector<AskedChain>& chains, const Connection& connection) {
  return Walk(sets, chains, connection).run();
}

}  // namespace sluice
