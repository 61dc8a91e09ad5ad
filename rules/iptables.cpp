#include "rules/iptables.hpp"

#include <algorithm>
#include <limits>
#include <stdexcept>

namespace sluice {
namespace {

constexpr std::size_t ports_in_a_match = 15;   // XT_MULTI_PORTS, linux/netfilter/xt_multiport.h
constexpr std::size_t longest_interface = 15;  // IFNAMSIZ - 1

constexpr const char redirect_chain[] = "SLUICE_REDIRECT";
constexpr const char inbound_redirect_chain[] = "SLUICE_IN_REDIRECT";
constexpr const char dns_chain[] = "SLUICE_DNS";
constexpr const char zone_chain[] = "SLUICE_SET_ZONE";
constexpr const char connection_mark_chain[] = "SLUICE_SET_CONNMARK";
constexpr const char packet_mark_chain[] = "SLUICE_SET_MARK";

/// One way in which a match can hold: something that a rule can say once.
using Alternative = std::variant<std::monostate, Network, InterfaceIn, Protocol, IptablesMatch>;
struct Placed {
  Side side = Side::source;  ///< of a Network
  Alternative what;
};
using Alternatives = std::vector<Placed>;

/// Groups of ports that each fit one match, as few as possible: ranges, which take two places, first, then single ports
/// into what is left.
std::vector<std::vector<Range<Port>>> grouped(const Ranges<Port>& ports) {
  std::vector<Range<Port>> wide;
  std::vector<Range<Port>> single;
  for (const Range<Port>& range : ports) {
    const bool two_ports = range.last.number() - range.first.number() == 1;
    if (range.single() || two_ports) single.push_back({range.first, range.first});
    if (two_ports) single.push_back({range.last, range.last});
    if (!range.single() && !two_ports) wide.push_back(range);
  }
  std::vector<std::vector<Range<Port>>> groups;
  auto next_wide = wide.begin();
  auto next_single = single.begin();
  while (next_wide != wide.end() || next_single != single.end()) {
    std::vector<Range<Port>>& group = groups.emplace_back();
    std::size_t room = ports_in_a_match;
    for (; next_wide != wide.end() && room >= 2; room -= 2) group.push_back(*next_wide++);
    for (; next_single != single.end() && room >= 1; --room) group.push_back(*next_single++);
    std::sort(group.begin(), group.end());
  }
  return groups;
}

/// What a match comes to in one family: nothing at all means that it never holds there.
class Expander {
 public:
  Expander(const Ruleset& ruleset, Family family) : ruleset_(ruleset), family_(family) {}

  Alternatives operator()(const FamilyIs& m) const { return m.family == family_ ? Alternatives{{}} : Alternatives{}; }
  Alternatives operator()(const ProtocolIs& m) const { return {{Side::source, m.protocol}}; }
  Alternatives operator()(const PortIn& m) const {
    const Ranges<Port> ports = listed<Ranges<Port>>(m.ports);
    if (ports.size() == 1) return one(PortRange{m.side, ports.front()});
    Alternatives alternatives;
    for (auto& group : grouped(ports)) {
      alternatives.push_back({Side::source, group.size() == 1 ? IptablesMatch(PortRange{m.side, group.front()})
                                                              : IptablesMatch(PortsIn{m.side, std::move(group)})});
    }
    return alternatives;
  }
  template <typename Address>
  Alternatives operator()(const AddressIn<Address>& m) const {
    if (Address::family != family_) return {};
    Alternatives alternatives;
    for (const Range<Address>& range : listed<Ranges<Address>>(m.addresses)) {
      for (const Cidr<Address>& cidr : cidrs_of(range)) {
        alternatives.push_back(cidr.prefix == 0 ? Placed{} : Placed{m.side, Network(cidr)});
      }
    }
    return alternatives;
  }
  Alternatives operator()(const InterfaceIn& m) const {
    if (const auto* pattern = std::get_if<InterfacePattern>(&m.interfaces)) return {interface(m.direction, *pattern)};
    Alternatives alternatives;
    for (const auto& pattern : elements<InterfaceSet>(std::get<SetRef>(m.interfaces))) {
      alternatives.push_back(interface(m.direction, pattern));
    }
    return alternatives;
  }
  Alternatives operator()(const SocketUidIn& m) const {
    Alternatives alternatives;
    for (const auto& range : listed<Ranges<Uid>>(m.uids)) alternatives.push_back({Side::source, UidRange{range}});
    return alternatives;
  }
  Alternatives operator()(const SocketGidIn& m) const {
    Alternatives alternatives;
    for (const auto& range : listed<Ranges<Gid>>(m.gids)) alternatives.push_back({Side::source, GidRange{range}});
    return alternatives;
  }
  template <typename Same>
  Alternatives operator()(const Same& m) const {
    return one(m);
  }

