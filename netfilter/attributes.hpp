// What a netlink message carries, read without trusting it: no attribute is taken to be as long as it should be, nor a
// text to end.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "netfilter/netlink.hpp"

namespace sluice::netfilter {

/// The attributes of one message or of one nested attribute, by type. Those of types that are not known here are
/// skipped, and of several with one type the last counts.
class Attributes {
 public:
  explicit Attributes(std::span<const std::byte> payload) {
    for_each_attribute(payload, [&](const nlattr& attribute) { note(attribute); });
  }
  /// Of a message, after its header of `Header`'s type.
  template <typename Header>
  static Attributes after(const nlmsghdr& message) {
    Attributes attributes;
    for_each_attribute(message, sizeof(Header), [&](const nlattr& attribute) { attributes.note(attribute); });
    return attributes;
  }

  [[nodiscard]] bool has(std::size_t type) const { return known_[type] != nullptr; }

  /// In network order, as nf_tables has them; 0 where absent or of another length, which is no register and no flag.
  [[nodiscard]] std::uint32_t number(std::size_t type) const;
  [[nodiscard]] std::uint64_t long_number(std::size_t type) const;
  /// In host order, as rtnetlink has them.
  [[nodiscard]] std::uint32_t host_number(std::size_t type) const;
  [[nodiscard]] std::uint8_t byte(std::size_t type) const;
  /// Up to its NUL or its end; empty where absent.
  [[nodiscard]] std::string text(std::size_t type) const;
  [[nodiscard]] Attributes nested(std::size_t type) const { return Attributes(payload(type)); }
  [[nodiscard]] std::vector<std::uint8_t> bytes(std::size_t type) const;
  /// Empty where absent.
  [[nodiscard]] std::span<const std::byte> payload(std::size_t type) const {
    return has(type) ? payload_of(*known_[type]) : std::span<const std::byte>();
  }
  [[nodiscard]] const nlattr* find(std::size_t type) const { return known_[type]; }

 private:
  Attributes() = default;
  void note(const nlattr& attribute) {
    const auto type = mnl_attr_get_type(&attribute);
    if (type < known_.size()) known_[type] = &attribute;
  }

  std::array<const nlattr*, 24> known_{};  // FRA_PROTOCOL, the highest that sluice asks for, is 21
};

/// The header of `Header`'s type at the front of a message; null where the message is too short for it.
template <typename Header>
const Header* header_of(const nlmsghdr& message) {
  if (mnl_nlmsg_get_payload_len(&message) < sizeof(Header)) return nullptr;
  return static_cast<const Header*>(mnl_nlmsg_get_payload(&message));
}

}  // namespace sluice::netfilter
