// One function per command, and the table that names them.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "cli/exit_code.hpp"
#include "cli/log.hpp"
#include "rules/config.hpp"

namespace sluice::cli {

ExitCode apply(const Config& config, const Log& log);
ExitCode plan(const Config& config, const Log& log);
ExitCode cleanup(const Config& config, const Log& log);
ExitCode verify(const Config& config, const Log& log);
ExitCode status(const Config& config, const Log& log);
ExitCode explain(const Config& config, const Log& log);
ExitCode doctor(const Config& config, const Log& log);
ExitCode manifest(const Config& config, const Log& log);

struct Command {
  std::string_view name;
  std::string_view help;     ///< one sentence
  std::string_view formats;  ///< what --format may say, separated by ", "
  ExitCode (*run)(const Config&, const Log&);
};

/// The first is what `sluice` alone does.
std::span<const Command> commands();

/// The command that is meant: `apply --dry-run` is plan, `apply --cleanup` is cleanup.
const Command& effective(const Command& asked, const Settings& settings);

/// Options that the command cannot follow, although their values are sound: a format that it does not print, --diff
/// where something would be changed, --cleanup with a command that removes nothing, a --netns to enter that is no
/// network namespace.
std::vector<Problem> misplaced(const Command& asked, const Config& config);

}  // namespace sluice::cli