 private:
  static Alternatives one(const IptablesMatch& match) { return {{Side::source, match}}; }

  /// A name of full length is no prefix: iptables has no room for its `+`, and nothing longer exists.
  static Placed interface(Direction direction, InterfacePattern pattern) {
    if (pattern.name.size() >= longest_interface) pattern.prefix = false;
    return {Side::source, InterfaceIn{direction, std::move(pattern)}};
  }

  template <typename List>
  const List& elements(const SetRef& reference) const {
    const Set* set = ruleset_.find_set(reference.name);
    const auto* list = set == nullptr ? nullptr : std::get_if<List>(&set->elements);
    if (list == nullptr) throw std::logic_error("a rule refers to the set " + reference.name + ", which is not there");
    return *list;
  }

  template <typename List, typename T>
  List listed(const Operand<T>& operand) const {
    if (const auto* range = std::get_if<Range<T>>(&operand)) return List{*range};
    return elements<List>(std::get<SetRef>(operand));
  }

  const Ruleset& ruleset_;
  Family family_;
};

template <typename T>
void set_once(std::optional<T>& field, const T& value) {
  if (field) throw std::logic_error("one rule of iptables cannot say the same thing twice");
  field = value;
}

void put(IptablesRule& rule, const Placed& placed) {
  std::visit(Overloaded{
                 [](const std::monostate&) {},
                 [&](const Network& network) {
                   set_once(placed.side == Side::source ? rule.source : rule.destination, network);
                 },
                 [&](const InterfaceIn& m) {
                   set_once(m.direction == Direction::in ? rule.in : rule.out,
                            std::get<InterfacePattern>(m.interfaces));
                 },
                 [&](const Protocol& protocol) { set_once(rule.protocol, protocol); },
                 [&](const IptablesMatch& match) { rule.matches.push_back(match); },
             },
             placed.what);
}

bool is_conditional(const IptablesRule& rule) {
  return rule.source || rule.destination || rule.in || rule.out || rule.protocol || !rule.matches.empty();
}

struct Place {
  std::string_view chain;
  IptablesTableKind table;
  Hook hook;
};
/// Where the chains of the Ruleset belong: the table whose chain has the same hook and about the same priority.
constexpr Place places[] = {
    {chain_name::outbound, IptablesTableKind::nat, Hook::output},
    {chain_name::inbound, IptablesTableKind::nat, Hook::prerouting},
    {chain_name::inbound_guard, IptablesTableKind::filter, Hook::input},
    {chain_name::outbound_reject, IptablesTableKind::filter, Hook::output},
    {chain_name::inbound_invalid, IptablesTableKind::mangle, Hook::prerouting},
    {chain_name::inbound_tproxy, IptablesTableKind::mangle, Hook::prerouting},
    {chain_name::outbound_route, IptablesTableKind::mangle, Hook::output},
    {chain_name::outbound_zone, IptablesTableKind::raw, Hook::output},
};

IptablesTableKind table_of(const Chain& chain) {
  for (const Place& place : places) {
    if (place.chain == chain.name) return place.table;
  }
  throw std::logic_error("no table of iptables is known for the chain " + chain.name);
}

std::string chain_name_for(std::string_view chain) {
  std::string name(iptables_chain_prefix);
  for (const char letter : chain) {
    name += letter >= 'a' && letter <= 'z' ? static_cast<char>(letter - 'a' + 'A') : letter;
  }
  return name;
}

const char* redirect_chain_for(const std::string& rule) {
  if (rule == "dns") return dns_chain;
  return rule == "inbound" || rule == "hairpin" ? inbound_redirect_chain : redirect_chain;
}

class FamilyTranslator {
 public:
  FamilyTranslator(const Ruleset& ruleset, Family family, IptablesRuleset& out)
      : ruleset_(ruleset), family_(family), out_(out) {}

