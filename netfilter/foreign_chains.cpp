#include "netfilter/foreign_chains.hpp"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "netfilter/errors.hpp"
#include "netfilter/netlink.hpp"
#include "netfilter/nft/objects.hpp"
#include "netfilter/nft/rule_codec.hpp"
#include "rules/iptables.hpp"
#include "rules/nft_text.hpp"
#include "rules/text.hpp"

namespace sluice::netfilter {
namespace {

std::string family_name(std::uint8_t family) {
  switch (family) {
    case NFPROTO_IPV4:
      return "ip";
    case NFPROTO_IPV6:
      return "ip6";
    case NFPROTO_INET:
      return "inet";
    case NFPROTO_ARP:
      return "arp";
    case NFPROTO_BRIDGE:
      return "bridge";
    case NFPROTO_NETDEV:
      return "netdev";
    default:
      return "family " + std::to_string(family);
  }
}

std::uint8_t family_number(const std::string& name) {
  return name == "ip" ? NFPROTO_IPV4 : name == "ip6" ? NFPROTO_IPV6 : NFPROTO_INET;
}

std::optional<Hook> hook_of(const NamedChain& chain) {
  if (!chain.hook || (chain.family != "ip" && chain.family != "ip6" && chain.family != "inet")) return std::nullopt;
  switch (*chain.hook) {
    case NF_INET_PRE_ROUTING:
      return Hook::prerouting;
    case NF_INET_LOCAL_IN:
      return Hook::input;
    case NF_INET_LOCAL_OUT:
      return Hook::output;
    default:
      return std::nullopt;
  }
}

std::optional<ChainType> type_of(const NamedChain& chain) {
  for (const ChainType type : {ChainType::filter, ChainType::nat, ChainType::route}) {
    if (chain.type == to_text(type)) return type;
  }
  return std::nullopt;
}

class Reader {
 public:
  std::vector<NamedChain> chains() {
    const auto dormant = dormant_tables();
    std::vector<NamedChain> found;
    dump(
        NFT_MSG_GETCHAIN, NFPROTO_UNSPEC, "read the chains of all tables", [](nlmsghdr*) {}, [&] { found.clear(); },
        [&](const nlmsghdr& reply) { found.push_back(named(chain_in(reply))); });
    for (NamedChain& chain : found) chain.dormant = dormant.count(chain.family + " " + chain.table) != 0;
    return found;
  }

  std::vector<AskedRule> rules(const NamedChain& chain) {
    std::vector<AskedRule> found;
    std::size_t number = 0;
    dump(
        NFT_MSG_GETRULE, family_number(chain.family), "read the rules of " + chain.table + " " + chain.name,
        [&](nlmsghdr* message) {
          mnl_attr_put_strz(message, NFTA_RULE_TABLE, chain.table.c_str());
          mnl_attr_put_strz(message, NFTA_RULE_CHAIN, chain.name.c_str());
        },
        [&] {
          found.clear();
          number = 0;
        },
        [&](const nlmsghdr& reply) {
          const RuleObject rule = rule_in(reply);
          // Kernels before 4.6 do not filter a dump.
          if (rule.table != chain.table || rule.chain != chain.name) return;
          if (auto asked = asked_rule(rule.expressions, chain.family, ++number)) found.push_back(*std::move(asked));
        });
    return found;
  }

 private:
  std::set<std::string> dormant_tables() {
    std::set<std::string> dormant;
    dump(
        NFT_MSG_GETTABLE, NFPROTO_UNSPEC, "read the tables", [](nlmsghdr*) {}, [&] { dormant.clear(); },
        [&](const nlmsghdr& reply) {
          const TableObject table = table_in(reply);
          if ((table.flags & NFT_TABLE_F_DORMANT) != 0) dormant.insert(family_name(table.family) + " " + table.name);
        });
    return dormant;
  }

  static NamedChain named(const ChainObject& chain) {
    NamedChain found{
        family_name(chain.family), chain.table, chain.name, chain.type, std::nullopt, 0, chain.accepts, false};
    if (!chain.hook) return found;
    found.hook = chain.hook->number;
    found.priority = chain.hook->priority;
    return found;
  }

  void dump(std::uint16_t type, std::uint8_t family, const std::string& step,
            const std::function<void(nlmsghdr*)>& fill, const std::function<void()>& restart,
            const std::function<void(const nlmsghdr&)>& on_message) {
    Message message;
    put_nfnetlink_header(message.header(), NFNL_SUBSYS_NFTABLES << 8U | type, family);
    fill(message.header());
    const auto refusal = socket_.dump(message, step, restart, on_message);
    // Removed meanwhile, or a kernel without nf_tables: nothing is there.
    if (!refusal || refusal->error == ENOENT || refusal->error == EINVAL || refusal->error == EOPNOTSUPP) return;
    throw KernelError(refusal->error, step, refusal->text,
                      refusal->error == EPERM ? "CAP_NET_ADMIN is needed over this network namespace" : "");
  }

