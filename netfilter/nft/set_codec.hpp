// Set <-> netlink. Elements are written and read with libmnl directly: a list of 100,000 would otherwise cost as many
// libnftnl objects.
#pragma once

#include <libmnl/libmnl.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "netfilter/nft/expression.hpp"
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

/// The key of an element, as it lies in the kernel's register. Kept in place, because a list may have 100,000 of them.
class SetKey {
 public:
  static constexpr std::size_t capacity = 16;  ///< an IPv6 address, an interface's name

  SetKey() = default;
  SetKey(std::initializer_list<std::uint8_t> bytes) : SetKey(bytes.begin(), bytes.end()) {}
  /// At most `capacity` bytes.
  template <typename Iterator>
  SetKey(Iterator first, Iterator last) : size_(static_cast<std::uint8_t>(last - first)) {
    std::copy(first, last, bytes_.begin());
  }

  [[nodiscard]] const std::uint8_t* data() const { return bytes_.data(); }
  [[nodiscard]] const std::uint8_t* begin() const { return data(); }
  [[nodiscard]] const std::uint8_t* end() const { return data() + size_; }
  [[nodiscard]] std::size_t size() const { return size_; }
  std::uint8_t& operator[](std::size_t place) { return bytes_[place]; }
  std::uint8_t operator[](std::size_t place) const { return bytes_[place]; }

  /// With zeros at the end.
  [[nodiscard]] SetKey padded_to(std::size_t size) const {
    SetKey key = *this;
    key.size_ = static_cast<std::uint8_t>(size);
    return key;
  }

  // What follows the last byte is zero in every key.
  friend bool operator==(const SetKey&, const SetKey&) = default;
  friend bool operator<(const SetKey& a, const SetKey& b) { return std::memcmp(a.data(), b.data(), capacity) < 0; }

 private:
  std::array<std::uint8_t, capacity> bytes_{};
  std::uint8_t size_ = 0;
};

/// One element on the wire: an interval set holds the first key of each range and, marked, the key after its last.
struct WireElement {
  SetKey key;
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
