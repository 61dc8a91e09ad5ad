#include "rules/iptables_drift.hpp"

#include <algorithm>

#include "rules/iptables_text.hpp"
#include "rules/list_diff.hpp"
#include "rules/nft_text.hpp"

namespace sluice {
namespace {

/// `ip6 nat OUTPUT`
std::string place(Family family, IptablesTableKind kind, std::string_view chain) {
  return std::string(family == Family::ipv4 ? "ip " : "ip6 ") + std::string(to_text(kind)) + " " + std::string(chain);
}

std::string jump_text(Hook hook, const std::string& chain) {
  return "-A " + std::string(iptables_name(hook)) + " -j " + chain;
}

class Differ {
 public:
  std::vector<Difference> run(const IptablesRuleset& wanted, const ObservedIptables& found) {
    for (const IptablesTable& table : wanted.tables) {
      const auto match = std::find_if(found.tables.begin(), found.tables.end(), [&](const auto& candidate) {
        return candidate.family == table.family && candidate.kind == table.kind;
      });
      one_table(table, match == found.tables.end() ? ObservedIptablesTable{table.family, table.kind, {}, {}} : *match);
    }
    for (const ObservedIptablesTable& table : found.tables) {
      const bool known = std::any_of(wanted.tables.begin(), wanted.tables.end(), [&](const auto& candidate) {
        return candidate.family == table.family && candidate.kind == table.kind;
      });
      if (!known) one_table({table.family, table.kind, {}, {}}, table);
    }
    return std::move(differences_);
  }

 private:
  void note(Difference difference) { differences_.push_back(std::move(difference)); }

  void one_table(const IptablesTable& wanted, const ObservedIptablesTable& found) {
    const auto at = [&](std::string_view chain) { return place(wanted.family, wanted.kind, chain); };
    for (const Hook hook : {Hook::prerouting, Hook::input, Hook::output}) jumps(wanted, found, hook);
    for (const IptablesChain& chain : wanted.chains) {
      const auto match = std::find_if(found.chains.begin(), found.chains.end(),
                                      [&](const auto& candidate) { return candidate.name == chain.name; });
      if (match == found.chains.end()) {
        note({"", at(chain.name), "missing", "chain " + chain.name, ""});
      } else {
        rules(at(chain.name), wanted.family, chain, *match);
      }
    }
    for (const ObservedIptablesChain& chain : found.chains) {
      const bool known = std::any_of(wanted.chains.begin(), wanted.chains.end(),
                                     [&](const auto& candidate) { return candidate.name == chain.name; });
      if (!known) note({"", at(chain.name), "unexpected", "", "chain " + chain.name});
    }
  }

  /// Ours are to be the first rules of the chain, in our order.
  void jumps(const IptablesTable& wanted, const ObservedIptablesTable& found, Hook hook) {
    std::vector<IptablesJump> expected;
    std::vector<ObservedJump> seen;
    const auto here = [&](const auto& jump) { return jump.hook == hook; };
    std::copy_if(wanted.jumps.begin(), wanted.jumps.end(), std::back_inserter(expected), here);
    std::copy_if(found.jumps.begin(), found.jumps.end(), std::back_inserter(seen), here);
    const std::string at = place(wanted.family, wanted.kind, iptables_name(hook));
    const std::size_t before = differences_.size();
    compare_lists(
        expected, seen, [](const IptablesJump& a, const ObservedJump& b) { return a.chain == b.chain && b.plain; },
        [&](const IptablesJump& jump) {
          note({"", at, "missing", jump_text(hook, jump.chain), ""});
        },
        [&](const ObservedJump& jump) {
          note({"", at, "unexpected", "", jump_text(hook, jump.chain)});
        },
        [&](const IptablesJump& jump, const ObservedJump& other) {
          note({"", at, "changed", jump_text(hook, jump.chain), jump_text(hook, other.chain)});
        });
    if (differences_.size() != before) return;
    for (std::size_t wanted_at = 0; wanted_at < seen.size(); ++wanted_at) {
      const std::string jump = jump_text(hook, seen[wanted_at].chain) + " as rule ";
      if (seen[wanted_at].position == wanted_at) continue;
      note({"", at, "changed", jump + std::to_string(wanted_at + 1),
            jump + std::to_string(seen[wanted_at].position + 1)});
    }
  }

  void rules(const std::string& at, Family family, const IptablesChain& wanted, const ObservedIptablesChain& found) {
    compare_lists(
        wanted.rules, found.rules,
        [&](const IptablesRule& rule, const ObservedIptablesRule& other) {
          return other.rule ? *other.rule == rule : other.text == to_text(rule, family);
        },
        [&](const IptablesRule& rule) {
          note({rule.name, at, "missing", to_text(rule, family), ""});
        },
        [&](const ObservedIptablesRule& rule) {
          note({rule.name, at, "unexpected", "", rule.text});
        },
        [&](const IptablesRule& rule, const ObservedIptablesRule& other) {
          note({rule.name, at, "changed", to_text(rule, family), other.text});
        });
  }

  std::vector<Difference> differences_;
};

/// From iptables' terms back to the Ruleset's.
class Reader {
 public:
  Observed run(const ObservedIptables& found) {
    for (const ObservedIptablesTable& table : found.tables) {
      for (const ObservedIptablesChain& chain : table.chains) {
        if (const auto base = base_of(table, chain.name)) read(table, chain, *base);
      }
    }
    return std::move(observed_);
  }

