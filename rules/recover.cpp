#include "rules/recover.hpp"

#include <algorithm>

#include "rules/nft_text.hpp"
#include "rules/options.hpp"
#include "rules/text.hpp"

namespace sluice {
namespace {

template <typename Kind>
const Kind* find(const Rule& rule) {
  for (const Match& match : rule.matches) {
    if (const auto* found = std::get_if<Kind>(&match)) return found;
  }
  return nullptr;
}

constexpr char every_port_listed[] = "1-65535";
constexpr char every_address_listed[] = "0.0.0.0/0,::/0";

/// How the names of sets begin that no rule of the kernel has.
constexpr std::string_view joined_set = "joined_";

/// Puts the rules of one chain together; what they list together becomes a new set.
class Joining {
 public:
  explicit Joining(Ruleset& ruleset) : ruleset_(ruleset) {}

  void join(std::vector<Rule>& rules) {
    say_once(rules);
    std::vector<Rule> joined;
    for (Rule& rule : rules) {
      if (joined.empty() || !takes(joined.back(), rule)) joined.push_back(std::move(rule));
    }
    rules = std::move(joined);
  }

  /// The pieces of a very long list become the list.
  void join_pieces(std::vector<Rule>& rules) {
    std::vector<Rule> joined;
    bool after_a_piece = false;
    for (Rule& rule : rules) {
      std::vector<Match> lists = without_enclosing_ranges(rule.matches);
      const bool is_piece = lists.size() < rule.matches.size();
      rule.matches = std::move(lists);
      if (!is_piece || !after_a_piece || !takes(joined.back(), rule)) joined.push_back(std::move(rule));
      after_a_piece = is_piece;
    }
    rules = std::move(joined);
  }

 private:
  /// The rule without the match of this family; nothing where it has none.
  static std::optional<Rule> without(const Rule& rule, Family family) {
    Rule rest = rule;
    const auto found = std::find(rest.matches.begin(), rest.matches.end(), Match(FamilyIs{family}));
    if (found == rest.matches.end()) return std::nullopt;
    rest.matches.erase(found);
    return rest;
  }

  /// What stands there for both families stands there for none in particular.
  static void say_once(std::vector<Rule>& rules) {
    for (Rule& rule : rules) {
      const auto rest = without(rule, Family::ipv4);
      if (!rest) continue;
      const auto twin = std::find_if(rules.begin(), rules.end(),
                                     [&](const Rule& other) { return without(other, Family::ipv6) == rest; });
      if (twin == rules.end()) continue;
      rule = *rest;
      twin->name.clear();
    }
    std::erase_if(rules, [](const Rule& rule) { return rule.name.empty(); });
  }

  /// Whether `next` differs from `rule` in one list only, which `rule` then has taken up.
  bool takes(Rule& rule, const Rule& next) {
    if (rule.name != next.name || rule.action != next.action || rule.matches.size() != next.matches.size())
      return false;
    const auto differing = std::mismatch(rule.matches.begin(), rule.matches.end(), next.matches.begin());
    const auto mine = differing.first;
    const auto theirs = differing.second;
    if (mine == rule.matches.end() || !std::equal(mine + 1, rule.matches.end(), theirs + 1)) return false;
    const auto both = std::visit([&](const auto& a) { return together(a, *theirs); }, *mine);
    if (both) *mine = *both;
    return both.has_value();
  }

  template <typename Kind>
  std::optional<Match> together(const Kind& a, const Match& other) {
    const auto* b = std::get_if<Kind>(&other);
    if (b == nullptr) return std::nullopt;
    if constexpr (requires { a.ports; }) {
      if (a.side == b->side) return Match(Kind{a.side, sum(a.ports, b->ports)});
    } else if constexpr (requires { a.addresses; }) {
      if (a.side == b->side) return Match(Kind{a.side, sum(a.addresses, b->addresses)});
    } else if constexpr (requires { a.uids; }) {
      return Match(Kind{sum(a.uids, b->uids)});
    } else if constexpr (requires { a.gids; }) {
      return Match(Kind{sum(a.gids, b->gids)});
    }
    return std::nullopt;
  }

