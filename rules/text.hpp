// Small, locale-free helpers for reading and writing text.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace sluice {

/// Decimal digits only: no sign, no blanks, no prefix. Nothing where the text is empty or overflows 64 bits.
std::optional<std::uint64_t> parse_number(std::string_view text);

/// The same, or hexadecimal after `0x`.
std::optional<std::uint64_t> parse_hex_or_decimal(std::string_view text);

/// Without leading and trailing blanks and tabs.
std::string_view trimmed(std::string_view text);

/// The pieces between separators, as views of `text`; one empty piece for an empty text.
std::vector<std::string_view> split(std::string_view text, char separator);

/// A temporary string would be gone before its pieces are read.
template <std::same_as<std::string> Temporary>
void split(Temporary&& text, char separator) = delete;

std::string join(const std::vector<std::string>& pieces, std::string_view separator);

/// `0x00000539`, the way nft prints marks.
std::string hex32(std::uint32_t number);

/// In double quotes, control characters and bytes outside ASCII shown as `\x00`, and cut after `limit` bytes: safe for
/// a terminal and a log whatever the input held.
std::string quoted(std::string_view text, std::size_t limit = 80);

/// Without quotes and uncut, but else as quoted() shows it: one line whatever the input held.
std::string printable(std::string_view text);

/// The same with quotes and backslashes as `\x22` and `\x5c`: what can stand between quotes in any language.
std::string quotable(std::string_view text);

/// The name nearest to `text` by edit distance, if one is near enough to be what was meant.
std::optional<std::string_view> nearest(std::string_view text, const std::vector<std::string_view>& names);

}  // namespace sluice
