// A configuration as a user would write it, for tests.
#pragma once

#include <stdexcept>

#include "rules/compile.hpp"
#include "rules/config.hpp"
#include "rules/nft_text.hpp"

namespace sluice::test {

inline Lookups lookups() {
  return {[](std::string_view name) { return name == "envoy" ? std::optional<std::uint32_t>(101) : std::nullopt; },
          [](std::string_view name) { return name == "mesh" ? std::optional<std::uint32_t>(202) : std::nullopt; },
          [] {
            return std::vector<IpAddress>{*parse_address("10.96.0.10"), *parse_address("fd00::a")};
          }};
}

using Options = std::vector<std::pair<std::string, std::string>>;

inline RawConfig raw(const Options& options, Source source = Source::flag) {
  RawConfig raw;
  for (const auto& [name, text] : options) raw[name].push_back({text, {source, "--" + name}});
  return raw;
}

inline Config config(const Options& options) {
  const Validation validation = validate(raw(options), lookups());
  if (!validation.config) throw std::invalid_argument(to_text(validation.problems.errors.at(0)));
  return *validation.config;
}

/// The rules of one chain, one per line, as `[name] text`.
inline std::string chain_text(const Ruleset& ruleset, std::string_view name) {
  const Chain* chain = ruleset.find_chain(name);
  if (chain == nullptr) return "no such chain";
  std::string text;
  for (const Rule& rule : chain->rules) text += "[" + rule.name + "] " + to_nft(rule) + "\n";
  return text;
}

}  // namespace sluice::test
