#include "rules/options.hpp"

#include <algorithm>
#include <cctype>

#include "rules/config.hpp"
#include "rules/option_reader.hpp"
#include "rules/text.hpp"

namespace sluice {
namespace {

using R = OptionReader;
using S = Settings;

constexpr std::string_view g_proxy = "The proxy";
constexpr std::string_view g_in = "Inbound: connections from outside";
constexpr std::string_view g_out = "Outbound: connections made in this namespace";
constexpr std::string_view g_if = "Interfaces";
constexpr std::string_view g_dns = "DNS and UDP";
constexpr std::string_view g_family = "Address families and loopback";
constexpr std::string_view g_kernel = "How the rules reach the kernel";
constexpr std::string_view g_run = "This run";
constexpr std::string_view g_manifest = "The init container that manifest prints";
constexpr std::string_view g_ask = "The connection that explain judges; what is not given is assumed, and shown";

// clang-format off
constexpr OptionSpec table[] = {
  {"preset", Arity::single, "NAME", "none", g_proxy,
   "that mesh's ports, IDs, hairpin and exclusions: none, istio, linkerd, kuma or consul",
   [](R& r, S& s) { s.preset = r.choice<Preset>({{"none", Preset::none}, {"istio", Preset::istio}, {"linkerd", Preset::linkerd},
                                                 {"kuma", Preset::kuma}, {"consul", Preset::consul}}); }},
  {"proxy-port", Arity::single, "PORT", "15001", g_proxy, "where outbound TCP goes",
   [](R& r, S& s) { s.inbound_port = s.proxy_port = r.port(); }},
  {"inbound-port", Arity::single, "PORT", "", g_proxy, "where inbound TCP goes; the value of --proxy-port unless given",
   [](R& r, S& s) { s.inbound_port = r.port(); }},
  {"proxy-uid", Arity::list, "UIDS", "1337", g_proxy, "user IDs or names whose traffic is never captured",
   [](R& r, S& s) { s.proxy_uids = r.uids(); }},
  {"proxy-gid", Arity::list, "GIDS", "", g_proxy, "the same by group",
   [](R& r, S& s) { s.proxy_gids = r.gids(); }},
  {"proxy-mark", Arity::single, "MARK[/MASK]", "", g_proxy,
   "packets with this mark are the proxy's; unlike a user ID, an application without CAP_NET_ADMIN and CAP_NET_RAW cannot forge it",
   [](R& r, S& s) { s.proxy_mark = r.mark(); }},
  {"proxy-port-access", Arity::single, "WHAT", "reject", g_proxy,
   "connections from outside to the proxy's own ports: reject (TCP reset) or capture (like any port)",
   [](R& r, S& s) { s.proxy_port_access = r.choice<ProxyPortAccess>({{"reject", ProxyPortAccess::reject}, {"capture", ProxyPortAccess::capture}}); }},
  {"hairpin", Arity::single, "WHAT", "direct", g_proxy,
   "the proxy's connections back into its own pod: direct, or inbound (through the inbound listener)",
   [](R& r, S& s) { s.hairpin = r.choice<Hairpin>({{"direct", Hairpin::direct}, {"inbound", Hairpin::inbound}}); }},
  {"passthrough-source", Arity::list, "ADDRESSES", "", g_proxy,
   "source addresses on lo that are never captured (Istio: 127.0.0.6,::6); one that the namespace lacks is added to lo",
   [](R& r, S& s) { s.passthrough_source = r.addresses(); }},

  {"inbound-ports", Arity::list, "PORTS", "*", g_in, "captured ports; * for all, empty for none",
   [](R& r, S& s) { s.inbound_ports = r.ports(); }},
  {"exclude-inbound-ports", Arity::list, "PORTS", "", g_in, "ports left alone",
   [](R& r, S& s) { s.exclude_inbound_ports = r.excluded_ports(); }},
  {"exclude-inbound-cidrs", Arity::list, "CIDRS", "", g_in, "sources left alone, such as the kubelet's node",
   [](R& r, S& s) { s.exclude_inbound_cidrs = r.networks(false); }},
  {"tunnel-ports", Arity::list, "PORTS", "", g_in, "inbound ports that are the proxy's own (Istio: 15008)",
   [](R& r, S& s) { s.tunnel_ports = r.excluded_ports(); }},
  {"inbound-mode", Arity::single, "MODE", "redirect", g_in, "redirect, tproxy (keeps the client's address) or off",
   [](R& r, S& s) { s.inbound_mode = r.choice<InboundMode>({{"redirect", InboundMode::redirect}, {"tproxy", InboundMode::tproxy}, {"off", InboundMode::off}}); }},
  {"tproxy-mark", Arity::single, "MARK", "1337", g_in, "packet mark that routes to the local proxy, with --inbound-mode tproxy",
   [](R& r, S& s) { s.tproxy_mark = r.number(1, 0xffffffffU); }},
  {"tproxy-table", Arity::single, "TABLE", "133", g_in, "routing table for those packets, with --inbound-mode tproxy",
   [](R& r, S& s) { s.tproxy_table = r.number(1, 0xffffffffU); }},

  {"outbound-cidrs", Arity::list, "CIDRS", "*", g_out, "captured destinations; * for all, empty for none",
   [](R& r, S& s) { s.outbound_cidrs = r.networks(true, &s.named_loopback); }},
  {"exclude-outbound-cidrs", Arity::list, "CIDRS", "", g_out, "destinations left alone",
   [](R& r, S& s) { s.exclude_outbound_cidrs = r.networks(false); }},
  {"outbound-ports", Arity::list, "PORTS", "", g_out, "destination ports captured whatever the address",
   [](R& r, S& s) { s.outbound_ports = r.ports(); }},
  {"exclude-outbound-ports", Arity::list, "PORTS", "", g_out, "destination ports left alone",
   [](R& r, S& s) { s.exclude_outbound_ports = r.excluded_ports(); }},
  {"exclude-outbound-ports-for-uids", Arity::list, "[PROTO:]PORTS:UIDS", "", g_out,
   "ports that these users reach directly, such as tcp:3306,5432:1000-1010; repeat the flag for more",
   [](R& r, S& s) { s.exclude_outbound_ports_for_uids = r.ports_for_uids(); }},
  {"exclude-uids", Arity::list, "UIDS", "", g_out, "applications never captured, by user",
   [](R& r, S& s) { s.exclude_uids = r.uids(); }},
  {"exclude-gids", Arity::list, "GIDS", "", g_out, "applications never captured, by group",
   [](R& r, S& s) { s.exclude_gids = r.gids(); }},
  {"only-gids", Arity::list, "GIDS", "", g_out, "when set, only these groups are captured",
   [](R& r, S& s) { s.only_gids = r.gids(); }},

  {"exclude-interfaces", Arity::list, "NAMES", "", g_if, "neither direction is captured on these; a trailing + or * is a prefix",
   [](R& r, S& s) { s.exclude_interfaces = r.interfaces(); }},
  {"virtual-interfaces", Arity::list, "NAMES", "", g_if, "traffic arriving on these (VMs, nested containers) is treated as outbound",
   [](R& r, S& s) { s.virtual_interfaces = r.interfaces(); }},
  {"forwarded", Arity::single, "WHAT", "pass", g_if, "packets this namespace only forwards: pass or capture",
   [](R& r, S& s) { s.forwarded = r.choice<Forwarded>({{"pass", Forwarded::pass}, {"capture", Forwarded::capture}}); }},

  {"dns", Arity::single, "MODE", "off", g_dns,
   "off, resolv-conf (UDP and TCP 53 to the name servers of /etc/resolv.conf) or all (every name server)",
   [](R& r, S& s) {
     s.dns = r.choice<DnsMode>({{"off", DnsMode::off}, {"resolv-conf", DnsMode::resolv_conf}, {"all", DnsMode::all}});
     if (s.dns != DnsMode::resolv_conf) return;
     std::vector<Range<Ipv4>> v4;
     std::vector<Range<Ipv6>> v6;
     for (const IpAddress& server : r.lookups().name_servers()) {
       if (const auto* four = std::get_if<Ipv4>(&server)) v4.push_back({*four, *four});
       if (const auto* six = std::get_if<Ipv6>(&server)) v6.push_back({*six, *six});
     }
     s.dns_servers = {Ranges<Ipv4>(std::move(v4)), Ranges<Ipv6>(std::move(v6))};
     if (!s.dns_servers.empty()) return;
     // resolv.conf(5): without a nameserver line the resolver asks the local machine.
     s.dns_servers = {Ranges<Ipv4>{{Ipv4{0x7f000001U}, Ipv4{0x7f000001U}}}, Ranges<Ipv6>{{Ipv6{0, 1}, Ipv6{0, 1}}}};
     r.warn("/etc/resolv.conf names no server; taken as 127.0.0.1 and ::1, which the resolver then asks");
   }},
  {"dns-port", Arity::single, "PORT", "15053", g_dns, "where captured DNS goes",
   [](R& r, S& s) { s.dns_port = r.port(); }},
  {"udp", Arity::list, "WHAT", "pass", g_dns, "pass, or reject:PORTS (reject:443 turns QUIC back to TCP, where it is captured)",
   [](R& r, S& s) { s.udp_reject = r.udp_reject(); }},
  {"drop-invalid", Arity::flag, "", "false", g_dns, "drop packets conntrack calls INVALID instead of resetting connections",
   [](R& r, S& s) { s.drop_invalid = r.flag(); }},
  {"close-wait-timeout", Arity::single, "SECONDS", "", g_dns,
   "conntrack's CLOSE_WAIT timeout in this namespace; where it cannot be written, a warning",
   [](R& r, S& s) { s.close_wait_timeout = std::chrono::seconds(r.number(1, 2147483)); }},

  {"ip-family", Arity::single, "MODE", "dual", g_family, "dual, ipv4 or ipv6",
   [](R& r, S& s) { s.ip_family = r.choice<FamilyMode>({{"dual", FamilyMode::dual}, {"ipv4", FamilyMode::ipv4}, {"ipv6", FamilyMode::ipv6}}); }},
  {"other-family", Arity::single, "WHAT", "pass", g_family, "the application's traffic in the family not captured: pass or reject",
   [](R& r, S& s) { s.other_family = r.choice<OtherFamily>({{"pass", OtherFamily::pass}, {"reject", OtherFamily::reject}}); }},
  {"loopback-cidr", Arity::single, "CIDR", "127.0.0.0/8", g_family, "what counts as loopback in IPv4 (Istio: 127.0.0.1/32)",
   [](R& r, S& s) { s.loopback_cidr = r.loopback_network(); }},

  {"backend", Arity::single, "NAME", "auto", g_kernel, "nftables, iptables, or auto: nftables where the kernel has what it needs",
   [](R& r, S& s) { s.backend = r.choice<BackendChoice>({{"auto", BackendChoice::automatic}, {"nftables", BackendChoice::nftables}, {"iptables", BackendChoice::iptables}}); }},
  {"iptables-variant", Arity::single, "NAME", "auto", g_kernel, "with the iptables backend: auto, nft (netlink, no binary needed) or legacy",
   [](R& r, S& s) { s.iptables_variant = r.choice<IptablesVariant>({{"auto", IptablesVariant::automatic}, {"nft", IptablesVariant::nft}, {"legacy", IptablesVariant::legacy}}); }},
  {"priority", Arity::single, "NUMBER", "-105", g_kernel, "of the native nat chains; -100 is where other NAT chains are",
   [](R& r, S& s) { s.priority = r.negative_number(-199, -1); }},
  {"allow-host-network", Arity::flag, "", "false", g_kernel, "apply even in a node's own network namespace",
   [](R& r, S& s) { s.allow_host_network = r.flag(); }},
  {"netns", Arity::single, "NAMESPACE", "", g_kernel, "a path (/proc/123/ns/net), a name (ip netns) or a PID; the own namespace unless given",
   [](R& r, S& s) { s.netns = r.text(); }},
  {"lock-timeout", Arity::single, "TIME", "30s", g_kernel, "waiting for the xtables lock and for a concurrent sluice",
   [](R& r, S& s) { s.lock_timeout = r.duration(); }},
  {"probe-timeout", Arity::single, "TIME", "5s", g_kernel, "for verify --probe",
   [](R& r, S& s) { s.probe_timeout = r.duration(); }},

  {"annotations", Arity::single, "FILE", "", g_run,
   "the pod's annotations, a file of a downward API volume: sluice.dev/OPTION, and Istio's traffic.sidecar.istio.io",
   [](R& r, S& s) { s.annotations = r.text(); }},
  {"dry-run", Arity::flag, "", "false", g_run, "print what would be programmed (or removed) and touch nothing",
   [](R& r, S& s) { s.dry_run = r.flag(); }},
  {"cleanup", Arity::flag, "", "false", g_run, "remove whatever any sluice made in this namespace",
   [](R& r, S& s) { s.cleanup = r.flag(); }},
  {"diff", Arity::flag, "", "false", g_run, "with plan: compare with the kernel, + and - by rule; exit 3 where something would change",
   [](R& r, S& s) { s.diff = r.flag(); }},
  {"format", Arity::single, "FORMAT", "", g_run, "of the output: text or json; plan takes nft, iptables, json, mermaid or dot, status iptables or nft as well, and manifest yaml or json",
   [](R& r, S& s) {
     s.format = r.choice<OutputFormat>({{"text", OutputFormat::text}, {"json", OutputFormat::json}, {"nft", OutputFormat::nft},
                                        {"iptables", OutputFormat::iptables}, {"mermaid", OutputFormat::mermaid}, {"dot", OutputFormat::dot},
                                        {"yaml", OutputFormat::yaml}});
   }},
  {"probe", Arity::flag, "", "false", g_run,
   "with verify: make real connections, in a scratch namespace under the rules of this one, and see where each lands",
   [](R& r, S& s) { s.probe = r.flag(); }, "verify"},
  {"live", Arity::flag, "", "false", g_run, "with explain: judge by the rules in the kernel, not by options",
   [](R& r, S& s) { s.live = r.flag(); }, "explain"},
  {"log-format", Arity::single, "FORMAT", "text", g_run, "text or json, on standard error",
   [](R& r, S& s) { s.log_format = r.choice<LogFormat>({{"text", LogFormat::text}, {"json", LogFormat::json}}); }},
  {"log-level", Arity::single, "LEVEL", "info", g_run, "error, warning, info or debug",
   [](R& r, S& s) { s.log_level = r.choice<LogLevel>({{"info", LogLevel::info}, {"error", LogLevel::error}, {"warning", LogLevel::warning}, {"debug", LogLevel::debug}}); }},

  {"patch", Arity::single, "KIND", "none", g_manifest,
   "instead of the stanza, a patch for a Deployment or the like: strategic; json, for one without init containers; "
   "json-append, for one that has some",
   [](R& r, S& s) { s.manifest.patch = r.choice<PatchKind>({{"none", PatchKind::none}, {"strategic", PatchKind::strategic},
                                                            {"json", PatchKind::json}, {"json-append", PatchKind::json_append}}); }, "manifest"},
  {"image", Arity::single, "IMAGE", "", g_manifest, "an image whose entry point is sluice; sluice and this version as its tag unless given",
   [](R& r, S& s) { s.manifest.image = r.image(); }, "manifest"},
  {"container-name", Arity::single, "NAME", "sluice", g_manifest, "the name of the init container",
   [](R& r, S& s) { s.manifest.container = r.container_name(); }, "manifest"},
  {"env-from", Arity::single, "CONFIGMAP", "", g_manifest, "a ConfigMap whose SLUICE_* keys become its variables",
   [](R& r, S& s) { s.manifest.env_from = r.object_name(); }, "manifest"},

  {"direction", Arity::single, "WHICH", "outbound", g_ask, "outbound (made in this namespace) or inbound (arriving)",
   [](R& r, S& s) { s.question.direction = r.choice<Direction>({{"outbound", Direction::out}, {"inbound", Direction::in}}); }, "explain"},
  {"protocol", Arity::single, "NAME", "tcp", g_ask, "tcp or udp",
   [](R& r, S& s) { s.question.protocol = r.choice<Protocol>({{"tcp", Protocol::tcp}, {"udp", Protocol::udp}}); }, "explain"},
  {"src", Arity::single, "IP[:PORT]", "", g_ask, "where it comes from",
   [](R& r, S& s) { s.question.source = r.endpoint(); }, "explain"},
  {"dst", Arity::single, "IP:PORT", "", g_ask, "where it goes: 10.96.0.1:443, [fd00::1]:443",
   [](R& r, S& s) { s.question.destination = r.endpoint(); }, "explain"},
  {"interface", Arity::single, "NAME", "", g_ask, "it leaves by, or arrives on; eth0, or lo for a loopback destination, unless given",
   [](R& r, S& s) { s.question.interface = r.interface(); }, "explain"},
  {"uid", Arity::single, "UID", "", g_ask, "user ID or name of the process that makes it; 1000 unless given",
   [](R& r, S& s) { s.question.uid = r.uid(); }, "explain"},
  {"gid", Arity::single, "GID", "", g_ask, "primary group of that process; 1000 unless given",
   [](R& r, S& s) { s.question.gid = r.gid(); }, "explain"},
  {"mark", Arity::single, "MARK", "", g_ask, "packet mark (SO_MARK) it carries; 0 unless given",
   [](R& r, S& s) { s.question.mark = r.number(0, 0xffffffffU); }, "explain"},
};
// clang-format on

}  // namespace

std::span<const OptionSpec> options() { return table; }

const OptionSpec* find_option(std::string_view name) {
  const auto* found = std::find_if(std::begin(table), std::end(table), [&](const auto& o) { return o.name == name; });
  return found == std::end(table) ? nullptr : found;
}

bool settable_by_annotation(const OptionSpec& option) {
  if (option.name == "log-format" || option.name == "log-level") return true;
  const bool about_this_run = option.group == g_run || option.group == g_manifest || option.group == g_ask;
  return !about_this_run && option.name != "netns" && option.name != "allow-host-network";
}

std::string flag_name(std::string_view option) {
  std::string flag;
  flag.reserve(2 + option.size());
  flag += "--";
  flag += option;
  return flag;
}

std::string environment_name(const OptionSpec& option) {
  std::string name = "SLUICE_";
  for (const char c : option.name) name += c == '-' ? '_' : static_cast<char>(c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c);
  return name;
}

}  // namespace sluice
