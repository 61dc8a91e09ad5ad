// One type for each number or name with a meaning, so that a port cannot be passed where a user ID is wanted.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "rules/ranges.hpp"

namespace sluice {

/// A TCP or UDP port, 1 to 65535; host byte order. There is no port 0.
class Port {
 public:
  static constexpr std::optional<Port> from(std::uint64_t number) {
    if (number < 1 || number > 65535) return std::nullopt;
    return Port(static_cast<std::uint16_t>(number));
  }
  [[nodiscard]] constexpr std::uint16_t number() const { return number_; }
  auto operator<=>(const Port&) const = default;

 private:
  explicit constexpr Port(std::uint16_t number) : number_(number) {}
  std::uint16_t number_;
};

std::optional<Port> next(Port port);
std::optional<Port> previous(Port port);
/// 1 to 65535.
const Range<Port>& every_port();

/// A user or group ID as the kernel has it; 4294967295 means "no ID" there and is none here.
template <typename Tag>
struct Id {
  std::uint32_t number;
  auto operator<=>(const Id&) const = default;

  static constexpr std::uint32_t highest = 4294967294U;
  static constexpr std::optional<Id> from(std::uint64_t number) {
    if (number > highest) return std::nullopt;
    return Id{static_cast<std::uint32_t>(number)};
  }
  friend std::optional<Id> next(Id id) {
    return id.number >= highest ? std::nullopt : std::optional(Id{id.number + 1});
  }
  friend std::optional<Id> previous(Id id) { return id.number == 0 ? std::nullopt : std::optional(Id{id.number - 1}); }
};
using Uid = Id<struct UidTag>;
using Gid = Id<struct GidTag>;

/// A packet or connection mark: matches where `mark & mask == value`.
struct Mark {
  std::uint32_t value;
  std::uint32_t mask = 0xffffffffU;
  bool operator==(const Mark&) const = default;
};

/// An interface by name, or all whose names begin with `name`. At most 15 bytes (IFNAMSIZ - 1, linux/if.h).
struct InterfacePattern {
  std::string name;
  bool prefix = false;

  auto operator<=>(const InterfacePattern&) const = default;
  [[nodiscard]] bool matches(std::string_view interface) const {
    return prefix ? interface.substr(0, name.size()) == name : interface == name;
  }
};

/// Whether an interface may be called so as far as sluice goes: the kernel takes more, but not every text format does.
bool is_interface_name(std::string_view name);

enum class Family { ipv4, ipv6 };

/// Transport protocols that a rule can name, by their IP protocol numbers.
enum class Protocol : std::uint8_t { tcp = 6, udp = 17, sctp = 132 };

std::string_view to_text(Family family);
std::string_view to_text(Protocol protocol);

}  // namespace sluice
