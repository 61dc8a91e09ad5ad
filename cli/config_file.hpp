// The configuration file: TOML as CLI11 reads it, `key = value` with the options' names as keys.
#pragma once

#include <string>

#include "rules/config.hpp"

namespace sluice::cli {

/// Adds what the file at `path` says to `raw`; `said_by` is the flag or variable that named the file.
void read_config_file(const std::string& path, const std::string& said_by, RawConfig& raw, Problems& problems);

/// The same for a text, as if it stood in a file called `name`.
void read_config_text(const std::string& text, const std::string& name, RawConfig& raw, Problems& problems);

}  // namespace sluice::cli
