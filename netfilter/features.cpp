#include "netfilter/features.hpp"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <cerrno>

#include "netfilter/errors.hpp"
#include "netfilter/netlink.hpp"
#include "netfilter/nft/batch.hpp"
#include "netfilter/nft/handles.hpp"
#include "netfilter/nft/rule_codec.hpp"
#include "netfilter/nft/session.hpp"

namespace sluice::netfilter {
namespace {

constexpr char table_name[] = "sluice_doctor";
constexpr int retry_limit = 10;  // of asking again because the ruleset changed meanwhile

// linux/netfilter/nf_tables_compat.h: which of the two a name means to xtables.
constexpr std::uint32_t xt_match = 0;
constexpr std::uint32_t xt_target = 1;

/// One message of the transaction, and the feature that depends on it.
struct Trial {
  Feature feature;
  std::uint16_t type = NFT_MSG_NEWRULE;
  std::uint8_t family = NFPROTO_INET;
  std::function<void(nlmsghdr*)> fill;
};

template <typename Kind>
bool has_match(const Ruleset& ruleset) {
  return std::any_of(ruleset.chains.begin(), ruleset.chains.end(), [](const Chain& chain) {
    return std::any_of(chain.rules.begin(), chain.rules.end(), [](const Rule& rule) {
      return std::any_of(rule.matches.begin(), rule.matches.end(),
                         [](const Match& match) { return std::holds_alternative<Kind>(match); });
    });
  });
}

template <typename Kind>
bool has_action(const Ruleset& ruleset) {
  return std::any_of(ruleset.chains.begin(), ruleset.chains.end(), [](const Chain& chain) {
    return std::any_of(chain.rules.begin(), chain.rules.end(),
                       [](const Rule& rule) { return std::holds_alternative<Kind>(rule.action); });
  });
}

bool has_type(const Ruleset& ruleset, ChainType type) {
  return std::any_of(ruleset.chains.begin(), ruleset.chains.end(),
                     [&](const Chain& chain) { return chain.type == type; });
}

class Trials {
 public:
  explicit Trials(const Ruleset& ruleset) : ruleset_(ruleset) {
    tables();
    chains();
    rules();
  }

  std::vector<Feature> run() {
    const auto refusals = refused();
    std::vector<Feature> features;
    for (std::uint32_t at = 0; at < trials_.size(); ++at) {
      Feature feature = trials_[at].feature;
      const auto refusal =
          std::find_if(refusals.begin(), refusals.end(), [&](const Refusal& r) { return r.sequence == at; });
      feature.present = refusal == refusals.end();
      if (!feature.present) feature.answer = std::generic_category().message(refusal->error);
      if (!feature.name.empty()) features.push_back(std::move(feature));
    }
    return features;
  }

 private:
  void tables() {
    add_table(NFPROTO_INET, {"nf_tables", "everything the native backend does", "nf_tables", false, true, ""});
    add_table(NFPROTO_IPV4, {});
    add_table(NFPROTO_IPV6, {});
  }

  void chains() {
    const bool nat = has_type(ruleset_, ChainType::nat);
    add_chain(NFPROTO_INET, "nat_out", "nat", NF_INET_LOCAL_OUT, -105,
              {"inet NAT", "redirecting both families from one table", "nft_chain_nat (Linux 5.2)", false, nat, ""});
    add_chain(NFPROTO_INET, "nat_pre", "nat", NF_INET_PRE_ROUTING, -105, {});
    add_chain(NFPROTO_INET, "in", "nat", NF_INET_LOCAL_IN, 0, {});
    add_chain(NFPROTO_INET, "pre", "filter", NF_INET_PRE_ROUTING, -150, {});
    add_chain(NFPROTO_INET, "raw", "filter", NF_INET_LOCAL_OUT, -300, {});
    add_chain(NFPROTO_INET, "route", "route", NF_INET_LOCAL_OUT, -150,
              {"inet route chains", "TPROXY's way back", "nf_tables (Linux 5.2)", false,
               has_type(ruleset_, ChainType::route), ""});
    add_chain(NFPROTO_IPV4, "nat_out", "nat", NF_INET_LOCAL_OUT, -100,
              {"IPv4 NAT", "the iptables backend", "nft_chain_nat", false, false, ""});
    add_chain(
        NFPROTO_IPV6, "nat_out", "nat", NF_INET_LOCAL_OUT, -100,
        {"IPv6 NAT", "the iptables backend, for IPv6", "nft_chain_nat, and a kernel with IPv6", false, false, ""});
  }

