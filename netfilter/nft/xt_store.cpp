#include <arpa/inet.h>
#include <endian.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "netfilter/errors.hpp"
#include "netfilter/nft/bytes.hpp"
#include "netfilter/nft/handles.hpp"
#include "netfilter/nft/objects.hpp"
#include "netfilter/nft/store.hpp"
#include "netfilter/nft/xt_codec.hpp"
#include "rules/iptables_drift.hpp"
#include "rules/iptables_text.hpp"
#include "rules/text.hpp"

namespace sluice::netfilter {
namespace {

// The mark in the user data of tables and base chains that we made, so that cleanup can tell them from those of others.
// Neither nft nor iptables knows the type, so neither shows it. Kernels before 5.10 do not keep user data of tables and
// chains; there an empty table stays behind.
constexpr std::uint8_t made_by_us = 115;

struct FoundRule {
  std::uint64_t handle = 0;
  Counters counters;
  Expressions expressions;
};

struct FoundChain {
  std::string name;
  bool base = false;
  std::string type;
  std::uint32_t hook = 0;
  std::int32_t priority = 0;
  bool accepts = true;
  bool made_by_us = false;
  std::vector<FoundRule> rules;  ///< read where we made the chain, or where a jump of ours may be

  [[nodiscard]] bool ours() const { return !base && std::string_view(name).starts_with(iptables_chain_prefix); }
};

struct FoundTable {
  Family family;
  IptablesTableKind kind;
  bool made_by_us = false;
  std::uint32_t use = 0;  ///< objects in it
  std::vector<FoundChain> chains;

  [[nodiscard]] bool has_ours() const {
    return std::any_of(chains.begin(), chains.end(), [](const FoundChain& chain) { return chain.ours(); });
  }
  [[nodiscard]] const FoundChain* find(std::string_view name) const {
    const auto found =
        std::find_if(chains.begin(), chains.end(), [&](const FoundChain& chain) { return chain.name == name; });
    return found == chains.end() ? nullptr : &*found;
  }
};

std::uint8_t number_of(Family family) {
  return static_cast<std::uint8_t>(family == Family::ipv4 ? NFPROTO_IPV4 : NFPROTO_IPV6);
}

std::optional<Family> family_from(std::uint8_t number) {
  if (number == NFPROTO_IPV4) return Family::ipv4;
  if (number == NFPROTO_IPV6) return Family::ipv6;
  return std::nullopt;
}

std::optional<IptablesTableKind> kind_from(std::string_view name) {
  for (const auto kind :
       {IptablesTableKind::mangle, IptablesTableKind::raw, IptablesTableKind::filter, IptablesTableKind::nat}) {
    if (name == to_text(kind)) return kind;
  }
  return std::nullopt;
}

/// `ip6 nat`
std::string shown(Family family, IptablesTableKind kind) {
  return (family == Family::ipv4 ? "ip " : "ip6 ") + std::string(to_text(kind));
}

Bytes made_by_us_data() {
  const std::uint8_t yes = 1;
  return user_data(made_by_us, &yes, sizeof yes);
}

/// The chain of ours that a rule leads to, if it does.
const std::string* jumps_to_ours(const FoundRule& rule) {
  for (const Expression& expression : rule.expressions) {
    const auto* jump = std::get_if<Jump>(&expression);
    if (jump != nullptr && std::string_view(jump->chain).starts_with(iptables_chain_prefix)) return &jump->chain;
  }
  return nullptr;
}

/// A base chain that we made and that is as we made it, our jumps aside.
bool is_idle(const FoundChain& chain) {
  return chain.base && chain.made_by_us && chain.accepts &&
         std::all_of(chain.rules.begin(), chain.rules.end(),
                     [](const FoundRule& rule) { return jumps_to_ours(rule) != nullptr; });
}

bool can_be_removed(const FoundTable& table) {
  return table.made_by_us && table.use == table.chains.size() &&
         std::all_of(table.chains.begin(), table.chains.end(),
                     [](const FoundChain& chain) { return chain.ours() || is_idle(chain); });
}

std::optional<Hook> hook_named(std::string_view chain) {
  for (const Hook hook : {Hook::prerouting, Hook::input, Hook::output}) {
    if (chain == iptables_name(hook)) return hook;
  }
  return std::nullopt;
}

class XtStore : public NftStore {
 public:
  explicit XtStore(const IptablesRuleset* wanted) : wanted_(wanted) {}

