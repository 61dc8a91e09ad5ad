#include "netfilter/attributes.hpp"

#include <arpa/inet.h>
#include <endian.h>

#include <cstring>

namespace sluice::netfilter {
namespace {

/// 0 unless the payload is exactly a number of this kind.
template <typename Number>
Number raw_number(std::span<const std::byte> payload) {
  Number number = 0;
  if (payload.size() == sizeof number) std::memcpy(&number, payload.data(), sizeof number);
  return number;
}

}  // namespace

std::uint32_t Attributes::number(std::size_t type) const { return ntohl(host_number(type)); }

std::uint64_t Attributes::long_number(std::size_t type) const {
  return be64toh(raw_number<std::uint64_t>(payload(type)));
}

std::uint32_t Attributes::host_number(std::size_t type) const { return raw_number<std::uint32_t>(payload(type)); }

std::uint8_t Attributes::byte(std::size_t type) const {
  const auto found = payload(type);
  return found.empty() ? std::uint8_t{0} : std::to_integer<std::uint8_t>(found.front());
}

std::string_view Attributes::text_view(std::size_t type) const {
  const auto found = payload(type);
  if (found.empty()) return {};
  const auto* first = reinterpret_cast<const char*>(found.data());
  return {first, strnlen(first, found.size())};
}

std::vector<std::uint8_t> Attributes::bytes(std::size_t type) const {
  const auto found = payload(type);
  const auto* first = reinterpret_cast<const std::uint8_t*>(found.data());
  return {first, first + found.size()};
}

}  // namespace sluice::netfilter