  template <typename T>
  Operand<T> sum(const Operand<T>& a, const Operand<T>& b) {
    std::vector<Range<T>> all = listed(a);
    for (const Range<T>& range : listed(b)) all.push_back(range);
    ruleset_.sets.push_back(
        {std::string(joined_set) + std::to_string(ruleset_.sets.size()), Ranges<T>(std::move(all))});
    return SetRef{ruleset_.sets.back().name};
  }

  template <typename T>
  std::vector<Range<T>> listed(const Operand<T>& operand) const {
    if (const auto* range = std::get_if<Range<T>>(&operand)) return {*range};
    const Set* set = ruleset_.find_set(std::get<SetRef>(operand).name);
    const auto* list = set == nullptr ? nullptr : std::get_if<Ranges<T>>(&set->elements);
    return list == nullptr ? std::vector<Range<T>>{} : std::vector<Range<T>>(list->begin(), list->end());
  }

  Ruleset& ruleset_;
};

class Recovering {
 public:
  explicit Recovering(const Ruleset& ruleset) : ruleset_(ruleset) {}

  Recovered run() {
    // What is there by default unless a rule says otherwise.
    for (const char* list : {"outbound-cidrs", "proxy-uid"}) set(list, "");
    outbound();
    outbound_reject();
    inbound();
    if (ruleset_.find_chain(chain_name::inbound_invalid) != nullptr) set("drop-invalid", "true");
    guard();
    leave_out_defaults();
    return std::move(result_);
  }

 private:
  void set(const std::string& option, const std::string& text) { result_.options[option] = text; }

  void add(const std::string& option, const std::string& text) {
    std::string& list = result_.options[option];
    list += (list.empty() || text.empty() ? "" : ",") + text;
  }

  // --- Texts of operands -------------------------------------------------------------------------------------------------

  [[nodiscard]] std::string elements(const SetElements& list) const { return join(element_texts(list), ","); }

  template <typename T>
  [[nodiscard]] Ranges<T> ranges(const Operand<T>& operand) const {
    if (const auto* range = std::get_if<Range<T>>(&operand)) return Ranges<T>{*range};
    const Set* found = ruleset_.find_set(std::get<SetRef>(operand).name);
    const auto* list = found == nullptr ? nullptr : std::get_if<Ranges<T>>(&found->elements);
    return list == nullptr ? Ranges<T>{} : *list;
  }

  template <typename T>
  [[nodiscard]] std::string text(const Operand<T>& operand) const {
    return elements(ranges(operand));
  }

  /// Networks rather than ranges, because the options take no ranges of addresses.
  template <typename Address>
  [[nodiscard]] std::string networks(const Ranges<Address>& list) const {
    std::vector<std::string> texts;
    for (const Range<Address>& range : list) {
      for (const Cidr<Address>& cidr : cidrs_of(range)) texts.push_back(to_text(range_of(cidr)));
    }
    return join(texts, ",");
  }

  /// The addresses of one rule; one family's everything where it names only that, and both where it names none: `*`, or
  /// as an exclusion has to say it.
  [[nodiscard]] std::string addresses(const Rule& rule, const char* every = "*") const {
    if (const auto* four = find<Ipv4In>(rule)) return networks(ranges(four->addresses));
    if (const auto* six = find<Ipv6In>(rule)) return networks(ranges(six->addresses));
    if (const auto* family = find<FamilyIs>(rule)) return family->family == Family::ipv4 ? "0.0.0.0/0" : "::/0";
    return every;
  }

  /// A rule that names no port is for every one: `*`, or as an exclusion has to say it.
  [[nodiscard]] std::string ports(const Rule& rule, const char* every = "*") const {
    const auto* port = find<PortIn>(rule);
    return port == nullptr ? every : text(port->ports);
  }

  [[nodiscard]] std::string interfaces(const Rule& rule) const {
    const auto* match = find<InterfaceIn>(rule);
    if (match == nullptr) return "";
    InterfaceSet patterns;
    if (const auto* one = std::get_if<InterfacePattern>(&match->interfaces)) {
      patterns = {*one};
    } else if (const Set* found = ruleset_.find_set(std::get<SetRef>(match->interfaces).name)) {
      if (const auto* list = std::get_if<InterfaceSet>(&found->elements)) patterns = *list;
    }
    std::vector<std::string> names;
    for (const InterfacePattern& pattern : patterns) names.push_back(pattern.name + (pattern.prefix ? "*" : ""));
    return join(names, ",");
  }

