// How two lists of rules differ, in order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace sluice {

/// Calls `missing(wanted)`, `unexpected(found)` or `changed(wanted, found)` for each difference. The longest common
/// subsequence would be prettier for long lists; ours are short, and their order matters.
template <typename Wanted, typename Found, typename Same, typename Missing, typename Unexpected, typename Changed>
void compare_lists(const std::vector<Wanted>& wanted, const std::vector<Found>& found, const Same& same,
                   const Missing& missing, const Unexpected& unexpected, const Changed& changed) {
  std::size_t w = 0;
  std::size_t f = 0;
  const auto found_later = [&] {
    return std::any_of(found.begin() + static_cast<std::ptrdiff_t>(f), found.end(),
                       [&](const Found& candidate) { return same(wanted[w], candidate); });
  };
  const auto wanted_later = [&] {
    return std::any_of(wanted.begin() + static_cast<std::ptrdiff_t>(w), wanted.end(),
                       [&](const Wanted& candidate) { return same(candidate, found[f]); });
  };
  while (w < wanted.size() && f < found.size()) {
    if (same(wanted[w], found[f])) {
      ++w, ++f;
    } else if (found_later()) {
      unexpected(found[f++]);
    } else if (wanted_later()) {
      missing(wanted[w++]);
    } else {
      changed(wanted[w++], found[f++]);
    }
  }
  while (w < wanted.size()) missing(wanted[w++]);
  while (f < found.size()) unexpected(found[f++]);
}

}  // namespace sluice
