// What a sluice program can say. This file is the vocabulary: matches, actions, rules, chains, sets. Every backend,
// renderer and `explain` walks the same Ruleset; none of them adds policy.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "rules/address.hpp"
#include "rules/scalars.hpp"

namespace sluice {

// --- Sets ---------------------------------------------------------------------------------------------------------

/// Sorted, without duplicates and without names under a prefix that is in it too.
using InterfaceSet = std::vector<InterfacePattern>;
using SetElements = std::variant<Ranges<Port>, Ranges<Ipv4>, Ranges<Ipv6>, Ranges<Uid>, Ranges<Gid>, InterfaceSet>;

/// A named list. Rules refer to it by name; two rules with the same list share one.
struct Set {
  std::string name;
  SetElements elements;
  bool operator==(const Set&) const = default;
};

struct SetRef {
  std::string name;
  bool operator==(const SetRef&) const = default;
};

/// One range spelled out in the rule, or a set. A list of one needs no set.
template <typename T>
using Operand = std::variant<Range<T>, SetRef>;

// --- Matches: all of a rule's must hold -----------------------------------------------------------------------------

struct FamilyIs {
  Family family;
  bool operator==(const FamilyIs&) const = default;
};

struct ProtocolIs {
  Protocol protocol;
  bool operator==(const ProtocolIs&) const = default;
};

enum class Side { source, destination };

/// Only after a ProtocolIs in the same rule: without it there is no transport header to read.
struct PortIn {
  Side side;
  Operand<Port> ports;
  bool operator==(const PortIn&) const = default;
};

/// Like PortIn: any port but this one.
struct PortIsNot {
  Side side;
  Port port;
  bool operator==(const PortIsNot&) const = default;
};

/// Implies the family of `Address`.
template <typename Address>
struct AddressIn {
  Side side;
  Operand<Address> addresses;
  bool operator==(const AddressIn&) const = default;
};
using Ipv4In = AddressIn<Ipv4>;
using Ipv6In = AddressIn<Ipv6>;

enum class Direction { in, out };

struct InterfaceIn {
  Direction direction;
  std::variant<InterfacePattern, SetRef> interfaces;
  bool operator==(const InterfaceIn&) const = default;
};

/// The user of the socket that made the packet. A packet without a socket (made by the kernel) matches nothing.
struct SocketUidIn {
  Operand<Uid> uids;
  bool operator==(const SocketUidIn&) const = default;
};

/// The primary group of that process; supplementary groups do not count.
struct SocketGidIn {
  Operand<Gid> gids;
  bool operator==(const SocketGidIn&) const = default;
};

struct PacketMarkIs {
  Mark mark;
  bool operator==(const PacketMarkIs&) const = default;
};

struct ConnectionMarkIs {
  Mark mark;
  bool operator==(const ConnectionMarkIs&) const = default;
};

enum class ConntrackState { fresh, invalid };  ///< `ct state new`, `ct state invalid`

struct ConntrackStateIs {
  ConntrackState state;
  bool operator==(const ConntrackStateIs&) const = default;
};

/// Whether conntrack has rewritten the destination of this connection: it was redirected, by us or by others.
struct DestinationRewritten {
  bool rewritten;
  bool operator==(const DestinationRewritten&) const = default;
};

/// A TCP segment that does not open a connection: anything but a SYN without ACK. Conntrack, where it starts late,
/// takes such a segment of a running connection for a new one.
struct NotOpening {
  bool operator==(const NotOpening&) const = default;
};

/// Packets of the answering side of a connection.
struct ReplyDirection {
  bool operator==(const ReplyDirection&) const = default;
};

/// Whether the destination is an address of this namespace, so that the packet is for it and not merely forwarded.
struct DestinationLocal {
  bool local;
  bool operator==(const DestinationLocal&) const = default;
};

using Match = std::variant<FamilyIs, ProtocolIs, PortIn, PortIsNot, Ipv4In, Ipv6In, InterfaceIn, SocketUidIn,
                           SocketGidIn, PacketMarkIs, ConnectionMarkIs, ConntrackStateIs, DestinationRewritten,
                           NotOpening, ReplyDirection, DestinationLocal>;

// --- Actions ----------------------------------------------------------------------------------------------------------

/// Leave the packet alone: this chain is done with it.
struct Pass {
  bool operator==(const Pass&) const = default;
};

/// Rewrite the destination to this port of the local machine.
struct Redirect {
  Port port;
  bool operator==(const Redirect&) const = default;
};

/// Hand the packet, unchanged, to the transparent socket on this port, and mark it so that it is routed here.
struct Tproxy {
  Port port;
  std::uint32_t mark;
  bool operator==(const Tproxy&) const = default;
};

enum class RejectWith { tcp_reset, port_unreachable };

struct Reject {
  RejectWith with;
  bool operator==(const Reject&) const = default;
};

struct Drop {
  bool operator==(const Drop&) const = default;
};

/// Track the packet in this conntrack zone; then as Pass.
struct SetZone {
  std::uint16_t zone;
  bool operator==(const SetZone&) const = default;
};

/// Remember a mark on the connection; then as Pass.
struct SetConnectionMark {
  std::uint32_t mark;
  bool operator==(const SetConnectionMark&) const = default;
};

/// Put a mark on the packet, so that it is routed anew; then as Pass.
struct SetPacketMark {
  std::uint32_t mark;
  bool operator==(const SetPacketMark&) const = default;
};

using Action = std::variant<Pass, Redirect, Tproxy, Reject, Drop, SetZone, SetConnectionMark, SetPacketMark>;

// --- Rules and chains ---------------------------------------------------------------------------------------------------

struct Rule {
  std::string name;  ///< the step of the policy, as the contract names it: `exclude-port`, `proxy`, `outbound`, ...
  std::vector<Match> matches;
  Action action;
  bool operator==(const Rule&) const = default;
};

enum class ChainType { filter, nat, route };
enum class Hook { prerouting, input, output };

/// A base chain: the first rule whose matches all hold decides, and its end means Pass. There are no jumps.
struct Chain {
  std::string name;
  ChainType type;
  Hook hook;
  int priority;
  std::vector<Rule> rules;
  bool operator==(const Chain&) const = default;
};

struct Ruleset {
  std::vector<Set> sets;
  std::vector<Chain> chains;
  bool operator==(const Ruleset&) const = default;

