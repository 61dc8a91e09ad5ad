#include "netfilter/nft/sent_rules.hpp"

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <cstring>

#include "netfilter/attributes.hpp"

namespace sluice::netfilter {
namespace {

/// `reply` has these attributes, in these bytes, and none but those that the kernel adds.
bool tells(const nlmsghdr& reply, std::span<const std::byte> expected) {
  bool same = true;
  for_each_attribute(reply, sizeof(nfgenmsg), [&](const nlattr& attribute) {
    if (type_of(attribute) == NFTA_RULE_HANDLE || type_of(attribute) == NFTA_RULE_POSITION) return;
    const std::size_t length = attribute.nla_len;
    same = same && length <= expected.size() && std::memcmp(&attribute, expected.data(), length) == 0;
    if (same) expected = expected.subspan(std::min(aligned(length), expected.size()));
  });
  return same && expected.empty();
}

/// The attributes of a batch's next NFT_MSG_NEWRULE, up to which it is taken off; none after the last.
std::span<const std::byte> take_rule(std::span<const std::byte>& batch) {
  while (!batch.empty()) {
    const auto& message = *reinterpret_cast<const nlmsghdr*>(batch.data());
    batch = batch.subspan(aligned(message.nlmsg_len));
    if (message.nlmsg_type == (NFNL_SUBSYS_NFTABLES << 8U | NFT_MSG_NEWRULE)) return payload_after<nfgenmsg>(message);
  }
  return {};
}

}  // namespace

SentRules::SentRules(std::span<const std::byte> batch, const Ruleset& rules) {
  rules_.reserve(16);  // a default policy has thirteen
  for (const Chain& chain : rules.chains) {
    for (const Rule& rule : chain.rules) rules_.push_back({take_rule(batch), {chain, rule}});
  }
}

std::optional<SentRules::One> SentRules::told_by(const nlmsghdr& reply) {
  for (std::size_t at = next_; at < rules_.size(); ++at) {
    if (!tells(reply, rules_[at].attributes)) continue;
    next_ = at + 1;
    return rules_[at].what;
  }
  return std::nullopt;
}

}  // namespace sluice::netfilter
