// The ruleset in iptables' terms: what both variants of the iptables backend program and `plan --format iptables`
// prints. Decides nothing; it says once more, in another vocabulary, what the Ruleset says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "rules/ruleset.hpp"

namespace sluice {

/// In the order in which iptables-save prints them.
enum class IptablesTableKind { mangle, raw, filter, nat };

/// What one `-m multiport` holds: up to 15 ports, a range counting as two (linux/netfilter/xt_multiport.h).
struct PortsIn {
  Side side;
  std::vector<Range<Port>> ports;
  bool operator==(const PortsIn&) const = default;
};

struct PortRange {
  Side side;
  Range<Port> ports;
  bool operator==(const PortRange&) const = default;
};

struct UidRange {
  Range<Uid> uids;
  bool operator==(const UidRange&) const = default;
};

struct GidRange {
  Range<Gid> gids;
  bool operator==(const GidRange&) const = default;
};

/// One `-m`. There are no sets in iptables, so a list became several rules or a PortsIn.
using IptablesMatch =
    std::variant<PortRange, PortsIn, PortIsNot, NotOpening, UidRange, GidRange, PacketMarkIs, ConnectionMarkIs,
                 ConntrackStateIs, DestinationRewritten, ReplyDirection, DestinationLocal>;

/// Back to whoever jumped here, so that the rules of others still see the packet.
struct Return {
  bool operator==(const Return&) const = default;
};

/// `-j CHAIN`: comes back after the chain's end.
struct JumpTo {
  std::string chain;
  bool operator==(const JumpTo&) const = default;
};

/// `-g CHAIN`: after that chain's end, this one is over too. Setting a mark or a zone does not end a chain in iptables,
/// as the Ruleset wants it to.
struct GoTo {
  std::string chain;
  bool operator==(const GoTo&) const = default;
};

using IptablesTarget =
    std::variant<Return, JumpTo, GoTo, Redirect, Tproxy, Reject, Drop, SetZone, SetConnectionMark, SetPacketMark>;

using Network = std::variant<Cidr<Ipv4>, Cidr<Ipv6>>;

struct IptablesRule {
  std::string name;  ///< as in the Ruleset; its `-m comment`. Empty: without one
  std::optional<Network> source;
  std::optional<Network> destination;
  std::optional<InterfacePattern> in;
  std::optional<InterfacePattern> out;
  std::optional<Protocol> protocol;
  std::vector<IptablesMatch> matches;
  IptablesTarget target;
  bool operator==(const IptablesRule&) const = default;
};

struct IptablesChain {
  std::string name;  ///< SLUICE_...
  std::vector<IptablesRule> rules;
  bool operator==(const IptablesChain&) const = default;
};

/// The one rule we have in a chain that is not ours: `-A OUTPUT -j SLUICE_OUTBOUND`, before the rules of others, which
/// would otherwise decide first.
struct IptablesJump {
  Hook hook;
  std::string chain;
  bool operator==(const IptablesJump&) const = default;
};

struct IptablesTable {
  Family family;
  IptablesTableKind kind;
  std::vector<IptablesJump> jumps;    ///< by hook, then in the order in which they are to stand
  std::vector<IptablesChain> chains;  ///< by name, as iptables lists them
  bool operator==(const IptablesTable&) const = default;
};

struct IptablesRuleset {
  std::vector<IptablesTable> tables;  ///< only those needed; IPv4 before IPv6, then by kind
  bool operator==(const IptablesRuleset&) const = default;
};

/// Every chain of ours begins so, and none of others should.
inline constexpr std::string_view iptables_chain_prefix = "SLUICE_";

/// The rules of a chain are tried one after the other for each new connection, and the kernel and iptables-save copy
/// them all for each change of any. Measured on one core of a server: with 10,000 rules a connection takes 0.37 ms
/// where it takes 0.05 ms with the same list in a set, and programming them takes 0.3 s; both grow with the number.
inline constexpr std::size_t iptables_rule_limit = 10'000;

/// More rules than iptables can bear.
struct TooManyRules {
  std::size_t count;  ///< at least; of both families
  std::string rule;   ///< the name of the rule that needs most of them
};

/// Total but for the number of rules.
std::variant<IptablesRuleset, TooManyRules> to_iptables(const Ruleset& ruleset);

/// `nat`
std::string_view to_text(IptablesTableKind kind);

/// A base chain as iptables makes it (iptables' own names; hooks and priorities of linux/netfilter_ipv4.h).
struct BuiltinChain {
  std::string_view name;
  ChainType type;
  std::uint32_t hook;  ///< enum nf_inet_hooks, linux/netfilter.h
  int priority;
};

/// All that a table has, in the order in which iptables-save prints them. All of them are made with a table, as
/// iptables-restore does with what iptables-save prints.
std::span<const BuiltinChain> builtin_chains(IptablesTableKind kind);

/// The chain of the Ruleset that a chain of ours stands for: `outbound` for SLUICE_OUTBOUND, and nothing for those that
/// only carry a target.
struct RulesetChain {
  std::string name;
  Hook hook;
};
std::optional<RulesetChain> ruleset_chain(std::string_view iptables_chain);

/// iptables' name of the chain at that hook: `OUTPUT`.
std::string_view iptables_name(Hook hook);

}  // namespace sluice
