#include "netfilter/nft/sent_rules.hpp"

#include <doctest/doctest.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "netfilter/netlink.hpp"
#include "netfilter/nft/rule_codec.hpp"

using namespace sluice;
using namespace sluice::netfilter;

namespace {

const Rule passes{"passes", {ProtocolIs{Protocol::tcp}}, Pass{}};
const Rule redirects{"redirects", {ProtocolIs{Protocol::udp}}, Redirect{*Port::from(15001)}};
const Rule drops{"drops", {}, Drop{}};
/// A chain without a rule between two with some.
const Ruleset rules{{},
                    {{"first", ChainType::nat, Hook::output, -100, {passes, redirects}},
                     {"empty", ChainType::nat, Hook::input, 0, {}},
                     {"last", ChainType::nat, Hook::prerouting, -100, {drops}}}};

using Datagram = std::vector<std::byte>;

enum class Teller { sluice, kernel };

Datagram message(std::uint16_t type, const char* chain, const Rule* rule, Teller teller) {
  Message made(4096);
  nlmsghdr* header = made.header();
  header->nlmsg_type = static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8U | type);
  mnl_nlmsg_put_extra_header(header, sizeof(nfgenmsg));
  mnl_attr_put_strz(header, NFTA_RULE_TABLE, "sluice");
  if (rule == nullptr) return {made.bytes().begin(), made.bytes().end()};
  mnl_attr_put_strz(header, NFTA_RULE_CHAIN, chain);
  if (teller == Teller::kernel) {
    mnl_attr_put_u64(header, NFTA_RULE_HANDLE, 7);
    mnl_attr_put_u64(header, NFTA_RULE_POSITION, 6);
  }
  put_expressions(header, to_expressions(*rule, rules));
  mnl_attr_put(header, NFTA_RULE_USERDATA, rule->name.size(), rule->name.data());
  return {made.bytes().begin(), made.bytes().end()};
}

const nlmsghdr& header_of(const Datagram& bytes) { return *reinterpret_cast<const nlmsghdr*>(bytes.data()); }

Datagram told(const char* chain, const Rule& rule) { return message(NFT_MSG_NEWRULE, chain, &rule, Teller::kernel); }

Datagram batch() {
  Datagram all = message(NFT_MSG_NEWTABLE, "", nullptr, Teller::sluice);
  const auto add = [&](const Datagram& more) { all.insert(all.end(), more.begin(), more.end()); };
  add(message(NFT_MSG_NEWRULE, "first", &passes, Teller::sluice));
  add(message(NFT_MSG_NEWRULE, "first", &redirects, Teller::sluice));
  add(message(NFT_MSG_NEWCHAIN, "", nullptr, Teller::sluice));
  add(message(NFT_MSG_NEWRULE, "last", &drops, Teller::sluice));
  return all;
}

}  // namespace

TEST_CASE("rules that are told as they were sent are known, in their order") {
  const Datagram sent = batch();
  SentRules known(sent, rules);
  const auto first = known.told_by(header_of(told("first", passes)));
  REQUIRE(first);
  CHECK(&first->rule == &rules.chains[0].rules[0]);
  CHECK_FALSE(known.told_by(header_of(told("first", passes))));
  const auto second = known.told_by(header_of(told("first", redirects)));
  REQUIRE(second);
  CHECK(&second->rule == &rules.chains[0].rules[1]);
  const auto third = known.told_by(header_of(told("last", drops)));
  REQUIRE(third);
  CHECK(&third->chain == &rules.chains[2]);
  CHECK(&third->rule == &rules.chains[2].rules[0]);
  CHECK_FALSE(known.told_by(header_of(told("last", drops))));
}

TEST_CASE("rules are known after one that is told otherwise, and after one that nobody sent") {
  const Datagram sent = batch();
  SentRules known(sent, rules);
  CHECK_FALSE(known.told_by(header_of(told("elsewhere", passes))));
  const auto second = known.told_by(header_of(told("first", redirects)));
  REQUIRE(second);
  CHECK(&second->rule == &rules.chains[0].rules[1]);
  CHECK_FALSE(known.told_by(header_of(told("first", passes))));
  const auto third = known.told_by(header_of(told("last", drops)));
  REQUIRE(third);
  CHECK(&third->rule == &rules.chains[2].rules[0]);
}

TEST_CASE("no rule is known of which anything else is told") {
  const Datagram sent = batch();
  const Datagram right = told("first", passes);
  constexpr std::size_t attributes = NLMSG_HDRLEN + sizeof(nfgenmsg);
  const auto known = [&](const Datagram& reply) {
    return SentRules(sent, rules).told_by(header_of(reply)).has_value();
  };
  REQUIRE(known(right));
  // The two that the kernel adds stand after the table and the chain.
  const std::size_t added = attributes + 12 + 12;
  const std::size_t added_end = added + 12 + 12;
  for (std::size_t at = attributes; at < right.size(); ++at) {
    CAPTURE(at);
    Datagram wrong = right;
    wrong[at] ^= std::byte{1};
    const bool handle_or_place = (at >= added + 4 && at < added + 12) || (at >= added + 16 && at < added_end);
    const bool padding =
        at == attributes + 11 || at == attributes + 22 || at == attributes + 23 || at + 2 >= right.size();
    CHECK(known(wrong) == (handle_or_place || padding));
  }
  for (std::size_t length = attributes; length < right.size(); length += NLMSG_ALIGNTO) {
    Datagram cut = right;
    cut.resize(length);
    reinterpret_cast<nlmsghdr*>(cut.data())->nlmsg_len = static_cast<std::uint32_t>(length);
    CHECK_FALSE(known(cut));
  }
  Datagram longer = right;
  longer.resize(right.size() + 8);
  reinterpret_cast<nlmsghdr*>(longer.data())->nlmsg_len = static_cast<std::uint32_t>(longer.size());
  const nlattr more{8, NFTA_RULE_ID};
  std::memcpy(longer.data() + right.size(), &more, sizeof more);
  CHECK_FALSE(known(longer));
  CHECK_FALSE(known(told("last", passes)));
}

TEST_CASE("a rule that has counted something is told otherwise") {
  const Datagram sent = batch();
  Datagram reply = told("first", passes);
  Expressions counted = to_expressions(passes, rules);
  for (Expression& expression : counted) {
    if (std::holds_alternative<Count>(expression)) expression = Count{1, 60};
  }
  Message made(4096);
  put_expressions(made.header(), counted);
  const auto expressions = made.bytes().subspan(NLMSG_HDRLEN);
  const std::size_t place = NLMSG_HDRLEN + sizeof(nfgenmsg) + 12 + 12 + 12 + 12;
  std::copy(expressions.begin(), expressions.end(), reply.begin() + static_cast<std::ptrdiff_t>(place));
  CHECK_FALSE(SentRules(sent, rules).told_by(header_of(reply)));
}
