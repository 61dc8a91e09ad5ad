// For every option a value that is taken and one that is refused. A test demands that none is missing.
#pragma once

namespace sluice::test {

struct Sample {
  const char* option;
  const char* taken;
  const char* refused;
};

inline constexpr Sample samples[] = {
    {"preset", "kuma", "osm"},
    {"proxy-port", "15001", "0"},
    {"inbound-port", "15006", "65536"},
    {"proxy-uid", "envoy,5-9", "nobody-here"},
    {"proxy-gid", "mesh", "9-5"},
    {"proxy-mark", "0x539/0xfff", "0x539/0xff"},
    {"proxy-port-access", "capture", "yes"},
    {"hairpin", "inbound", "in"},
    {"passthrough-source", "127.0.0.6,::6", "127.0.0.6/8"},
    {"inbound-ports", "*", "1-"},
    {"exclude-inbound-ports", "8000:8100", "*"},
    {"exclude-inbound-cidrs", "10.0.0.0/8,fd00::/8", "10/8"},
    {"tunnel-ports", "15008", "x"},
    {"inbound-mode", "tproxy", "TPROXY"},
    {"tproxy-mark", "7", "0"},
    {"tproxy-table", "133", "254"},
    {"outbound-cidrs", "", "all"},
    {"exclude-outbound-cidrs", "169.254.169.254", "*"},
    {"outbound-ports", "*", "0"},
    {"exclude-outbound-ports", "1-65535", "65536"},
    {"exclude-outbound-ports-for-uids", "tcp:3306,5432:1000-1010", "3306"},
    {"exclude-uids", "0", "-1"},
    {"exclude-gids", "0-10", "a-b"},
    {"only-gids", "5", "4294967295"},
    {"exclude-interfaces", "eth*,lo", "*"},
    {"virtual-interfaces", "tap+", "a/b"},
    {"forwarded", "capture", "drop"},
    {"dns", "resolv-conf", "on"},
    {"dns-port", "53", "-"},
    {"udp", "reject:443", "drop:443"},
    {"drop-invalid", "yes", "maybe"},
    {"close-wait-timeout", "3600", "0"},
    {"ip-family", "ipv6", "4"},
    {"other-family", "pass", "drop"},
    {"loopback-cidr", "127.0.0.1/32", "10.0.0.0/8"},
    {"backend", "nftables", "nft"},
    {"iptables-variant", "legacy", "old"},
    {"priority", "-110", "0"},
    {"allow-host-network", "true", "2"},
    {"netns", "/proc/1/ns/net", ""},
    {"lock-timeout", "500ms", "1h"},
    {"probe-timeout", "2m", "x"},
    {"annotations", "/etc/podinfo/annotations", ""},
    {"dry-run", "on", "y"},
    {"cleanup", "off", ""},
    {"diff", "1", "0x1"},
    {"format", "mermaid", "svg"},
    {"probe", "1", "often"},
    {"live", "no", "dead"},
    {"patch", "strategic", "merge"},
    {"image", "registry.example:5000/sluice@sha256:0", "two words"},
    {"container-name", "sluice-init", "Sluice"},
    {"env-from", "sluice.defaults", "sluice..x"},
    {"direction", "inbound", "in"},
    {"protocol", "udp", "sctp"},
    {"src", "::1", "::1:99999]"},
    {"dst", "[fd00::1]:443", "10.0.0.1:0"},
    {"interface", "eth0", "eth0/1"},
    {"uid", "envoy", "1-4"},
    {"gid", "4294967294", "4294967295"},
    {"mark", "0", "4294967296"},
    {"log-format", "json", "xml"},
    {"log-level", "debug", "trace"},
};

}  // namespace sluice::test
