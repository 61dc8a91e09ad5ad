// IPv4 and IPv6 addresses as ordered numbers. The two families differ in data, not in code: whatever is written for
// one is a template over both.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "rules/ranges.hpp"
#include "rules/scalars.hpp"

namespace sluice {

/// Host byte order.
struct Ipv4 {
  static constexpr Family family = Family::ipv4;
  static constexpr unsigned bits = 32;
  using Bytes = std::array<std::uint8_t, 4>;

  std::uint32_t value = 0;
  auto operator<=>(const Ipv4&) const = default;
};

/// Host byte order, split in two halves because C++ has no portable 128-bit integer.
struct Ipv6 {
  static constexpr Family family = Family::ipv6;
  static constexpr unsigned bits = 128;
  using Bytes = std::array<std::uint8_t, 16>;

  std::uint64_t high = 0;
  std::uint64_t low = 0;
  auto operator<=>(const Ipv6&) const = default;
};

using IpAddress = std::variant<Ipv4, Ipv6>;

/// The neighbours in the number space; nothing beyond either end.
std::optional<Ipv4> next(Ipv4 address);
std::optional<Ipv4> previous(Ipv4 address);
std::optional<Ipv6> next(Ipv6 address);
std::optional<Ipv6> previous(Ipv6 address);

/// Network byte order, as in a packet, a netlink attribute or a sockaddr.
Ipv4::Bytes to_bytes(Ipv4 address);
Ipv6::Bytes to_bytes(Ipv6 address);
Ipv4 from_bytes(const Ipv4::Bytes& bytes);
Ipv6 from_bytes(const Ipv6::Bytes& bytes);

/// The text forms of inet_pton and inet_ntop; no host names, no zone indices.
std::optional<IpAddress> parse_address(std::string_view text);
std::string to_text(Ipv4 address);
std::string to_text(Ipv6 address);
std::string to_text(const IpAddress& address);
Family family_of(const IpAddress& address);

/// A network of one family: its address with all host bits zero, and 0 to `Address::bits` leading bits.
template <typename Address>
struct Cidr {
  Address network;
  unsigned prefix;
  bool operator==(const Cidr&) const = default;
};

template <typename Address>
Range<Address> range_of(const Cidr<Address>& cidr);

/// The network that is exactly `range`, if there is one.
template <typename Address>
std::optional<Cidr<Address>> cidr_of(const Range<Address>& range);

/// The fewest networks that together are exactly `range`.
template <typename Address>
std::vector<Cidr<Address>> cidrs_of(const Range<Address>& range);

/// All addresses of one family.
template <typename Address>
Range<Address> every_address();

/// `10.0.0.0/8`, a lone address without its /32, or `10.0.0.1-10.0.0.7` where no network fits: the way nft lists it.
template <typename Address>
std::string to_text(const Range<Address>& range) requires requires {
  Address::family;
};

/// What a list of networks of both families comes to.
struct AddressRanges {
  Ranges<Ipv4> v4;
  Ranges<Ipv6> v6;
  bool operator==(const AddressRanges&) const = default;

  [[nodiscard]] bool empty() const { return v4.empty() && v6.empty(); }
  [[nodiscard]] bool contains(const IpAddress& address) const;
  static AddressRanges everything();
};

/// Either a network or a lone address. `host_bits` tells that bits beyond the prefix were set and have been cleared.
struct ParsedCidr {
  std::variant<Cidr<Ipv4>, Cidr<Ipv6>> cidr;
  bool host_bits = false;
};
std::optional<ParsedCidr> parse_cidr(std::string_view text);

}  // namespace sluice
