// Judges one connection by a Ruleset, the way the kernel would judge its first packet. The only evaluator: `explain`,
// the probes of `verify` and the property tests all ask it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rules/ruleset.hpp"

namespace sluice {

enum class Flow { outbound, inbound };  ///< made in this namespace, or arriving from outside

/// The first packet of a connection.
struct Connection {
  Flow flow = Flow::outbound;
  std::uint8_t protocol = 6;  ///< IP protocol number
  IpAddress source;
  IpAddress destination;
  std::uint16_t source_port = 0;  ///< 0: not known, or a protocol without ports
  std::uint16_t destination_port = 0;
  std::string interface;   ///< it leaves by (outbound) or arrives on (inbound)
  std::optional<Uid> uid;  ///< none: no process of this namespace made the packet
  std::optional<Gid> gid;
  std::uint32_t mark = 0;
  bool to_this_host = true;  ///< inbound: addressed to this namespace, not merely forwarded
};

/// One rule that was asked.
struct Step {
  std::string rule;
  std::string chain;
  bool matched = false;
  std::string reason;  ///< the rule in nft's words when it matched, else its first match that did not hold
};

struct Decision {
  Action verdict = Pass{};  ///< Pass, Redirect, Tproxy, Reject or Drop
  std::string rule;         ///< the rule that decided; `default` where none did
  std::vector<Step> steps;
};

inline constexpr std::string_view default_rule = "default";

/// Walks the chains of the connection's hooks by priority. Total.
Decision evaluate(const Ruleset& ruleset, const Connection& connection);

}  // namespace sluice
