// verify --format json prints
//
//   { "match": bool,
//     "drift": [{"rule", "table", "chain", "kind": "missing"|"unexpected"|"changed"|"shadowed", "expected", "found"}],
//     "probe": [{"connection", "family", "source", "destination", "uid", "gid", "mark", "expected", "found",
//                "ok": true|false|null (not tried)}],
//     "warnings": ["..."] }
//
// "rule" and "chain" are empty where a set, a chain, the table, an address or a route differs. "shadowed": a rule of
// another tool, in the table named, translates first what ours would have captured.

#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/comparison.hpp"
#include "cli/output.hpp"
#include "cli/preparation.hpp"
#include "netfilter/foreign_chains.hpp"
#include "netfilter/privileges.hpp"
#include "netfilter/probe.hpp"
#include "netfilter/system_files.hpp"
#include "rules/compile.hpp"
#include "rules/nft_text.hpp"
#include "rules/probe_cases.hpp"
#include "rules/text.hpp"
#include "rules/verdict.hpp"

namespace sluice::cli {
namespace {

using Json = nlohmann::ordered_json;
using netfilter::ProbeResult;

struct Probed {
  ProbeCase asked;
  Decision expected;
  ProbeResult result;
};

struct Report {
  std::vector<Difference> drift;    ///< of our own table and namespace
  std::vector<Difference> shadows;  ///< `chain` is `family table chain`
  std::vector<Probed> probes;
  std::vector<std::string> warnings;
};

// --- Rules of others ----------------------------------------------------------------------------------------------------

/// Another tool's NAT chain that the kernel asks before one of ours: what it translates, ours never sees.
bool stands_before_ours(const AskedChain& chain, const Ruleset& ours) {
  return chain.type == ChainType::nat && std::any_of(ours.chains.begin(), ours.chains.end(), [&](const Chain& own) {
           return own.type == ChainType::nat && own.hook == chain.hook && chain.priority <= own.priority;
         });
}

void look_for_shadows(const Ruleset& ours, Report& report) {
  for (const AskedChain& chain : netfilter::foreign_chains()) {
    if (!stands_before_ours(chain, ours)) continue;
    for (const AskedRule& rule : chain.rules) {
      if (!rule.action) {
        report.warnings.push_back("chain " + chain.name + " is asked before sluice's, and its " + rule.name +
                                  " cannot be read, so it may redirect what sluice would capture: " + rule.text);
      } else if (std::holds_alternative<Redirect>(*rule.action)) {
        report.shadows.push_back({rule.name, chain.name, "shadowed", "", rule.text});
      }
    }
  }
}

// --- Probes -------------------------------------------------------------------------------------------------------------

std::string endpoint(const IpAddress& address, std::uint16_t port) {
  const std::string text = to_text(address);
  return (family_of(address) == Family::ipv6 ? "[" + text + "]" : text) + ":" + std::to_string(port);
}

bool as_expected(const Probed& probed) {
  const Connection& connection = probed.asked.connection;
  const ProbeResult& result = probed.result;
  if (const auto port = verdict_port(probed.expected.verdict)) {
    return result.landed == ProbeResult::Landed::in_pod && result.port == port->number() &&
           result.original == endpoint(connection.destination, connection.destination_port);
  }
  if (std::holds_alternative<Reject>(probed.expected.verdict)) return result.landed == ProbeResult::Landed::refused;
  if (std::holds_alternative<Drop>(probed.expected.verdict)) return result.landed == ProbeResult::Landed::nowhere;
  const bool leaves = connection.flow == Flow::outbound && connection.interface != "lo";
  return result.landed == (leaves ? ProbeResult::Landed::in_world : ProbeResult::Landed::in_pod) &&
         result.port == connection.destination_port;
}

std::string expected_text(const Decision& decision) {
  return verdict_text(decision.verdict) + " [" + decision.rule + "]";
}

std::string found_text(const ProbeResult& result) {
  switch (result.landed) {
    case ProbeResult::Landed::in_pod:
      return "accepted in the pod on port " + std::to_string(result.port) + ", asked for " + result.original;
    case ProbeResult::Landed::in_world:
      return "left the pod and was accepted outside on port " + std::to_string(result.port);
    case ProbeResult::Landed::refused:
      return "refused: " + result.note;
    case ProbeResult::Landed::nowhere:
      return "no answer: " + result.note;
    case ProbeResult::Landed::not_tried:
      return "not tried: " + result.note;
  }
  return "";
}

/// In the order: what it is, from, to, as whom.
std::string connection_text(const ProbeCase& probe) {
  const Connection& c = probe.connection;
  std::string text = probe.what + ", to " + endpoint(c.destination, c.destination_port);
  if (c.uid) text += ", as user " + std::to_string(c.uid->number);
  if (c.gid) text += " group " + std::to_string(c.gid->number);
  if (c.mark != 0) text += ", mark " + hex32(c.mark);
  return text;
}

/// A kernel without IPv6 has nothing of it to be tried.
std::vector<Family> families_here() {
  if (netfilter::file_text("/proc/net/if_inet6")) return {Family::ipv4, Family::ipv6};
  return {Family::ipv4};
}

std::vector<Probed> make_probes(const Config& config) {
  std::vector<Probed> probes;
  const Ruleset wanted = compile(config);
  netfilter::ProbePlan plan;
  plan.netns = config->netns;
  plan.state = namespace_state(config);
  plan.proxy_ports = {config->proxy_port, config->inbound_port, config->dns_port};
  plan.timeout = config->probe_timeout;
  for (const Family family : families_here()) {
    const auto [pod, world] = netfilter::probe_addresses(family);
    for (ProbeCase& probe : probe_cases(*config, family, pod, world)) {
      plan.connections.push_back(probe.connection);
      const Decision expected = evaluate(wanted, probe.connection);
      probes.push_back({std::move(probe), expected, {}});
    }
  }
  const auto results = netfilter::probe(plan);
  for (std::size_t at = 0; at < results.size(); ++at) probes[at].result = results[at];
  return probes;
}

// --- Telling ------------------------------------------------------------------------------------------------------------

bool tried(const Probed& probed) { return probed.result.landed != ProbeResult::Landed::not_tried; }

bool all_as_expected(const Report& report) {
  return std::all_of(report.probes.begin(), report.probes.end(),
                     [](const Probed& probed) { return !tried(probed) || as_expected(probed); });
}

bool matches(const Report& report) { return report.drift.empty() && report.shadows.empty() && all_as_expected(report); }

Json probe_json(const Probed& probed) {
  const Connection& c = probed.asked.connection;
  return {{"connection", probed.asked.what},
          {"family", to_text(family_of(c.destination))},
          {"source", to_text(c.source)},
          {"destination", endpoint(c.destination, c.destination_port)},
          {"uid", c.uid ? Json(c.uid->number) : Json()},
          {"gid", c.gid ? Json(c.gid->number) : Json()},
          {"mark", c.mark},
          {"expected", expected_text(probed.expected)},
          {"found", found_text(probed.result)},
          {"ok", tried(probed) ? Json(as_expected(probed)) : Json()}};
}

std::string json_text(const Report& report) {
  std::vector<Difference> all = report.drift;
  all.insert(all.end(), report.shadows.begin(), report.shadows.end());
  Json json = {{"match", matches(report)}, {"drift", to_json(all)}, {"probe", Json::array()}};
  for (const Probed& probed : report.probes) json["probe"].push_back(probe_json(probed));
  json["warnings"] = report.warnings;
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string probes_text(const std::vector<Probed>& probes) {
  if (probes.empty()) return "";
  std::string text =
      "\nprobes, in a scratch namespace under a copy of this one's sluice rules (other tools' rules are not copied):\n";
  for (const Probed& probed : probes) {
    text += std::string(!tried(probed)        ? "?    "
                        : as_expected(probed) ? "ok   "
                                              : "FAIL ") +
            connection_text(probed.asked) + "\n       expected " + expected_text(probed.expected) + "\n       found " +
            found_text(probed.result) + "\n";
  }
  return text;
}

std::string words(const Report& report) {
  std::string text;
  for (const Difference& difference : report.drift) text += to_text(difference);
  for (const Difference& d : report.shadows) {
    text += "! " + d.chain + " [" + d.rule + "] " + d.found +
            ": another tool's rule, asked before sluice's; sluice doctor tells what to do\n";
  }
  const std::size_t count = report.drift.size() + report.shadows.size();
  text += count == 0
              ? "no drift: the kernel's rules are those of this configuration\n"
              : std::to_string(count) + (count == 1 ? " difference" : " differences") +
                    (report.drift.empty() ? "\n" : "; sluice apply with this configuration mends what is ours\n");
  return text + probes_text(report.probes);
}

ExitCode outcome(const Report& report, const Log& log) {
  if (!matches(report)) return ExitCode::drift;
  for (const Probed& probed : report.probes) {
    if (tried(probed)) continue;
    log.error("--probe: not every connection could be tried (" + probed.result.note + ")");
    log.hint(
        "the probe makes scratch namespaces and sockets of other users: give it CAP_SYS_ADMIN, CAP_SETUID and "
        "CAP_SETGID, or allow user namespaces; verify without --probe needs neither");
    return ExitCode::unsupported;
  }
  return ExitCode::done;
}

}  // namespace

ExitCode verify(const Config& config, const Log& log) {
  Report report;
  // First, because it needs what is dropped next.
  if (config->probe && netfilter::has_net_admin()) report.probes = make_probes(config);
  if (const ExitCode code = stand_in_namespace(*config, log); code != ExitCode::done) return code;
  report.drift = differences_in_kernel(config);
  look_for_shadows(compile(config), report);
  for (const std::string& warning : report.warnings) log.warning(warning);
  print(config->format == OutputFormat::json ? json_text(report) : words(report));
  return outcome(report, log);
}

}  // namespace sluice::cli
