// What this kernel can do, found by asking it to: transactions that are made to be refused, so that nothing stays.
#pragma once

#include <string>
#include <vector>

#include "rules/ruleset.hpp"

namespace sluice::netfilter {

struct Feature {
  std::string name;     ///< `redirect`
  std::string purpose;  ///< what sluice needs it for
  std::string module;   ///< what a kernel that lacks it has to load
  bool present = false;
  bool needed = false;  ///< by the ruleset that was given
  std::string answer;   ///< of the kernel, where it is not there
};

/// The features of nf_tables that the native backend uses, and those that iptables over nf_tables does. The last
/// message of the transaction asks for the impossible, so the kernel takes everything back; the ruleset and its
/// generation stay as they were. Throws KernelError.
std::vector<Feature> probe_features(const Ruleset& ruleset);

}  // namespace sluice::netfilter