  static std::string mark_text(const Mark& mark) {
    return hex32(mark.value) + (mark.mask == 0xffffffffU ? "" : "/" + hex32(mark.mask));
  }

  // --- Chains ------------------------------------------------------------------------------------------------------------

  void outbound() {
    const Chain* chain = ruleset_.find_chain(chain_name::outbound);
    if (chain == nullptr) return;
    set("priority", std::to_string(chain->priority));
    std::vector<const Rule*> rules;
    for (const Rule& rule : chain->rules) rules.push_back(&rule);
    refused_family(rules);
    for (const Rule* rule : rules) outbound_rule(*rule);
    ports_for_uids(*chain);
    named_loopback(rules);
    tunnels_of_hairpin(*chain);
  }

  /// The family that --ip-family leaves alone is named by the chain that refuses it, and by none if that is not there.
  void refused_family(std::vector<const Rule*>& rules) {
    const auto passing =
        std::find_if(rules.begin(), rules.end(), [](auto* rule) { return rule->name == "other-family"; });
    if (passing == rules.end()) return;
    other_family_ = only_family(**passing);
    const Chain* chain = ruleset_.find_chain(chain_name::outbound_reject);
    if (chain == nullptr || std::any_of(chain->rules.begin(), chain->rules.end(), [](const Rule& rule) {
          return rule.name == "other-family" && std::holds_alternative<Pass>(rule.action);
        }))
      return;
    other_family_is_named_ = true;
    for (const Rule& rule : chain->rules) {
      if (std::holds_alternative<Pass>(rule.action) && only_family(rule) == other_family_) rules.push_back(&rule);
    }
  }

  /// Whether rules tell what the options say of this family.
  [[nodiscard]] bool is_named(Family family) const { return other_family_ != family || other_family_is_named_; }

  void outbound_rule(const Rule& rule) {
    const auto* redirect = std::get_if<Redirect>(&rule.action);
    const std::string port = redirect == nullptr ? "" : std::to_string(redirect->port.number());
    if (rule.name == "other-family") {
      const auto* family = find<FamilyIs>(rule);
      if (family != nullptr) set("ip-family", family->family == Family::ipv6 ? "ipv4" : "ipv6");
    } else if (rule.name == "exclude-interface") {
      set("exclude-interfaces", interfaces(rule));
    } else if (rule.name == "exclude-port" && find<SocketUidIn>(rule) == nullptr) {
      set("exclude-outbound-ports", ports(rule));
    } else if (rule.name == "passthrough") {
      add("passthrough-source", single_addresses(rule));
    } else if (rule.name == "proxy" && rule.matches.size() == 1) {
      identity(rule);
    } else if (rule.name == "hairpin") {
      set("hairpin", "inbound");
      set("inbound-port", port);
    } else if (rule.name == "owner") {
      owner(rule);
    } else if (rule.name == "dns") {
      dns(rule, port);
    } else if (rule.name == "exclude-cidr") {
      add("exclude-outbound-cidrs", addresses(rule, every_address_listed));
    } else if (rule.name == "outbound-port") {
      set("outbound-ports", ports(rule));
      set("proxy-port", port);
    } else if (rule.name == "outbound") {
      add("outbound-cidrs", addresses(rule));
      set("proxy-port", port);
    }
  }

  [[nodiscard]] std::string single_addresses(const Rule& rule) const {
    std::vector<std::string> texts;
    // Somebody may have put a whole network into the rule; its addresses are not counted out.
    constexpr std::size_t limit = 256;
    const auto spell = [&](const auto& list) {
      for (const auto& range : list) {
        for (auto at = std::optional(range.first); at && *at <= range.last && texts.size() < limit; at = next(*at)) {
          texts.push_back(to_text(*at));
        }
      }
    };
    if (const auto* four = find<Ipv4In>(rule)) spell(ranges(four->addresses));
    if (const auto* six = find<Ipv6In>(rule)) spell(ranges(six->addresses));
    return join(texts, ",");
  }

