#include "cli/ruleset_json.hpp"

#include <nlohmann/json.hpp>

#include "rules/nft_text.hpp"

namespace sluice::cli {
namespace {

using Json = nlohmann::ordered_json;

Json action_json(const Action& action) {
  return std::visit(
      Overloaded{
          [](const Pass&) -> Json {
            return {{"verdict", "pass"}};
          },
          [](const Redirect& a) -> Json {
            return {{"verdict", "redirect"}, {"port", a.port.number()}};
          },
          [](const Tproxy& a) -> Json {
            return {{"verdict", "tproxy"}, {"port", a.port.number()}, {"mark", a.mark}};
          },
          [](const Reject& a) -> Json {
            return {{"verdict", a.with == RejectWith::tcp_reset ? "reject-tcp-reset" : "reject-port-unreachable"}};
          },
          [](const Drop&) -> Json {
            return {{"verdict", "drop"}};
          },
          [](const SetZone& a) -> Json {
            return {{"verdict", "set-zone"}, {"zone", a.zone}};
          },
          [](const SetConnectionMark& a) -> Json {
            return {{"verdict", "set-connection-mark"}, {"mark", a.mark}};
          },
          [](const SetPacketMark& a) -> Json {
            return {{"verdict", "set-packet-mark"}, {"mark", a.mark}};
          },
      },
      action);
}

Json rule_json(const Rule& rule) {
  Json json = {{"rule", rule.name}, {"matches", Json::array()}};
  for (const Match& match : rule.matches) json["matches"].push_back(to_nft(match));
  json.update(action_json(rule.action));
  json["text"] = to_nft(rule);
  return json;
}

Json chain_json(const Chain& chain) {
  Json json = {{"name", chain.name},
               {"type", to_text(chain.type)},
               {"hook", to_text(chain.hook)},
               {"priority", chain.priority},
               {"rules", Json::array()}};
  for (const Rule& rule : chain.rules) json["rules"].push_back(rule_json(rule));
  return json;
}

}  // namespace

std::string to_json_text(const Ruleset& ruleset, const NamespaceState& state) {
  Json json = {{"table", {{"family", "inet"}, {"name", "sluice"}}},
               {"namespace", to_ip_commands(state)},
               {"sets", Json::array()},
               {"chains", Json::array()}};
  for (const Set& set : ruleset.sets) {
    json["sets"].push_back(
        {{"name", set.name}, {"type", set_type(set.elements)}, {"elements", element_texts(set.elements)}});
  }
  for (const Chain& chain : ruleset.chains) json["chains"].push_back(chain_json(chain));
  return json.dump(2) + "\n";
}

}  // namespace sluice::cli
