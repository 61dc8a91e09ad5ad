// From what the user wrote to a configuration that cannot be wrong.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rules/address.hpp"
#include "rules/problem.hpp"
#include "rules/ruleset.hpp"
#include "rules/scalars.hpp"

namespace sluice {

struct RawValue {
  std::string text;
  Origin origin;
};

/// Everything that was said about each option by any source, unchecked, in the order it was said.
using RawConfig = std::map<std::string, std::vector<RawValue>, std::less<>>;

enum class BackendChoice { automatic, nftables, iptables };
enum class IptablesVariant { automatic, nft, legacy };
enum class Preset { none, istio, linkerd, kuma, consul };
enum class InboundMode { redirect, tproxy, off };
enum class DnsMode { off, resolv_conf, all };
enum class Hairpin { direct, inbound };
enum class ProxyPortAccess { reject, capture };
enum class Forwarded { pass, capture };
enum class FamilyMode { dual, ipv4, ipv6 };
enum class OtherFamily { pass, reject };
enum class LogFormat { text, json };
enum class LogLevel { error, warning, info, debug };
enum class OutputFormat { text, json, nft, iptables, mermaid, dot, yaml };
enum class PatchKind { none, strategic, json, json_append };

/// Destination ports that these users reach directly.
struct PortsForUids {
  std::optional<Protocol> protocol;  ///< both TCP and UDP when absent
  Ranges<Port> ports;
  Ranges<Uid> uids;
  bool operator==(const PortsForUids&) const = default;
};

/// An address, and a port where one was given.
struct Endpoint {
  IpAddress address;
  std::optional<Port> port;
  bool operator==(const Endpoint&) const = default;
};

/// What `explain` is asked about; the parts that were not said are assumed there.
struct Question {
  Direction direction = Direction::out;
  Protocol protocol = Protocol::tcp;
  std::optional<Endpoint> source = std::nullopt;
  std::optional<Endpoint> destination = std::nullopt;
  std::optional<std::string> interface = std::nullopt;
  std::optional<Uid> uid = std::nullopt;
  std::optional<Gid> gid = std::nullopt;
  std::optional<std::uint32_t> mark = std::nullopt;
  bool operator==(const Question&) const = default;
};

/// What `manifest` is to print, beside the options that it writes down.
struct ManifestWish {
  PatchKind patch = PatchKind::none;
  std::string image;  ///< empty: sluice's own
  std::string container = "sluice";
  std::string env_from;  ///< empty: no ConfigMap
  bool operator==(const ManifestWish&) const = default;
};

/// The checked value of every option. Begins as what the table of options has as their defaults (a test reads those and
/// compares), so that in most runs there is nothing to read.
struct Settings {
  BackendChoice backend = BackendChoice::automatic;
  IptablesVariant iptables_variant = IptablesVariant::automatic;
  Preset preset = Preset::none;

  Port proxy_port = *Port::from(15001);
  Port inbound_port = *Port::from(15001);
  Ranges<Uid> proxy_uids = {{Uid{1337}, Uid{1337}}};
  Ranges<Gid> proxy_gids;
  std::optional<Mark> proxy_mark;

  Ranges<Port> inbound_ports = {every_port()};
  Ranges<Port> exclude_inbound_ports;
  AddressRanges exclude_inbound_cidrs;
  Ranges<Port> tunnel_ports;

  AddressRanges outbound_cidrs = AddressRanges::everything();
  AddressRanges named_loopback;  ///< the loopback networks that outbound-cidrs names
  AddressRanges exclude_outbound_cidrs;
  Ranges<Port> outbound_ports;
  Ranges<Port> exclude_outbound_ports;
  std::vector<PortsForUids> exclude_outbound_ports_for_uids;
  Ranges<Uid> exclude_uids;
  Ranges<Gid> exclude_gids;
  Ranges<Gid> only_gids;  ///< empty: every group

  std::vector<InterfacePattern> exclude_interfaces;
  std::vector<InterfacePattern> virtual_interfaces;

  InboundMode inbound_mode = InboundMode::redirect;
  std::uint32_t tproxy_mark = 1337;
  std::uint32_t tproxy_table = 133;

  DnsMode dns = DnsMode::off;
  Port dns_port = *Port::from(15053);
  AddressRanges dns_servers;  ///< with DnsMode::resolv_conf

  Hairpin hairpin = Hairpin::direct;
  std::vector<IpAddress> passthrough_source;
  Cidr<Ipv4> loopback_cidr{{0x7f000000U}, 8};
  ProxyPortAccess proxy_port_access = ProxyPortAccess::reject;
  Forwarded forwarded = Forwarded::pass;
  std::optional<std::chrono::seconds> close_wait_timeout;
  bool drop_invalid = false;
  FamilyMode ip_family = FamilyMode::dual;
  OtherFamily other_family = OtherFamily::pass;
  int priority = -105;
  bool allow_host_network = false;
  Ranges<Port> udp_reject;

  std::string netns;  ///< empty: the namespace sluice was started in
  std::chrono::milliseconds lock_timeout{30'000};
  std::chrono::milliseconds probe_timeout{5'000};
  LogFormat log_format = LogFormat::text;
  LogLevel log_level = LogLevel::info;
  bool dry_run = false;
  bool cleanup = false;
  bool diff = false;
  bool probe = false;
  bool live = false;
  Question question;
  ManifestWish manifest;
  std::string annotations;  ///< empty: none were read
  std::optional<OutputFormat> format;
  bool operator==(const Settings&) const = default;
};

/// Names that only the running system can resolve. Each call may read a file; none is made unless a name is used.
struct Lookups {
  std::function<std::optional<std::uint32_t>(std::string_view)> uid_of;
  std::function<std::optional<std::uint32_t>(std::string_view)> gid_of;
  std::function<std::vector<IpAddress>()> name_servers;
};

/// Settings that validation found consistent; there is no other way to make one.
class Config {
 public:
  const Settings* operator->() const { return &settings_; }
  const Settings& operator*() const { return settings_; }

  /// The texts that it was made of, for who writes them down again.
  [[nodiscard]] const RawConfig& said() const { return said_; }

 private:
  friend struct Validation validate(RawConfig, const Lookups&);
  Config(Settings settings, RawConfig said) : settings_(std::move(settings)), said_(std::move(said)) {}
  Settings settings_;
  RawConfig said_;
};

struct Validation {
  std::optional<Config> config;  ///< absent exactly when there are errors
  Problems problems;
};

/// Merges flag over annotation over environment over file over preset over default, parses, and checks every option and
/// every combination, collecting all mistakes.
Validation validate(RawConfig raw, const Lookups& lookups);

/// What a preset sets, as (option, text) pairs.
struct PresetValue {
  std::string_view option;
  std::string_view text;
};
std::vector<PresetValue> preset_values(Preset preset);

/// The values in force for one option after precedence, as text; for "effective configuration".
std::vector<RawValue> effective_values(const RawConfig& raw, std::string_view option);

}  // namespace sluice
