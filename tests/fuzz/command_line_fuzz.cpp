// Command line and environment: lines of the input are arguments up to an empty line, then variables. Files are not
// read, so that an input cannot name one.
#include "cli/command_line.hpp"
#include "rules/options.hpp"
#include "rules/text.hpp"
#include "tests/fuzz/support.hpp"

using namespace sluice;
using sluice::fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::vector<std::string> arguments;
  std::vector<std::string_view> environment;
  bool variables = false;
  for (const std::string_view line : split(fuzz::text_of(data, size), '\n')) {
    if (line.find("onfig") != std::string_view::npos || line.find("CONFIG") != std::string_view::npos) return 0;
    if (line.empty() && !variables) {
      variables = true;
    } else if (variables) {
      environment.push_back(line);
    } else {
      arguments.emplace_back(line.substr(0, line.find('\0')));
    }
  }
  const cli::Request request = cli::read_request(arguments, environment);
  require(request.command != nullptr || !request.text.empty(), "there is a command or a text");
  for (const auto& [name, values] : request.raw) require(find_option(name) != nullptr, "only options are set", name);
  const Validation validation = validate(request.raw, fuzz::lookups());
  fuzz::check(validation);
  if (request.command != nullptr && validation.config) cli::effective(*request.command, **validation.config);
  return 0;
}