  void identity(const Rule& rule) {
    if (const auto* uid = find<SocketUidIn>(rule)) set("proxy-uid", text(uid->uids));
    if (const auto* gid = find<SocketGidIn>(rule)) set("proxy-gid", text(gid->gids));
    if (const auto* mark = find<PacketMarkIs>(rule)) set("proxy-mark", mark_text(mark->mark));
  }

  /// Of two rules about groups the first is for those of exclude-gids, the second for those that are not in only-gids.
  /// Where there is one, its set has a name, or, for a list of one, the highest group tells: only-gids seldom has it.
  void owner(const Rule& rule) {
    if (const auto* uid = find<SocketUidIn>(rule)) set("exclude-uids", text(uid->uids));
    const auto* gid = find<SocketGidIn>(rule);
    if (gid == nullptr) return;
    const Ranges<Gid> groups = ranges(gid->gids);
    const auto* set_of_them = std::get_if<SetRef>(&gid->gids);
    const bool named = set_of_them != nullptr && !set_of_them->name.starts_with(joined_set);
    const Ranges<Gid> everyone{{Gid{0}, Gid{Gid::highest}}};
    // Those that are not in only-gids are never all.
    const bool seem_excluded = !groups.contains(Gid{Gid::highest}) || groups == everyone;
    const bool excluded = named ? set_of_them->name == "exclude_gids" : seem_excluded;
    if (excluded && !first_groups_) {
      set("exclude-gids", elements(groups));
    } else {
      set("only-gids", elements(everyone.without(groups)));
      if (first_groups_) set("exclude-gids", elements(*first_groups_));
    }
    first_groups_ = groups;
  }

  void dns(const Rule& rule, const std::string& port) {
    set("dns-port", port);
    const bool listed = find<Ipv4In>(rule) != nullptr || find<Ipv6In>(rule) != nullptr;
    set("dns", listed ? "resolv-conf" : "all");
    // Each server has a rule for UDP and one for TCP.
    const auto* protocol = find<ProtocolIs>(rule);
    if (!listed || protocol == nullptr || protocol->protocol != Protocol::udp) return;
    const std::string servers = single_addresses(rule);  // the pieces of a split are views of it
    for (const std::string_view server : split(servers, ',')) {
      if (const auto address = parse_address(server)) result_.name_servers.push_back(*address);
    }
  }

  /// Two rules, one for each protocol, are one entry that names none.
  void ports_for_uids(const Chain& chain) {
    std::vector<const Rule*> rules;
    for (const Rule& rule : chain.rules) {
      if (rule.name == "exclude-port" && find<SocketUidIn>(rule) != nullptr) rules.push_back(&rule);
    }
    for (std::size_t at = 0; at < rules.size(); ++at) {
      const Rule& rule = *rules[at];
      const std::string entry = ports(rule) + ":" + text(find<SocketUidIn>(rule)->uids);
      const auto* protocol = find<ProtocolIs>(rule);
      const bool pair = at + 1 < rules.size() && is_for(rule, Protocol::tcp) && is_for(*rules[at + 1], Protocol::udp) &&
                        ports(*rules[at + 1]) + ":" + text(find<SocketUidIn>(*rules[at + 1])->uids) == entry;
      std::string& all = result_.options["exclude-outbound-ports-for-uids"];
      if (!all.empty()) all += "\n";
      if (!pair && protocol != nullptr) all.append(to_text(protocol->protocol)).append(":");
      all += entry;
      if (pair) ++at;
    }
  }

  /// Where nothing is captured inbound, only the hairpin tells --tunnel-ports; with --dns port 53 takes the same way.
  void tunnels_of_hairpin(const Chain& chain) {
    for (const Rule& rule : chain.rules) {
      const auto* port = find<PortIn>(rule);
      if (rule.name != "proxy" || port == nullptr) continue;
      Ranges<Port> tunnels = ranges(port->ports);
      const Port dns = *Port::from(53);
      if (result_.options.contains("dns")) tunnels = tunnels.without(Ranges<Port>{{dns, dns}});
      if (!tunnels.empty()) set("tunnel-ports", elements(tunnels));
    }
  }