 private:
  /// The chain of the Ruleset that this one stands for; nothing for those that only carry a target.
  static std::optional<Chain> base_of(const ObservedIptablesTable& table, const std::string& name) {
    const auto place = ruleset_chain(name);
    if (!place) return std::nullopt;
    const BuiltinChain* builtin = nullptr;
    for (const BuiltinChain& candidate : builtin_chains(table.kind)) {
      if (candidate.name == iptables_name(place->hook)) builtin = &candidate;
    }
    if (builtin == nullptr) return std::nullopt;
    return Chain{place->name, builtin->type, place->hook, builtin->priority, {}};
  }

  void read(const ObservedIptablesTable& table, const ObservedIptablesChain& chain, const Chain& base) {
    const bool reached = std::any_of(table.jumps.begin(), table.jumps.end(), [&](const ObservedJump& jump) {
      return jump.chain == chain.name && jump.hook == base.hook;
    });
    ObservedChain& target = chain_named(base.name);
    if (reached) target.base = base;
    for (const ObservedIptablesRule& rule : chain.rules) {
      ObservedRule& observed = target.rules.emplace_back();
      observed.comment = rule.name;
      observed.counters = rule.counters;
      auto meant = rule.rule ? meaning(table, *rule.rule) : std::nullopt;
      if (meant) {
        observed.rule = *std::move(meant);
      } else {
        observed.rule = Opaque{rule.text};
      }
    }
  }

  ObservedChain& chain_named(const std::string& name) {
    for (ObservedChain& chain : observed_.chains) {
      if (chain.name == name) return chain;
    }
    ObservedChain& chain = observed_.chains.emplace_back();
    chain.name = name;
    return chain;
  }

  std::optional<Rule> meaning(const ObservedIptablesTable& table, const IptablesRule& rule) {
    Rule meant{rule.name, {}, Pass{}};
    if (!rule.source && !rule.destination) meant.matches.emplace_back(FamilyIs{table.family});
    if (rule.in) meant.matches.emplace_back(InterfaceIn{Direction::in, *rule.in});
    if (rule.out) meant.matches.emplace_back(InterfaceIn{Direction::out, *rule.out});
    add_address(meant, Side::source, rule.source);
    add_address(meant, Side::destination, rule.destination);
    if (rule.protocol) meant.matches.emplace_back(ProtocolIs{*rule.protocol});
    for (const IptablesMatch& match : rule.matches) meant.matches.push_back(match_of(match));
    const auto action = action_of(table, rule.target);
    if (!action) return std::nullopt;
    meant.action = *action;
    return meant;
  }

  static void add_address(Rule& meant, Side side, const std::optional<Network>& network) {
    if (!network) return;
    std::visit(Overloaded{[&](const Cidr<Ipv4>& cidr) {
                            meant.matches.emplace_back(Ipv4In{side, range_of(cidr)});
                          },
                          [&](const Cidr<Ipv6>& cidr) {
                            meant.matches.emplace_back(Ipv6In{side, range_of(cidr)});
                          }},
               *network);
  }

  Match match_of(const IptablesMatch& match) {
    return std::visit(Overloaded{
                          [](const PortRange& m) -> Match {
                            return PortIn{m.side, m.ports};
                          },
                          [&](const PortsIn& m) -> Match {
                            return PortIn{m.side, SetRef{set_of(m.ports)}};
                          },
                          [](const UidRange& m) -> Match { return SocketUidIn{m.uids}; },
                          [](const GidRange& m) -> Match { return SocketGidIn{m.gids}; },
                          [](const auto& same) -> Match { return same; },
                      },
                      match);
  }

  std::string set_of(const std::vector<Range<Port>>& ports) {
    const SetElements elements = Ranges<Port>(ports);
    std::string name = "{ " + to_nft(elements) + " }";
    const bool known = std::any_of(observed_.sets.begin(), observed_.sets.end(),
                                   [&](const ObservedSet& set) { return set.name == name; });
    if (!known) observed_.sets.push_back({name, elements});
    return name;
  }

  /// A jump into a chain of ours means what the first rule there does.
  static std::optional<Action> action_of(const ObservedIptablesTable& table, const IptablesTarget& target) {
    return std::visit(Overloaded{
                          [](const Return&) -> std::optional<Action> { return Pass{}; },
                          [&](const JumpTo& t) { return action_in(table, t.chain); },
                          [&](const GoTo& t) { return action_in(table, t.chain); },
                          [](const auto& same) -> std::optional<Action> { return same; },
                      },
                      target);
  }

  static std::optional<Action> action_in(const ObservedIptablesTable& table, const std::string& name) {
    for (const ObservedIptablesChain& chain : table.chains) {
      if (chain.name != name || chain.rules.empty() || !chain.rules.front().rule) continue;
      const IptablesTarget& target = chain.rules.front().rule->target;
      if (std::holds_alternative<JumpTo>(target) || std::holds_alternative<GoTo>(target)) return std::nullopt;
      return action_of(table, target);
    }
    return std::nullopt;
  }

  Observed observed_;
};

}  // namespace

std::vector<Difference> diff(const IptablesRuleset& wanted, const ObservedIptables& found) {
  return Differ().run(wanted, found);
}

Observed to_observed(const ObservedIptables& found) { return Reader().run(found); }

}  // namespace sluice
