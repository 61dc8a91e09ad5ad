// doctor --format json prints
//
//   { "can_apply": bool,
//     "findings": [{"check", "severity": "ok"|"info"|"warning"|"error", "detail", "remedy"}] }
//
// "error" means that apply with these options would not work; "warning", that it would work but not as wanted; "remedy"
// is empty where nothing is to be done. "can_apply" is false exactly when there is an error.

#include <unistd.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/findings.hpp"
#include "cli/output.hpp"
#include "cli/preparation.hpp"
#include "netfilter/backend.hpp"
#include "netfilter/errors.hpp"
#include "netfilter/features.hpp"
#include "netfilter/foreign_chains.hpp"
#include "netfilter/namespaces.hpp"
#include "netfilter/privileges.hpp"
#include "netfilter/system_files.hpp"
#include "rules/compile.hpp"
#include "rules/text.hpp"

namespace sluice::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string_view to_text(Severity severity) {
  switch (severity) {
    case Severity::ok:
      return "ok";
    case Severity::info:
      return "info";
    case Severity::warning:
      return "warning";
    case Severity::error:
      return "error";
  }
  return "";
}

class Examination {
 public:
  explicit Examination(const Config& config) : config_(config), wanted_(compile(config)) {}

  /// Before privileges are dropped.
  void place() {
    std::string reason;
    if (!netfilter::in_host_network(netfilter::NamespaceSocket(), reason)) {
      note("host-network", Severity::ok, "this does not look like a node's own network namespace");
    } else if (config_->allow_host_network) {
      note("host-network", Severity::warning,
           "this is a node's own network namespace (" + reason + "), and --allow-host-network is given",
           "be sure that capture may cut this node off");
    } else {
      note("host-network", Severity::error,
           "this is a node's own network namespace (" + reason + "), where apply refuses to work",
           "run sluice in the pod's namespace (no hostNetwork, or --netns), or insist with --allow-host-network");
    }
    seccomp();
    scene_ = look_around(*config_);
  }

  void container(const netfilter::Dropped& dropped) {
    if (!dropped.shortfall) {
      note("capability", Severity::ok, "CAP_NET_ADMIN is there; nothing else is needed");
    } else {
      note("capability", Severity::error, "CAP_NET_ADMIN is missing: " + dropped.shortfall->why,
           dropped.shortfall->remedy);
    }
    user_namespace();
    note("confinement", Severity::info,
         dropped.no_filter.empty() ? "a seccomp filter of sluice's own holds while it looks at the kernel"
                                   : "no seccomp filter of sluice's own: " + dropped.no_filter);
    if (!netfilter::is_up("lo")) {
      note("loopback", Severity::warning, "the interface lo is down; redirected connections go over it",
           "ip link set lo up");
    }
  }

  /// What only CAP_NET_ADMIN may look at.
  void kernel() {
    try {
      features();
      own_table();
      other_chains();
    } catch (const netfilter::KernelError& error) {
      note("netlink", Severity::error, error.what(), error.remedy());
    }
    legacy_tables();
  }

  void settings() {
    ipv6();
    forwarding();
    reverse_path();
    if (netfilter::first_line("/proc/sys/net/ipv4/conf/all/route_localnet") == "1") {
      note("route_localnet", Severity::info,
           "net.ipv4.conf.all.route_localnet is 1: hosts on the same network can reach what listens on 127.0.0.1",
           "sluice does not need it; set it to 0 unless something else does");
    }
    conntrack();
  }

  void proxy() {
    std::vector<Finding> found = proxy_findings(*config_, scene_);
    std::move(found.begin(), found.end(), std::back_inserter(findings));
  }

  [[nodiscard]] bool can_apply() const {
    return std::none_of(findings.begin(), findings.end(),
                        [](const Finding& f) { return f.severity == Severity::error; });
  }

  std::vector<Finding> findings;

 private:
  void note(const std::string& check, Severity severity, const std::string& detail, const std::string& remedy = {}) {
    findings.push_back({check, severity, detail, remedy});
  }

  // --- The container -----------------------------------------------------------------------------------------------------

  void user_namespace() {
    char link[64] = "";
    const ssize_t length = readlink("/proc/self/ns/user", link, sizeof link - 1);
    // PROC_USER_INIT_INO, linux/proc_ns.h
    const bool first = length > 0 && std::string_view(link) == "user:[4026531837]";
    if (netfilter::network_owner() == netfilter::NetworkOwner::inner) {
      note("user-namespace", Severity::info,
           "the network namespace belongs to a user namespace of its own: user IDs in rules are those that the pod "
           "sees");
      return;
    }
    if (netfilter::network_owner() == netfilter::NetworkOwner::outer) {
      note("user-namespace", Severity::error,
           "the network namespace belongs to another user namespace, where the capabilities of this one do not count",
           "run sluice in the user namespace that the network namespace was made in, or from the node with --netns");
      return;
    }
    note("user-namespace", Severity::info,
         first ? "the machine's own user namespace"
               : "a user namespace of its own: user IDs in rules are those that this container sees");
  }

