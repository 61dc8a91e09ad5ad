// The policy: which packets are captured. The only place that decides.
#pragma once

#include "rules/config.hpp"
#include "rules/ruleset.hpp"

namespace sluice {

/// The conntrack zone of captured DNS over UDP; everything else stays in zone 0.
inline constexpr std::uint16_t dns_zone = 1;

/// Total and deterministic: equal settings give equal rulesets, and there are no errors because a Config has none.
Ruleset compile(const Config& config);

/// The families that the configuration captures.
bool captures(const Settings& settings, Family family);

}  // namespace sluice
