#include "rules/scalars.hpp"

#include <algorithm>

namespace sluice {

bool is_interface_name(std::string_view name) {
  if (name.empty() || name.size() > 15 || name == "." || name == "..") return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte > 0x20 && byte < 0x7f && c != '/' && c != ':' && c != '*' && c != '+' && c != '"' && c != '\\' &&
           c != '%';
  });
}

std::optional<Port> next(Port port) { return Port::from(std::uint64_t{port.number()} + 1); }

std::optional<Port> previous(Port port) { return Port::from(std::uint64_t{port.number()} - 1); }

const Range<Port>& every_port() {
  static const Range<Port> all{*Port::from(1), *Port::from(65535)};
  return all;
}

std::string_view to_text(Family family) { return family == Family::ipv4 ? "ipv4" : "ipv6"; }

std::string_view to_text(Protocol protocol) {
  switch (protocol) {
    case Protocol::tcp:
      return "tcp";
    case Protocol::udp:
      return "udp";
    case Protocol::sctp:
      return "sctp";
  }
  return "";
}

}  // namespace sluice
