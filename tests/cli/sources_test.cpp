// Every option can be said by flag, by variable, in a file and, but for a few, in an annotation, to the same effect.
#include <doctest/doctest.h>

#include <functional>

#include "cli/annotations.hpp"
#include "cli/command_line.hpp"
#include "cli/config_file.hpp"
#include "rules/options.hpp"
#include "rules/text.hpp"
#include "tests/rules/samples.hpp"
#include "tests/rules/support.hpp"

using namespace sluice;
using namespace sluice::cli;

namespace {

using Way = std::function<Request(const OptionSpec&, const std::string&)>;

Request by_flag(const OptionSpec& option, const std::string& value) {
  const std::string command(option.command.empty() ? "plan" : option.command);
  return read_request({command, "--" + std::string(option.name) + "=" + value}, {});
}

Request by_variable(const OptionSpec& option, const std::string& value) {
  const std::string entry = environment_name(option) + "=" + value;
  const std::string command(option.command.empty() ? "plan" : option.command);
  return read_request({command}, {entry});
}

Request by_file(const OptionSpec& option, const std::string& value) {
  Request request;
  read_config_text(std::string(option.name) + " = \"" + value + "\"\n", "f", request.raw, request.problems);
  return request;
}

Request by_annotation(const OptionSpec& option, const std::string& value) {
  Request request;
  read_annotations_text("sluice.dev/" + std::string(option.name) + "=\"" + value + "\"", "f", request.raw,
                        request.problems);
  return request;
}

/// Everything that is wrong, without where it was said, or else the plan and the values it comes from.
std::string effect(const Request& request, const OptionSpec& option) {
  RawConfig raw = request.raw;
  // The file that sample names need not be there.
  Problems problems = option.name == "annotations" ? Problems{} : request.problems;
  if (option.name.substr(0, 7) == "tproxy-") raw["inbound-mode"].push_back({"tproxy", {Source::flag, "-"}});
  const Validation validation = validate(raw, test::lookups());
  std::string text;
  problems.errors.insert(problems.errors.end(), validation.problems.errors.begin(), validation.problems.errors.end());
  for (const Problem& problem : problems.errors) {
    text += "error: " + problem.message + "\n";
  }
  for (const RawValue& value : effective_values(raw, option.name)) text += value.text + ";";
  return validation.config ? text + to_nft(compile(*validation.config)) : text;
}

}  // namespace

TEST_CASE("flag, variable, file and annotation say the same, for every option") {
  for (const test::Sample& sample : test::samples) {
    const auto& [name, taken, refused] = sample;
    CAPTURE(sample.option);
    const OptionSpec& option = *find_option(name);
    std::vector<Way> ways = {by_flag, by_variable, by_file};
    if (settable_by_annotation(option)) ways.emplace_back(by_annotation);
    const std::string good = effect(by_flag(option, taken), option);
    const std::string bad = effect(by_flag(option, refused), option);
    CHECK(good.find("error") == std::string::npos);
    CHECK(bad.find("error") != std::string::npos);
    for (const Way& way : ways) {
      CHECK(effect(way(option, taken), option) == good);
      CHECK(effect(way(option, refused), option) == bad);
    }
  }
}

TEST_CASE("an annotations file that is named but not there is an error, whoever names it") {
  for (const Request& request :
       {read_request({"--annotations", "/no/such/file"}, {}), read_request({}, {"SLUICE_ANNOTATIONS=/no/such/file"})}) {
    REQUIRE(request.problems.errors.size() == 1);
    CHECK(
        to_text(request.problems.errors.front()).find("\"/no/such/file\" cannot be read (No such file or directory)") !=
        std::string::npos);
  }
}

TEST_CASE("what manifest writes down does not come from the environment around it") {
  const Request request = read_request({"manifest", "--proxy-port=1", "--annotations=/no/such/file"},
                                       {"SLUICE_PROXY_PORT=2", "SLUICE_DNS=all", "SLUICE_CONFIG=/no/such/file",
                                        "SLUICE_IMAGE=i", "SLUICE_LOG_LEVEL=error"});
  CHECK(request.problems.errors.empty());
  CHECK(request.problems.warnings.size() == 3);
  CHECK(effective_values(request.raw, "proxy-port").front().text == "1");
  CHECK(effective_values(request.raw, "dns").front().text == "off");
  CHECK(effective_values(request.raw, "image").front().text == "i");
  CHECK(effective_values(request.raw, "log-level").front().text == "error");
}
