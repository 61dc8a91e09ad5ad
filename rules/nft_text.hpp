// The ruleset in nft's own language: what `plan` prints and `nft -f` loads. Written the way `nft list` prints it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "rules/ruleset.hpp"

namespace sluice {

/// The whole `table inet sluice { ... }`, ending in a newline.
std::string to_nft(const Ruleset& ruleset);

/// One rule without its counter and comment: `tcp dport 15001 accept`.
std::string to_nft(const Rule& rule);
std::string to_nft(const Match& match);
std::string to_nft(const SetElements& elements);
std::vector<std::string> element_texts(const SetElements& elements);
/// nft's name of the elements' type: `inet_service`.
std::string_view set_type(const SetElements& elements);

/// Whether a set of these is an interval set (NFT_SET_INTERVAL): it holds a range, a network or a name prefix, or so
/// many ports that the kernel's other kind would take long to fill.
bool needs_intervals(const SetElements& elements);

/// Whether nft reads this as the name of a set or chain. The kernel takes any text.
bool is_nft_name(std::string_view name);

/// `type nat hook output priority -105; policy accept;`
std::string to_nft_hook(const Chain& chain);

}  // namespace sluice
