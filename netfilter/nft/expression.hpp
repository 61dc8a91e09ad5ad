// nf_tables expressions as values: the vocabulary between a Rule and its netlink bytes. Encoding and decoding both
// speak it, so that what is read back is compared as values. All of ours use one register, NFT_REG_1.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "netfilter/nft/register_value.hpp"

struct nlattr;
struct nlmsghdr;

namespace sluice::netfilter {

using Bytes = std::vector<std::uint8_t>;

/// Constants are the kernel's (linux/netfilter/nf_tables.h); the enum each belongs to is named.
struct MetaLoad {
  std::uint32_t key;  ///< enum nft_meta_keys
  bool operator==(const MetaLoad&) const = default;
};
struct ConntrackLoad {
  std::uint32_t key;  ///< enum nft_ct_keys
  bool operator==(const ConntrackLoad&) const = default;
};
struct PayloadLoad {
  std::uint32_t base;  ///< enum nft_payload_bases
  std::uint32_t offset;
  std::uint32_t length;
  bool operator==(const PayloadLoad&) const = default;
};
struct FibLoad {
  std::uint32_t flags;   ///< enum nft_fib_flags
  std::uint32_t result;  ///< enum nft_fib_result
  bool operator==(const FibLoad&) const = default;
};
/// Turns a 32-bit number in host order into network order, so that ranges compare as bytes.
struct ToNetworkOrder {
  bool operator==(const ToNetworkOrder&) const = default;
};
struct And {
  RegisterValue mask;
  bool operator==(const And&) const = default;
};
struct Compare {
  std::uint32_t operation;  ///< enum nft_cmp_ops
  RegisterValue value;
  bool operator==(const Compare&) const = default;
};
struct Lookup {
  std::string set;
  bool operator==(const Lookup&) const = default;
};
struct Count {
  std::uint64_t packets = 0;
  std::uint64_t bytes = 0;
  bool operator==(const Count&) const { return true; }  ///< two counters are the same expression whatever they counted
};
struct Verdict {
  std::uint32_t code;  ///< NF_ACCEPT, NF_DROP, NFT_RETURN
  bool operator==(const Verdict&) const = default;
};
struct LoadValue {
  RegisterValue value;
  bool operator==(const LoadValue&) const = default;
};
/// To the port in the register.
struct RedirectToRegister {
  bool operator==(const RedirectToRegister&) const = default;
};
struct TproxyToRegister {
  bool operator==(const TproxyToRegister&) const = default;
};
struct MetaStore {
  std::uint32_t key;
  bool operator==(const MetaStore&) const = default;
};
struct ConntrackStore {
  std::uint32_t key;
  bool operator==(const ConntrackStore&) const = default;
};
struct RejectPacket {
  std::uint32_t type;  ///< enum nft_reject_types
  std::uint32_t code;  ///< of enum nft_reject_inet_code where the type is NFT_REJECT_ICMPX_UNREACH
  bool operator==(const RejectPacket&) const = default;
};
/// To or through another chain.
struct Jump {
  std::int32_t code;  ///< NFT_JUMP, NFT_GOTO
  std::string chain;
  bool operator==(const Jump&) const = default;
};
/// Both ends belong to it.
struct CompareRange {
  RegisterValue first;
  RegisterValue last;
  bool operator==(const CompareRange&) const = default;
};
/// A match or target of iptables (nft_compat.c); `info` is the extension's own struct, padded as iptables pads it.
struct XtMatch {
  std::string name;
  std::uint32_t revision;
  Bytes info;
  bool operator==(const XtMatch&) const = default;
};
struct XtTarget {
  std::string name;
  std::uint32_t revision;
  Bytes info;
  bool operator==(const XtTarget&) const = default;
};
/// Anything that sluice never writes.
struct Foreign {
  std::string name;
  bool operator==(const Foreign&) const = default;
};

using Expression = std::variant<MetaLoad, ConntrackLoad, PayloadLoad, FibLoad, ToNetworkOrder, And, Compare, Lookup,
                                Count, Verdict, LoadValue, RedirectToRegister, TproxyToRegister, MetaStore,
                                ConntrackStore, RejectPacket, Jump, CompareRange, XtMatch, XtTarget, Foreign>;
using Expressions = std::vector<Expression>;

/// Appends them to a message as NFTA_RULE_EXPRESSIONS. Written without libnftnl, as they are read: what an expression
/// is on the wire stands in one place. Never for Foreign (std::logic_error).
void put_expressions(nlmsghdr* message, const Expressions& expressions);

/// The expressions in an NFTA_RULE_EXPRESSIONS attribute, read without libnftnl so that one which it does not know, or
/// an attribute that is newer than it, does no harm. Total: what is not ours becomes Foreign.
Expressions expressions_in(const nlattr& list);

/// Terse, for showing a rule that sluice did not write.
std::string to_text(const Expressions& expressions);

}  // namespace sluice::netfilter
