// Files that the user names.
#pragma once

#include <optional>
#include <string>

#include "rules/problem.hpp"

namespace sluice::cli {

/// What stands in the file at `path`; nothing, after an error, where it cannot be read. `said_by` is the flag or
/// variable that named it, `allowed` what it should be.
std::optional<std::string> contents_of(const std::string& path, const std::string& said_by, const std::string& allowed,
                                       Problems& problems);

}  // namespace sluice::cli
