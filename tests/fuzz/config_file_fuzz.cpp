// A configuration file of any content, up to the checked configuration.
#include "cli/config_file.hpp"
#include "rules/options.hpp"
#include "tests/fuzz/support.hpp"

using namespace sluice;
using sluice::fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  RawConfig raw;
  Problems problems;
  cli::read_config_text(std::string(fuzz::text_of(data, size)), "pod.toml", raw, problems);
  for (const auto& [name, values] : raw) {
    require(find_option(name) != nullptr, "only options are set", name);
    for (const RawValue& value : values) require(value.origin.source == Source::file, "a file's value says so", name);
  }
  fuzz::check(validate(raw, fuzz::lookups()));
  return 0;
}