  void seccomp() {
    const auto status = netfilter::file_text("/proc/self/status");
    if (!status) {
      note("seccomp", Severity::info, "cannot be told: /proc/self/status is not readable");
      return;
    }
    for (const std::string_view line : split(*status, '\n')) {
      constexpr std::string_view key = "Seccomp:";
      if (line.substr(0, key.size()) != key) continue;
      const std::string_view mode = trimmed(line.substr(key.size()));
      note("seccomp", Severity::info,
           mode == "0" ? "no filter" : "a filter is in force; it let this program open its netlink sockets");
    }
  }

  // --- The kernel --------------------------------------------------------------------------------------------------------

  void features() {
    for (const netfilter::Feature& feature : netfilter::probe_features(wanted_)) {
      const std::string check = "kernel: " + feature.name;
      if (feature.present) {
        note(check, Severity::ok, "there, for " + feature.purpose);
      } else {
        note(check, feature.needed ? Severity::error : Severity::info,
             "not there (" + (feature.answer.empty() ? "unknown to this kernel" : feature.answer) + "), for " +
                 feature.purpose + (feature.needed ? "" : "; these options do not need it"),
             feature.needed ? "load on the node: " + feature.module : "");
      }
    }
  }

  void own_table() {
    netfilter::Backends backends(config_->lock_timeout);
    const auto found = backends.observe();
    if (found.empty()) {
      note("sluice", Severity::info, "no rules of sluice are here yet");
      return;
    }
    std::string where;
    for (const netfilter::Found& rules : found) {
      where += (where.empty() ? "" : " and ") + std::string(to_text(rules.backend));
    }
    if (backends.differences(wish(*config_), wanted_).empty()) {
      note("sluice", Severity::ok, "the rules of these options are here, in " + where);
    } else {
      note("sluice", Severity::info,
           "rules of sluice with other options are here, in " + where + "; apply would replace them",
           "sluice status tells what they are");
    }
  }

  void other_chains() {
    std::string leftovers;
    for (const netfilter::NamedChain& chain : netfilter::all_chains()) {
      if (is_of_another_mesh(chain)) {
        leftovers += (leftovers.empty() ? "" : ", ") + chain.family + " " + printable(chain.table + " " + chain.name);
      }
    }
    if (!leftovers.empty()) {
      note("other-mesh", Severity::warning, "rules of another mesh are here: " + leftovers,
           "only one may redirect: remove them with the tool that made them (istio-iptables -C, kumactl uninstall "
           "transparent-proxy), or delete these chains and the jumps to them with iptables -t nat");
    }
    for (const AskedChain& chain : netfilter::foreign_chains()) one_chain(chain);
  }

  static bool is_of_another_mesh(const netfilter::NamedChain& chain) {
    constexpr std::string_view prefixes[] = {"ISTIO_", "PROXY_INIT_", "KUMA_", "CONSUL_PROXY_", "CONSUL_DNS_"};
    return (chain.family == "ip" || chain.family == "ip6") &&
           std::any_of(std::begin(prefixes), std::end(prefixes),
                       [&](std::string_view prefix) { return chain.name.compare(0, prefix.size(), prefix) == 0; });
  }

  /// Of NAT chains on one hook the first that translates decides.
  void one_chain(const AskedChain& chain) {
    std::string detail = chain.name + " (" + std::string(to_text(chain.type)) + ", hook " +
                         std::string(to_text(chain.hook)) + ", priority " + std::to_string(chain.priority) + ", " +
                         std::to_string(chain.rules.size()) + (chain.rules.size() == 1 ? " rule)" : " rules)");
    const bool in_the_way = chain.type == ChainType::nat && !chain.rules.empty() && chain.priority <= config_->priority;
    if (in_the_way) {
      note("other-rules", Severity::warning,
           detail + (chain.priority == config_->priority
                         ? " has the same place as sluice's own, in no certain order"
                         : " is asked before sluice's own, and what it redirects sluice never sees"),
           "explain --live shows what it does to a connection; --priority below " + std::to_string(chain.priority) +
               " puts sluice first");
    } else if (!chain.accepts_by_default) {
      note("other-rules", Severity::info, detail + " drops what its rules do not accept");
    } else {
      note("other-rules", Severity::info, detail + " is on the same hook, and does not stand before sluice's capture");
    }
  }

