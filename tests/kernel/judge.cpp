// Asks sluice's own compiler and evaluator, for tests that compare them with a kernel.
//
// Each line of standard input is one configuration and its connections, as JSON:
//   {"options": {"proxy-port": "15001"}, "name_servers": ["10.96.0.10"],
//    "connections": [{"flow": "outbound", "protocol": 6, "source": "10.9.0.2", "source_port": 20000,
//                     "destination": "198.18.0.10", "destination_port": 80, "interface": "eth0",
//                     "uid": 1000, "gid": 1000, "mark": 0, "to_this_host": true}]}
// Each line of standard output is its answer: {"errors": ["..."]} or {"decisions": [{"verdict": ..., "port": ...,
// "rule": ...}]}.
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "rules/compile.hpp"
#include "rules/evaluate.hpp"

namespace {

using Json = nlohmann::json;
using namespace sluice;

IpAddress address(const Json& text) { return parse_address(text.get<std::string>()).value(); }

Connection connection_from(const Json& json) {
  Connection connection;
  connection.flow = json.at("flow") == "outbound" ? Flow::outbound : Flow::inbound;
  connection.protocol = json.at("protocol");
  connection.source = address(json.at("source"));
  connection.destination = address(json.at("destination"));
  connection.source_port = json.at("source_port");
  connection.destination_port = json.at("destination_port");
  connection.interface = json.at("interface");
  if (json.contains("uid")) connection.uid = Uid::from(json["uid"].get<std::uint64_t>());
  if (json.contains("gid")) connection.gid = Gid::from(json["gid"].get<std::uint64_t>());
  connection.mark = json.at("mark");
  connection.to_this_host = json.at("to_this_host");
  return connection;
}

Json to_json(const Decision& decision) {
  Json json = std::visit(Overloaded{
                             [](const Redirect& a) -> Json {
                               return {{"verdict", "redirect"}, {"port", a.port.number()}};
                             },
                             [](const Tproxy& a) -> Json {
                               return {{"verdict", "tproxy"}, {"port", a.port.number()}};
                             },
                             [](const Reject&) -> Json {
                               return {{"verdict", "reject"}};
                             },
                             [](const Drop&) -> Json {
                               return {{"verdict", "drop"}};
                             },
                             [](const auto&) -> Json {
                               return {{"verdict", "pass"}};
                             },
                         },
                         decision.verdict);
  json["rule"] = decision.rule;
  return json;
}

Json judge(const Json& question) {
  RawConfig raw;
  for (const auto& [name, value] : question.at("options").items()) {
    raw[name].push_back({value.get<std::string>(), {Source::flag, "--" + name}});
  }
  const auto nobody = [](std::string_view) -> std::optional<std::uint32_t> { return std::nullopt; };
  const auto servers = [&] {
    std::vector<IpAddress> found;
    for (const Json& server : question.at("name_servers")) found.push_back(address(server));
    return found;
  };
  const Validation validation = validate(raw, {nobody, nobody, servers});
  if (!validation.config) {
    Json errors = Json::array();
    for (const Problem& problem : validation.problems.errors) errors.push_back(to_text(problem));
    return {{"errors", errors}};
  }
  const Ruleset ruleset = compile(*validation.config);
  Json decisions = Json::array();
  for (const Json& connection : question.at("connections")) {
    decisions.push_back(to_json(evaluate(ruleset, connection_from(connection))));
  }
  return {{"decisions", decisions}};
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << judge(Json::parse(line)).dump() << std::endl;
  }
  return 0;
}
