// What the kernel tells of rules right after they were sent, found to be the same without decoding it.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "rules/ruleset.hpp"

struct nlmsghdr;

namespace sluice::netfilter {

/// The rules of a transaction, in their order. The kernel tells a rule in the bytes that it was sent in, as long as the
/// expressions' attributes stand in its own order (put_expressions), with a handle and a place besides
/// (nf_tables_api.c:nf_tables_fill_rule_info). Comparing bytes takes a fraction of the time that decoding them does.
class SentRules {
 public:
  struct One {
    const Chain& chain;
    const Rule& rule;
  };

  /// `batch` holds whole messages, among them one NFT_MSG_NEWRULE for each rule of `rules`, in their order. Both must
  /// outlive this.
  SentRules(std::span<const std::byte> batch, const Ruleset& rules);

  /// The rule that `reply` (NFT_MSG_NEWRULE) tells, if it was sent and stands after the ones that were told before.
  /// Nothing for every other rule, for one that has counted a packet, and where the kernel tells rules in another way:
  /// those are to be decoded.
  std::optional<One> told_by(const nlmsghdr& reply);

 private:
  struct Sent {
    std::span<const std::byte> attributes;
    One what;
  };

  std::vector<Sent> rules_;
  std::size_t next_ = 0;  ///< in rules_, the first after those that were told
};

}  // namespace sluice::netfilter
