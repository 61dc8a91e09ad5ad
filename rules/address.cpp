#include "rules/address.hpp"

#include <arpa/inet.h>

#include "rules/text.hpp"

namespace sluice {
namespace {

constexpr std::uint64_t all_ones = ~std::uint64_t{0};

Ipv4 mask_bits(Ipv4, unsigned prefix) {
  return {prefix == 0 ? 0 : static_cast<std::uint32_t>(all_ones << (32 - prefix))};
}

Ipv6 mask_bits(Ipv6, unsigned prefix) {
  if (prefix == 0) return {0, 0};
  if (prefix <= 64) return {all_ones << (64 - prefix), 0};
  return {all_ones, prefix == 128 ? all_ones : ~(all_ones >> (prefix - 64))};
}

Ipv4 masked(Ipv4 address, Ipv4 mask) { return {address.value & mask.value}; }
Ipv6 masked(Ipv6 address, Ipv6 mask) { return {address.high & mask.high, address.low & mask.low}; }
Ipv4 filled(Ipv4 address, Ipv4 mask) { return {address.value | ~mask.value}; }
Ipv6 filled(Ipv6 address, Ipv6 mask) { return {address.high | ~mask.high, address.low | ~mask.low}; }

template <typename Address>
ParsedCidr cidr_from(Address address, unsigned prefix) {
  const Address network = masked(address, mask_bits(address, prefix));
  return {Cidr<Address>{network, prefix}, network != address};
}

}  // namespace

std::optional<Ipv4> next(Ipv4 address) {
  if (address.value == 0xffffffffU) return std::nullopt;
  return Ipv4{address.value + 1};
}

std::optional<Ipv4> previous(Ipv4 address) {
  if (address.value == 0) return std::nullopt;
  return Ipv4{address.value - 1};
}

std::optional<Ipv6> next(Ipv6 address) {
  if (address.high == all_ones && address.low == all_ones) return std::nullopt;
  const std::uint64_t low = address.low + 1;
  return Ipv6{address.high + (low == 0 ? 1 : 0), low};
}

std::optional<Ipv6> previous(Ipv6 address) {
  if (address.high == 0 && address.low == 0) return std::nullopt;
  return Ipv6{address.high - (address.low == 0 ? 1 : 0), address.low - 1};
}

Ipv4::Bytes to_bytes(Ipv4 address) {
  Ipv4::Bytes bytes{};
  for (unsigned i = 0; i < 4; ++i) bytes[i] = static_cast<std::uint8_t>(address.value >> (24 - 8 * i));
  return bytes;
}

Ipv6::Bytes to_bytes(Ipv6 address) {
  Ipv6::Bytes bytes{};
  for (unsigned i = 0; i < 8; ++i) {
    bytes[i] = static_cast<std::uint8_t>(address.high >> (56 - 8 * i));
    bytes[i + 8] = static_cast<std::uint8_t>(address.low >> (56 - 8 * i));
  }
  return bytes;
}

Ipv4 from_bytes(const Ipv4::Bytes& bytes) {
  Ipv4 address;
  for (const std::uint8_t byte : bytes) address.value = address.value << 8 | byte;
  return address;
}

Ipv6 from_bytes(const Ipv6::Bytes& bytes) {
  Ipv6 address;
  for (unsigned i = 0; i < 8; ++i) {
    address.high = address.high << 8 | bytes[i];
    address.low = address.low << 8 | bytes[i + 8];
  }
  return address;
}

std::optional<IpAddress> parse_address(std::string_view text) {
  // The longest text form is an IPv6 address that ends in IPv4 notation (INET6_ADDRSTRLEN - 1).
  if (text.size() >= INET6_ADDRSTRLEN || text.find('\0') != std::string_view::npos) return std::nullopt;
  const std::string terminated(text);
  Ipv4::Bytes four{};
  if (inet_pton(AF_INET, terminated.c_str(), four.data()) == 1) return from_bytes(four);
  Ipv6::Bytes sixteen{};
  if (inet_pton(AF_INET6, terminated.c_str(), sixteen.data()) == 1) return from_bytes(sixteen);
  return std::nullopt;
}

std::string to_text(Ipv4 address) {
  char text[INET_ADDRSTRLEN];
  return inet_ntop(AF_INET, to_bytes(address).data(), text, sizeof text);
}

std::string to_text(Ipv6 address) {
  char text[INET6_ADDRSTRLEN];
  return inet_ntop(AF_INET6, to_bytes(address).data(), text, sizeof text);
}

std::string to_text(const IpAddress& address) {
  return std::visit([](auto a) { return to_text(a); }, address);
}

Family family_of(const IpAddress& address) {
  return std::visit([](auto a) { return decltype(a)::family; }, address);
}

template <typename Address>
Range<Address> range_of(const Cidr<Address>& cidr) {
  return {cidr.network, filled(cidr.network, mask_bits(cidr.network, cidr.prefix))};
}

template <typename Address>
std::optional<Cidr<Address>> cidr_of(const Range<Address>& range) {
  for (unsigned prefix = 0; prefix <= Address::bits; ++prefix) {
    const Cidr<Address> candidate{masked(range.first, mask_bits(range.first, prefix)), prefix};
    if (range_of(candidate) == range) return candidate;
  }
  return std::nullopt;
}

template <typename Address>
std::vector<Cidr<Address>> cidrs_of(const Range<Address>& range) {
  std::vector<Cidr<Address>> cidrs;
  std::optional<Address> start = range.first;
  while (start && *start <= range.last) {
    // The widest network that begins here and does not reach beyond the range.
    unsigned prefix = 0;
    while (masked(*start, mask_bits(*start, prefix)) != *start ||
           range_of(Cidr<Address>{*start, prefix}).last > range.last) {
      ++prefix;
    }
    cidrs.push_back({*start, prefix});
    start = next(range_of(cidrs.back()).last);
  }
  return cidrs;
}

template <typename Address>
Range<Address> every_address() {
  return range_of(Cidr<Address>{Address{}, 0});
}

template <typename Address>
std::string to_text(const Range<Address>& range) requires requires {
  Address::family;
}
{
  if (range.single()) return to_text(range.first);
  if (const auto cidr = cidr_of(range)) return to_text(cidr->network) + "/" + std::to_string(cidr->prefix);
  return to_text(range.first) + "-" + to_text(range.last);
}

template Range<Ipv4> range_of(const Cidr<Ipv4>&);
template Range<Ipv6> range_of(const Cidr<Ipv6>&);
template std::optional<Cidr<Ipv4>> cidr_of(const Range<Ipv4>&);
template std::optional<Cidr<Ipv6>> cidr_of(const Range<Ipv6>&);
template std::vector<Cidr<Ipv4>> cidrs_of(const Range<Ipv4>&);
template std::vector<Cidr<Ipv6>> cidrs_of(const Range<Ipv6>&);
template Range<Ipv4> every_address();
template Range<Ipv6> every_address();
template std::string to_text(const Range<Ipv4>&);
template std::string to_text(const Range<Ipv6>&);

bool AddressRanges::contains(const IpAddress& address) const {
  if (const auto* four = std::get_if<Ipv4>(&address)) return v4.contains(*four);
  return v6.contains(std::get<Ipv6>(address));
}

AddressRanges AddressRanges::everything() {
  return {Ranges<Ipv4>{every_address<Ipv4>()}, Ranges<Ipv6>{every_address<Ipv6>()}};
}

std::optional<ParsedCidr> parse_cidr(std::string_view text) {
  const std::size_t slash = text.find('/');
  const auto address = parse_address(text.substr(0, slash));
  if (!address) return std::nullopt;
  const unsigned bits = family_of(*address) == Family::ipv4 ? Ipv4::bits : Ipv6::bits;
  unsigned prefix = bits;
  if (slash != std::string_view::npos) {
    const auto number = parse_number(text.substr(slash + 1));
    if (!number || *number > bits) return std::nullopt;
    prefix = static_cast<unsigned>(*number);
  }
  return std::visit([prefix](auto a) { return cidr_from(a, prefix); }, *address);
}

}  // namespace sluice
