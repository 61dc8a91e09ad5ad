#include "netfilter/nft/sent_rules.hpp"

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <cstring>

#include "netfilter/attributes.hpp"

namespace sluice::netfilter {

std::optional<SentRules::One> SentRules::told_by(const nlmsghdr& reply) {
  const nlmsghdr* sent = next_message();
  if (sent == nullptr) return std::nullopt;
  std::span<const std::byte> expected = payload_after<nfgenmsg>(*sent);
  bool same = true;
  for_each_attribute(reply, sizeof(nfgenmsg), [&](const nlattr& attribute) {
    if (type_of(attribute) == NFTA_RULE_HANDLE || type_of(attribute) == NFTA_RULE_POSITION) return;
    const std::size_t length = attribute.nla_len;
    same = same && length <= expected.size() && std::memcmp(&attribute, expected.data(), length) == 0;
    if (same) expected = expected.subspan(std::min(aligned(length), expected.size()));
  });
  if (!same || !expected.empty()) return std::nullopt;
  left_ = left_.subspan(aligned(sent->nlmsg_len));
  while (rule_ == rules_.chains[chain_].rules.size()) {
    ++chain_;
    rule_ = 0;
  }
  const Chain& chain = rules_.chains[chain_];
  return One{chain, chain.rules[rule_++]};
}

/// The one that sends the next rule; null after the last.
const nlmsghdr* SentRules::next_message() {
  while (!left_.empty()) {
    const auto* message = reinterpret_cast<const nlmsghdr*>(left_.data());
    if (message->nlmsg_type == (NFNL_SUBSYS_NFTABLES << 8U | NFT_MSG_NEWRULE)) return message;
    left_ = left_.subspan(aligned(message->nlmsg_len));
  }
  return nullptr;
}

}  // namespace sluice::netfilter
