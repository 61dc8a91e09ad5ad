#include "cli/command_line.hpp"

#include <doctest/doctest.h>

#include "cli/config_file.hpp"
#include "rules/options.hpp"

using namespace sluice;
using namespace sluice::cli;

namespace {

std::string text_of(const Request& request, const std::string& option) {
  std::string text;
  if (const auto said = request.raw.find(option); said != request.raw.end()) {
    for (const RawValue& value : said->second) text += value.origin.where + "=" + value.text + ";";
  }
  return text;
}

}  // namespace

TEST_CASE("options are taken from flags and variables, with where each was said") {
  const Request request = read_request({"plan", "--proxy-port", "1", "--exclude-uids=2", "--exclude-uids", "3"},
                                       {"SLUICE_PROXY_PORT=4", "PATH=/bin", "SLUICE_HAIRPIN="});
  CHECK(request.command->name == "plan");
  CHECK(text_of(request, "proxy-port") == "--proxy-port=1;SLUICE_PROXY_PORT=4;");
  CHECK(text_of(request, "exclude-uids") == "--exclude-uids=2;--exclude-uids=3;");
  CHECK(text_of(request, "hairpin") == "SLUICE_HAIRPIN=;");
  CHECK(request.problems.errors.empty());
}

TEST_CASE("an empty value is an empty list, not a missing one") {
  CHECK(text_of(read_request({"--inbound-ports="}, {}), "inbound-ports") == "--inbound-ports=;");
  CHECK(text_of(read_request({"--inbound-ports", ""}, {}), "inbound-ports") == "--inbound-ports=;");
  CHECK(read_request({"--inbound-ports"}, {}).problems.errors.size() == 1);
}

TEST_CASE("a flag without a value does not swallow the command after it") {
  const Request request = read_request({"--drop-invalid", "plan", "--dry-run=false"}, {});
  CHECK(request.command->name == "plan");
  CHECK(text_of(request, "drop-invalid") == "--drop-invalid=true;");
  CHECK(text_of(request, "dry-run") == "--dry-run=false;");
}

TEST_CASE("one option's name may begin another's") {
  const Request request =
      read_request({"--proxy-port-access", "capture", "--exclude-outbound-ports-for-uids", "1:2"}, {});
  CHECK(text_of(request, "proxy-port-access") == "--proxy-port-access=capture;");
  CHECK(text_of(request, "proxy-port").empty());
  CHECK(request.problems.errors.empty());
}

TEST_CASE("the help text names every option and every command") {
  const std::string help = help_text();
  for (const OptionSpec& option : options()) CHECK(help.find("  --" + std::string(option.name)) != std::string::npos);
  for (const Command& command : commands()) CHECK(help.find("  " + std::string(command.name)) != std::string::npos);
}

TEST_CASE("a file gives the same values as flags, with its line") {
  RawConfig raw;
  Problems problems;
  read_config_text(
      "# pod\nproxy-port = 15001\nexclude-uids = [1, 2]\ninbound-ports = \"\"\nexclude-inbound-ports = \"80,81\"\n",
      "pod.toml", raw, problems);
  CHECK(problems.errors.empty());
  CHECK(raw["proxy-port"].at(0).origin.where == "pod.toml:2: proxy-port");
  CHECK(raw["exclude-uids"].size() == 2);
  CHECK(raw["inbound-ports"].at(0).text.empty());
  CHECK(raw["exclude-inbound-ports"].at(0).text == "80,81");
}

TEST_CASE("a long list is read element by element, however it is laid out") {
  struct Layout {
    const char* before;
    const char* between;
    const char* after;
  };
  for (const Layout& layout : {Layout{"[\"", "\", \"", "\"]"}, Layout{"[", ",", "]"}, Layout{"[ '", "',\n  '", "'\n]"},
                               Layout{"[\n", ",\n", "]"}}) {
    constexpr unsigned count = 2005;
    std::string list = layout.before;
    std::string expected;
    for (unsigned number = 1; number <= count; ++number) {
      list += (number > 1 ? layout.between : "") + std::to_string(number);
      expected += "f:2: exclude-uids=" + std::to_string(number) + ";";
    }
    Request request;
    read_config_text("proxy-port = 1\nexclude-uids = " + list + layout.after + "\nhairpin = \"direct\"\n", "f",
                     request.raw, request.problems);
    const bool same = text_of(request, "exclude-uids") == expected;  // long: not to be printed
    CHECK(same);
    CHECK(text_of(request, "proxy-port") == "f:1: proxy-port=1;");
    CHECK(request.raw.count("hairpin") == 1);
    CHECK(request.problems.errors.empty());
  }
}

TEST_CASE("a comma in quotes does not end an element of a long list") {
  std::string list = "\"1,2\"";
  for (int number = 0; number < 500; ++number) list += ", \"3,4\"";
  Request request;
  read_config_text("exclude-uids = [" + list + "]\n", "f", request.raw, request.problems);
  CHECK(request.raw["exclude-uids"].size() == 501);
  CHECK(request.raw["exclude-uids"][499].text == "3,4");
}

TEST_CASE("a list may stand on several lines, with comments") {
  Request request;
  read_config_text(
      "# what isn't in the mesh\nexclude-uids = [\n  1, # one ] [\n\n  \"2\", 3,\n  4 # the last\n]\nproxy-port = 5\n",
      "f", request.raw, request.problems);
  CHECK(text_of(request, "exclude-uids") ==
        "f:2: exclude-uids=1;f:2: exclude-uids=2;f:2: exclude-uids=3;f:2: exclude-uids=4;");
  CHECK(text_of(request, "proxy-port") == "f:8: proxy-port=5;");
  CHECK(request.problems.errors.empty());
}
