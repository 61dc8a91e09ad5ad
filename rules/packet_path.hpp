// The way of a packet through the rules, as a picture: for `plan --format mermaid` and `dot`.
#pragma once

#include <string>

#include "rules/ruleset.hpp"

namespace sluice {

/// A Mermaid flowchart (mermaid.js.org/syntax/flowchart), ending in a newline.
std::string to_mermaid(const Ruleset& ruleset);

/// A Graphviz digraph (graphviz.org/doc/info/lang.html), ending in a newline.
std::string to_dot(const Ruleset& ruleset);

}  // namespace sluice
