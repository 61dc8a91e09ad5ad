// Whole plans, as text, of configurations that between them have every rule there is: tests/rules/plans/*.nft. A plan
// that is meant to change is written anew with `sluice plan`, from the flags at its top; what changed is then in the
// diff that is reviewed.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/rules/support.hpp"

using namespace sluice;

namespace {

std::vector<std::filesystem::path> plans() {
  std::vector<std::filesystem::path> found;
  for (const auto& file : std::filesystem::directory_iterator("tests/rules/plans")) found.push_back(file.path());
  std::sort(found.begin(), found.end());
  return found;
}

/// The lines `# --name=value` at the top.
test::Options options_in(std::string_view text) {
  constexpr std::string_view mark = "# --";
  test::Options options;
  while (text.starts_with(mark)) {
    const std::string_view line = text.substr(mark.size(), text.find('\n') - mark.size());
    const std::size_t equals = line.find('=');
    options.emplace_back(line.substr(0, equals), line.substr(equals + 1));
    text.remove_prefix(mark.size() + line.size() + 1);
  }
  return options;
}

}  // namespace

TEST_CASE("whole plans are as they were written down") {
  REQUIRE(plans().size() > 10);
  for (const auto& file : plans()) {
    CAPTURE(file.string());
    std::ifstream stream(file);
    const std::string text{std::istreambuf_iterator<char>(stream), {}};
    CHECK(to_nft(compile(test::config(options_in(text)))) == text.substr(text.find("table inet sluice {")));
  }
}