  // --- Reading ---------------------------------------------------------------------------------------------------------

  void read(NftSession& session) override {
    tables_.clear();
    read_chains(session);
    std::erase_if(tables_, [&](const FoundTable& table) {
      return !table.has_ours() && wanted_table(table.family, table.kind) == nullptr;
    });
    for (FoundTable& table : tables_) {
      read_table(session, table);
      for (FoundChain& chain : table.chains) {
        // Not by the chain's use count, which a transaction that somebody prepares has changed already.
        if (chain.ours() || chain.made_by_us || (chain.base && hook_named(chain.name))) {
          read_rules(session, table, chain);
        }
      }
    }
  }

  [[nodiscard]] bool present() const override {
    return std::any_of(tables_.begin(), tables_.end(), [](const FoundTable& table) { return table.has_ours(); });
  }

  [[nodiscard]] std::optional<Observed> observed() const override {
    if (!present()) return std::nullopt;
    return to_observed(found());
  }

  [[nodiscard]] std::vector<Difference> differences() const override { return diff(*wanted_, found()); }

  [[nodiscard]] std::vector<std::string> removals() const override {
    std::vector<std::string> words;
    for (const FoundTable& table : tables_) {
      if (!table.has_ours()) continue;
      for (const FoundChain& chain : table.chains) {
        if (chain.ours())
          words.push_back("iptables chain " + shown(table.family, table.kind) + " " + printable(chain.name));
      }
    }
    return words;
  }

  // --- Writing ---------------------------------------------------------------------------------------------------------

  void add_removal(OpenBatch& batch) const override {
    for (const FoundTable& table : tables_) {
      if (table.has_ours()) remove_from(batch, table);
    }
  }

  void add_rules(OpenBatch& batch) const override {
    for (const FoundTable& found : tables_) {
      const IptablesTable* wanted = wanted_table(found.family, found.kind);
      if (wanted == nullptr) {
        remove_from(batch, found);
      } else {
        empty(batch, found, *wanted);
      }
    }
    for (const IptablesTable& table : wanted_->tables) fill(batch, table);
  }

 private:
  [[nodiscard]] const IptablesTable* wanted_table(Family family, IptablesTableKind kind) const {
    if (wanted_ == nullptr) return nullptr;
    const auto match = std::find_if(wanted_->tables.begin(), wanted_->tables.end(), [&](const IptablesTable& table) {
      return table.family == family && table.kind == kind;
    });
    return match == wanted_->tables.end() ? nullptr : &*match;
  }

  [[nodiscard]] const FoundTable* found_table(Family family, IptablesTableKind kind) const {
    const auto match = std::find_if(tables_.begin(), tables_.end(), [&](const FoundTable& table) {
      return table.family == family && table.kind == kind;
    });
    return match == tables_.end() ? nullptr : &*match;
  }

  void read_chains(NftSession& session) {
    session.ask(
        NFT_MSG_GETCHAIN, NFPROTO_UNSPEC, NetlinkSocket::Answer::dump, "read the chains of iptables", [](nlmsghdr*) {},
        [&](const nlmsghdr& reply) {
          // Chains of other tables are not looked into.
          ChainObject chain = chain_in(reply);
          const auto family = family_from(chain.family);
          const auto kind = kind_from(chain.table);
          if (!family || !kind) return;
          auto table = std::find_if(tables_.begin(), tables_.end(), [&](const FoundTable& candidate) {
            return candidate.family == *family && candidate.kind == *kind;
          });
          if (table == tables_.end()) table = tables_.insert(tables_.end(), FoundTable{*family, *kind, false, 0, {}});
          table->chains.push_back(found_chain(std::move(chain)));
        });
  }

  static FoundChain found_chain(ChainObject&& chain) {
    FoundChain found;
    found.name = std::move(chain.name);
    found.base = chain.hook.has_value();
    if (!found.base) return found;
    found.type = std::move(chain.type);
    found.hook = chain.hook->number;
    found.priority = chain.hook->priority;
    found.accepts = chain.accepts;
    found.made_by_us = chain.user_data == made_by_us_data();
    return found;
  }