  static bool is_for(const Rule& rule, Protocol protocol) {
    const auto* found = find<ProtocolIs>(rule);
    return found != nullptr && found->protocol == protocol;
  }

  /// Loopback networks that outbound-cidrs names are those that no rule lets pass.
  void named_loopback(const std::vector<const Rule*>& rules) {
    bool all_of_lo = false;
    Ranges<Ipv4> passing_v4;
    Ranges<Ipv6> passing_v6;
    Ranges<Ipv4> captured;
    std::optional<Ranges<Ipv4>> hairpin;  // which names the whole of loopback-cidr
    for (const Rule* at : rules) {
      const Rule& rule = *at;
      const bool on_lo = find<InterfaceIn>(rule) != nullptr;
      const auto* four = find<Ipv4In>(rule);
      if (rule.name == "outbound") captured = four != nullptr ? ranges(four->addresses) : captured_by(rule, captured);
      if (rule.name == "proxy" && on_lo && four != nullptr) hairpin = ranges(four->addresses);
      if (rule.name != "loopback") continue;
      all_of_lo = all_of_lo || on_lo;
      if (four != nullptr && !on_lo) passing_v4 = ranges(four->addresses);
      if (const auto* six = find<Ipv6In>(rule); six != nullptr && !on_lo) passing_v6 = ranges(six->addresses);
    }
    const Ranges<Ipv6> loopback_v6{{Ipv6{0, 1}, Ipv6{0, 1}}};
    if (!is_named(Family::ipv4)) passing_v4 = loopback_network();
    if (!is_named(Family::ipv6)) passing_v6 = loopback_v6;
    if (all_of_lo) {
      if (passing_v4.size() == 1) set("loopback-cidr", networks(passing_v4));
      return;
    }
    const Ranges<Ipv4> loopback_v4 = hairpin ? *hairpin : loopback_of(passing_v4, captured);
    set("loopback-cidr", networks(loopback_v4));
    Ranges<Ipv4> named_v4 = loopback_v4.without(passing_v4);
    Ranges<Ipv6> named_v6 = loopback_v6.without(passing_v6);
    if (named_v4.empty() && named_v6.empty()) {
      // One network was named, or lo would pass as a whole: in a family of which no rule tells, any will do.
      if (!is_named(Family::ipv6)) {
        named_v6 = loopback_v6;
      } else if (!is_named(Family::ipv4)) {
        named_v4 = loopback_network();
      } else {
        // What of a family that is left alone would be captured is told by no rule.
        const bool told = other_family_ != Family::ipv4;
        named_v4 = one_beside(loopback_v4, told ? captured : Ranges<Ipv4>{every_address<Ipv4>()});
      }
    }
    if (!named_v4.empty()) add("outbound-cidrs", networks(named_v4));
    if (!named_v6.empty()) add("outbound-cidrs", networks(named_v6));
  }

  static Ranges<Ipv4> loopback_network() { return {range_of(Cidr<Ipv4>{Ipv4{0x7f000000U}, 8})}; }

  static Ranges<Ipv4> common(const Ranges<Ipv4>& a, const Ranges<Ipv4>& b) { return a.without(a.without(b)); }

  /// A network that is captured, of 127.0.0.0/8 but not of --loopback-cidr: to name one keeps lo from passing as a
  /// whole.
  static Ranges<Ipv4> one_beside(const Ranges<Ipv4>& loopback, const Ranges<Ipv4>& captured) {
    const auto both = common(loopback_network().without(loopback), captured);
    return both.empty() ? both : Ranges<Ipv4>{range_of(cidrs_of(both.front()).front())};
  }

  /// The IPv4 addresses of a rule that names none: all, unless it is for IPv6.
  static Ranges<Ipv4> captured_by(const Rule& rule, const Ranges<Ipv4>& before) {
    return only_family(rule) == Family::ipv6 ? before : Ranges<Ipv4>{every_address<Ipv4>()};
  }

