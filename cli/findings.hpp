// What `doctor` has found.
#pragma once

#include <string>
#include <vector>

#include "netfilter/listeners.hpp"
#include "netfilter/processes.hpp"
#include "rules/config.hpp"

namespace sluice::cli {

enum class Severity { ok, info, warning, error };

struct Finding {
  std::string check;
  Severity severity;
  std::string detail;
  std::string remedy;
};

/// What there is to see of the proxy and of who is taken for it.
struct Scene {
  std::optional<std::vector<netfilter::Listener>> listeners;
  std::vector<netfilter::Process> processes;  ///< of the proxy's users
  bool numbered_elsewhere = false;            ///< the pod has user IDs of its own, and sluice stands outside
};

/// Before privileges are dropped.
Scene look_around(const Settings& settings);

/// Whether what is captured finds the proxy, and whether others are taken for it.
std::vector<Finding> proxy_findings(const Settings& settings, const Scene& scene);

}  // namespace sluice::cli