  static void read_table(NftSession& session, FoundTable& found) {
    session.ask(
        NFT_MSG_GETTABLE, number_of(found.family), NetlinkSocket::Answer::one,
        "read table " + shown(found.family, found.kind),
        [&](nlmsghdr* message) { mnl_attr_put_strz(message, NFTA_TABLE_NAME, name_of(found.kind).c_str()); },
        [&](const nlmsghdr& reply) {
          const TableObject table = table_in(reply);
          found.use = table.use;
          found.made_by_us = table.user_data == made_by_us_data();
        });
  }

  static void read_rules(NftSession& session, const FoundTable& table, FoundChain& chain) {
    session.ask(
        NFT_MSG_GETRULE, number_of(table.family), NetlinkSocket::Answer::dump,
        "read the rules of " + shown(table.family, table.kind) + " " + chain.name,
        [&](nlmsghdr* message) {
          mnl_attr_put_strz(message, NFTA_RULE_TABLE, name_of(table.kind).c_str());
          mnl_attr_put_strz(message, NFTA_RULE_CHAIN, chain.name.c_str());
        },
        [&](const nlmsghdr& reply) {
          RuleObject rule = rule_in(reply);
          if (rule.chain != chain.name) return;
          FoundRule& found = chain.rules.emplace_back();
          found.handle = rule.handle;
          found.expressions = std::move(rule.expressions);
          for (const Expression& expression : found.expressions) {
            if (const auto* count = std::get_if<Count>(&expression)) found.counters = {count->packets, count->bytes};
          }
        });
  }

  [[nodiscard]] ObservedIptables found() const {
    ObservedIptables all;
    for (const FoundTable& table : tables_) {
      if (!table.has_ours()) continue;
      ObservedIptablesTable& observed =
          all.tables.emplace_back(ObservedIptablesTable{table.family, table.kind, {}, {}});
      for (const FoundChain& chain : table.chains) {
        if (chain.ours()) {
          observed.chains.push_back(observed_chain(chain, table.family));
        } else if (const auto hook = hook_named(chain.name)) {
          add_jumps(observed, chain, *hook);
        }
      }
    }
    return all;
  }

  static void add_jumps(ObservedIptablesTable& observed, const FoundChain& chain, Hook hook) {
    for (std::size_t position = 0; position < chain.rules.size(); ++position) {
      const std::string* target = jumps_to_ours(chain.rules[position]);
      if (target == nullptr) continue;
      const bool plain = chain.rules[position].expressions == Expressions{Count{}, Jump{NFT_JUMP, *target}};
      observed.jumps.push_back({hook, printable(*target), position, plain});
    }
  }

  static ObservedIptablesChain observed_chain(const FoundChain& chain, Family family) {
    ObservedIptablesChain observed{printable(chain.name), {}};
    for (const FoundRule& rule : chain.rules) {
      ObservedIptablesRule& shown_rule = observed.rules.emplace_back();
      shown_rule.counters = rule.counters;
      shown_rule.rule = iptables_rule_from(rule.expressions, family);
      if (shown_rule.rule) shown_rule.name = shown_rule.rule->name = quotable(shown_rule.rule->name);
      shown_rule.text = shown_rule.rule ? to_text(*shown_rule.rule, family) : netfilter::to_text(rule.expressions);
    }
    return observed;
  }

  // --- Removing --------------------------------------------------------------------------------------------------------

  static void remove_from(OpenBatch& batch, const FoundTable& table) {
    if (can_be_removed(table)) {
      const std::string what = "delete table " + shown(table.family, table.kind);
      batch.add(
          number_of(table.family), NFT_MSG_DELTABLE, 0,
          [what] {
            return Label{what, {}};
          },
          [&](nlmsghdr* message) { mnl_attr_put_strz(message, NFTA_TABLE_NAME, name_of(table.kind).c_str()); });
      return;
    }
    take_out_rules(batch, table);
    for (const FoundChain& chain : table.chains) {
      if (chain.ours() || (table.has_ours() && is_idle(chain))) delete_chain(batch, table, chain);
    }
  }