  /// The file only lists what is loaded already; listing rules with iptables-legacy would load it.
  void legacy_tables() {
    std::string tables;
    for (const char* path : {"/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"}) {
      const auto text = netfilter::file_text(path);
      if (text && !trimmed(*text).empty()) tables += (tables.empty() ? "" : ", ") + std::string(path);
    }
    if (tables.empty()) return;
    note("legacy-iptables", Severity::warning,
         "tables of iptables-legacy are in use here (" + tables + "); their rules are not seen through nf_tables",
         "iptables-legacy-save shows them; where its nat table redirects, remove those rules");
  }

  // --- Settings of the namespace -------------------------------------------------------------------------------------------

  void ipv6() {
    const auto all = netfilter::first_line("/proc/sys/net/ipv6/conf/all/disable_ipv6");
    if (!all) {
      note("ipv6", Severity::info, "this kernel has no IPv6; the rules for it do no harm");
    } else if (*all == "1") {
      note("ipv6", Severity::info,
           "IPv6 is disabled in this namespace; the rules for it do no harm, and work once it is enabled");
    } else if (config_->ip_family == FamilyMode::ipv4 && config_->other_family == OtherFamily::pass) {
      note("ipv6", Severity::warning, "IPv6 works here, and --ip-family ipv4 does not capture it",
           "leave out --ip-family, or add --other-family reject");
    } else {
      note("ipv6", Severity::ok, "IPv6 is enabled");
    }
  }

  void forwarding() {
    if (netfilter::first_line("/proc/sys/net/ipv4/ip_forward") != "1") return;
    note("ip_forward", Severity::info,
         std::string("this namespace forwards packets; those are ") + (config_->forwarded == Forwarded::capture
                                                                           ? "captured (--forwarded capture)"
                                                                           : "left alone (--forwarded pass)"));
  }

  void reverse_path() {
    const auto mode = netfilter::first_line("/proc/sys/net/ipv4/conf/all/rp_filter");
    if (mode != "1" || config_->inbound_mode != InboundMode::tproxy) return;
    note("rp_filter", Severity::warning,
         "net.ipv4.conf.all.rp_filter is 1 (strict): with --inbound-mode tproxy the proxy calls the application from "
         "the "
         "client's address, which a strict filter drops",
         "sysctl net.ipv4.conf.all.rp_filter=2");
  }

  /// 0 where the file is not there or holds no number.
  static std::uint64_t number_in(const char* path) {
    const auto text = netfilter::first_line(path);
    return text ? parse_number(*text).value_or(0) : 0;
  }

  void conntrack() {
    const std::uint64_t most = number_in("/proc/sys/net/netfilter/nf_conntrack_max");
    const std::uint64_t used = number_in("/proc/sys/net/netfilter/nf_conntrack_count");
    if (most == 0) {
      note("conntrack", Severity::info, "conntrack is not in use yet; NAT rules switch it on");
      return;
    }
    // Every captured connection is one entry here and one more for the proxy's own.
    const bool nearly_full = used >= most / 10 * 8;
    note("conntrack", nearly_full ? Severity::warning : Severity::ok,
         std::to_string(used) + " of at most " + std::to_string(most) + " connections are tracked",
         nearly_full ? "raise net.netfilter.nf_conntrack_max on the node: when it is full, new connections are dropped"
                     : "");
  }

  const Config& config_;
  Ruleset wanted_;
  Scene scene_;
};

std::string json_text(const Examination& examination) {
  Json json = {{"can_apply", examination.can_apply()}, {"findings", Json::array()}};
  for (const Finding& finding : examination.findings) {
    json["findings"].push_back({{"check", finding.check},
                                {"severity", to_text(finding.severity)},
                                {"detail", finding.detail},
                                {"remedy", finding.remedy}});
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

/// What matters most stands last, above the conclusion, where the eye is when the output has scrolled by.
std::string words(const Examination& examination) {
  std::string text;
  for (const Severity severity : {Severity::ok, Severity::info, Severity::warning, Severity::error}) {
    for (const Finding& finding : examination.findings) {
      if (finding.severity != severity) continue;
      std::string line(to_text(severity));
      line.resize(9, ' ');
      text += line + finding.check + ": " + finding.detail + "\n";
      if (!finding.remedy.empty()) text += "         what to do: " + finding.remedy + "\n";
    }
  }
  return text + (examination.can_apply() ? "sluice apply with these options would work here\n"
                                         : "sluice apply with these options would NOT work here\n");
}

}  // namespace

ExitCode doctor(const Config& config, const Log& /*log*/) {
  if (!config->netns.empty()) netfilter::enter_network_namespace(config->netns);
  Examination examination(config);
  examination.place();
  const netfilter::Dropped dropped = netfilter::drop_privileges(netfilter::Needs{});
  examination.container(dropped);
  if (!dropped.shortfall) examination.kernel();
  examination.settings();
  examination.proxy();
  print(config->format == OutputFormat::json ? json_text(examination) : words(examination));
  return examination.can_apply() ? ExitCode::done : ExitCode::unsupported;
}

}  // namespace sluice::cli
