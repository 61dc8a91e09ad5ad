#include "rules/config.hpp"

#include <doctest/doctest.h>

#include <set>

#include "rules/option_reader.hpp"
#include "rules/options.hpp"
#include "tests/rules/samples.hpp"
#include "tests/rules/support.hpp"

using namespace sluice;
using test::config;
using test::lookups;
using test::raw;

namespace {

std::string first_error(const test::Options& options) {
  const Validation validation = validate(raw(options), lookups());
  return validation.problems.errors.empty() ? "none" : to_text(validation.problems.errors.front());
}

}  // namespace

TEST_CASE("flag beats annotation beats environment beats file beats preset beats default, for every kind of option") {
  struct Row {
    const char* option;
    const char* file;
    const char* environment;
    const char* annotation;
    const char* flag;
  };
  for (const Row& row : {Row{"proxy-port", "1", "2", "3", "4"}, Row{"exclude-inbound-ports", "1,11", "2", "3", "4"},
                         Row{"drop-invalid", "false", "true", "false", "true"}}) {
    CAPTURE(row.option);
    RawConfig said;
    said["preset"].push_back({"istio", {Source::flag, "--preset"}});
    const auto add = [&](Source source, const char* text) {
      said[row.option].push_back({text, {source, "somewhere"}});
    };
    const auto in_force = [&] { return effective_values(said, row.option).front().text; };
    add(Source::file, row.file);
    CHECK(in_force() == row.file);
    add(Source::environment, row.environment);
    CHECK(in_force() == row.environment);
    add(Source::annotation, row.annotation);
    CHECK(in_force() == row.annotation);
    add(Source::flag, row.flag);
    CHECK(in_force() == row.flag);
    REQUIRE(validate(said, lookups()).config);
  }
  CHECK(config({{"preset", "istio"}})->inbound_port == *Port::from(15006));
  CHECK(config({{"preset", "istio"}, {"inbound-port", "9"}})->inbound_port == *Port::from(9));
  CHECK(config({})->inbound_port == *Port::from(15001));
  CHECK(config({{"proxy-port", "7"}})->inbound_port == *Port::from(7));
}

TEST_CASE("settings begin as the defaults of the table") {
  const Settings begun;
  const Lookups names = lookups();
  std::set<std::string_view> read;
  for (const OptionSpec& option : options()) {
    // Nothing is the default of a list, but no text of a single value.
    if (option.fallback.empty() && option.arity != Arity::list) continue;
    Settings settings;
    Problems problems;
    const std::vector<RawValue> values = {{std::string(option.fallback), {Source::flag, "here"}}};
    OptionReader reader(option, values, names, problems);
    option.read(reader, settings);
    CAPTURE(option.name);
    CHECK(problems.errors.empty());
    CHECK(settings == begun);
    read.insert(option.name);
  }
  CHECK(read.size() > 40);
  CHECK(**validate({}, lookups()).config == begun);
}

TEST_CASE("every option has a value that is taken and one that is refused") {
  std::set<std::string_view> covered;
  for (const test::Sample& sample : test::samples) {
    const auto& [option, taken, refused] = sample;
    CAPTURE(sample.option);
    covered.insert(option);
    test::Options context;
    if (std::string(option).rfind("tproxy-", 0) == 0) context.push_back({"inbound-mode", "tproxy"});
    test::Options good = context;
    good.push_back({option, taken});
    CHECK(first_error(good) == "none");
    test::Options bad = context;
    bad.push_back({option, refused});
    const std::string error = first_error(bad);
    CHECK(error.find("--" + std::string(option)) == 0);
  }
  for (const OptionSpec& option : options()) {
    CAPTURE(option.name);
    CHECK(covered.count(option.name) == 1);
  }
}

TEST_CASE("what explain is asked about must be one connection") {
  CHECK(first_error({{"src", "::1"}, {"dst", "192.0.2.1:80"}}).find("different families") != std::string::npos);
  CHECK(first_error({{"direction", "inbound"}, {"uid", "7"}}).find("contradicts") != std::string::npos);
  const Question q = test::config({{"dst", "[fd00::1]:443"}, {"src", "fd00::2"}})->question;
  CHECK(q.destination == Endpoint{*parse_address("fd00::1"), Port::from(443)});
  CHECK(q.source == Endpoint{*parse_address("fd00::2"), std::nullopt});
  for (const char* wrong : {"", "443", "10.0.0.1:", "10.0.0.1:x", "[fd00::1", "[fd00::1]443", "fd00::1]:443", "-1"}) {
    CAPTURE(wrong);
    CHECK(first_error({{"dst", wrong}}) != "none");
  }
}

TEST_CASE("all mistakes are told at once, with value and what is allowed") {
  const Validation validation =
      validate(raw({{"proxy-port", "0"}, {"hairpin", "x"}, {"outbound-cidrs", "10.0.0.0/33,::/129"}}), lookups());
  CHECK_FALSE(validation.config);
  CHECK(validation.problems.errors.size() == 4);
  CHECK(first_error({{"proxy-port", "70000"}}) == "--proxy-port: \"70000\" is not a port; allowed: 1 to 65535");
}

TEST_CASE("contradictions are errors") {
  CHECK(first_error({{"tproxy-mark", "7"}}).find("--tproxy-mark") == 0);
  CHECK(first_error({{"other-family", "reject"}}).find("--other-family") == 0);
  CHECK(first_error({{"ip-family", "ipv4"}, {"other-family", "reject"}}) == "none");
  CHECK(first_error({{"dns", "all"}, {"dns-port", "15001"}}).find("--dns-port") == 0);
  CHECK(first_error({{"proxy-uid", ""}}).find("--proxy-uid") == 0);
  CHECK(first_error({{"proxy-uid", ""}, {"proxy-mark", "7"}}) == "none");
  CHECK(first_error({{"inbound-mode", "tproxy"}, {"forwarded", "capture"}}).find("--forwarded") == 0);
}

TEST_CASE("lists are merged whatever their order, and an interface under a listed prefix is dropped") {
  CHECK(config({{"exclude-outbound-cidrs", "10.0.0.0/9,10.128.0.0/9,10.1.0.0/16"}})->exclude_outbound_cidrs.v4.size() ==
        1);
  CHECK(config({{"exclude-interfaces", "eth0,eth*,lo,lo"}})->exclude_interfaces ==
        InterfaceSet{{"eth", true}, {"lo", false}});
  CHECK(config({{"outbound-cidrs", "*,127.0.0.1/32"}})->named_loopback.v4.size() == 1);
  CHECK(config({{"outbound-cidrs", "0.0.0.0/0"}})->named_loopback.empty());
}
