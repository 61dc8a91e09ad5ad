// explain --format json prints
//
//   { "direction", "verdict": "redirect"|"tproxy"|"pass"|"reject"|"drop", "port": number|null, "rule": name,
//     "steps": [{"rule", "chain", "matched": true|false|null, "reason"}], "connection": {every field as judged, and
//     "assumed": names of those that were not said}, "judged_by": "options"|"kernel", "certain": bool }
//
// With --live a rule may stand in the way that sluice cannot read. Its "matched" is null; "certain" is then false and
// "verdict" null, because what it does to the connection is not guessed. "otherwise" tells what follows if it does not
// match.

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/output.hpp"
#include "cli/preparation.hpp"
#include "netfilter/backend.hpp"
#include "netfilter/foreign_chains.hpp"
#include "rules/compile.hpp"
#include "rules/question.hpp"
#include "rules/text.hpp"
#include "rules/verdict.hpp"

namespace sluice::cli {
namespace {

using Json = nlohmann::ordered_json;

std::string protocol_name(std::uint8_t number) {
  return std::string(to_text(number == static_cast<std::uint8_t>(Protocol::tcp) ? Protocol::tcp : Protocol::udp));
}

const char* direction_name(Flow flow) { return flow == Flow::outbound ? "outbound" : "inbound"; }

Json verdict_json(const Decision& decision) {
  const auto port = verdict_port(decision.verdict);
  return {{"verdict", verdict_word(decision.verdict)},
          {"port", port ? Json(port->number()) : Json()},
          {"rule", decision.rule}};
}

Json connection_json(const AssumedConnection& judged) {
  const Connection& c = judged.connection;
  return {{"direction", direction_name(c.flow)},
          {"protocol", protocol_name(c.protocol)},
          {"source", to_text(c.source)},
          {"source_port", c.source_port},
          {"destination", to_text(c.destination)},
          {"destination_port", c.destination_port},
          {"interface", c.interface},
          {"uid", c.uid ? Json(c.uid->number) : Json()},
          {"gid", c.gid ? Json(c.gid->number) : Json()},
          {"mark", c.mark},
          {"assumed", judged.assumed}};
}

std::string json_text(const Decision& decision, const AssumedConnection& judged, bool live) {
  Json json = {{"direction", direction_name(judged.connection.flow)}};
  json.update(decision.certain ? verdict_json(decision)
                               : Json{{"verdict", Json()}, {"port", Json()}, {"rule", Json()}});
  json["steps"] = Json::array();
  for (const Step& step : decision.steps) {
    json["steps"].push_back({{"rule", step.rule},
                             {"chain", step.chain},
                             {"matched", step.known ? Json(step.matched) : Json()},
                             {"reason", step.reason}});
  }
  json["connection"] = connection_json(judged);
  json["judged_by"] = live ? "kernel" : "options";
  json["certain"] = decision.certain;
  if (!decision.certain) json["otherwise"] = verdict_json(decision);
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string endpoint(const IpAddress& address, std::uint16_t port) {
  const std::string text = to_text(address);
  return (family_of(address) == Family::ipv6 ? "[" + text + "]" : text) + ":" + std::to_string(port);
}

/// `uid 1000 (assumed)`
class Fields {
 public:
  explicit Fields(const AssumedConnection& judged) : assumed_(judged.assumed) {}

  void add(const std::string& label, const std::string& value, std::initializer_list<const char*> names) {
    const bool some = std::any_of(names.begin(), names.end(), [&](const char* name) {
      return std::find(assumed_.begin(), assumed_.end(), name) != assumed_.end();
    });
    std::string line = "  " + label;
    line.resize(14, ' ');
    text += line + value + (some ? "  (assumed" + std::string(names.size() > 1 ? " in part" : "") + ")" : "") + "\n";
  }

  std::string text;

 private:
  const std::vector<std::string>& assumed_;
};

std::string connection_text(const AssumedConnection& judged) {
  const Connection& c = judged.connection;
  Fields fields(judged);
  fields.add("direction", direction_name(c.flow), {});
  fields.add("protocol", protocol_name(c.protocol), {});
  fields.add("from", endpoint(c.source, c.source_port), {"source", "source_port"});
  fields.add("to", endpoint(c.destination, c.destination_port), {"destination", "destination_port"});
  fields.add(c.flow == Flow::outbound ? "leaves by" : "arrives on", c.interface, {"interface"});
  fields.add("user", c.uid ? std::to_string(c.uid->number) : "none: made outside this namespace", {"uid"});
  fields.add("group", c.gid ? std::to_string(c.gid->number) : "none: made outside this namespace", {"gid"});
  fields.add("mark", hex32(c.mark), {"mark"});
  return fields.text;
}

std::string step_text(const Step& step) { return "  " + step.chain + " [" + step.rule + "] " + step.reason + "\n"; }

std::string decided_by(const Decision& decision) {
  if (decision.rule == default_rule) return ", because no rule matched";
  const auto chain = std::find_if(decision.steps.rbegin(), decision.steps.rend(),
                                  [&](const Step& step) { return step.matched && step.rule == decision.rule; });
  return ", by rule [" + decision.rule + "]" +
         (chain == decision.steps.rend() ? "" : " of chain " + chain->chain + ": " + chain->reason);
}

std::string steps_text(const Decision& decision) {
  std::string unknown;
  std::string passed_over;
  std::string matched;
  for (const Step& step : decision.steps) {
    (!step.known ? unknown : step.matched ? matched : passed_over) += step_text(step);
  }
  std::string text;
  if (!unknown.empty()) text += "\nnot to be told, rule by rule:\n" + unknown;
  if (!matched.empty()) text += "\nmatched, chain by chain:\n" + matched;
  if (!passed_over.empty()) text += "\npassed over, in this order:\n" + passed_over;
  return text;
}

std::string words(const Decision& decision, const AssumedConnection& judged) {
  const std::string verdict = verdict_text(decision.verdict) + decided_by(decision) + "\n";
  const std::string first = decision.certain
                                ? verdict
                                : "unknown, because a rule is in the way that sluice cannot read and does not guess "
                                  "at; if that does not match: " +
                                      verdict;
  return first + "\nthe connection:\n" + connection_text(judged) + steps_text(decision);
}

/// By the rules in the kernel: sluice's own, and those that other tools put on the same hooks.
ExitCode judge_live(const Settings& settings, const Connection& connection, const Log& log, Decision& decision) {
  if (const ExitCode code = stand_in_namespace(settings, log); code != ExitCode::done) return code;
  const auto found = netfilter::Backends(settings.lock_timeout).observe();
  if (found.empty()) log.warning("no rules of sluice are in this namespace; sluice apply makes them");
  std::vector<AskedChain> chains;
  Ruleset sets;
  for (const auto& [backend, rules] : found) {
    if (rules.dormant) log.warning("table inet sluice is dormant: its rules are there but not asked");
    for (AskedChain& chain : asked_chains(rules)) chains.push_back(std::move(chain));
    for (Set& set : readable_sets(rules).sets) sets.sets.push_back(std::move(set));
  }
  for (AskedChain& chain : netfilter::foreign_chains()) chains.push_back(std::move(chain));
  decision = evaluate(sets, chains, connection);
  return ExitCode::done;
}

}  // namespace

ExitCode explain(const Config& config, const Log& log) {
  const AssumedConnection judged = connection_of(config->question);
  Decision decision;
  if (config->live) {
    if (const ExitCode code = judge_live(*config, judged.connection, log, decision); code != ExitCode::done)
      return code;
  } else {
    decision = evaluate(compile(config), judged.connection);
  }
  print(config->format == OutputFormat::json ? json_text(decision, judged, config->live) : words(decision, judged));
  return ExitCode::done;
}

}  // namespace sluice::cli
