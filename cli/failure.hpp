// How a refusal by the system is told.
#pragma once

#include <functional>
#include <string>

#include "cli/exit_code.hpp"
#include "cli/log.hpp"
#include "netfilter/errors.hpp"

namespace sluice::cli {

/// Says what failed and what to do; returns the exit status.
ExitCode report_failure(const netfilter::KernelError& error, const Log& log);

/// Runs what changes the namespace. Where that fails, also says what was left behind; `done` is the case that only
/// something after the change failed.
ExitCode changing(const Log& log, const std::string& done, const std::function<ExitCode()>& change);

}  // namespace sluice::cli
