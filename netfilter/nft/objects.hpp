// What nf_tables answers about its tables, chains and sets. Read without libnftnl, which ends the program where an
// attribute is not as it expects (abi_breakage() in its src/utils.c).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "netfilter/netlink.hpp"
#include "netfilter/nft/expression.hpp"

namespace sluice::netfilter {

struct TableObject {
  std::uint8_t family = 0;  ///< NFPROTO_*
  std::string name;
  std::uint32_t flags = 0;  ///< enum nft_table_flags
  std::uint32_t use = 0;    ///< objects in it
  Bytes user_data;
};

struct ChainHook {
  std::uint32_t number = 0;  ///< enum nf_inet_hooks, for the families that have these
  std::int32_t priority = 0;
};

struct ChainObject {
  std::uint8_t family = 0;
  std::string table;
  std::string name;
  std::string type;               ///< empty for a chain without a hook
  std::optional<ChainHook> hook;  ///< of a base chain
  bool accepts = true;            ///< its policy; a chain without one lets the packet go on
  Bytes user_data;
};

struct SetObject {
  std::string table;
  std::string name;
  std::uint32_t flags = 0;  ///< enum nft_set_flags
  std::uint32_t key_type = 0;
  std::uint32_t key_length = 0;
};

struct RuleObject {
  std::string table;
  std::string chain;
  std::uint64_t handle = 0;
  Expressions expressions;
  Bytes user_data;
};

/// Each reads one answer. Total: what a message lacks has the value of a new object.
TableObject table_in(const nlmsghdr& message);
ChainObject chain_in(const nlmsghdr& message);
SetObject set_in(const nlmsghdr& message);
RuleObject rule_in(const nlmsghdr& message);

}  // namespace sluice::netfilter
