// Judges one connection by a Ruleset, the way the kernel would judge its first packet. The only evaluator: `explain`,
// the probes of `verify` and the property tests all ask it. It also judges by what is in the kernel, where rules may
// stand that are not sluice's or cannot be read.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "rules/drift.hpp"
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
  std::string reason;  ///< the rule in nft's language when it matched, else in words the first match that did not hold
  bool known = true;   ///< false: the rule cannot be read, so nobody can tell whether it matched
};

struct Decision {
  Action verdict = Pass{};  ///< Pass, Redirect, Tproxy, Reject or Drop
  std::string rule;         ///< the rule that decided; `default` where none did
  std::vector<Step> steps;
  bool certain = true;  ///< false: a rule that cannot be read was asked before the decision, which may thus be another
};

inline constexpr std::string_view default_rule = "default";

/// A rule as far as it could be read.
struct AskedRule {
  std::string name;
  std::vector<Match> matches;    ///< all must hold; where `action` is absent the rule may ask for more
  std::optional<Action> action;  ///< absent: the rule cannot be read to its end
  std::string text;              ///< for showing it
};

/// A base chain as it is asked: one of ours, or one that another tool put on the same hook.
struct AskedChain {
  std::string name;
  ChainType type;
  Hook hook;
  int priority;
  std::vector<AskedRule> rules;
  bool ours = true;
  bool accepts_by_default = true;
};

std::vector<AskedChain> asked_chains(const Ruleset& ruleset);
/// Rules that are Opaque are kept, as rules that cannot be read. A dormant table asks nothing.
std::vector<AskedChain> asked_chains(const Observed& observed);
/// The sets that could be read, for the rules that refer to them.
Ruleset readable_sets(const Observed& observed);

/// Walks the chains of the connection's hooks by priority. Total.
Decision evaluate(const Ruleset& ruleset, const Connection& connection);
/// The same by these chains; of `sets` only the sets count.
Decision evaluate(const Ruleset& sets, const std::vector<AskedChain>& chains, const Connection& connection);

}  // namespace sluice