  /// What --loopback-cidr may have been, where some of it is captured because --outbound-cidrs names it: the default if
  /// whatever of that does not pass is captured, else the least that explains the rules.
  static Ranges<Ipv4> loopback_of(const Ranges<Ipv4>& passing, const Ranges<Ipv4>& captured) {
    auto whole = loopback_network();
    const auto named = whole.without(passing);
    if (std::all_of(named.begin(), named.end(), [&](const auto& range) { return captured.covers(range); }))
      return whole;
    const auto seen = passing.empty() ? common(whole, captured) : passing;
    if (seen.empty()) return whole;
    const Range<Ipv4> around = passing.empty() ? range_of(cidrs_of(seen.front()).front())
                                               : Range<Ipv4>{passing.front().first, std::prev(passing.end())->last};
    // The bits in which its first and its last address differ, and all below.
    unsigned free_bits = 0;
    while (around.first.value >> free_bits != around.last.value >> free_bits) ++free_bits;
    const Ipv4 network{around.first.value >> free_bits << free_bits};
    return {range_of(Cidr<Ipv4>{network, static_cast<unsigned>(Ipv4::bits) - free_bits})};
  }

  void outbound_reject() {
    const Chain* chain = ruleset_.find_chain(chain_name::outbound_reject);
    if (chain == nullptr) return;
    for (const Rule& rule : chain->rules) {
      if (!std::holds_alternative<Reject>(rule.action)) continue;
      if (rule.name == "udp") set("udp", "reject:" + ports(rule));
      if (rule.name == "other-family") set("other-family", "reject");
    }
  }

  void inbound() {
    const Chain* transparent = ruleset_.find_chain(chain_name::inbound_tproxy);
    const Chain* redirecting = ruleset_.find_chain(chain_name::inbound);
    set("inbound-mode", "off");
    if (const Chain* route = ruleset_.find_chain(chain_name::outbound_route)) no_transparent_port(*route);
    if (redirecting != nullptr) inbound_chain(*redirecting);
    if (transparent != nullptr) inbound_chain(*transparent);
  }

  /// The chain that --inbound-mode tproxy has in any case: what another one captures is said when that is read.
  void no_transparent_port(const Chain& route) {
    for (const Rule& rule : route.rules) {
      const auto* mark = std::get_if<SetPacketMark>(&rule.action);
      if (mark == nullptr) continue;
      set("inbound-mode", "tproxy");
      set("inbound-ports", "");
      set("tproxy-mark", std::to_string(mark->mark));
    }
  }

  void inbound_chain(const Chain& chain) {
    bool captures = false;
    bool passes_forwarded = false;
    std::string excluded;
    for (const Rule& rule : chain.rules) {
      if (rule.name == "exclude-interface") set("exclude-interfaces", interfaces(rule));
      if (rule.name == "virtual-interface" && rule.matches.size() == 1) set("virtual-interfaces", interfaces(rule));
      if (rule.name == "tunnel") set("tunnel-ports", ports(rule, every_port_listed));
      if (rule.name == "exclude-port") set("exclude-inbound-ports", ports(rule, every_port_listed));
      if (rule.name == "exclude-cidr" && find<InterfaceIn>(rule) == nullptr)
        excluded += (excluded.empty() ? "" : ",") + addresses(rule, every_address_listed);
      passes_forwarded = passes_forwarded || rule.name == "forwarded";
      if (rule.name != "inbound") continue;
      captures = true;
      set("inbound-ports", ports(rule));
      if (const auto* redirect = std::get_if<Redirect>(&rule.action)) {
        set("inbound-mode", "redirect");
        set("inbound-port", std::to_string(redirect->port.number()));
      }
      if (const auto* tproxy = std::get_if<Tproxy>(&rule.action)) {
        set("inbound-mode", "tproxy");
        set("inbound-port", std::to_string(tproxy->port.number()));
        set("tproxy-mark", std::to_string(tproxy->mark));
      }
    }
    if (!excluded.empty()) set("exclude-inbound-cidrs", excluded);
    if (captures && !passes_forwarded) set("forwarded", "capture");
  }

