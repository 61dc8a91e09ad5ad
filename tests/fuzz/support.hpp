// What the fuzz targets share. A property that does not hold ends the program, which the fuzzer reports together with
// the input.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "rules/config.hpp"

namespace sluice::fuzz {

inline void require(bool holds, std::string_view what, std::string_view detail = {}) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %.*s\n%.*s\n", static_cast<int>(what.size()), what.data(),
               static_cast<int>(detail.size()), detail.data());
  std::abort();
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

inline Lookups lookups() {
  return {[](std::string_view name) { return name == "envoy" ? std::optional<std::uint32_t>(101) : std::nullopt; },
          [](std::string_view name) { return name == "mesh" ? std::optional<std::uint32_t>(202) : std::nullopt; },
          [] {
            return std::vector<IpAddress>{*parse_address("10.96.0.10"), *parse_address("fd00::a")};
          }};
}

/// Errors are there exactly when there is no configuration.
inline void check(const Validation& validation) {
  require(validation.config.has_value() == validation.problems.errors.empty(), "no configuration without an error");
}

}  // namespace sluice::fuzz
