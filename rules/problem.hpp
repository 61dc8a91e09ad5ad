// What can be wrong with the user's input. Problems are values: validation collects all of them.
#pragma once

#include <string>
#include <vector>

namespace sluice {

/// Where a setting came from; a later enumerator gives way to an earlier one.
enum class Source { flag, annotation, environment, file, preset, fallback };

struct Origin {
  Source source = Source::fallback;
  /// As the user would look for it: `--proxy-port`, `annotation sluice.dev/proxy-port`, `SLUICE_PROXY_PORT`,
  /// `pod.toml:3: proxy-port`.
  std::string where;
  bool operator==(const Origin&) const = default;
};

struct Problem {
  std::string where;    ///< the flag, variable or file line
  std::string message;  ///< what is wrong with which value, and what is allowed
  bool operator==(const Problem&) const = default;
};

/// One line: `--proxy-port: "70000" is not a port; allowed: 1 to 65535`.
inline std::string to_text(const Problem& problem) { return problem.where + ": " + problem.message; }

struct Problems {
  std::vector<Problem> errors;
  std::vector<Problem> warnings;
};

}  // namespace sluice
