// What a netlink message carries, read without trusting it: no attribute is taken to be as long as it should be, nor a
// text to end.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "netfilter/netlink.hpp"

namespace sluice::netfilter {

/// What follows the header of `Header`'s type at the front of a message; empty where the message is too short for it.
template <typename Header>
std::span<const std::byte> payload_after(const nlmsghdr& message) {
  constexpr std::size_t header = aligned(sizeof(Header));
  const std::size_t length = mnl_nlmsg_get_payload_len(&message);
  if (header > length) return {};
  return {static_cast<const std::byte*>(mnl_nlmsg_get_payload(&message)) + header, length - header};
}

/// The attributes of one message or of one nested attribute, by type. Of several with one type the last counts. Those
/// of the lowest types, which are nearly all that is ever asked for, are noted down; to find another is to walk over
/// all.
class Attributes {
 public:
  explicit Attributes(std::span<const std::byte> payload) : payload_(payload) {
    for_each_attribute(payload_, [&](const nlattr& attribute) {
      if (type_of(attribute) < noted_.size()) noted_[type_of(attribute)] = &attribute;
    });
  }
  /// Of a message, after its header of `Header`'s type.
  template <typename Header>
  static Attributes after(const nlmsghdr& message) {
    return Attributes(payload_after<Header>(message));
  }

  [[nodiscard]] bool has(std::size_t type) const { return find(type) != nullptr; }

  /// In network order, as nf_tables has them; 0 where absent or of another length, which is no register and no flag.
  [[nodiscard]] std::uint32_t number(std::size_t type) const;
  [[nodiscard]] std::uint64_t long_number(std::size_t type) const;
  /// In host order, as rtnetlink has them.
  [[nodiscard]] std::uint32_t host_number(std::size_t type) const;
  [[nodiscard]] std::uint8_t byte(std::size_t type) const;
  /// Up to its NUL or its end; empty where absent. A view is of the message.
  [[nodiscard]] std::string_view text_view(std::size_t type) const;
  [[nodiscard]] std::string text(std::size_t type) const { return std::string(text_view(type)); }
  [[nodiscard]] Attributes nested(std::size_t type) const { return Attributes(payload(type)); }
  [[nodiscard]] std::vector<std::uint8_t> bytes(std::size_t type) const;
  /// Empty where absent.
  [[nodiscard]] std::span<const std::byte> payload(std::size_t type) const {
    const nlattr* attribute = find(type);
    return attribute != nullptr ? payload_of(*attribute) : std::span<const std::byte>();
  }
  [[nodiscard]] const nlattr* find(std::size_t type) const {
    if (type < noted_.size()) return noted_[type];
    const nlattr* found = nullptr;
    for_each_attribute(payload_, [&](const nlattr& attribute) {
      if (type_of(attribute) == type) found = &attribute;
    });
    return found;
  }

 private:
  std::span<const std::byte> payload_;
  std::array<const nlattr*, 8> noted_{};
};

/// The header of `Header`'s type at the front of a message; null where the message is too short for it.
template <typename Header>
const Header* header_of(const nlmsghdr& message) {
  if (mnl_nlmsg_get_payload_len(&message) < sizeof(Header)) return nullptr;
  return static_cast<const Header*>(mnl_nlmsg_get_payload(&message));
}

}  // namespace sluice::netfilter
