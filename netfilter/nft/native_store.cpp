#include <arpa/inet.h>
#include <libnftnl/udata.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <cstring>
#include <span>

#include "netfilter/nft/bytes.hpp"
#include "netfilter/nft/handles.hpp"
#include "netfilter/nft/objects.hpp"
#include "netfilter/nft/rule_codec.hpp"
#include "netfilter/nft/sent_rules.hpp"
#include "netfilter/nft/set_codec.hpp"
#include "netfilter/nft/store.hpp"
#include "rules/nft_text.hpp"
#include "rules/text.hpp"

namespace sluice::netfilter {
namespace {

const std::string table_name = "sluice";
constexpr std::size_t comment_limit = 127;  // NFTNL_UDATA_COMMENT_MAXLEN without its NUL

std::uint32_t hook_number(Hook hook) {
  switch (hook) {
    case Hook::prerouting:
      return NF_INET_PRE_ROUTING;
    case Hook::input:
      return NF_INET_LOCAL_IN;
    case Hook::output:
      return NF_INET_LOCAL_OUT;
  }
  return NF_INET_NUMHOOKS;
}

std::optional<Hook> hook_from(std::uint32_t number) {
  for (const Hook hook : {Hook::prerouting, Hook::input, Hook::output}) {
    if (hook_number(hook) == number) return hook;
  }
  return std::nullopt;
}

std::optional<ChainType> type_from(const std::string& name) {
  for (const ChainType type : {ChainType::filter, ChainType::nat, ChainType::route}) {
    if (name == to_text(type)) return type;
  }
  return std::nullopt;
}

/// A comment is type 0 in rules, chains and tables alike, and ends in NUL.
Bytes comment_data(const std::string& comment) {
  const std::string cut = comment.substr(0, comment_limit);
  return user_data(NFTNL_UDATA_RULE_COMMENT, cut.c_str(), cut.size() + 1);
}

std::string comment_from(const Bytes& data) {
  for (std::size_t at = 0; at + 2 <= data.size(); at += 2U + data[at + 1]) {
    if (data[at] != NFTNL_UDATA_RULE_COMMENT || at + 2U + data[at + 1] > data.size()) continue;
    const std::string comment(reinterpret_cast<const char*>(data.data()) + at + 2, data[at + 1]);
    return comment.substr(0, comment.find('\0'));
  }
  return {};
}

std::string missing_for(const Chain& chain) {
  return chain.type == ChainType::nat ? "NAT in nf_tables for family inet (nft_chain_nat, Linux 5.2)"
                                      : "nf_tables for family inet";
}

std::string missing_for(const Rule& rule) {
  std::string action = std::visit(
      Overloaded{[](const Redirect&) { return "nft_redir"; }, [](const Tproxy&) { return "nft_tproxy"; },
                 [](const Reject&) { return "nft_reject_inet"; },
                 [](const SetZone&) { return "nft_ct with conntrack zones"; }, [](const auto&) { return ""; }},
      rule.action);
  for (const Match& match : rule.matches) {
    if (std::holds_alternative<DestinationLocal>(match))
      action += std::string(action.empty() ? "" : " or ") + "nft_fib_inet";
    if (std::holds_alternative<ConntrackStateIs>(match)) action += std::string(action.empty() ? "" : " or ") + "nft_ct";
  }
  return action.empty() ? "an nf_tables expression of this rule" : action;
}

/// `table inet sluice`.
class NativeStore : public NftStore {
 public:
  NativeStore(const Ruleset* wanted, std::string comment) : wanted_(wanted), comment_(std::move(comment)) {}

  void read(NftSession& session) override { read(session, nullptr); }
  void read_back(NftSession& session, const SealedBatch& sent) override { read(session, &sent); }

  [[nodiscard]] bool present() const override { return found_.has_value(); }
  [[nodiscard]] std::optional<Observed> observed() const override { return found_; }
  [[nodiscard]] std::vector<Difference> differences() const override { return diff(*wanted_, found_); }
  [[nodiscard]] std::vector<std::string> removals() const override { return {"table inet " + table_name}; }

  void add_removal(OpenBatch& batch) const override { add_table_removal(batch); }

  void add_rules(OpenBatch& batch) const override {
    // Only where there is something to delete: the kernel waits for RCU before it forgets a table.
    if (found_) add_table_removal(batch);
    add_table(batch, comment_);
    std::uint32_t id = 0;
    for (const Set& set : wanted_->sets) add_set(batch, set, ++id);
    for (const Chain& chain : wanted_->chains) {
      add_chain(batch, chain);
      for (const Rule& rule : chain.rules) add_rule(batch, chain, rule, *wanted_);
    }
  }

