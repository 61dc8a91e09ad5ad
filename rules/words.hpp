// Rules in plain words, for people who do not read nft.
#pragma once

#include <string>

#include "rules/ruleset.hpp"

namespace sluice {

/// `to port 22, 80-90`; of a long list the beginning and how many follow. `sets` has the sets that matches refer to.
std::string in_words(const Match& match, const Ruleset& sets);

/// `TCP of user 1337: left alone`
std::string in_words(const Rule& rule, const Ruleset& sets);

}  // namespace sluice
