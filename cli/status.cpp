// status --format json prints
//
//   { "backend": "nftables"|null, "version", "applied_at",
//     "configuration": {option: text, or a list of texts for an option that is given more than once},
//     "exact": bool,         whether that configuration makes exactly these rules; false where somebody changed them
//     "captured": "outbound TCP to port 15001, ...",
//     "rules": [{"rule", "chain", "packets", "bytes", "text"}],          in the order in which they are asked
//     "namespace": ["ip -4 rule add fwmark ...", ...],                   what sluice made here besides rules
//     "warnings": ["..."] }
//
// Everything is read from the kernel. With nothing programmed, "backend" is null, the texts are null and the lists are
// empty. In chains of type nat only the first packet of a connection is counted, so "packets" are connections there.

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/output.hpp"
#include "cli/preparation.hpp"
#include "cli/summary.hpp"
#include "netfilter/backend.hpp"
#include "netfilter/namespace_keeper.hpp"
#include "rules/compile.hpp"
#include "rules/evaluate.hpp"
#include "rules/iptables_text.hpp"
#include "rules/nft_text.hpp"
#include "rules/recover.hpp"
#include "rules/text.hpp"
#include "rules/words.hpp"

namespace sluice::cli {
namespace {

using Json = nlohmann::ordered_json;

struct Report {
  netfilter::BackendKind backend;
  Observed observed;
  Ruleset readable;  ///< without the rules, sets and chains that cannot be read
  Recovered recovered;
  std::string captured;
  bool exact = false;
  std::string version;
  std::string applied_at;
  std::vector<std::string> in_namespace;
  std::vector<std::string> warnings;
};

Ruleset readable_rules(const Observed& observed) {
  Ruleset ruleset = readable_sets(observed);
  for (const ObservedChain& chain : observed.chains) {
    if (!chain.base || !is_nft_name(chain.name)) continue;
    ruleset.chains.push_back(*chain.base);
    for (const ObservedRule& rule : chain.rules) {
      if (const auto* own = std::get_if<Rule>(&rule.rule)) ruleset.chains.back().rules.push_back(*own);
    }
  }
  return ruleset;
}

/// Table comment: `sluice 0.1.0, applied 2026-11-24T08:00:00Z`.
void read_comment(Report& report) {
  constexpr std::string_view program = "sluice ";
  constexpr std::string_view separator = ", applied ";
  const std::string& comment = report.observed.comment;
  const std::size_t comma = comment.find(separator);
  // iptables' tables have no place for a comment.
  if (comment.empty() && report.backend != netfilter::BackendKind::nftables) return;
  if (comment.compare(0, program.size(), program) != 0 || comma == std::string::npos) {
    report.warnings.push_back("the table does not say which sluice made it and when; was it loaded with nft?");
    return;
  }
  report.version = comment.substr(program.size(), comma - program.size());
  report.applied_at = comment.substr(comma + separator.size());
}

netfilter::BackendWish only(netfilter::BackendKind backend) {
  switch (backend) {
    case netfilter::BackendKind::nftables:
      return {BackendChoice::nftables, IptablesVariant::automatic};
    case netfilter::BackendKind::iptables_nft:
      return {BackendChoice::iptables, IptablesVariant::nft};
    case netfilter::BackendKind::iptables_legacy:
      return {BackendChoice::iptables, IptablesVariant::legacy};
  }
  return {};
}

/// What the rules look like in iptables' tables is no choice of the user's: its priority, and everything said once a
/// family.
void in_iptables_terms(Recovered& recovered) {
  recovered.options.erase("priority");
  const auto captured = recovered.options.find("outbound-cidrs");
  if (captured != recovered.options.end() && captured->second == "0.0.0.0/0,::/0") recovered.options.erase(captured);
  recovered.options["backend"] = "iptables";
}

void recover_configuration(Report& report, netfilter::Backends& backends) {
  const bool sets = report.backend == netfilter::BackendKind::nftables;
  report.recovered = recover(sets ? report.readable : without_iptables_repetitions(report.readable));
  if (!sets) in_iptables_terms(report.recovered);
  const auto config = config_of(report.recovered);
  if (config) report.captured = summary(**config);
  const auto differences =
      config ? backends.differences(only(report.backend), compile(*config)) : std::vector<Difference>{{}};
  report.exact = config && differences.empty();
  if (report.exact) return;
  const Difference& first = differences.front();
  report.warnings.push_back(
      "no configuration of this sluice makes exactly these rules: somebody changed them, or another "
      "version made them" +
      (first.kind.empty() ? ""
                          : "; first difference: " + first.kind + " " + first.chain + " [" + first.rule + "] " +
                                (first.found.empty() ? first.expected : first.found)));
}

// --- What is suspicious --------------------------------------------------------------------------------------------------

bool captures(const ObservedRule& observed) {
  const auto* rule = std::get_if<Rule>(&observed.rule);
  return rule != nullptr &&
         (std::holds_alternative<Redirect>(rule->action) || std::holds_alternative<Tproxy>(rule->action));
}

/// A rule that lets connections through which a user may have meant to be captured. What is on loopback or already
/// running was never meant to be.
bool excludes(const ObservedRule& observed) {
  const auto* rule = std::get_if<Rule>(&observed.rule);
  return rule != nullptr && std::holds_alternative<Pass>(rule->action) && rule->name != "loopback" &&
         rule->name != "established";
}

void look_for_idle_capture(const ObservedChain& chain, std::vector<std::string>& warnings) {
  constexpr std::uint64_t many = 1000;
  std::uint64_t captured = 0;
  bool can_capture = false;
  const ObservedRule* busiest = nullptr;
  for (const ObservedRule& rule : chain.rules) {
    if (captures(rule)) {
      can_capture = true;
      captured += rule.counters.packets;
    }
    const bool more = busiest == nullptr || rule.counters.packets > busiest->counters.packets;
    if (excludes(rule) && more) busiest = &rule;
  }
  if (!can_capture || captured > 0 || busiest == nullptr || busiest->counters.packets < many) return;
  warnings.push_back("chain " + chain.name + " has captured nothing, while its rule [" + busiest->comment + "] let " +
                     std::to_string(busiest->counters.packets) +
                     " through; is that exclusion too wide, or the application running as the proxy's user?");
}

void look_for_trouble(Report& report) {
  if (report.observed.dormant) {
    report.warnings.push_back(
        "table inet sluice is dormant: its rules are there, but nothing is captured; sluice apply "
        "makes it active");
  }
  for (const ObservedChain& chain : report.observed.chains) {
    if (!chain.base)
      report.warnings.push_back("chain " + chain.name + " is on no hook that sluice uses, so nothing asks its rules");
    if (!chain.accepts_by_default)
      report.warnings.push_back("chain " + chain.name + " drops what no rule of it decides");
    for (const ObservedRule& rule : chain.rules) {
      const auto* opaque = std::get_if<Opaque>(&rule.rule);
      if (opaque != nullptr) {
        report.warnings.push_back("chain " + chain.name +
                                  " has a rule that sluice did not write and cannot read: " + opaque->text);
      }
    }
    look_for_idle_capture(chain, report.warnings);
  }
}

Report read(std::vector<netfilter::Found> all, netfilter::Backends& backends) {
  Report report{all.front().backend, std::move(all.front().rules), {}, {}, {}, false, {}, {}, {}, {}};
  for (std::size_t other = 1; other < all.size(); ++other) {
    report.warnings.push_back("rules of sluice are in " + std::string(to_text(all[other].backend)) +
                              " as well, which is not shown here; sluice apply leaves them in one place");
  }
  report.readable = readable_rules(report.observed);
  read_comment(report);
  recover_configuration(report, backends);
  report.in_namespace = netfilter::unwanted(NamespaceState{});
  look_for_trouble(report);
  return report;
}

// --- Telling ------------------------------------------------------------------------------------------------------------

std::string rule_words(const ObservedRule& observed, const Ruleset& sets) {
  if (const auto* rule = std::get_if<Rule>(&observed.rule)) return in_words(*rule, sets);
  return "cannot be read: " + std::get<Opaque>(observed.rule).text;
}

Json configuration_json(const Recovered& recovered) {
  Json json = Json::object();
  for (const auto& [name, text] : recovered.options) {
    const auto values = split(text, '\n');
    json[name] = values.size() == 1 ? Json(text) : Json(values);
  }
  return json;
}

std::string json_text(const std::optional<Report>& report) {
  Json json = {
      {"backend", Json()},        {"version", Json()},  {"applied_at", Json()},   {"configuration", Json::object()},
      {"exact", Json()},          {"captured", Json()}, {"rules", Json::array()}, {"namespace", Json::array()},
      {"warnings", Json::array()}};
  if (report) {
    json["backend"] = to_text(report->backend);
    if (!report->version.empty()) json["version"] = report->version;
    if (!report->applied_at.empty()) json["applied_at"] = report->applied_at;
    json["configuration"] = configuration_json(report->recovered);
    json["exact"] = report->exact;
    json["captured"] = report->captured;
    for (const ObservedChain& chain : report->observed.chains) {
      for (const ObservedRule& rule : chain.rules) {
        json["rules"].push_back({{"rule", rule.comment},
                                 {"chain", chain.name},
                                 {"packets", rule.counters.packets},
                                 {"bytes", rule.counters.bytes},
                                 {"text", rule_words(rule, report->readable)}});
      }
    }
    json["namespace"] = report->in_namespace;
    json["warnings"] = report->warnings;
  }
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string command_line(const Recovered& recovered) {
  std::string text = "sluice apply";
  for (const auto& [name, lines] : recovered.options) {
    for (const std::string_view value : split(lines, '\n')) {
      const bool plain = !value.empty() && value.find_first_of("* ") == std::string_view::npos;
      text += " --" + name + " " + (plain ? std::string(value) : "'" + std::string(value) + "'");
    }
  }
  return text;
}

std::string padded(std::uint64_t number) {
  std::string text = std::to_string(number);
  return std::string(text.size() < 9 ? 9 - text.size() : 0, ' ') + text;
}

std::string chain_text(const ObservedChain& chain, const Ruleset& sets) {
  const bool nat = chain.base && chain.base->type == ChainType::nat;
  const std::string hook = chain.base ? to_nft_hook(*chain.base) : "on no hook that sluice uses";
  std::string text = "\n" + chain.name + ": " + hook.substr(0, hook.find(';')) + "\n" +
                     (nat ? "connections" : "    packets") + "       bytes\n";
  for (const ObservedRule& rule : chain.rules) {
    text += "  " + padded(rule.counters.packets) + "   " + padded(rule.counters.bytes) + "  [" + rule.comment + "] " +
            rule_words(rule, sets) + "\n";
  }
  return text;
}

std::string words(const Report& report) {
  std::string text(to_text(report.backend));
  if (report.backend == netfilter::BackendKind::nftables) text += ", table inet sluice";
  text += report.version.empty() ? "" : ", made by sluice " + report.version;
  text += report.applied_at.empty() ? "" : " at " + report.applied_at;
  text += "\ncaptured: " + (report.captured.empty() ? "cannot be told" : report.captured);
  text += std::string("\n") + (report.exact ? "the same rules again: " : "nearest configuration: ") +
          command_line(report.recovered) + "\n";
  for (const std::string& line : report.in_namespace) text += "made besides: " + line + "\n";
  for (const ObservedChain& chain : report.observed.chains) text += chain_text(chain, report.readable);
  if (!report.warnings.empty()) text += "\n";
  for (const std::string& warning : report.warnings) text += "warning: " + warning + "\n";
  return text;
}

/// What can be written loads with nft; what cannot stands above it as comments.
std::string nft_text(const Report& report) {
  std::string text;
  for (const std::string& line : report.in_namespace) text += "# " + line + "\n";
  for (const ObservedChain& chain : report.observed.chains) {
    if (!is_nft_name(chain.name))
      text += "# left out, because nft does not read such a name: chain " + chain.name + "\n";
    for (const ObservedRule& rule : chain.rules) {
      const auto* opaque = std::get_if<Opaque>(&rule.rule);
      if (opaque != nullptr)
        text += "# left out of chain " + chain.name + ", because it cannot be read: " + opaque->text + "\n";
    }
  }
  return text + to_nft(report.readable);
}

/// The kernel's rules, which were found to be exactly those of the configuration that was recovered from them.
ExitCode print_iptables(const Report& report, const Log& log) {
  const auto config = report.exact ? config_of(report.recovered) : std::nullopt;
  const auto rules = config ? iptables_rules(compile(*config), log) : std::nullopt;
  if (rules && report.backend != netfilter::BackendKind::nftables) {
    print(to_iptables_plan(*rules));
    return ExitCode::done;
  }
  log.error(report.backend == netfilter::BackendKind::nftables
                ? "--format: \"iptables\" shows rules of the iptables backend, and these are in a table of nf_tables"
                : "--format: these rules were changed, so sluice cannot say them in iptables' words");
  log.hint("allowed here: text, json, nft; iptables-save shows what is in iptables' tables");
  return ExitCode::bad_input;
}

}  // namespace

ExitCode status(const Config& config, const Log& log) {
  if (const ExitCode code = stand_in_namespace(*config, log); code != ExitCode::done) return code;
  netfilter::Backends backends(config->lock_timeout);
  auto found = backends.observe();
  const auto report = found.empty() ? std::nullopt : std::optional(read(std::move(found), backends));
  if (report && config->format == OutputFormat::iptables) return print_iptables(*report, log);
  if (config->format == OutputFormat::json) {
    print(json_text(report));
  } else if (!report) {
    const std::string nothing = "nothing of sluice is programmed in this namespace; sluice apply does that";
    if (config->format == OutputFormat::nft) {
      log.info(nothing);
    } else {
      print(nothing + "\n");
    }
  } else {
    print(config->format == OutputFormat::nft ? nft_text(*report) : words(*report));
  }
  return ExitCode::done;
}

}  // namespace sluice::cli
