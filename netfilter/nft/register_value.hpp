// What lies in a register of the kernel: the operand of a comparison, the key of a set's element.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <span>

namespace sluice::netfilter {

/// Up to 16 bytes, as they lie in the register. Kept in place: a list may have 100,000 of them, and an apply reads some
/// hundred back.
class RegisterValue {
 public:
  static constexpr std::size_t capacity = 16;  ///< an IPv6 address, an interface's name

  RegisterValue() = default;
  RegisterValue(std::initializer_list<std::uint8_t> bytes) : RegisterValue(bytes.begin(), bytes.end()) {}
  /// At most `capacity` bytes.
  template <typename Iterator>
  RegisterValue(Iterator first, Iterator last) : size_(static_cast<std::uint8_t>(last - first)) {
    std::copy(first, last, bytes_.begin());
  }
  /// Nothing where there are more than `capacity`.
  static std::optional<RegisterValue> from(std::span<const std::byte> bytes) {
    if (bytes.size() > capacity) return std::nullopt;
    RegisterValue value;
    value.size_ = static_cast<std::uint8_t>(bytes.size());
    if (!bytes.empty()) std::memcpy(value.bytes_.data(), bytes.data(), bytes.size());
    return value;
  }
  static RegisterValue filled(std::size_t size, std::uint8_t byte) {
    RegisterValue value;
    value.size_ = static_cast<std::uint8_t>(size);
    std::fill_n(value.bytes_.begin(), size, byte);
    return value;
  }

  [[nodiscard]] const std::uint8_t* data() const { return bytes_.data(); }
  [[nodiscard]] const std::uint8_t* begin() const { return data(); }
  [[nodiscard]] const std::uint8_t* end() const { return data() + size_; }
  [[nodiscard]] std::size_t size() const { return size_; }
  std::uint8_t& operator[](std::size_t place) { return bytes_[place]; }
  std::uint8_t operator[](std::size_t place) const { return bytes_[place]; }

  /// Cut, or with zeros at the end.
  [[nodiscard]] RegisterValue resized_to(std::size_t size) const {
    RegisterValue value(begin(), begin() + std::min(size, this->size()));
    value.size_ = static_cast<std::uint8_t>(size);
    return value;
  }

  // What follows the last byte is zero in every value.
  friend bool operator==(const RegisterValue&, const RegisterValue&) = default;
  friend bool operator<(const RegisterValue& a, const RegisterValue& b) {
    return std::memcmp(a.data(), b.data(), capacity) < 0;
  }

 private:
  std::array<std::uint8_t, capacity> bytes_{};
  std::uint8_t size_ = 0;
};

}  // namespace sluice::netfilter
