// Set <-> netlink. Elements are written and read with libmnl directly: a list of 100,000 would otherwise cost as many
// libnftnl objects.
#pragma once

#include <libmnl/libmnl.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "netfilter/nft/register_value.hpp"
#include "rules/ruleset.hpp"

namespace sluice::netfilter {

/// How a set's keys are described to the kernel and to nft.
struct SetShape {
  std::uint32_t key_type;    ///< nft's own number of the data type (nft's include/datatype.h, enum datatypes)
  std::uint32_t key_length;  ///< bytes
  bool big_endian;           ///< what the user data say of the key, so that nft lists it right
  bool interval;
  bool operator==(const SetShape&) const = default;
};
SetShape shape_of(const SetElements& elements);

/// One element on the wire: an interval set holds the first key of each range and, marked, the key after its last.
struct WireElement {
  RegisterValue key;
  bool interval_end = false;
  bool open_end = false;  ///< the range reaches the end of the key space, so that no end follows
  bool operator==(const WireElement&) const = default;
};
std::vector<WireElement> to_wire(const SetElements& elements);

/// Inverse of to_wire, in any order of elements; nothing where they are not what to_wire makes of some list.
std::optional<SetElements> from_wire(const SetShape& shape, std::vector<WireElement> elements);

/// Appends the attributes of elements from `next` on until the message is full (a nested attribute holds 64 KiB at
/// most); returns the first element that did not fit.
std::size_t put_elements(nlmsghdr* message, const std::string& table, const std::string& set, std::uint32_t set_id,
                         const std::vector<WireElement>& elements, std::size_t next, std::size_t room);

/// The elements in one NFT_MSG_NEWSETELEM message of a dump. Nothing where one carries what ours never do.
std::optional<std::vector<WireElement>> elements_in(const nlmsghdr& message);

}  // namespace sluice::netfilter