  /// Chains that will be filled again stay, so that a rule somebody else has in them keeps its target.
  static void empty(OpenBatch& batch, const FoundTable& table, const IptablesTable& wanted) {
    take_out_rules(batch, table);
    for (const FoundChain& chain : table.chains) {
      const bool stays = std::any_of(wanted.chains.begin(), wanted.chains.end(),
                                     [&](const IptablesChain& other) { return other.name == chain.name; });
      if (chain.ours() && !stays) delete_chain(batch, table, chain);
    }
  }

  /// Our jumps, one by one, and everything in our chains.
  static void take_out_rules(OpenBatch& batch, const FoundTable& table) {
    for (const FoundChain& chain : table.chains) {
      if (chain.ours() && !chain.rules.empty()) delete_rules(batch, table, chain, std::nullopt);
      if (chain.ours()) continue;
      for (const FoundRule& rule : chain.rules) {
        if (jumps_to_ours(rule) != nullptr) delete_rules(batch, table, chain, rule.handle);
      }
    }
  }

  /// One rule, or all of the chain.
  static void delete_rules(OpenBatch& batch, const FoundTable& table, const FoundChain& chain,
                           std::optional<std::uint64_t> handle) {
    const std::string what = "delete rules of " + shown(table.family, table.kind) + " " + chain.name;
    batch.add(
        number_of(table.family), NFT_MSG_DELRULE, 0,
        [what] {
          return Label{what, {}};
        },
        [&](nlmsghdr* message) {
          mnl_attr_put_strz(message, NFTA_RULE_TABLE, name_of(table.kind).c_str());
          mnl_attr_put_strz(message, NFTA_RULE_CHAIN, chain.name.c_str());
          if (handle) mnl_attr_put_u64(message, NFTA_RULE_HANDLE, htobe64(*handle));
        });
  }

  static void delete_chain(OpenBatch& batch, const FoundTable& table, const FoundChain& chain) {
    const std::string what = "delete chain " + shown(table.family, table.kind) + " " + chain.name +
                             (chain.ours() ? ", to which no other rule may jump" : "");
    batch.add(
        number_of(table.family), NFT_MSG_DELCHAIN, 0,
        [what] {
          return Label{what, {}};
        },
        [&](nlmsghdr* message) {
          mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, name_of(table.kind).c_str());
          mnl_attr_put_strz(message, NFTA_CHAIN_NAME, chain.name.c_str());
        });
  }

  // --- Adding ----------------------------------------------------------------------------------------------------------

  void fill(OpenBatch& batch, const IptablesTable& table) const {
    const FoundTable* found = found_table(table.family, table.kind);
    add_table(batch, table);
    for (const BuiltinChain& chain : builtin_chains(table.kind)) {
      const FoundChain* existing = found == nullptr ? nullptr : found->find(chain.name);
      if (existing == nullptr) {
        add_base_chain(batch, table, chain);
      } else {
        insist_on(table, chain, *existing);
      }
    }
    for (const IptablesChain& chain : table.chains) {
      if (found == nullptr || found->find(chain.name) == nullptr) add_chain(batch, table, chain);
    }
    for (const IptablesChain& chain : table.chains) {
      for (const IptablesRule& rule : chain.rules) {
        add_rule(batch, table, chain.name, rule, NLM_F_CREATE | NLM_F_APPEND);
      }
    }
    // Each goes to the front, so the last comes first.
    for (auto jump = table.jumps.rbegin(); jump != table.jumps.rend(); ++jump) {
      add_rule(batch, table, std::string(iptables_name(jump->hook)),
               IptablesRule{{}, {}, {}, {}, {}, {}, {}, JumpTo{jump->chain}}, NLM_F_CREATE);
    }
  }

  /// Somebody's own chain may bear the name of iptables'; then neither iptables nor we can use the table.
  static void insist_on(const IptablesTable& table, const BuiltinChain& wanted, const FoundChain& found) {
    if (found.base && found.type == to_text(wanted.type) && found.hook == wanted.hook &&
        found.priority == wanted.priority) {
      return;
    }
    throw KernelError(KernelError::Kind::refused, EEXIST,
                      "use chain " + found.name + " of table " + shown(table.family, table.kind) +
                          ", which is not as iptables makes it",
                      {},
                      "see who made it with nft list chain " + shown(table.family, table.kind) + " " + found.name +
                          ", or use --backend nftables, which shares no table");
  }

