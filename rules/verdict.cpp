#include "rules/verdict.hpp"

namespace sluice {

std::string_view verdict_word(const Action& action) {
  return std::visit(Overloaded{
                        [](const Redirect&) { return "redirect"; },
                        [](const Tproxy&) { return "tproxy"; },
                        [](const Reject&) { return "reject"; },
                        [](const Drop&) { return "drop"; },
                        [](const Pass&) { return "pass"; },
                        [](const SetZone&) { return "pass"; },
                        [](const SetConnectionMark&) { return "pass"; },
                        [](const SetPacketMark&) { return "pass"; },
                    },
                    action);
}

std::optional<Port> verdict_port(const Action& action) {
  if (const auto* redirect = std::get_if<Redirect>(&action)) return redirect->port;
  if (const auto* tproxy = std::get_if<Tproxy>(&action)) return tproxy->port;
  return std::nullopt;
}

std::string verdict_text(const Action& action) {
  std::string text(verdict_word(action));
  if (const auto port = verdict_port(action)) text += " to port " + std::to_string(port->number());
  if (const auto* reject = std::get_if<Reject>(&action)) {
    text += reject->with == RejectWith::tcp_reset ? " with a TCP reset" : " with ICMP port unreachable";
  }
  return text;
}

}  // namespace sluice