 private:
  // --- Writing ---------------------------------------------------------------------------------------------------------

  static void add_table_removal(OpenBatch& batch) {
    batch.add(
        NFPROTO_INET, NFT_MSG_DELTABLE, 0,
        [] {
          return Label{"delete table inet sluice", {}};
        },
        [](nlmsghdr* message) { mnl_attr_put_strz(message, NFTA_TABLE_NAME, table_name.c_str()); });
  }

  static void add_table(OpenBatch& batch, const std::string& comment) {
    const auto table = owned<TableHandle>(nftnl_table_alloc());
    nftnl_table_set_str(table.get(), NFTNL_TABLE_NAME, table_name.c_str());
    if (!comment.empty()) {
      const Bytes data = comment_data(comment);
      nftnl_table_set_data(table.get(), NFTNL_TABLE_USERDATA, data.data(), static_cast<std::uint32_t>(data.size()));
    }
    batch.add(
        NFPROTO_INET, NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_EXCL,
        [] {
          return Label{"add table inet sluice", "nf_tables for family inet (Linux 3.14)"};
        },
        [&](nlmsghdr* message) { nftnl_table_nlmsg_build_payload(message, table.get()); });
  }

  static void add_set(OpenBatch& batch, const Set& set, std::uint32_t id) {
    const SetShape shape = shape_of(set.elements);
    const std::vector<WireElement> elements = to_wire(set.elements);
    batch.add(
        NFPROTO_INET, NFT_MSG_NEWSET, NLM_F_CREATE | NLM_F_EXCL,
        [&set] {
          return Label{"add set " + set.name, "sets in nf_tables (CONFIG_NF_TABLES)"};
        },
        [&](nlmsghdr* message) {
          mnl_attr_put_strz(message, NFTA_SET_TABLE, table_name.c_str());
          mnl_attr_put_strz(message, NFTA_SET_NAME, set.name.c_str());
          mnl_attr_put_u32(message, NFTA_SET_ID, htonl(id));
          mnl_attr_put_u32(message, NFTA_SET_FLAGS, htonl(shape.interval ? std::uint32_t{NFT_SET_INTERVAL} : 0U));
          mnl_attr_put_u32(message, NFTA_SET_KEY_TYPE, htonl(shape.key_type));
          mnl_attr_put_u32(message, NFTA_SET_KEY_LEN, htonl(shape.key_length));
          // enum byteorder in nft's include/datatype.h: 1 host, 2 big endian; without it nft 1.0 lists IDs
          // byte-swapped.
          const std::uint32_t order = shape.big_endian ? 2 : 1;
          const Bytes data = user_data(NFTNL_UDATA_SET_KEYBYTEORDER, &order, sizeof order);
          mnl_attr_put(message, NFTA_SET_USERDATA, data.size(), data.data());
          if (shape.interval) return;
          // Of known size, so that the kernel takes a hash that never resizes: a dump during a resize may repeat or
          // miss elements.
          nlattr* description = mnl_attr_nest_start(message, NFTA_SET_DESC);
          mnl_attr_put_u32(message, NFTA_SET_DESC_SIZE, htonl(static_cast<std::uint32_t>(elements.size())));
          mnl_attr_nest_end(message, description);
        });
    // A nested attribute's length has 16 bits, so a long list takes many messages of the same transaction.
    constexpr std::size_t elements_room = 60UL * 1024;
    constexpr std::size_t message_room = elements_room + 4096;  // it is full once the last element passes the mark
    for (std::size_t next = 0; next < elements.size();) {
      batch.add(
          NFPROTO_INET, NFT_MSG_NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL,
          [&set, first = next] {
            return Label{"add elements from #" + std::to_string(first) + " on to set " + set.name, {}};
          },
          [&](nlmsghdr* message) {
            next = put_elements(message, table_name, set.name, id, elements, next, elements_room);
          },
          message_room);
    }
  }