  // --- From another tool's expressions to a rule -----------------------------------------------------------------------

  /// Only reads the packet, counts or tells: the rule lets it go on to the next.
  static bool decides_nothing(const Expressions& expressions) {
    return std::all_of(expressions.begin(), expressions.end(), [](const Expression& expression) {
      if (const auto* foreign = std::get_if<Foreign>(&expression)) {
        return foreign->name == "log" || foreign->name == "limit" || foreign->name == "match" ||
               foreign->name == "range" || foreign->name == "quota" || foreign->name == "rt";
      }
      return std::holds_alternative<MetaLoad>(expression) || std::holds_alternative<ConntrackLoad>(expression) ||
             std::holds_alternative<PayloadLoad>(expression) || std::holds_alternative<FibLoad>(expression) ||
             std::holds_alternative<ToNetworkOrder>(expression) || std::holds_alternative<And>(expression) ||
             std::holds_alternative<Compare>(expression) || std::holds_alternative<Lookup>(expression) ||
             std::holds_alternative<CompareRange>(expression) || std::holds_alternative<XtMatch>(expression) ||
             std::holds_alternative<Count>(expression);
    });
  }

  /// The jump by which iptables' own chain leads into one of ours.
  static bool leads_to_ours(const Expressions& expressions) {
    return std::any_of(expressions.begin(), expressions.end(), [](const Expression& expression) {
      const auto* jump = std::get_if<Jump>(&expression);
      return jump != nullptr && jump->chain.compare(0, iptables_chain_prefix.size(), iptables_chain_prefix) == 0;
    });
  }

  /// The way sluice writes it: counters out, and the family before an address, which tables of one family leave out.
  static Expressions as_ours(const Expressions& expressions, const std::string& family) {
    Expressions ours;
    for (const Expression& expression : expressions) {
      const auto* load = std::get_if<PayloadLoad>(&expression);
      if (family != "inet" && load != nullptr && load->base == NFT_PAYLOAD_NETWORK_HEADER) {
        ours.emplace_back(MetaLoad{NFT_META_NFPROTO});
        ours.emplace_back(Compare{NFT_CMP_EQ, {family_number(family)}});
      }
      if (!std::holds_alternative<Count>(expression)) ours.push_back(expression);
    }
    return ours;
  }

  /// The first `matching` expressions as matches, the others as the action.
  static std::optional<Rule> read_as(const Expressions& expressions, std::size_t matching, const Expressions& action) {
    const auto middle = expressions.begin() + static_cast<std::ptrdiff_t>(matching);
    Expressions whole(expressions.begin(), middle);
    whole.emplace_back(Count{});
    whole.insert(whole.end(), action.begin(), action.end());
    return rule_from_expressions(whole, "", Ruleset{});
  }

  static std::optional<AskedRule> asked_rule(const Expressions& raw, const std::string& family, std::size_t number) {
    if (decides_nothing(raw) || leads_to_ours(raw)) return std::nullopt;
    const Expressions expressions = as_ours(raw, family);
    AskedRule asked{"rule " + std::to_string(number), {}, std::nullopt, to_text(raw)};
    for (std::size_t matching = 0; matching <= expressions.size() && !asked.action; ++matching) {
      const auto middle = expressions.begin() + static_cast<std::ptrdiff_t>(matching);
      if (const auto rule = read_as(expressions, matching, {middle, expressions.end()})) {
        asked.matches = rule->matches;
        asked.action = rule->action;
        asked.text = to_nft(*rule);
      }
    }
    // What cannot be read whole may be known not to match all the same.
    for (std::size_t matching = expressions.size(); matching > 0 && !asked.action && asked.matches.empty();
         --matching) {
      if (const auto rule = read_as(expressions, matching, {Verdict{NF_ACCEPT}})) asked.matches = rule->matches;
    }
    if (family != "inet") {
      const Family own = family == "ip" ? Family::ipv4 : Family::ipv6;
      asked.matches.insert(asked.matches.begin(), FamilyIs{own});
    }
    return asked;
  }

  NetlinkSocket socket_{NETLINK_NETFILTER};
};

}  // namespace

std::vector<NamedChain> all_chains() { return Reader().chains(); }

std::vector<AskedChain> foreign_chains() {
  Reader reader;
  std::vector<AskedChain> found;
  for (const NamedChain& chain : reader.chains()) {
    const auto hook = hook_of(chain);
    const auto type = type_of(chain);
    if (!hook || !type || chain.dormant || (chain.family == "inet" && chain.table == "sluice")) continue;
    found.push_back({chain.family + " " + printable(chain.table + " " + chain.name), *type, *hook, chain.priority,
                     reader.rules(chain), false, chain.accepts_by_default});
  }
  return found;
}

}  // namespace sluice::netfilter
