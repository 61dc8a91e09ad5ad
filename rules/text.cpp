#include "rules/text.hpp"

#include <algorithm>
#include <charconv>
#include <numeric>

namespace sluice {
namespace {

constexpr char hex_digits[] = "0123456789abcdef";

std::optional<std::uint64_t> parse_in_base(std::string_view text, int base) {
  std::uint64_t number = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number, base);
  if (text.empty() || error != std::errc() || stop != end) return std::nullopt;
  return number;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0U : 1U)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

bool is_printable(char c) { return c >= 0x20 && c < 0x7f; }

/// As `\x1b`.
void append_escaped(std::string& text, char c) {
  const auto byte = static_cast<unsigned char>(c);
  text += "\\x";
  text += hex_digits[byte >> 4U];
  text += hex_digits[byte & 0xfU];
}

/// Bytes that are not printable ASCII, or that are `unwanted`, as `\x00`.
std::string without(std::string_view text, std::string_view unwanted) {
  const auto is_safe = [&](char c) {
    return is_printable(c) && std::find(unwanted.begin(), unwanted.end(), c) == unwanted.end();
  };
  // Nearly every text is safe as it is.
  const auto* rest = std::find_if_not(text.begin(), text.end(), is_safe);
  std::string safe(text.begin(), rest);
  for (; rest != text.end(); ++rest) {
    if (is_safe(*rest)) {
      safe += *rest;
    } else {
      append_escaped(safe, *rest);
    }
  }
  return safe;
}

}  // namespace

std::optional<std::uint64_t> parse_number(std::string_view text) { return parse_in_base(text, 10); }

std::optional<std::uint64_t> parse_hex_or_decimal(std::string_view text) {
  if (text.substr(0, 2) == "0x" || text.substr(0, 2) == "0X") return parse_in_base(text.substr(2), 16);
  return parse_number(text);
}

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> pieces;
  std::size_t start = 0;
  for (;;) {
    const std::size_t stop = text.find(separator, start);
    pieces.push_back(text.substr(start, stop - start));
    if (stop == std::string_view::npos) return pieces;
    start = stop + 1;
  }
}

std::string join(const std::vector<std::string>& pieces, std::string_view separator) {
  std::string joined;
  for (const std::string& piece : pieces) {
    if (&piece != &pieces.front()) joined += separator;
    joined += piece;
  }
  return joined;
}

std::string hex32(std::uint32_t number) {
  std::string text = "0x";
  for (int shift = 28; shift >= 0; shift -= 4) text += hex_digits[number >> shift & 0xfU];
  return text;
}

std::string printable(std::string_view text) { return without(text, {}); }

std::string quotable(std::string_view text) { return without(text, "\"'\\"); }

std::string quoted(std::string_view text, std::size_t limit) {
  std::string safe = "\"";
  for (const char c : text.substr(0, limit)) {
    if (c == '"' || c == '\\') {
      safe += '\\';
      safe += c;
    } else if (is_printable(c)) {
      safe += c;
    } else {
      append_escaped(safe, c);
    }
  }
  safe += '"';
  if (text.size() > limit) safe += " (cut; " + std::to_string(text.size()) + " bytes)";
  return safe;
}

std::optional<std::string_view> nearest(std::string_view text, const std::vector<std::string_view>& names) {
  std::optional<std::string_view> best;
  std::size_t best_distance = std::max<std::size_t>(2, text.size() / 3) + 1;
  if (text.size() > 128) return best;
  for (const std::string_view name : names) {
    const std::size_t distance = edit_distance(text, name);
    if (distance < best_distance) {
      best = name;
      best_distance = distance;
    }
  }
  return best;
}

}  // namespace sluice