  static void add_chain(OpenBatch& batch, const Chain& chain) {
    const auto handle = owned<ChainHandle>(nftnl_chain_alloc());
    nftnl_chain_set_str(handle.get(), NFTNL_CHAIN_TABLE, table_name.c_str());
    nftnl_chain_set_str(handle.get(), NFTNL_CHAIN_NAME, chain.name.c_str());
    nftnl_chain_set_str(handle.get(), NFTNL_CHAIN_TYPE, std::string(to_text(chain.type)).c_str());
    nftnl_chain_set_u32(handle.get(), NFTNL_CHAIN_HOOKNUM, hook_number(chain.hook));
    nftnl_chain_set_s32(handle.get(), NFTNL_CHAIN_PRIO, chain.priority);
    nftnl_chain_set_u32(handle.get(), NFTNL_CHAIN_POLICY, NF_ACCEPT);
    batch.add(
        NFPROTO_INET, NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_EXCL,
        [&chain] {
          return Label{"add chain " + chain.name, missing_for(chain)};
        },
        [&](nlmsghdr* message) { nftnl_chain_nlmsg_build_payload(message, handle.get()); });
  }

  static void add_rule(OpenBatch& batch, const Chain& chain, const Rule& rule, const Ruleset& ruleset) {
    batch.add(
        NFPROTO_INET, NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND,
        [&chain, &rule] {
          return Label{"add rule [" + rule.name + "] to chain " + chain.name + ": " + to_nft(rule), missing_for(rule)};
        },
        [&](nlmsghdr* message) {
          mnl_attr_put_strz(message, NFTA_RULE_TABLE, table_name.c_str());
          mnl_attr_put_strz(message, NFTA_RULE_CHAIN, chain.name.c_str());
          put_expressions(message, to_expressions(rule, ruleset));
          const Bytes data = comment_data(rule.name);
          mnl_attr_put(message, NFTA_RULE_USERDATA, data.size(), data.data());
        });
  }

  // --- Reading ---------------------------------------------------------------------------------------------------------

  void read(NftSession& session, const SealedBatch* sent) {
    session_ = &session;
    Observed observed;
    found_.reset();
    if (!read_table(observed)) return;
    read_chains(observed);
    // The count is not to be relied on while somebody prepares a transaction.
    const bool has_sets = observed.other_objects > 0 || (wanted_ != nullptr && !wanted_->sets.empty());
    const Ruleset readable = has_sets ? read_sets(observed) : Ruleset{};
    read_rules(observed, readable, sent);
    found_ = std::move(observed);
  }

  bool read_table(Observed& observed) {
    return session_->ask(
        NFT_MSG_GETTABLE, NFPROTO_INET, NetlinkSocket::Answer::one, "read table inet sluice",
        [](nlmsghdr* message) { mnl_attr_put_strz(message, NFTA_TABLE_NAME, table_name.c_str()); },
        [&](const nlmsghdr& reply) {
          const TableObject table = table_in(reply);
          observed.dormant = (table.flags & NFT_TABLE_F_DORMANT) != 0;
          observed.other_objects = table.use;
          observed.comment = quotable(comment_from(table.user_data));
        });
  }

  /// Fills in the sets and returns those that could be read, for decoding the rules that refer to them.
  Ruleset read_sets(Observed& observed) {
    std::vector<std::pair<std::string, std::optional<SetShape>>> found;
    session_->ask(
        NFT_MSG_GETSET, NFPROTO_INET, NetlinkSocket::Answer::dump, "read the sets",
        [](nlmsghdr* message) { mnl_attr_put_strz(message, NFTA_SET_TABLE, table_name.c_str()); },
        [&](const nlmsghdr& reply) {
          const SetObject set = set_in(reply);
          if (set.table != table_name) return;
          std::optional<SetShape> shape;
          if (is_nft_name(set.name) && (set.flags & ~std::uint32_t{NFT_SET_INTERVAL}) == 0) {
            shape = SetShape{set.key_type, set.key_length, false, set.flags == NFT_SET_INTERVAL};
          }
          found.emplace_back(set.name, shape);
        });
    Ruleset readable;
    for (const auto& [name, shape] : found) {
      auto elements = shape ? read_elements(name, *shape) : std::nullopt;
      if (elements) {
        readable.sets.push_back({name, *elements});
        observed.sets.push_back({name, std::move(*elements)});
      } else {
        observed.sets.push_back({printable(name), Opaque{"a set of a kind that sluice never makes"}});
      }
    }
    observed.other_objects -= std::min(observed.other_objects, observed.sets.size());
    return readable;
  }