  [[nodiscard]] const Set* find_set(std::string_view name) const;
  [[nodiscard]] const Chain* find_chain(std::string_view name) const;
};

/// Chain names are fixed, because people read them.
namespace chain_name {
inline constexpr std::string_view outbound = "outbound";                // nat output
inline constexpr std::string_view inbound = "inbound";                  // nat prerouting
inline constexpr std::string_view inbound_guard = "inbound_guard";      // nat input
inline constexpr std::string_view inbound_invalid = "inbound_invalid";  // filter prerouting, after conntrack
inline constexpr std::string_view inbound_tproxy = "inbound_tproxy";    // filter prerouting
inline constexpr std::string_view outbound_route = "outbound_route";    // route output
inline constexpr std::string_view outbound_zone = "outbound_zone";      // filter output, before conntrack
inline constexpr std::string_view outbound_reject = "outbound_reject";  // filter output
}  // namespace chain_name

std::string_view to_text(ChainType type);
std::string_view to_text(Hook hook);

/// The one family that a rule's matches leave, if they name one.
std::optional<Family> only_family(const Rule& rule);

/// The matches without each range of addresses that stands before the set it encloses: it only spares a lookup.
std::vector<Match> without_enclosing_ranges(const std::vector<Match>& matches);

/// For `std::visit` with one lambda per alternative; a forgotten alternative does not compile.
template <typename... Lambdas>
struct Overloaded : Lambdas... {
  using Lambdas::operator()...;
};
template <typename... Lambdas>
Overloaded(Lambdas...) -> Overloaded<Lambdas...>;

}  // namespace sluice
