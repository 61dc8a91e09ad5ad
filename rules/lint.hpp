// What is allowed but surely not meant: settings that cancel each other, exclusions that nothing reaches.
#pragma once

#include <vector>

#include "rules/config.hpp"
#include "rules/said.hpp"

namespace sluice {

/// Each names the option it is about, where that was said, and the other option that makes it odd. Only options that
/// the user set are judged: a preset may exclude a port that the user's own list leaves out anyway.
std::vector<Problem> lint(const Settings& settings, const Said& said);

}  // namespace sluice