  std::optional<SetElements> read_elements(const std::string& name, const SetShape& shape) {
    std::vector<WireElement> elements;
    bool ours = true;
    session_->ask(
        NFT_MSG_GETSETELEM, NFPROTO_INET, NetlinkSocket::Answer::dump, "read the elements of set " + name,
        [&](nlmsghdr* message) {
          mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, table_name.c_str());
          mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, name.c_str());
        },
        [&](const nlmsghdr& reply) {
          auto some = elements_in(reply);
          ours = ours && some;
          if (some) std::move(some->begin(), some->end(), std::back_inserter(elements));
        });
    return ours ? from_wire(shape, std::move(elements)) : std::nullopt;
  }

  void read_chains(Observed& observed) {
    session_->ask(
        NFT_MSG_GETCHAIN, NFPROTO_INET, NetlinkSocket::Answer::dump, "read the chains",
        [](nlmsghdr* message) { mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, table_name.c_str()); },
        [&](const nlmsghdr& reply) {
          // The kernel lists the chains of every inet table.
          const ChainObject chain = chain_in(reply);
          if (chain.table == table_name) observed.chains.push_back(observed_chain(chain));
        });
    observed.other_objects -= std::min(observed.other_objects, observed.chains.size());
  }

  static ObservedChain observed_chain(const ChainObject& chain) {
    ObservedChain observed;
    observed.name = printable(chain.name);
    observed.accepts_by_default = chain.accepts;
    observed.rules.reserve(8);  // the longest of a default policy has six
    const auto hook = chain.hook ? hook_from(chain.hook->number) : std::nullopt;
    const auto type = type_from(chain.type);
    if (hook && type) observed.base = Chain{observed.name, *type, *hook, chain.hook->priority, {}};
    return observed;
  }

  /// `batch` has just been sent to make what is wanted; null where that is not so.
  void read_rules(Observed& observed, const Ruleset& sets, const SealedBatch* batch) {
    const auto chain_named = [&](std::string_view name) {
      const auto found = std::find_if(observed.chains.begin(), observed.chains.end(),
                                      [&](const ObservedChain& chain) { return chain.name == name; });
      return found == observed.chains.end() ? nullptr : &*found;
    };
    std::optional<SentRules> sent;
    if (batch != nullptr) sent.emplace(batch->bytes(), *wanted_);
    session_->ask(
        NFT_MSG_GETRULE, NFPROTO_INET, NetlinkSocket::Answer::dump, "read the rules",
        [](nlmsghdr* message) { mnl_attr_put_strz(message, NFTA_RULE_TABLE, table_name.c_str()); },
        [&](const nlmsghdr& reply) {
          if (const auto known = sent ? sent->told_by(reply) : std::nullopt) {
            ObservedChain* owner = chain_named(known->chain.name);
            if (owner != nullptr) owner->rules.push_back({known->rule, known->rule.name, {}});
            return;
          }
          const RuleObject rule = rule_in(reply);
          const std::string chain_name = printable(rule.chain);
          ObservedChain* owner = chain_named(chain_name);
          if (rule.table == table_name && owner != nullptr) {
            owner->rules.push_back(observed_rule(rule, sets, wanted_rule(chain_name, owner->rules.size())));
          }
        });
  }

  /// Null where none is wanted in that place.
  [[nodiscard]] const Rule* wanted_rule(const std::string& chain_name, std::size_t place) const {
    const Chain* chain = wanted_ == nullptr ? nullptr : wanted_->find_chain(chain_name);
    return chain != nullptr && place < chain->rules.size() ? &chain->rules[place] : nullptr;
  }

  static ObservedRule observed_rule(const RuleObject& rule, const Ruleset& sets, const Rule* likely) {
    ObservedRule observed;
    observed.comment = quotable(comment_from(rule.user_data));
    for (const Expression& expression : rule.expressions) {
      if (const auto* count = std::get_if<Count>(&expression)) observed.counters = {count->packets, count->bytes};
    }
    if (auto decoded = rule_from_expressions(rule.expressions, observed.comment, sets, likely)) {
      observed.rule = *std::move(decoded);
    } else {
      observed.rule = Opaque{to_text(rule.expressions)};
    }
    return observed;
  }

  const Ruleset* wanted_;
  std::string comment_;
  NftSession* session_ = nullptr;  ///< of the reading under way
  std::optional<Observed> found_;
};

}  // namespace

std::unique_ptr<NftStore> native_store(const Ruleset* wanted, std::string comment) {
  return std::make_unique<NativeStore>(wanted, std::move(comment));
}

}  // namespace sluice::netfilter