  void rules() {
    const Port port = *Port::from(15001);
    const Match tcp = ProtocolIs{Protocol::tcp};
    add_rule("nat_out", {"", {tcp}, Redirect{port}},
             {"redirect", "capturing connections", "nft_redir", false, has_action<Redirect>(ruleset_), ""});
    add_rule("pre", {"", {tcp}, Tproxy{port, 1}},
             {"tproxy", "--inbound-mode tproxy", "nft_tproxy", false, has_action<Tproxy>(ruleset_), ""});
    add_rule("raw", {"", {SocketUidIn{Range<Uid>{Uid{1}, Uid{1}}}}, Pass{}},
             {"owner match", "telling the proxy's traffic by its user", "nf_tables (meta skuid)", false,
              has_match<SocketUidIn>(ruleset_) || has_match<SocketGidIn>(ruleset_), ""});
    add_rule(
        "pre", {"", {DestinationLocal{false}}, Pass{}},
        {"fib", "leaving forwarded packets alone", "nft_fib_inet", false, has_match<DestinationLocal>(ruleset_), ""});
    add_rule("in", {"", {ConntrackStateIs{ConntrackState::fresh}}, Pass{}},
             {"conntrack", "telling new connections", "nft_ct and nf_conntrack", false,
              has_match<ConntrackStateIs>(ruleset_) || has_match<DestinationRewritten>(ruleset_), ""});
    add_rule("raw", {"", {}, SetZone{1}},
             {"conntrack zones", "--dns", "nft_ct with CONFIG_NF_CONNTRACK_ZONES", false, has_action<SetZone>(ruleset_),
              ""});
    add_rule("in", {"", {tcp}, Reject{RejectWith::tcp_reset}},
             {"reject", "refusing connections to the proxy's own ports", "nft_reject_inet", false,
              has_action<Reject>(ruleset_), ""});
    add_socket_rule();
  }

  // --- Messages ----------------------------------------------------------------------------------------------------------

  void add_table(std::uint8_t family, Feature feature) {
    trials_.push_back({std::move(feature), NFT_MSG_NEWTABLE, family,
                       [](nlmsghdr* message) { mnl_attr_put_strz(message, NFTA_TABLE_NAME, table_name); }});
  }

  void add_chain(std::uint8_t family, const char* name, const char* type, std::uint32_t hook, std::int32_t priority,
                 Feature feature) {
    trials_.push_back({std::move(feature), NFT_MSG_NEWCHAIN, family, [=](nlmsghdr* message) {
                         const auto chain = owned<ChainHandle>(nftnl_chain_alloc());
                         nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TABLE, table_name);
                         nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_NAME, name);
                         nftnl_chain_set_str(chain.get(), NFTNL_CHAIN_TYPE, type);
                         nftnl_chain_set_u32(chain.get(), NFTNL_CHAIN_HOOKNUM, hook);
                         nftnl_chain_set_s32(chain.get(), NFTNL_CHAIN_PRIO, priority);
                         nftnl_chain_nlmsg_build_payload(message, chain.get());
                       }});
  }

  static void put_place(nlmsghdr* message, const char* chain) {
    mnl_attr_put_strz(message, NFTA_RULE_TABLE, table_name);
    mnl_attr_put_strz(message, NFTA_RULE_CHAIN, chain);
  }

  void add_rule(const char* chain, const Rule& rule, Feature feature) {
    trials_.push_back({std::move(feature), NFT_MSG_NEWRULE, NFPROTO_INET, [=](nlmsghdr* message) {
                         put_place(message, chain);
                         put_expressions(message, to_expressions(rule, Ruleset{}));
                       }});
  }

  /// sluice does not use it, but other transparent proxies' rules do.
  void add_socket_rule() {
    trials_.push_back(
        {{"socket", "the rules of some transparent proxies, not of sluice", "nft_socket", false, false, ""},
         NFT_MSG_NEWRULE,
         NFPROTO_INET,
         [](nlmsghdr* message) {
           put_place(message, "pre");
           nlattr* list = mnl_attr_nest_start(message, NFTA_RULE_EXPRESSIONS);
           nlattr* element = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
           mnl_attr_put_strz(message, NFTA_EXPR_NAME, "socket");
           nlattr* data = mnl_attr_nest_start(message, NFTA_EXPR_DATA);
           mnl_attr_put_u32(message, NFTA_SOCKET_KEY, htonl(NFT_SOCKET_TRANSPARENT));
           mnl_attr_put_u32(message, NFTA_SOCKET_DREG, htonl(NFT_REG_1));
           mnl_attr_nest_end(message, data);
           mnl_attr_nest_end(message, element);
           mnl_attr_nest_end(message, list);
         }});
  }

