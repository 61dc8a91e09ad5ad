// From what `explain` is asked to a whole connection: what was not said is assumed, and told.
#pragma once

#include <string>
#include <vector>

#include "rules/config.hpp"
#include "rules/evaluate.hpp"

namespace sluice {

struct AssumedConnection {
  Connection connection;
  std::vector<std::string> assumed;  ///< fields that were not said, by their names in JSON
};

/// An ordinary application (user 1000) that leaves by eth0, or by lo for a loopback destination, to an address outside;
/// or somebody outside who arrives on eth0.
AssumedConnection connection_of(const Question& question);

}  // namespace sluice
