#include "cli/annotations.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>

#include "cli/file_contents.hpp"
#include "rules/options.hpp"
#include "rules/text.hpp"

namespace sluice::cli {
namespace {

constexpr std::string_view own_prefix = "sluice.dev/";
constexpr std::string_view istio_prefix = "traffic.sidecar.istio.io/";
constexpr std::string_view include_inbound_ports = "traffic.sidecar.istio.io/includeInboundPorts";
constexpr std::string_view exclude_inbound_ports = "traffic.sidecar.istio.io/excludeInboundPorts";

struct Translation {
  std::string_view key;
  std::string_view option;
};

/// In the order of preference where two mean the same option.
constexpr Translation istio[] = {
    {include_inbound_ports, "inbound-ports"},
    {exclude_inbound_ports, "exclude-inbound-ports"},
    {"traffic.sidecar.istio.io/includeOutboundIPRanges", "outbound-cidrs"},
    {"traffic.sidecar.istio.io/excludeOutboundIPRanges", "exclude-outbound-cidrs"},
    {"traffic.sidecar.istio.io/includeOutboundPorts", "outbound-ports"},
    {"traffic.sidecar.istio.io/excludeOutboundPorts", "exclude-outbound-ports"},
    {"traffic.sidecar.istio.io/excludeInterfaces", "exclude-interfaces"},
    {"istio.io/reroute-virtual-interfaces", "virtual-interfaces"},
    {"traffic.sidecar.istio.io/kubevirtInterfaces", "virtual-interfaces"},
};

using Annotations = std::map<std::string, std::string, std::less<>>;

void append_utf8(std::string& out, std::uint64_t point) {
  const auto byte = [&](std::uint64_t value) { out += static_cast<char>(static_cast<unsigned char>(value)); };
  if (point < 0x80) {
    byte(point);
  } else if (point < 0x800) {
    byte(0xc0U | point >> 6U);
    byte(0x80U | (point & 0x3fU));
  } else if (point < 0x10000) {
    byte(0xe0U | point >> 12U);
    byte(0x80U | (point >> 6U & 0x3fU));
    byte(0x80U | (point & 0x3fU));
  } else {
    byte(0xf0U | point >> 18U);
    byte(0x80U | (point >> 12U & 0x3fU));
    byte(0x80U | (point >> 6U & 0x3fU));
    byte(0x80U | (point & 0x3fU));
  }
}

/// The digits of \x12, \u1234 and \U12345678, after the letter; false where they are none, or no character.
bool take_hexadecimal(char letter, std::string_view& rest, std::string& out) {
  const std::size_t digits = letter == 'x' ? 2 : letter == 'u' ? 4 : 8;
  if (rest.size() < digits) return false;
  const auto number = parse_hex_or_decimal("0x" + std::string(rest.substr(0, digits)));
  if (!number) return false;
  rest.remove_prefix(digits);
  if (letter == 'x') {
    out += static_cast<char>(static_cast<unsigned char>(*number));
    return true;
  }
  if (*number > 0x10ffff || (*number >= 0xd800 && *number <= 0xdfff)) return false;
  append_utf8(out, *number);
  return true;
}

/// The text of a literal in quotes; nothing where Go would not have written it.
std::optional<std::string> unquoted(std::string_view literal) {
  constexpr std::string_view letters = R"(abfnrtv\")";
  constexpr std::string_view meanings = "\a\b\f\n\r\t\v\\\"";
  if (literal.size() < 2 || literal.front() != '"' || literal.back() != '"') return std::nullopt;
  std::string_view rest = literal.substr(1, literal.size() - 2);
  std::string out;
  while (!rest.empty()) {
    const char c = rest.front();
    rest.remove_prefix(1);
    if (c == '"') return std::nullopt;
    if (c != '\\') {
      out += c;
      continue;
    }
    if (rest.empty()) return std::nullopt;
    const char letter = rest.front();
    rest.remove_prefix(1);
    if (const std::size_t at = letters.find(letter); at != std::string_view::npos) {
      out += meanings[at];
    } else if (std::string_view("xuU").find(letter) == std::string_view::npos || !take_hexadecimal(letter, rest, out)) {
      return std::nullopt;
    }
  }
  return out;
}

/// Every annotation, by its key. A line that the kubelet does not write ends it: such a file is not what was meant, and
/// the lines after it say nothing new.
Annotations parsed(const std::string& text, const std::string& name, Problems& problems) {
  Annotations found;
  std::size_t number = 0;
  for (const std::string_view line : split(std::string_view(text), '\n')) {
    ++number;
    if (line.empty()) continue;
    const std::size_t equals = std::min(line.find('='), line.size());
    const std::string_view key = line.substr(0, equals);
    const auto value = equals < line.size() ? unquoted(line.substr(equals + 1)) : std::nullopt;
    const std::string where = name + ":" + std::to_string(number);
    if (key.empty() || !value) {
      problems.errors.push_back({where, sluice::quoted(line) +
                                            " is not an annotation as the kubelet writes it; allowed: key=\"value\", "
                                            "the file of a downward API volume with metadata.annotations"});
      return {};
    }
    if (!found.emplace(key, *value).second) {
      problems.errors.push_back({where, sluice::quoted(key) + " is given more than once; allowed: once"});
    }
  }
  return found;
}

class Reader {
 public:
  Reader(const Annotations& annotations, RawConfig& raw, Problems& problems)
      : annotations_(annotations), raw_(raw), problems_(problems) {}

