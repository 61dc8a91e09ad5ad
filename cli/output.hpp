// Results, on standard output.
#pragma once

#include <string_view>

#include "cli/log.hpp"

namespace sluice::cli {

/// Writes all of it; throws std::system_error where standard output refuses (a full disk, a closed pipe).
void print(std::string_view text);

/// The same for a command that has changed the kernel: where standard output refuses, a warning, because the work is
/// done and a failure would say that it is not.
void print_what_was_done(std::string_view text, const Log& log);

}  // namespace sluice::cli
