// What should be in the kernel against what is there, for the commands that tell it: verify, plan --diff.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "rules/config.hpp"
#include "rules/drift.hpp"

namespace sluice::cli {

/// Every difference between the rules, addresses and routes of this configuration and those in the namespace that the
/// thread stands in. Throws KernelError.
std::vector<Difference> differences_in_kernel(const Config& config);

/// `- outbound [proxy] meta skuid 1337 accept`, then `+` with what would stand there instead; one line each.
std::string to_text(const Difference& difference);

/// [{"rule", "table", "chain", "kind", "expected", "found"}], as sluice(8) describes it under verify.
nlohmann::ordered_json to_json(const std::vector<Difference>& differences);

}  // namespace sluice::cli
