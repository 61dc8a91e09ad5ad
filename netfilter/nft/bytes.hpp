// Numbers and addresses as they lie in a register, and where they lie in a packet. Shared by what encodes rules
// natively and what encodes them as iptables does.
#pragma once

#include <linux/netfilter.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <optional>

#include "netfilter/nft/expression.hpp"
#include "rules/address.hpp"
#include "rules/ruleset.hpp"

namespace sluice::netfilter {

// RFC 9293, 3.1
inline constexpr std::uint32_t tcp_flags_offset = 13;
inline constexpr std::uint8_t tcp_fin = 0x01;
inline constexpr std::uint8_t tcp_syn = 0x02;
inline constexpr std::uint8_t tcp_rst = 0x04;
inline constexpr std::uint8_t tcp_ack = 0x10;

/// In host byte order, as the kernel keeps IDs, marks and states.
inline RegisterValue host(std::uint32_t number) {
  std::array<std::uint8_t, sizeof number> bytes{};
  std::memcpy(bytes.data(), &number, sizeof number);
  return {bytes.begin(), bytes.end()};
}

inline RegisterValue network(std::uint32_t number) {
  return {static_cast<std::uint8_t>(number >> 24), static_cast<std::uint8_t>(number >> 16),
          static_cast<std::uint8_t>(number >> 8), static_cast<std::uint8_t>(number)};
}

inline RegisterValue network(Port port) {
  return {static_cast<std::uint8_t>(port.number() >> 8), static_cast<std::uint8_t>(port.number())};
}

template <typename Address>
inline RegisterValue network(Address address) requires requires {
  Address::bits;
}
{
  const auto bytes = to_bytes(address);
  return {bytes.begin(), bytes.end()};
}

inline std::optional<std::uint32_t> host_number(const RegisterValue& bytes) {
  if (bytes.size() != sizeof(std::uint32_t)) return std::nullopt;
  std::uint32_t number = 0;
  std::memcpy(&number, bytes.data(), sizeof number);
  return number;
}

inline std::optional<std::uint32_t> network_number(const RegisterValue& bytes) {
  if (bytes.size() != sizeof(std::uint32_t)) return std::nullopt;
  return from_bytes(Ipv4::Bytes{bytes[0], bytes[1], bytes[2], bytes[3]}).value;
}

template <typename Address>
RegisterValue prefix_mask(unsigned prefix) {
  auto mask = RegisterValue::filled(Address::bits / 8, 0);
  for (unsigned bit = 0; bit < prefix; ++bit) mask[bit / 8] |= static_cast<std::uint8_t>(0x80U >> bit % 8);
  return mask;
}

template <typename Address>
struct Layout;
template <>
struct Layout<Ipv4> {
  static constexpr std::uint8_t protocol = NFPROTO_IPV4;
  static constexpr std::uint32_t source = 12;  // RFC 791, 3.1
  static constexpr std::uint32_t destination = 16;
};
template <>
struct Layout<Ipv6> {
  static constexpr std::uint8_t protocol = NFPROTO_IPV6;
  static constexpr std::uint32_t source = 8;  // RFC 8200, 3
  static constexpr std::uint32_t destination = 24;
};

template <typename Address>
constexpr std::uint32_t offset_of(Side side) {
  return side == Side::source ? Layout<Address>::source : Layout<Address>::destination;
}

constexpr std::uint32_t port_offset(Side side) { return side == Side::source ? 0 : 2; }  // RFC 9293 and RFC 768

/// User data of one attribute: type, length, value, as libnftnl's udata.c lays them out.
inline Bytes user_data(std::uint8_t type, const void* value, std::size_t length) {
  Bytes data(2 + length);
  data[0] = type;
  data[1] = static_cast<std::uint8_t>(length);
  std::memcpy(data.data() + 2, value, length);
  return data;
}

}  // namespace sluice::netfilter
