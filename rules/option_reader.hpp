// Parses the effective values of one option, noting every mistake. The only place where option text becomes typed.
#pragma once

#include <chrono>
#include <initializer_list>
#include <span>
#include <utility>

#include "rules/config.hpp"
#include "rules/options.hpp"

namespace sluice {

class OptionReader {
 public:
  /// `values` is not empty, and lives as long as the reader.
  OptionReader(const OptionSpec& option, std::span<const RawValue> values, const Lookups& lookups, Problems& problems)
      : option_(option), values_(values), lookups_(lookups), problems_(problems) {}

  [[nodiscard]] const Lookups& lookups() const { return lookups_; }
  void warn(const std::string& message);

  /// Each returns a harmless value after noting an error; validation then yields no Config.
  bool flag();
  std::string text();
  Port port();
  Ranges<Port> ports();           ///< numbers and ranges, with `*` for all
  Ranges<Port> excluded_ports();  ///< the same without `*`
  Ranges<Uid> uids();
  Ranges<Gid> gids();
  std::vector<InterfacePattern> interfaces();
  std::vector<IpAddress> addresses();
  /// `named` receives the single networks as they were written, for rules that ask what was named.
  AddressRanges networks(bool star_allowed, AddressRanges* named = nullptr);
  Cidr<Ipv4> loopback_network();
  std::optional<Mark> mark();
  std::uint32_t number(std::uint32_t lowest, std::uint32_t highest);
  int negative_number(int lowest, int highest);
  std::chrono::milliseconds duration();
  std::vector<PortsForUids> ports_for_uids();
  Ranges<Port> udp_reject();
  Endpoint endpoint();
  std::string interface();
  std::string image();
  std::string container_name();  ///< a DNS label
  std::string object_name();     ///< a DNS subdomain, as objects of Kubernetes are named
  Uid uid();
  Gid gid();

  template <typename Enum>
  Enum choice(std::initializer_list<std::pair<std::string_view, Enum>> allowed) {
    const RawValue& value = only_value();
    for (const auto& [name, meaning] : allowed) {
      if (value.text == name) return meaning;
    }
    std::string names;
    for (const auto& entry : allowed) names += (names.empty() ? "" : ", ") + std::string(entry.first);
    reject(value, value.text, "is not a choice", names);
    return allowed.begin()->second;
  }

 private:
  struct Element {
    std::string_view text;
    const RawValue* value;
  };
  /// List values split at commas, blanks trimmed, empty pieces dropped, each with a warning.
  std::vector<Element> elements(bool repeated_groups = false);
  const RawValue& only_value();
  std::string dns_name(std::size_t limit, bool dots, const char* allowed);
  void reject(const RawValue& value, std::string_view offending, const std::string& why, const std::string& allowed);
  bool looks_like_flag(const RawValue& value, std::string_view element);
  std::optional<Range<Port>> port_range(const Element& element);
  std::optional<Range<Port>> port_range(const RawValue& value, std::string_view text, bool star_allowed);
  template <typename Kind>
  std::optional<Range<Kind>> id_range(const RawValue& value, std::string_view text);
  template <typename Kind>
  Ranges<Kind> ids();
  template <typename Kind>
  Kind single_id();
  Ranges<Port> port_list(bool star_allowed);

  const OptionSpec& option_;
  std::span<const RawValue> values_;
  std::vector<RawValue> stripped_;  ///< for an option whose values begin with a keyword
  const Lookups& lookups_;
  Problems& problems_;
};

}  // namespace sluice
