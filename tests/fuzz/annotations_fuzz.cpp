// The file of a pod's annotations with any content, up to the checked configuration.
#include "cli/annotations.hpp"
#include "rules/options.hpp"
#include "tests/fuzz/support.hpp"

using namespace sluice;
using sluice::fuzz::require;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  RawConfig raw;
  Problems problems;
  cli::read_annotations_text(std::string(fuzz::text_of(data, size)), "annotations", raw, problems);
  for (const auto& [name, values] : raw) {
    const OptionSpec* option = find_option(name);
    require(option != nullptr && settable_by_annotation(*option), "a pod sets only what it may", name);
    for (const RawValue& value : values) {
      require(value.origin.source == Source::annotation, "an annotation's value says so", name);
    }
  }
  fuzz::check(validate(raw, fuzz::lookups()));
  return 0;
}