  /// Sends all trials in one transaction that cannot succeed.
  std::vector<Refusal> refused() {
    NftSession session(std::chrono::milliseconds(0));
    for (int attempt = 0; attempt < retry_limit; ++attempt) {
      NetlinkSocket socket(NETLINK_NETFILTER);
      OpenBatch batch(socket, session.generation());
      for (const Trial& trial : trials_) {
        const auto flags =
            static_cast<std::uint16_t>(NLM_F_CREATE | (trial.type == NFT_MSG_NEWRULE ? NLM_F_APPEND : NLM_F_EXCL));
        batch.add(
            trial.family, trial.type, flags, [] { return Label{}; }, trial.fill);
      }
      // There is no such chain, so the kernel takes everything back.
      batch.add(
          NFPROTO_INET, NFT_MSG_DELCHAIN, 0, [] { return Label{}; },
          [](nlmsghdr* message) {
            mnl_attr_put_strz(message, NFTA_CHAIN_TABLE, table_name);
            mnl_attr_put_strz(message, NFTA_CHAIN_NAME, "impossible");
          });
      auto refusals = std::move(batch).seal().send_for_refusals(socket);
      // The refusal of the last message is the proof that nothing stayed.
      const bool complete = refusals && std::any_of(refusals->begin(), refusals->end(),
                                                    [&](const Refusal& r) { return r.sequence == trials_.size(); });
      if (complete) return *std::move(refusals);
      const bool forbidden = refusals && std::any_of(refusals->begin(), refusals->end(),
                                                     [](const Refusal& r) { return r.error == EPERM; });
      if (forbidden)
        throw KernelError(EPERM, "try the features of nf_tables", {},
                          "CAP_NET_ADMIN is needed over this network namespace");
    }
    throw KernelError(EAGAIN, "try the features of nf_tables", "the ruleset of this namespace keeps changing");
  }

  const Ruleset& ruleset_;
  std::vector<Trial> trials_;
};

/// What iptables over nf_tables asks before it writes a rule (NFNL_MSG_COMPAT_GET, net/netfilter/nft_compat.c).
bool has_xtables(NetlinkSocket& socket, std::uint8_t family, const char* name, std::uint32_t revision,
                 std::uint32_t type) {
  Message message;
  put_nfnetlink_header(message.header(), NFNL_SUBSYS_NFT_COMPAT << 8U | NFNL_MSG_COMPAT_GET, family);
  mnl_attr_put_strz(message.header(), NFTA_COMPAT_NAME, name);
  mnl_attr_put_u32(message.header(), NFTA_COMPAT_REV, htonl(revision));
  mnl_attr_put_u32(message.header(), NFTA_COMPAT_TYPE, htonl(type));
  bool found = false;
  NetlinkSocket::Status status{};
  const auto refusal = socket.request(
      message, NetlinkSocket::Answer::one, [&](const nlmsghdr&) { found = true; }, status);
  return found && !refusal;
}

void add_xtables(std::vector<Feature>& features) {
  struct Part {
    const char* name;
    std::uint32_t revision;
    std::uint32_t type;
  };
  // The revisions that iptables 1.8 writes.
  constexpr Part parts[] = {{"REDIRECT", 0, xt_target}, {"owner", 1, xt_match}, {"TPROXY", 1, xt_target}};
  NetlinkSocket socket(NETLINK_NETFILTER);
  for (const Part& part : parts) {
    Feature feature{std::string("xtables ") + part.name,
                    "the iptables backend, variant nft",
                    std::string("nft_compat and xt_") + part.name,
                    false,
                    false,
                    ""};
    feature.present = has_xtables(socket, NFPROTO_IPV4, part.name, part.revision, part.type);
    features.push_back(std::move(feature));
  }
}

}  // namespace

std::vector<Feature> probe_features(const Ruleset& ruleset) {
  auto features = Trials(ruleset).run();
  add_xtables(features);
  return features;
}

}  // namespace sluice::netfilter
