#include <unistd.h>

#include <cstdio>
#include <new>
#include <stdexcept>

#include "cli/command_line.hpp"
#include "cli/commands.hpp"
#include "cli/failure.hpp"
#include "cli/output.hpp"
#include "netfilter/errors.hpp"
#include "netfilter/system_files.hpp"

namespace {

using sluice::cli::ExitCode;

ExitCode run(const sluice::cli::Request& request) {
  if (request.command == nullptr) {
    sluice::cli::print(request.text);
    return ExitCode::done;
  }
  sluice::Validation validation = validate(request.raw, sluice::netfilter::system_lookups());
  if (validation.config && request.problems.errors.empty()) {
    validation.problems.errors = misplaced(*request.command, **validation.config, request.raw);
  }
  const sluice::cli::Log log(
      validation.config ? (*validation.config)->log_format : sluice::cli::log_format_asked_for(request.raw),
      validation.config ? (*validation.config)->log_level : sluice::LogLevel::info);
  log.problems(request.problems);
  log.problems(validation.problems);
  if (!validation.config || !request.problems.errors.empty() || !validation.problems.errors.empty()) {
    log.hint("nothing was touched; sluice --help lists the options");
    return ExitCode::bad_input;
  }
  try {
    return effective(*request.command, **validation.config).run(*validation.config, log);
  } catch (const sluice::netfilter::KernelError& error) {
    return sluice::cli::report_failure(error, log);
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    std::vector<std::string_view> environment;
    for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
    return static_cast<int>(run(sluice::cli::read_request({argv + 1, argv + argc}, environment)));
  } catch (const std::system_error& error) {
    std::fprintf(stderr, "sluice: error: %s\n", error.what());
    return static_cast<int>(ExitCode::refused);
  } catch (const std::bad_alloc&) {
    std::fputs("sluice: error: memory ran out; sluice status tells what is programmed\n", stderr);
    return static_cast<int>(ExitCode::refused);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sluice: error: this is a bug in sluice, please report it: %s\n", error.what());
    return static_cast<int>(ExitCode::our_bug);
  }
}
