#include <unistd.h>

#include <cstdio>
#include <system_error>

#include "cli/command_line.hpp"
#include "cli/commands.hpp"
#include "cli/failure.hpp"
#include "cli/heap.hpp"
#include "cli/output.hpp"
#include "netfilter/errors.hpp"
#include "netfilter/system_files.hpp"

namespace {

using namespace sluice::cli;

ExitCode run(Request&& request) {
  if (request.command == nullptr) {
    print(request.text);
    return ExitCode::done;
  }
  const sluice::LogFormat wished = log_format_asked_for(request.raw);
  sluice::Validation validation = validate(std::move(request.raw), sluice::netfilter::system_lookups());
  if (validation.config && request.problems.errors.empty())
    validation.problems.errors = misplaced(*request.command, *validation.config);
  const Log log(validation.config ? (*validation.config)->log_format : wished,
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
    return report_failure(error, log);
  }
}

}  // namespace

int main(int argc, char** argv) {
  keep_heap();
  try {
    std::vector<std::string_view> environment;
    for (char** entry = environ; *entry != nullptr; ++entry) environment.emplace_back(*entry);
    return static_cast<int>(run(read_request({argv + 1, argv + argc}, environment)));
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
