// Which connections `verify --probe` makes: one for each way that traffic can take under a configuration.
#pragma once

#include <string>
#include <vector>

#include "rules/config.hpp"
#include "rules/evaluate.hpp"

namespace sluice {

struct ProbeCase {
  std::string what;  ///< `outbound, an application`
  Connection connection;
};

/// TCP connections of this family; `pod` and `world` are the addresses of the two ends. An application and the proxy
/// going out, to what is captured and to what is excluded; somebody from outside coming in, to the application, to
/// excluded ports and to the proxy's own port; both on loopback.
std::vector<ProbeCase> probe_cases(const Settings& settings, Family family, const IpAddress& pod,
                                   const IpAddress& world);

}  // namespace sluice
