#include "cli/yaml.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string_view>

namespace sluice::cli {
namespace {

using Json = nlohmann::ordered_json;

/// Words that YAML 1.1 or 1.2 reads as a boolean or as nothing.
constexpr std::string_view reserved[] = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"};

bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

/// Begins with a letter, so it is no number, date or mark, and goes on with what means nothing in YAML.
bool is_plain(std::string_view text) {
  if (text.empty() || !is_letter(text.front())) return false;
  const bool harmless = std::all_of(text.begin(), text.end(), [](char c) {
    return is_letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' || c == '/';
  });
  std::string lower(text);
  for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return harmless && std::find(std::begin(reserved), std::end(reserved), lower) == std::end(reserved);
}

std::string hexadecimal(char letter, std::uint32_t number, unsigned digits) {
  std::string text = {'\\', letter};
  while (digits > 0) text += "0123456789ABCDEF"[number >> 4U * --digits & 0xfU];
  return text;
}

/// The character that begins `rest`, taken off; `rest` is UTF-8.
std::uint32_t take_character(std::string_view& rest) {
  const auto first = static_cast<unsigned char>(rest.front());
  const std::size_t length = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
  std::uint32_t point = length == 1 ? first : first & (0xffU >> (length + 1));
  for (const char c : rest.substr(1, length - 1)) point = point << 6U | (static_cast<unsigned char>(c) & 0x3fU);
  rest.remove_prefix(std::min(length, rest.size()));
  return point;
}

/// Outside ASCII everything is escaped: YAML readers do not agree on what may stand there as it is.
std::string in_quotes(std::string_view rest) {
  std::string text = "\"";
  while (!rest.empty()) {
    const std::uint32_t point = take_character(rest);
    if (point == '"' || point == '\\') {
      text += '\\';
      text += static_cast<char>(point);
    } else if (point >= 0x20 && point < 0x7f) {
      text += static_cast<char>(point);
    } else {
      text += point > 0xffff ? hexadecimal('U', point, 8) : hexadecimal('u', point, 4);
    }
  }
  return text + "\"";
}

std::string scalar(const Json& value) {
  if (value.is_string()) {
    const auto& text = value.get_ref<const std::string&>();
    return is_plain(text) ? text : in_quotes(text);
  }
  return value.is_object() ? "{}" : value.is_array() ? "[]" : value.dump();
}

void write(const Json& value, const std::string& indent, std::string& out);

/// After `key:` or `-`: on the same line, or below.
void write_entry(const Json& value, const std::string& indent, std::string& out) {
  if (value.is_structured() && !value.empty()) {
    out += '\n';
    write(value, indent, out);
  } else {
    out += ' ' + scalar(value) + '\n';
  }
}

void write(const Json& value, const std::string& indent, std::string& out) {
  if (value.is_object()) {
    for (const auto& [key, member] : value.items()) {
      out += indent + scalar(Json(key)) + ":";
      write_entry(member, member.is_array() ? indent : indent + "  ", out);
    }
    return;
  }
  for (const Json& element : value) {
    const std::size_t begin = out.size();
    out += indent + "-";
    write_entry(element, indent + "  ", out);
    // An object's first key, or a list's first dash, stands beside its own dash.
    const std::size_t dash = begin + indent.size();
    if (out[dash + 1] == '\n') out.replace(dash + 1, 1 + indent.size() + 2, " ");
  }
}

}  // namespace

std::string to_yaml(const Json& value) {
  std::string out;
  if (value.is_structured() && !value.empty()) {
    write(value, "", out);
  } else {
    out = scalar(value) + '\n';
  }
  return out;
}

}  // namespace sluice::cli
