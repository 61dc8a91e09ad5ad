// From rules back to the options that make them: what `status` says of a configuration that nobody wrote down.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "rules/config.hpp"
#include "rules/ruleset.hpp"

namespace sluice {

struct Recovered {
  /// As a user would write them, a line for each time an option is given; those at their defaults are left out.
  std::map<std::string, std::string> options;
  std::vector<IpAddress> name_servers;  ///< with --dns resolv-conf: those that the rules name
};

/// Options whose rules are these, as far as the rules tell. Whether they tell all of it shows the compiler: the options
/// compiled again are these rules exactly where somebody did not change them by hand.
Recovered recover(const Ruleset& ruleset);

/// The same rules as iptables' tables hold them, put together again: iptables knows no sets and says everything once a
/// family, so that a list is several rules one after the other, each for IPv4 and for IPv6.
Ruleset without_iptables_repetitions(Ruleset ruleset);

/// The configuration of the recovered options; nothing where they contradict each other.
std::optional<Config> config_of(const Recovered& recovered);

}  // namespace sluice