  static void add_table(OpenBatch& batch, const IptablesTable& table) {
    const Bytes data = made_by_us_data();
    batch.add(
        number_of(table.family), NFT_MSG_NEWTABLE, NLM_F_CREATE,
        [&table] {
          return Label{"add table " + shown(table.family, table.kind),
                       "nf_tables for " + std::string(to_text(table.family))};
        },
        [&](nlmsghdr* message) {
          mnl_attr_put_strz(message, NFTA_TABLE_NAME, name_of(table.kind).c_str());
          mnl_attr_put(message, NFTA_TABLE_USERDATA, data.size(), data.data());
        });
  }

  static void add_base_chain(OpenBatch& batch, const IptablesTable& table, const BuiltinChain& chain) {
    const auto handle = owned<ChainHandle>(nftnl_chain_alloc());
    const Bytes data = made_by_us_data();
    nftnl_chain_set_str(handle.get(), NFTNL_CHAIN_TABLE, name_of(table.kind).c_str());
    nftnl_chain_set_str(handle.get(), NFTNL_CHAIN_NAME, std::string(chain.name).c_str());
    nftnl_chain_set_str(handle.get(), NFTNL_CHAIN_TYPE, std::string(to_text(chain.type)).c_str());
    nftnl_chain_set_u32(handle.get(), NFTNL_CHAIN_HOOKNUM, chain.hook);
    nftnl_chain_set_s32(handle.get(), NFTNL_CHAIN_PRIO, chain.priority);
    nftnl_chain_set_u32(handle.get(), NFTNL_CHAIN_POLICY, NF_ACCEPT);
    nftnl_chain_set_data(handle.get(), NFTNL_CHAIN_USERDATA, data.data(), static_cast<std::uint32_t>(data.size()));
    batch.add(
        number_of(table.family), NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL,
        [&table, &chain] {
          return Label{"add chain " + shown(table.family, table.kind) + " " + std::string(chain.name),
                       "chains of type " + std::string(to_text(chain.type)) + " in nf_tables"};
        },
        [&](nlmsghdr* message) { nftnl_chain_nlmsg_build_payload(message, handle.get()); });
  }

  static void add_chain(OpenBatch& batch, const IptablesTable& table, const IptablesChain& chain) {
    batch.add(
        number_of(table.family), NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL,
        [&table, &chain] {
          return Label{"add chain " + shown(table.family, table.kind) + " " + chain.name, {}};
        },
        [&](nlmsghdr* message) {
          mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, name_of(table.kind).c_str());
          mnl_attr_put_strz(message, NFTA_CHAIN_NAME, chain.name.c_str());
        });
  }

  static void add_rule(OpenBatch& batch, const IptablesTable& table, const std::string& chain, const IptablesRule& rule,
                       std::uint16_t flags) {
    batch.add(
        number_of(table.family), NFT_MSG_NEWRULE, flags,
        [text = to_text(chain, rule, table.family), where = shown(table.family, table.kind)] {
          return Label{"add rule to " + where + ": " + text,
                       "nft_compat (CONFIG_NFT_COMPAT) or an xtables extension of this rule"};
        },
        [&](nlmsghdr* message) {
          mnl_attr_put_strz(message, NFTA_RULE_TABLE, name_of(table.kind).c_str());
          mnl_attr_put_strz(message, NFTA_RULE_CHAIN, chain.c_str());
          put_expressions(message, to_expressions(rule, table.family));
          if (!rule.protocol) return;
          // The extensions' own checks ask for the protocol of the rule (nft_compat.c: nft_parse_compat).
          nlattr* compat = mnl_attr_nest_start(message, NFTA_RULE_COMPAT);
          mnl_attr_put_u32(message, NFTA_RULE_COMPAT_PROTO, htonl(static_cast<std::uint32_t>(*rule.protocol)));
          mnl_attr_put_u32(message, NFTA_RULE_COMPAT_FLAGS, 0);
          mnl_attr_nest_end(message, compat);
        });
  }

  static std::string name_of(IptablesTableKind kind) { return std::string(to_text(kind)); }

  const IptablesRuleset* wanted_;
  std::vector<FoundTable> tables_;  ///< those with something of ours, and those that are wanted
};

}  // namespace

std::unique_ptr<NftStore> xt_store(const IptablesRuleset* wanted) { return std::make_unique<XtStore>(wanted); }

}  // namespace sluice::netfilter
