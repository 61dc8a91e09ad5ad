// Results, on standard output.
#pragma once

#include <string_view>

namespace sluice::cli {

/// Writes all of it; throws std::system_error where standard output refuses (a full disk, a closed pipe).
void print(std::string_view text);

}  // namespace sluice::cli