  void read() {
    for (const auto& [key, value] : annotations_) {
      if (key.compare(0, own_prefix.size(), own_prefix) == 0) take_own(key, value);
      if (key.compare(0, istio_prefix.size(), istio_prefix) == 0) check_istio(key);
    }
    for (const Translation& translation : istio) take_istio(translation);
  }

 private:
  static std::string where(std::string_view key) { return "annotation " + std::string(key); }

  void take_own(const std::string& key, const std::string& value) {
    const std::string name = key.substr(own_prefix.size());
    const OptionSpec* option = find_option(name);
    if (option != nullptr && settable_by_annotation(*option)) {
      said_[option->name] = key;
      raw_[name].push_back({value, {Source::annotation, where(key)}});
    } else if (option != nullptr) {
      problems_.errors.push_back(
          {where(key), "is not for a pod to say; allowed: --" + name + ", where sluice is started"});
    } else {
      std::vector<std::string_view> names;
      for (const OptionSpec& known : options()) {
        if (settable_by_annotation(known)) names.push_back(known.name);
      }
      const auto near = nearest(name, names);
      problems_.errors.push_back(
          {"annotation " + sluice::quoted(key),
           "names no option" + (near ? "; did you mean " + std::string(own_prefix) + std::string(*near) + "?"
                                     : "; allowed: sluice.dev/ and the name of an option")});
    }
  }

  void check_istio(const std::string& key) {
    std::vector<std::string_view> names;
    for (const Translation& known : istio) {
      if (known.key == key) return;
      names.push_back(known.key);
    }
    const auto near = nearest(key, names);
    problems_.warnings.push_back(
        {"annotation " + sluice::quoted(key),
         "is none that sluice knows, so it is ignored" + (near ? "; did you mean " + std::string(*near) + "?" : "")});
  }

  void take_istio(const Translation& translation) {
    const auto found = annotations_.find(translation.key);
    if (found == annotations_.end()) return;
    if (const auto other = said_.find(translation.option); other != said_.end()) {
      problems_.warnings.push_back(
          {where(translation.key), "is ignored, because " + other->second + " says the same and goes first"});
      return;
    }
    if (translation.key == exclude_inbound_ports && ports_are_listed()) {
      problems_.warnings.push_back({where(translation.key), "is ignored, as Istio ignores it where " +
                                                                std::string(include_inbound_ports) +
                                                                " is not *: only the ports listed there are captured"});
      return;
    }
    said_[translation.option] = translation.key;
    auto& values = raw_[std::string(translation.option)];
    values.push_back({found->second, {Source::annotation, where(translation.key)}});
    if (translation.key != exclude_inbound_ports) return;
    // There it adds to the proxy's own ports, which are always left alone.
    for (const PresetValue& own : preset_values(Preset::istio)) {
      if (own.option == translation.option) {
        values.push_back({std::string(own.text), {Source::annotation, where(translation.key)}});
      }
    }
  }

  /// By the annotation that is in force, which stands before this one in the table.
  [[nodiscard]] bool ports_are_listed() const {
    const auto said = said_.find("inbound-ports");
    return said != said_.end() && said->second == include_inbound_ports &&
           trimmed(annotations_.find(include_inbound_ports)->second) != "*";
  }

  const Annotations& annotations_;
  RawConfig& raw_;
  Problems& problems_;
  std::map<std::string_view, std::string> said_;  ///< by option: the annotation that says it
};

}  // namespace

void read_annotations_text(const std::string& text, const std::string& name, RawConfig& raw, Problems& problems) {
  const Annotations annotations = parsed(text, name, problems);
  Reader(annotations, raw, problems).read();
}

void read_annotations_file(const std::string& path, const std::string& said_by, RawConfig& raw, Problems& problems) {
  const auto text = contents_of(path, said_by, "the file of a downward API volume with metadata.annotations", problems);
  if (text) read_annotations_text(*text, path, raw, problems);
}

}  // namespace sluice::cli
