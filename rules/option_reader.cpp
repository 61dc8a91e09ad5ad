#include "rules/option_reader.hpp"

#include <algorithm>

#include "rules/text.hpp"

namespace sluice {
namespace {

constexpr char port_forms[] = "1 to 65535, or a range such as 8000-8100";
constexpr char id_forms[] = "0 to 4294967294, a name from /etc/passwd or /etc/group, or a range such as 1000-1010";
constexpr char network_forms[] = "an IPv4 or IPv6 address or network, such as 10.0.0.0/8 or fd00::/8";
constexpr char mark_forms[] = "a 32-bit number, optionally with a mask: 1337, 0x539, 0x539/0xfff";

/// The halves of `a-b` or `a:b`; the second is absent for a lone value.
std::pair<std::string_view, std::optional<std::string_view>> halves(std::string_view text,
                                                                    std::string_view separators) {
  const std::size_t at = text.find_first_of(separators, 1);
  if (text.empty() || at == std::string_view::npos) return {text, std::nullopt};
  return {text.substr(0, at), text.substr(at + 1)};
}

}  // namespace

void OptionReader::warn(const std::string& message) {
  problems_.warnings.push_back({values_.front().origin.where, message});
}

void OptionReader::reject(const RawValue& value, std::string_view offending, const std::string& why,
                          const std::string& allowed) {
  problems_.errors.push_back({value.origin.where, quoted(offending) + " " + why + "; allowed: " + allowed});
}

bool OptionReader::looks_like_flag(const RawValue& value, std::string_view element) {
  if (element.substr(0, 1) != "-") return false;
  problems_.errors.push_back(
      {value.origin.where,
       quoted(element) + " looks like a flag where a value is wanted; is a value missing before it?"});
  return true;
}

const RawValue& OptionReader::only_value() {
  for (std::size_t i = 1; i < values_.size(); ++i) {
    problems_.errors.push_back({values_[i].origin.where, "given more than once (" + quoted(values_[0].text) +
                                                             ", then " + quoted(values_[i].text) + "); allowed: once"});
  }
  return values_.front();
}

std::vector<OptionReader::Element> OptionReader::elements(bool whole_values) {
  std::vector<Element> found;
  for (const RawValue& value : values_) {
    // An empty text is an empty list, not a list of one empty element.
    if (value.text.empty()) continue;
    const auto pieces = whole_values ? std::vector<std::string_view>{value.text} : split(value.text, ',');
    for (const std::string_view piece : pieces) {
      const std::string_view element = trimmed(piece);
      if (element.size() != piece.size()) {
        problems_.warnings.push_back({value.origin.where, "blanks around " + quoted(element) + " are ignored"});
      }
      if (element.empty()) {
        problems_.warnings.push_back({value.origin.where, "an empty element in " + quoted(value.text) + " is ignored"});
      } else if (!looks_like_flag(value, element)) {
        found.push_back({element, &value});
      }
    }
  }
  return found;
}

bool OptionReader::flag() {
  const RawValue& value = only_value();
  for (const std::string_view yes : {"true", "1", "yes", "on"}) {
    if (value.text == yes) return true;
  }
  for (const std::string_view no : {"false", "0", "no", "off"}) {
    if (value.text == no) return false;
  }
  reject(value, value.text, "is neither yes nor no", "true, false, yes, no, on, off, 1, 0");
  return false;
}

std::string OptionReader::text() {
  const RawValue& value = only_value();
  if (value.text.empty() && value.origin.source != Source::fallback) {
    reject(value, value.text, "is empty", "a value");
  } else if (value.text.find('\0') != std::string::npos) {
    reject(value, value.text, "contains a NUL byte", "text without NUL");
  } else {
    looks_like_flag(value, value.text);
  }
  return value.text;
}

Port OptionReader::port() {
  const RawValue& value = only_value();
  const auto number = parse_number(value.text);
  if (const auto port = number ? Port::from(*number) : std::nullopt) return *port;
  if (!looks_like_flag(value, value.text)) reject(value, value.text, "is not a port", "1 to 65535");
  return every_port().last;
}

std::optional<Range<Port>> OptionReader::port_range(const RawValue& value, std::string_view text, bool star_allowed) {
  if (text == "*" && star_allowed) return every_port();
  if (text == "*") {
    reject(value, text, "would exclude every port", port_forms);
    return std::nullopt;
  }
  const auto [low_text, high_text] = halves(text, "-:");
  const auto low_number = parse_number(low_text);
  const auto high_number = high_text ? parse_number(*high_text) : low_number;
  const auto low = low_number ? Port::from(*low_number) : std::nullopt;
  const auto high = high_number ? Port::from(*high_number) : std::nullopt;
  if (!low || !high) {
    reject(value, text, high_text ? "is not a range of ports" : "is not a port", port_forms);
    return std::nullopt;
  }
  if (*high < *low) {
    reject(value, text, "runs downward", "the lower port first");
    return std::nullopt;
  }
  return Range<Port>{*low, *high};
}

Ranges<Port> OptionReader::port_list(bool star_allowed) {
  std::vector<Range<Port>> found;
  for (const auto& [text, value] : elements()) {
    if (const auto range = port_range(*value, text, star_allowed)) found.push_back(*range);
  }
  return Ranges<Port>(std::move(found));
}

Ranges<Port> OptionReader::ports() { return port_list(true); }
Ranges<Port> OptionReader::excluded_ports() { return port_list(false); }

template <typename Kind>
std::optional<Range<Kind>> OptionReader::id_range(const RawValue& value, std::string_view text) {
  constexpr bool users = std::is_same_v<Kind, Uid>;
  const bool starts_with_digit = !text.empty() && text[0] >= '0' && text[0] <= '9';
  if (!starts_with_digit) {
    const auto& lookup = users ? lookups_.uid_of : lookups_.gid_of;
    const auto number = text.find('\0') == std::string_view::npos ? lookup(text) : std::nullopt;
    if (const auto id = number ? Kind::from(*number) : std::nullopt) return Range<Kind>{*id, *id};
    reject(value, text, users ? "is no user in /etc/passwd" : "is no group in /etc/group", id_forms);
    return std::nullopt;
  }
  const auto [low_text, high_text] = halves(text, "-");
  const auto low_number = parse_number(low_text);
  const auto high_number = high_text ? parse_number(*high_text) : low_number;
  const auto low = low_number ? Kind::from(*low_number) : std::nullopt;
  const auto high = high_number ? Kind::from(*high_number) : std::nullopt;
  if (!low || !high) {
    reject(value, text, users ? "is not a user ID" : "is not a group ID", id_forms);
    return std::nullopt;
  }
  if (*high < *low) {
    reject(value, text, "runs downward", "the lower ID first");
    return std::nullopt;
  }
  return Range<Kind>{*low, *high};
}

template <typename Kind>
Ranges<Kind> OptionReader::ids() {
  std::vector<Range<Kind>> found;
  for (const auto& [text, value] : elements()) {
    if (const auto range = id_range<Kind>(*value, text)) found.push_back(*range);
  }
  return Ranges<Kind>(std::move(found));
}

Ranges<Uid> OptionReader::uids() { return ids<Uid>(); }
Ranges<Gid> OptionReader::gids() { return ids<Gid>(); }

template <typename Kind>
Kind OptionReader::single_id() {
  const RawValue& value = only_value();
  const auto range = looks_like_flag(value, value.text) ? std::nullopt : id_range<Kind>(value, value.text);
  if (!range) return Kind{0};
  if (!range->single()) reject(value, value.text, "is more than one", "one ID or name");
  return range->first;
}

Uid OptionReader::uid() { return single_id<Uid>(); }
Gid OptionReader::gid() { return single_id<Gid>(); }

std::string OptionReader::interface() {
  const RawValue& value = only_value();
  if (!is_interface_name(value.text) && !looks_like_flag(value, value.text)) {
    reject(value, value.text, "is not an interface name", "1 to 15 printable characters without blanks, such as eth0");
  }
  return value.text;
}

std::string OptionReader::image() {
  const RawValue& value = only_value();
  const bool sound = !value.text.empty() && value.text.front() != '-' &&
                     std::all_of(value.text.begin(), value.text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
  if (!sound && !looks_like_flag(value, value.text)) {
    reject(value, value.text, "is not the name of an image",
           "printable characters without blanks, such as registry.example/sluice:1.0");
  }
  return value.text;
}

std::string OptionReader::dns_name(std::size_t limit, bool dots, const char* allowed) {
  const RawValue& value = only_value();
  const auto alphanumeric = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  const auto sound = [&](std::string_view label) {
    return !label.empty() && alphanumeric(label.front()) && alphanumeric(label.back()) &&
           std::all_of(label.begin(), label.end(), [&](char c) { return alphanumeric(c) || c == '-'; });
  };
  const auto labels = dots ? split(value.text, '.') : std::vector<std::string_view>{value.text};
  if (value.text.size() > limit || !std::all_of(labels.begin(), labels.end(), sound)) {
    reject(value, value.text, "is not a name as Kubernetes takes it", allowed);
  }
  return value.text;
}

std::string OptionReader::container_name() {
  return dns_name(63, false, "1 to 63 characters of a-z, 0-9 and -, with no - at either end");
}

std::string OptionReader::object_name() {
  return dns_name(253, true,
                  "1 to 253 characters of a-z, 0-9, - and ., with a letter or digit at either end of each part");
}

Endpoint OptionReader::endpoint() {
  const RawValue& value = only_value();
  const std::string_view text = value.text;
  Endpoint nowhere{Ipv4{}, std::nullopt};
  if (looks_like_flag(value, text)) return nowhere;
  // An IPv6 address without brackets has no port: its own colons cannot be told from the port's.
  const bool bracketed = text.substr(0, 1) == "[" && text.find(']') != std::string_view::npos;
  const std::size_t colon = bracketed ? text.find(']') + 1 : text.find(':');
  const bool plain_v6 = !bracketed && text.find(':') != text.rfind(':');
  const bool with_port = !plain_v6 && colon < text.size();
  const std::string_view host = with_port ? text.substr(0, colon) : text;
  const auto address = parse_address(bracketed ? host.substr(1, host.find(']') - 1) : host);
  const auto number = with_port && text[colon] == ':' ? parse_number(text.substr(colon + 1)) : std::nullopt;
  const auto port = number ? Port::from(*number) : std::nullopt;
  if (address && (port || !with_port)) return {*address, port};
  reject(value, text, address ? "has no port from 1 to 65535 after its address" : "is not an address",
         "an address, or an address and a port: 10.96.0.1, 10.96.0.1:443, [fd00::1]:443");
  return nowhere;
}

std::vector<InterfacePattern> OptionReader::interfaces() {
  std::vector<InterfacePattern> found;
  for (const auto& [text, value] : elements()) {
    const bool prefix = text.back() == '+' || text.back() == '*';
    const std::string_view name = prefix ? text.substr(0, text.size() - 1) : text;
    if (prefix && name.empty()) {
      reject(*value, text, "matches every interface", "a name, or the beginning of one before + or *");
    } else if (!is_interface_name(name)) {
      reject(*value, text, "is not an interface name",
             "1 to 15 printable characters without blanks, / : * + % or quotes; a trailing + or * makes it a prefix");
    } else {
      // IFNAMSIZ - 1, linux/if.h: nothing longer begins with such a name, and nft refuses it as a prefix.
      constexpr std::size_t longest = 15;
      found.push_back({std::string(name), prefix && name.size() < longest});
    }
  }
  std::sort(found.begin(), found.end());
  found.erase(std::unique(found.begin(), found.end()), found.end());
  // A name under a prefix that is listed too adds nothing.
  const std::vector<InterfacePattern> all = found;
  std::erase_if(found, [&](const InterfacePattern& pattern) {
    return std::any_of(all.begin(), all.end(), [&](const InterfacePattern& other) {
      return other.prefix && other != pattern && other.matches(pattern.name);
    });
  });
  return found;
}

std::vector<IpAddress> OptionReader::addresses() {
  std::vector<IpAddress> found;
  for (const auto& [text, value] : elements()) {
    if (const auto address = parse_address(text)) {
      if (std::find(found.begin(), found.end(), *address) == found.end()) found.push_back(*address);
    } else {
      reject(*value, text, "is not an address", "an IPv4 or IPv6 address, without a prefix length");
    }
  }
  return found;
}

AddressRanges OptionReader::networks(bool star_allowed, AddressRanges* named) {
  std::vector<Range<Ipv4>> v4;
  std::vector<Range<Ipv6>> v6;
  bool everything = false;
  for (const auto& [text, value] : elements()) {
    if (text == "*" && star_allowed) {
      everything = true;
      continue;
    }
    const auto parsed = parse_cidr(text);
    if (!parsed) {
      reject(*value, text, "is not a network", std::string(network_forms) + (star_allowed ? ", or *" : ""));
      continue;
    }
    if (const auto* four = std::get_if<Cidr<Ipv4>>(&parsed->cidr)) {
      v4.push_back(range_of(*four));
      if (parsed->host_bits) warn(quoted(text) + " has host bits set; taken as " + to_text(v4.back()));
    } else {
      v6.push_back(range_of(std::get<Cidr<Ipv6>>(parsed->cidr)));
      if (parsed->host_bits) warn(quoted(text) + " has host bits set; taken as " + to_text(v6.back()));
    }
  }
  const auto inside = [](auto& ranges, auto container) {
    auto kept = ranges;
    std::erase_if(kept,
                  [&](const auto& range) { return range.first < container.first || container.last < range.last; });
    return kept;
  };
  if (named != nullptr) {
    const Range<Ipv4> loopback = range_of(Cidr<Ipv4>{{0x7f000000U}, 8});
    const Range<Ipv6> loopback6{{0, 1}, {0, 1}};
    *named = {Ranges<Ipv4>(inside(v4, loopback)), Ranges<Ipv6>(inside(v6, loopback6))};
  }
  if (everything) return AddressRanges::everything();
  return {Ranges<Ipv4>(std::move(v4)), Ranges<Ipv6>(std::move(v6))};
}

Cidr<Ipv4> OptionReader::loopback_network() {
  const RawValue& value = only_value();
  const Range<Ipv4> loopback = range_of(Cidr<Ipv4>{{0x7f000000U}, 8});
  const auto parsed = parse_cidr(value.text);
  const auto* cidr = parsed ? std::get_if<Cidr<Ipv4>>(&parsed->cidr) : nullptr;
  if (cidr == nullptr || !Ranges<Ipv4>{loopback}.covers(range_of(*cidr))) {
    reject(value, value.text, "is not a loopback network", "127.0.0.0/8 or a network within it");
    return {};
  }
  if (parsed->host_bits) warn(quoted(value.text) + " has host bits set; taken as " + to_text(range_of(*cidr)));
  return *cidr;
}

std::optional<Mark> OptionReader::mark() {
  const RawValue& value = only_value();
  if (value.origin.source == Source::fallback) return std::nullopt;
  const auto [mark_text, mask_text] = halves(value.text, "/");
  const auto mark = parse_hex_or_decimal(mark_text);
  const auto mask = mask_text ? parse_hex_or_decimal(*mask_text) : 0xffffffffU;
  if (!mark || !mask || *mark > 0xffffffffU || *mask > 0xffffffffU) {
    if (!looks_like_flag(value, value.text)) reject(value, value.text, "is not a mark", mark_forms);
    return std::nullopt;
  }
  if (*mask == 0 || (*mark & *mask) == 0) {
    reject(value, value.text, "would match packets without any mark",
           "a mark with at least one bit set under its mask");
    return std::nullopt;
  }
  if ((*mark & ~*mask) != 0) {
    reject(value, value.text, "can never match: the mark has bits outside its mask", mark_forms);
    return std::nullopt;
  }
  return Mark{static_cast<std::uint32_t>(*mark), static_cast<std::uint32_t>(*mask)};
}

std::uint32_t OptionReader::number(std::uint32_t lowest, std::uint32_t highest) {
  const RawValue& value = only_value();
  const auto number = parse_hex_or_decimal(value.text);
  if (number && lowest <= *number && *number <= highest) return static_cast<std::uint32_t>(*number);
  reject(value, value.text, "is not in range", std::to_string(lowest) + " to " + std::to_string(highest));
  return lowest;
}

int OptionReader::negative_number(int lowest, int highest) {
  const RawValue& value = only_value();
  const bool minus = value.text.substr(0, 1) == "-";
  const auto magnitude = parse_number(std::string_view(value.text).substr(minus ? 1 : 0));
  if (magnitude && *magnitude < 100000) {
    const int number = (minus ? -1 : 1) * static_cast<int>(*magnitude);
    if (lowest <= number && number <= highest) return number;
  }
  reject(value, value.text, "is not in range", std::to_string(lowest) + " to " + std::to_string(highest));
  return highest;
}

std::chrono::milliseconds OptionReader::duration() {
  const RawValue& value = only_value();
  struct Unit {
    std::string_view suffix;
    std::uint64_t milliseconds;
  };
  // "ms" before "s", which it ends in; a bare number counts seconds.
  for (const Unit& unit : {Unit{"ms", 1}, Unit{"s", 1000}, Unit{"m", 60000}, Unit{"", 1000}}) {
    const std::string_view text = value.text;
    if (text.size() < unit.suffix.size() || text.substr(text.size() - unit.suffix.size()) != unit.suffix) continue;
    const auto count = parse_number(text.substr(0, text.size() - unit.suffix.size()));
    if (count && *count <= 86400000 && *count * unit.milliseconds <= 86400000) {
      return std::chrono::milliseconds(*count * unit.milliseconds);
    }
    break;
  }
  reject(value, value.text, "is not a duration", "0 to one day, such as 500ms, 30s or 2m");
  return std::chrono::milliseconds(0);
}

std::vector<PortsForUids> OptionReader::ports_for_uids() {
  constexpr char forms[] = "[tcp:|udp:]PORTS:UIDS, such as tcp:3306,5432:1000-1010";
  std::vector<PortsForUids> found;
  // The commas belong to the ports and user IDs, so each value is one entry; `;` separates several in one text.
  for (const auto& [whole, value] : elements(true)) {
    for (const std::string_view entry : split(whole, ';')) {
      auto parts = split(trimmed(entry), ':');
      PortsForUids parsed;
      if (parts.size() == 3) {
        if (parts[0] == "tcp") parsed.protocol = Protocol::tcp;
        if (parts[0] == "udp") parsed.protocol = Protocol::udp;
        if (!parsed.protocol) {
          reject(*value, entry, "names no protocol that has ports here", forms);
          continue;
        }
        parts.erase(parts.begin());
      }
      if (parts.size() != 2) {
        reject(*value, entry, "is not ports and user IDs", forms);
        continue;
      }
      std::vector<Range<Port>> port_ranges;
      for (const std::string_view text : split(parts[0], ',')) {
        if (const auto range = port_range(*value, trimmed(text), true)) port_ranges.push_back(*range);
      }
      std::vector<Range<Uid>> uid_ranges;
      for (const std::string_view text : split(parts[1], ',')) {
        if (const auto range = id_range<Uid>(*value, trimmed(text))) uid_ranges.push_back(*range);
      }
      parsed.ports = Ranges<Port>(std::move(port_ranges));
      parsed.uids = Ranges<Uid>(std::move(uid_ranges));
      found.push_back(std::move(parsed));
    }
  }
  return found;
}

Ranges<Port> OptionReader::udp_reject() {
  constexpr std::string_view keyword = "reject:";
  std::vector<Range<Port>> found;
  const std::string& first = values_.front().text;
  if (first == "pass" && values_.size() == 1) return {};
  if (std::string_view(first).substr(0, keyword.size()) != keyword || first.size() == keyword.size()) {
    reject(values_.front(), first, "is not a choice", "pass, or reject:PORTS such as reject:443");
    return {};
  }
  stripped_.assign(values_.begin(), values_.end());
  values_ = stripped_;
  for (RawValue& value : stripped_) {
    if (std::string_view(value.text).substr(0, keyword.size()) == keyword) value.text.erase(0, keyword.size());
  }
  for (const auto& [text, value] : elements()) {
    if (const auto range = port_range(*value, text, true)) found.push_back(*range);
  }
  return Ranges<Port>(std::move(found));
}

}  // namespace sluice
