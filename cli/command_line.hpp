// What the user asked for: which command, and every option that was given, by flag, variable or file, with its origin.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "cli/commands.hpp"
#include "rules/config.hpp"

namespace sluice::cli {

struct Request {
  const Command* command = nullptr;  ///< null where only text is wanted
  std::string text;                  ///< for --help and --version
  RawConfig raw;
  Problems problems;  ///< of the command line, the environment and the file themselves
};

/// `environment` is a list of `NAME=value`. Reads the configuration file if one is named. Never throws for bad input.
Request read_request(const std::vector<std::string>& arguments, const std::vector<std::string_view>& environment);

std::string help_text();
std::string version_text();

/// What --log-format asks for, whatever is wrong with the rest.
LogFormat log_format_asked_for(const RawConfig& raw);

}  // namespace sluice::cli