  void run() {
    for (const Chain& chain : ruleset_.chains) translate(chain);
    for (IptablesTable& table : out_.tables) {
      std::sort(table.chains.begin(), table.chains.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
      std::stable_sort(table.jumps.begin(), table.jumps.end(),
                       [](const auto& a, const auto& b) { return a.hook < b.hook; });
    }
  }

 private:
  void translate(const Chain& chain) {
    IptablesChain ours{chain_name_for(chain.name), {}};
    const IptablesTableKind kind = table_of(chain);
    for (const Rule& rule : chain.rules) {
      append_alternatives(rule, kind, ours.rules);
      // What follows a rule that always decides is never reached; a family that is not captured ends here.
      if (!ours.rules.empty() && !is_conditional(ours.rules.back())) break;
    }
    const bool decides_nothing = ours.rules.empty() || (!is_conditional(ours.rules.front()) &&
                                                        std::holds_alternative<Return>(ours.rules.front().target));
    if (decides_nothing) return;
    IptablesTable& table = table_for(kind);
    table.jumps.push_back({chain.hook, ours.name});
    table.chains.push_back(std::move(ours));
  }

  /// Every combination of the alternatives of the rule's matches.
  void append_alternatives(const Rule& rule, IptablesTableKind kind, std::vector<IptablesRule>& rules) {
    std::vector<IptablesRule> combined = {IptablesRule{rule.name, {}, {}, {}, {}, {}, {}, Return{}}};
    for (const Match& match : without_enclosing_ranges(rule.matches)) {
      const Alternatives alternatives = std::visit(Expander(ruleset_, family_), match);
      std::vector<IptablesRule> longer;
      longer.reserve(combined.size() * alternatives.size());
      for (const IptablesRule& begun : combined) {
        for (const Placed& alternative : alternatives) put(longer.emplace_back(begun), alternative);
      }
      combined = std::move(longer);
    }
    for (IptablesRule& complete : combined) {
      complete.target = target_of(rule, complete, kind);
      rules.push_back(std::move(complete));
    }
  }

  IptablesTarget target_of(const Rule& rule, const IptablesRule& complete, IptablesTableKind kind) {
    return std::visit(
        Overloaded{
            [](const Pass&) -> IptablesTarget { return Return{}; },
            [&](const Redirect& a) -> IptablesTarget {
              return JumpTo{helper(kind, redirect_chain_for(rule.name), a, complete.protocol)};
            },
            [&](const SetZone& a) -> IptablesTarget { return GoTo{helper(kind, zone_chain, a, {})}; },
            [&](const SetConnectionMark& a) -> IptablesTarget {
              return GoTo{helper(kind, connection_mark_chain, a, {})};
            },
            [&](const SetPacketMark& a) -> IptablesTarget { return GoTo{helper(kind, packet_mark_chain, a, {})}; },
            [](const auto& same) -> IptablesTarget { return same; },
        },
        rule.action);
  }

  /// The chain that does one thing, made when first needed. Ports can be rewritten only where the rule itself names the
  /// protocol, so there is a rule for each.
  std::string helper(IptablesTableKind kind, const char* name, const IptablesTarget& target,
                     std::optional<Protocol> protocol) {
    std::vector<IptablesChain>& chains = table_for(kind).chains;
    auto found = std::find_if(chains.begin(), chains.end(), [&](const auto& chain) { return chain.name == name; });
    if (found == chains.end()) found = chains.insert(chains.end(), {name, {}});
    for (const IptablesRule& rule : found->rules) {
      if (rule.target != target) throw std::logic_error(std::string(name) + " would have to do two things");
      if (rule.protocol == protocol) return name;
    }
    found->rules.push_back({{}, {}, {}, {}, {}, protocol, {}, target});
    std::sort(found->rules.begin(), found->rules.end(),
              [](const auto& a, const auto& b) { return a.protocol < b.protocol; });
    return name;
  }

  IptablesTable& table_for(IptablesTableKind kind) {
    const auto found = std::find_if(out_.tables.begin(), out_.tables.end(), [&](const IptablesTable& table) {
      return table.family == family_ && table.kind == kind;
    });
    if (found != out_.tables.end()) return *found;
    const auto after = std::find_if(out_.tables.begin(), out_.tables.end(), [&](const IptablesTable& table) {
      return std::pair(family_, kind) < std::pair(table.family, table.kind);
    });
    return *out_.tables.insert(after, IptablesTable{family_, kind, {}, {}});
  }

  const Ruleset& ruleset_;
  Family family_;
  IptablesRuleset& out_;
};

/// Stops counting where it is too much anyway.
std::size_t product(std::size_t a, std::size_t b) {
  constexpr std::size_t plenty = std::numeric_limits<std::uint32_t>::max();
  return a == 0 || b == 0 ? 0 : std::min(plenty, a > plenty / b ? plenty : a * b);
}

/// Before anything is built, so that a refusal is cheap.
std::optional<TooManyRules> too_many(const Ruleset& ruleset) {
  std::size_t total = 0;
  std::size_t most = 0;
  std::string culprit;
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    for (const Chain& chain : ruleset.chains) {
      for (const Rule& rule : chain.rules) {
        std::size_t count = 1;
        for (const Match& match : without_enclosing_ranges(rule.matches)) {
          count = product(count, std::visit(Expander(ruleset, family), match).size());
        }
        total += count;
        if (count > most) most = count, culprit = rule.name;
      }
    }
  }
  if (total <= iptables_rule_limit) return std::nullopt;
  return TooManyRules{total, culprit};
}

}  // namespace

std::variant<IptablesRuleset, TooManyRules> to_iptables(const Ruleset& ruleset) {
  if (auto refused = too_many(ruleset)) return *std::move(refused);
  IptablesRuleset out;
  for (const Family family : {Family::ipv4, Family::ipv6}) FamilyTranslator(ruleset, family, out).run();
  return out;
}

std::string_view to_text(IptablesTableKind kind) {
  switch (kind) {
    case IptablesTableKind::mangle:
      return "mangle";
    case IptablesTableKind::raw:
      return "raw";
    case IptablesTableKind::filter:
      return "filter";
    case IptablesTableKind::nat:
      return "nat";
  }
  return "";
}

std::span<const BuiltinChain> builtin_chains(IptablesTableKind kind) {
  constexpr std::uint32_t pre = 0, in = 1, forward = 2, out = 3, post = 4;
  static constexpr BuiltinChain mangle[] = {{"PREROUTING", ChainType::filter, pre, -150},
                                            {"INPUT", ChainType::filter, in, -150},
                                            {"FORWARD", ChainType::filter, forward, -150},
                                            {"OUTPUT", ChainType::route, out, -150},
                                            {"POSTROUTING", ChainType::filter, post, -150}};
  static constexpr BuiltinChain raw[] = {{"PREROUTING", ChainType::filter, pre, -300},
                                         {"OUTPUT", ChainType::filter, out, -300}};
  static constexpr BuiltinChain filter[] = {{"INPUT", ChainType::filter, in, 0},
                                            {"FORWARD", ChainType::filter, forward, 0},
                                            {"OUTPUT", ChainType::filter, out, 0}};
  static constexpr BuiltinChain nat[] = {{"PREROUTING", ChainType::nat, pre, -100},
                                         {"INPUT", ChainType::nat, in, 100},
                                         {"OUTPUT", ChainType::nat, out, -100},
                                         {"POSTROUTING", ChainType::nat, post, 100}};
  switch (kind) {
    case IptablesTableKind::mangle:
      return mangle;
    case IptablesTableKind::raw:
      return raw;
    case IptablesTableKind::filter:
      return filter;
    case IptablesTableKind::nat:
      return nat;
  }
  return {};
}

std::optional<RulesetChain> ruleset_chain(std::string_view iptables_chain) {
  for (const Place& place : places) {
    if (chain_name_for(place.chain) == iptables_chain) return RulesetChain{std::string(place.chain), place.hook};
  }
  return std::nullopt;
}

std::string_view iptables_name(Hook hook) {
  switch (hook) {
    case Hook::prerouting:
      return "PREROUTING";
    case Hook::input:
      return "INPUT";
    case Hook::output:
      return "OUTPUT";
  }
  return "";
}

}  // namespace sluice
