// A decision in words, the same in every command that tells one.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "rules/ruleset.hpp"

namespace sluice {

/// `redirect`, `tproxy`, `reject`, `drop`, or `pass` for everything that lets the packet go on.
std::string_view verdict_word(const Action& action);

/// Of Redirect and Tproxy.
std::optional<Port> verdict_port(const Action& action);

/// `redirect to port 15001`, `reject with a TCP reset`, `pass`.
std::string verdict_text(const Action& action);

}  // namespace sluice
