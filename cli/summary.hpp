// A configuration in words, for the line that apply prints.
#pragma once

#include <string>

#include "rules/config.hpp"

namespace sluice::cli {

/// `outbound TCP to port 15001, inbound TCP to port 15006, IPv4 and IPv6`
std::string summary(const Settings& settings);

}  // namespace sluice::cli
