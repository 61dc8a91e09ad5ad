// Makes and removes what the rules need of the network namespace, over rtnetlink. Everything made carries a protocol
// number of our own (IFA_PROTO, rtm_protocol, FRA_PROTOCOL), so that it is found again without a file and without
// flags, and what others made is never taken for ours.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "rules/namespace_state.hpp"

namespace sluice::netfilter {

/// Our number where the kernel wants to know who made an address, route or rule; none of RTPROT_* in linux/rtnetlink.h.
inline constexpr unsigned char made_by_sluice = 115;

struct KeptChanges {
  std::vector<std::string> done;      ///< one line each, as `ip` would be told
  std::vector<std::string> warnings;  ///< what this namespace does not allow, with the consequence
  std::function<void()> take_back;    ///< undoes what was added, as far as that goes; empty after removing
};

/// What of `wanted` the namespace lacks, one line each, as `ip` would be told to add it. What belongs to IPv6 is left
/// out where that is disabled. Changes nothing. Throws KernelError.
std::vector<std::string> missing(const NamespaceState& wanted);

/// What sluice made and `wanted` does not name, one line each, as `ip` was told to add it. Changes nothing. Throws
/// KernelError.
std::vector<std::string> unwanted(const NamespaceState& wanted);

/// Adds what `wanted` names and the namespace lacks. To be called before the rules that need it are made. A family that
/// is disabled is a warning. Throws KernelError for any other refusal, after removing what it had added.
KeptChanges add_missing(const NamespaceState& wanted);

/// Whether any interface but lo has an address of that family with global scope (unique local IPv6 addresses count), so
/// that connections can leave the namespace in it. Throws KernelError when addresses cannot be read.
bool has_global_address(Family family);

/// Removes what sluice made and `wanted` does not name. To be called after the rules that needed it are gone. With
/// `pretend`, only tells. Throws KernelError after trying everything, twice.
KeptChanges remove_unwanted(const NamespaceState& wanted, bool pretend = false);

}  // namespace sluice::netfilter