  void guard() {
    const Chain* chain = ruleset_.find_chain(chain_name::inbound_guard);
    if (chain == nullptr) return set("proxy-port-access", "capture");
    for (const Rule& rule : chain->rules) {
      const auto* port = find<PortIn>(rule);
      if (rule.name != "proxy-port" || port == nullptr) continue;
      if (!result_.options.contains("proxy-port")) proxy_port_of(ranges(port->ports));
      if (!result_.options.contains("inbound-port")) inbound_port_of(ranges(port->ports));
    }
  }

  /// The first of the proxy's own ports that is none of those said already.
  [[nodiscard]] std::optional<Port> unsaid(const Ranges<Port>& own) const {
    const auto is_said = [&](const char* option, Port port) {
      const auto said = result_.options.find(option);
      return said != result_.options.end() && said->second == std::to_string(port.number());
    };
    for (const Range<Port>& range : own) {
      constexpr int limit = 4;  // there are three at most
      auto port = std::optional(range.first);
      for (int count = 0; count < limit && port && *port <= range.last; ++count, port = next(*port)) {
        if (!is_said("proxy-port", *port) && !is_said("inbound-port", *port) && !is_said("dns-port", *port))
          return port;
      }
    }
    return std::nullopt;
  }

  /// Where no rule captures anything inbound, one more of the proxy's own ports is an --inbound-port to which an empty
  /// list of ports leads.
  void inbound_port_of(const Ranges<Port>& own) {
    const auto port = unsaid(own);
    if (!port) return;
    set("inbound-port", std::to_string(port->number()));
    if (result_.options["inbound-mode"] == "off") set("inbound-mode", "redirect");
    set("inbound-ports", "");
  }

  /// Where nothing is redirected outbound, --proxy-port is known only as one of the proxy's own ports: the one that is
  /// none of the others, or else the default or one of those.
  void proxy_port_of(const Ranges<Port>& own) {
    if (const auto port = unsaid(own)) return set("proxy-port", std::to_string(port->number()));
    const Port assumed = Settings{}.proxy_port;
    const Port found = own.empty() || own.contains(assumed) ? assumed : own.front().first;
    set("proxy-port", std::to_string(found.number()));
  }

  void leave_out_defaults() {
    auto& options = result_.options;
    if (options["proxy-uid"].empty() && options["proxy-gid"].empty() && options["proxy-mark"].empty()) {
      options.erase("proxy-uid");
    }
    if (options["inbound-mode"] != "tproxy") options.erase("tproxy-mark");
    // The default of --inbound-port is the value of --proxy-port.
    const auto proxy_port = options.find("proxy-port");
    const std::string fallback =
        proxy_port == options.end() ? std::string(find_option("proxy-port")->fallback) : proxy_port->second;
    if (options["inbound-port"] == fallback) options.erase("inbound-port");
    for (auto at = options.begin(); at != options.end();) {
      at = at->second == find_option(at->first)->fallback ? options.erase(at) : std::next(at);
    }
  }

  const Ruleset& ruleset_;
  Recovered result_;
  std::optional<Family> other_family_;       ///< which --ip-family leaves alone
  bool other_family_is_named_ = false;       ///< by rules that refuse it
  std::optional<Ranges<Gid>> first_groups_;  ///< of the first rule about groups
};

}  // namespace

Recovered recover(const Ruleset& ruleset) {
  Ruleset whole = ruleset;
  for (Chain& chain : whole.chains) Joining(whole).join_pieces(chain.rules);
  return Recovering(whole).run();
}

Ruleset without_iptables_repetitions(Ruleset ruleset) {
  for (Chain& chain : ruleset.chains) Joining(ruleset).join(chain.rules);
  return ruleset;
}

std::optional<Config> config_of(const Recovered& recovered) {
  RawConfig raw;
  for (const auto& [name, text] : recovered.options) {
    // Entries of this option hold commas of their own, so each is said by itself.
    for (const std::string_view value : split(text, '\n')) {
      raw[name].push_back({std::string(value), {Source::file, name}});
    }
  }
  const Lookups lookups{[](std::string_view) { return std::nullopt; }, [](std::string_view) { return std::nullopt; },
                        [&] { return recovered.name_servers; }};
  return validate(raw, lookups).config;
}

}  // namespace sluice
