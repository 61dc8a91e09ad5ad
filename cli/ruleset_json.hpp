// The ruleset for programs: what `plan --format json` prints.
//
//   { "table": {"family": "inet", "name": "sluice"},
//     "namespace": ["ip -6 address add ::6/128 dev lo", ...],     what must exist besides rules
//     "sets": [ {"name", "type", "elements": ["80", "8000-8100"]} ],
//     "chains": [ {"name", "type", "hook", "priority",
//                  "rules": [ {"rule", "matches": ["tcp dport 80", ...], "verdict", "port"?, "mark"?, "zone"?, "text"}
//                  ]} ] }
//
// "verdict" is pass, redirect, tproxy, reject-tcp-reset, reject-port-unreachable, drop, set-zone, set-connection-mark
// or set-packet-mark; "text" is the rule in nft's language.
#pragma once

#include <string>

#include "rules/namespace_state.hpp"
#include "rules/ruleset.hpp"

namespace sluice::cli {

/// Indented, ending in a newline.
std::string to_json_text(const Ruleset& ruleset, const NamespaceState& state);

}  // namespace sluice::cli
