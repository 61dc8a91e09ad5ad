// Ordered values and the sets made of them. Everything a rule can list (ports, addresses, user IDs) is a set of
// closed ranges, so it is normalised once, here: sorted, disjoint, and with neighbours joined.
#pragma once

#include <algorithm>
#include <compare>
#include <optional>
#include <utility>
#include <vector>

namespace sluice {

/// A closed range; `first` is never above `last`.
template <typename T>
struct Range {
  T first;
  T last;

  bool operator==(const Range&) const = default;
  auto operator<=>(const Range&) const = default;
  [[nodiscard]] bool contains(const T& value) const { return first <= value && value <= last; }
  [[nodiscard]] bool single() const { return first == last; }
};

/// A set of values kept as the fewest closed ranges. `T` must be ordered and have `next(T)` and `previous(T)`,
/// found by argument-dependent lookup, which return nothing at the end of the value space.
template <typename T>
class Ranges {
 public:
  Ranges() = default;
  explicit Ranges(std::vector<Range<T>> ranges) : ranges_(std::move(ranges)) { normalise(); }
  Ranges(std::initializer_list<Range<T>> ranges) : Ranges(std::vector<Range<T>>(ranges)) {}

  bool operator==(const Ranges&) const = default;

  [[nodiscard]] bool empty() const { return ranges_.empty(); }
  [[nodiscard]] std::size_t size() const { return ranges_.size(); }
  [[nodiscard]] auto begin() const { return ranges_.begin(); }
  [[nodiscard]] auto end() const { return ranges_.end(); }
  [[nodiscard]] const Range<T>& front() const { return ranges_.front(); }

  /// Whether every element is a single value, so that a plain set will do.
  [[nodiscard]] bool all_single() const {
    return std::all_of(begin(), end(), [](const auto& range) { return range.single(); });
  }

  [[nodiscard]] bool contains(const T& value) const {
    auto after = std::upper_bound(begin(), end(), value, [](const T& v, const Range<T>& r) { return v < r.first; });
    return after != begin() && std::prev(after)->contains(value);
  }

  /// Whether all of `range` lies in this set.
  [[nodiscard]] bool covers(const Range<T>& range) const {
    auto after =
        std::upper_bound(begin(), end(), range.first, [](const T& v, const Range<T>& r) { return v < r.first; });
    return after != begin() && range.last <= std::prev(after)->last;
  }

  /// Whether `range` and this set share a value.
  [[nodiscard]] bool overlaps(const Range<T>& range) const {
    auto reaching =
        std::lower_bound(begin(), end(), range.first, [](const Range<T>& r, const T& v) { return r.last < v; });
    return reaching != end() && reaching->first <= range.last;
  }

  [[nodiscard]] Ranges united(const Ranges& other) const {
    std::vector<Range<T>> all = ranges_;
    all.insert(all.end(), other.begin(), other.end());
    return Ranges(std::move(all));
  }

  /// The values of this set that are not in `other`.
  [[nodiscard]] Ranges without(const Ranges& other) const {
    std::vector<Range<T>> left;
    for (Range<T> piece : ranges_) {
      bool used_up = false;
      for (const Range<T>& hole : other) {
        if (hole.last < piece.first) continue;
        if (piece.last < hole.first) break;
        if (piece.first < hole.first) left.push_back({piece.first, *previous(hole.first)});
        if (piece.last <= hole.last) {
          used_up = true;
          break;
        }
        piece.first = *next(hole.last);
      }
      if (!used_up) left.push_back(piece);
    }
    return Ranges(std::move(left));
  }

 private:
  void normalise() {
    // Long lists mostly come in order.
    if (!std::is_sorted(ranges_.begin(), ranges_.end())) std::sort(ranges_.begin(), ranges_.end());
    std::size_t kept = 0;
    for (const Range<T>& range : ranges_) {
      if (kept > 0 && joins(ranges_[kept - 1], range)) {
        ranges_[kept - 1].last = std::max(ranges_[kept - 1].last, range.last);
      } else {
        ranges_[kept++] = range;
      }
    }
    ranges_.erase(ranges_.begin() + static_cast<std::ptrdiff_t>(kept), ranges_.end());
  }

  static bool joins(const Range<T>& low, const Range<T>& high) {
    if (high.first <= low.last) return true;
    const auto successor = next(low.last);
    return successor && *successor == high.first;
  }

  std::vector<Range<T>> ranges_;
};

}  // namespace sluice
