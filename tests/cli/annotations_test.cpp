#include "cli/annotations.hpp"

#include <doctest/doctest.h>

#include "rules/options.hpp"
#include "rules/text.hpp"

using namespace sluice;
using namespace sluice::cli;

namespace {

struct Read {
  RawConfig raw;
  Problems problems;
};

Read read(const std::string& text) {
  Read result;
  read_annotations_text(text, "annotations", result.raw, result.problems);
  return result;
}

/// `option=text;` for each value that was said, or the first error.
std::string said(const std::string& text) {
  const Read result = read(text);
  if (!result.problems.errors.empty()) return to_text(result.problems.errors.front());
  std::string said;
  for (const auto& [name, values] : result.raw) {
    for (const RawValue& value : values) said += name + "=" + value.text + ";";
  }
  return said;
}

std::string first_warning(const std::string& text) {
  const Problems problems = read(text).problems;
  return problems.warnings.empty() ? "none" : to_text(problems.warnings.front());
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// What the value of an annotation is understood as.
std::string value_of(const std::string& literal) {
  const Read result = read("sluice.dev/exclude-interfaces=" + literal);
  if (!result.problems.errors.empty()) return "refused";
  return result.raw.at("exclude-interfaces").front().text;
}

}  // namespace

TEST_CASE("annotations of sluice are its options, and those of others mean nothing") {
  CHECK(said("") == "");
  CHECK(said("app=\"x\"\nkubernetes.io/config.seen=\"2026-11-24T08:00:00Z\"\nsluice.dev/proxy-port=\"15009\"\n"
             "sluice.devil/proxy-port=\"1\"\nx.sluice.dev/proxy-port=\"1\"") == "proxy-port=15009;");
  CHECK(read("sluice.dev/dns=\"all\"").raw.at("dns").front().origin ==
        Origin{Source::annotation, "annotation sluice.dev/dns"});
}

TEST_CASE("what no option is called is told with the nearest name; what is not for a pod to say is refused") {
  CHECK(said("sluice.dev/proxy-prot=\"1\"") ==
        "annotation \"sluice.dev/proxy-prot\": names no option; did you mean sluice.dev/proxy-port?");
  CHECK(contains(said("sluice.dev/=\"1\""), "names no option"));
  for (const OptionSpec& option : options()) {
    CAPTURE(option.name);
    const std::string answer = said("sluice.dev/" + std::string(option.name) + "=\"1\"");
    if (settable_by_annotation(option)) {
      CHECK(answer == std::string(option.name) + "=1;");
    } else {
      CHECK(contains(answer, "is not for a pod to say; allowed: --" + std::string(option.name)));
    }
  }
  for (const char* here : {"dry-run", "cleanup", "netns", "allow-host-network", "annotations", "image", "uid"}) {
    CAPTURE(here);
    CHECK_FALSE(settable_by_annotation(*find_option(here)));
  }
  CHECK(settable_by_annotation(*find_option("log-level")));
}

TEST_CASE("Istio's annotations mean what they mean there") {
  constexpr char prefix[] = "traffic.sidecar.istio.io/";
  struct Row {
    const char* line;
    const char* means;
  };
  for (const Row& row : {
           Row{"includeInboundPorts=\"*\"", "inbound-ports=*;"},
           Row{"includeInboundPorts=\"\"", "inbound-ports=;"},
           Row{"includeInboundPorts=\"80,8080\"", "inbound-ports=80,8080;"},
           // The proxy's own ports stay excluded there whatever a pod adds.
           Row{"excludeInboundPorts=\"9000\"", "exclude-inbound-ports=9000;exclude-inbound-ports=15090,15021,15020;"},
           Row{"excludeInboundPorts=\"\"", "exclude-inbound-ports=;exclude-inbound-ports=15090,15021,15020;"},
           Row{"includeOutboundIPRanges=\"*\"", "outbound-cidrs=*;"},
           Row{"includeOutboundIPRanges=\"\"", "outbound-cidrs=;"},
           Row{"includeOutboundIPRanges=\"10.0.0.0/8,fd00::/8\"", "outbound-cidrs=10.0.0.0/8,fd00::/8;"},
           Row{"excludeOutboundIPRanges=\"169.254.169.254/32\"", "exclude-outbound-cidrs=169.254.169.254/32;"},
           Row{"includeOutboundPorts=\"443\"", "outbound-ports=443;"},
           Row{"excludeOutboundPorts=\"3306,5432\"", "exclude-outbound-ports=3306,5432;"},
           Row{"excludeInterfaces=\"net1,net2\"", "exclude-interfaces=net1,net2;"},
           Row{"kubevirtInterfaces=\"tap0\"", "virtual-interfaces=tap0;"},
       }) {
    CAPTURE(row.line);
    CHECK(said(prefix + std::string(row.line)) == row.means);
    CHECK(first_warning(prefix + std::string(row.line)) == "none");
  }
  CHECK(said("istio.io/reroute-virtual-interfaces=\"tap1\"") == "virtual-interfaces=tap1;");
}

TEST_CASE("what Istio ignores is left out with a warning") {
  const std::string listed =
      "traffic.sidecar.istio.io/includeInboundPorts=\"80,443\"\ntraffic.sidecar.istio.io/excludeInboundPorts=\"443\"";
  CHECK(said(listed) == "inbound-ports=80,443;");
  CHECK(contains(first_warning(listed), "excludeInboundPorts: is ignored, as Istio ignores it"));
  CHECK(
      said(
          "traffic.sidecar.istio.io/includeInboundPorts=\"*\"\ntraffic.sidecar.istio.io/excludeInboundPorts=\"443\"") ==
      "exclude-inbound-ports=443;exclude-inbound-ports=15090,15021,15020;inbound-ports=*;");
  const std::string both =
      "istio.io/reroute-virtual-interfaces=\"tap1\"\ntraffic.sidecar.istio.io/kubevirtInterfaces=\"tap0\"";
  CHECK(said(both) == "virtual-interfaces=tap1;");
  CHECK(contains(first_warning(both), "kubevirtInterfaces: is ignored, because istio.io/reroute-virtual-interfaces"));
  CHECK(said("traffic.sidecar.istio.io/includeInboundPort=\"80\"") == "");
  CHECK(contains(first_warning("traffic.sidecar.istio.io/includeInboundPort=\"80\""),
                 "did you mean traffic.sidecar.istio.io/includeInboundPorts?"));
}

TEST_CASE("sluice's own annotation goes before Istio's, wherever each stands") {
  const std::string own = "sluice.dev/exclude-inbound-ports=\"1\"\n";
  const std::string theirs = "traffic.sidecar.istio.io/excludeInboundPorts=\"2\"\n";
  for (const std::string& text : {own + theirs, theirs + own}) {
    CHECK(said(text) == "exclude-inbound-ports=1;");
    CHECK(contains(first_warning(text), "because sluice.dev/exclude-inbound-ports says the same and goes first"));
  }
  // An Istio annotation that is not in force decides nothing about another.
  CHECK(said("sluice.dev/inbound-ports=\"*\"\ntraffic.sidecar.istio.io/includeInboundPorts=\"80\"\n" + theirs) ==
        "exclude-inbound-ports=2;exclude-inbound-ports=15090,15021,15020;inbound-ports=*;");
}

TEST_CASE("a preset's ports that an annotation keeps are not told as replaced") {
  Read istio = read("traffic.sidecar.istio.io/excludeInboundPorts=\"9000\"");
  istio.raw["preset"].push_back({"istio", {Source::flag, "--preset"}});
  const Validation validation = validate(istio.raw, {});
  CHECK(validation.problems.warnings.empty());
  CHECK((*validation.config)->exclude_inbound_ports.size() == 3);
}

TEST_CASE("values are unquoted as Go quotes them") {
  CHECK(value_of(R"("")") == "");
  CHECK(value_of(R"("a\"b\\c")") == "a\"b\\c");
  CHECK(value_of(R"("\a\b\f\n\r\t\v")") == "\a\b\f\n\r\t\v");
  CHECK(value_of(R"("\x00\x7f\xfF")") == std::string("\0\x7f\xff", 3));
  CHECK(value_of(R"("\u00e9\u2028\U0001F600")") == "\xc3\xa9\xe2\x80\xa8\xf0\x9f\x98\x80");
  CHECK(value_of("\"\xc3\xa9=#,\"") == "\xc3\xa9=#,");
  for (const char* wrong : {"",
                            "\"",
                            "x",
                            "\"a",
                            "a\"",
                            "'a'",
                            "`a`",
                            R"("a"b")",
                            R"("a\")",
                            R"("\")",
                            R"("\q")",
                            R"("\'")",
                            R"("\101")",
                            R"("\x1")",
                            R"("\x+1")",
                            R"("\xg1")",
                            R"("\u12")",
                            R"("\ud800")",
                            R"("\udfff")",
                            R"("\U00110000")",
                            R"("\U0001F60")",
                            "\"a\" ",
                            " \"a\"",
                            "\"a\"\r"}) {
    CAPTURE(wrong);
    CHECK(value_of(wrong) == "refused");
  }
}

TEST_CASE("a file that is none of the kubelet's says so once, with its line, and nothing of it is taken") {
  const Read yaml = read("sluice.dev/proxy-port=\"1\"\nmetadata:\n  annotations:\n");
  REQUIRE(yaml.problems.errors.size() == 1);
  CHECK(contains(to_text(yaml.problems.errors.front()), "annotations:2: \"metadata:\" is not an annotation"));
  CHECK(yaml.raw.empty());
  CHECK(contains(said("=\"1\""), "annotations:1: \"=\\\"1\\\"\" is not an annotation"));
  CHECK(contains(said("sluice.dev/dns=\"all\"\nsluice.dev/dns=\"off\""),
                 "annotations:2: \"sluice.dev/dns\" is given more"));
  CHECK(to_text(read(std::string(1 << 20, 'x')).problems.errors.at(0)).size() < 400);
}

TEST_CASE("what an annotation says wrongly is told by its name") {
  const Read wrong =
      read("traffic.sidecar.istio.io/excludeOutboundPorts=\"80 -j ACCEPT\"\nsluice.dev/proxy-port=\"\\x00\"");
  const Problems problems = validate(wrong.raw, {}).problems;
  REQUIRE(problems.errors.size() == 2);
  CHECK(to_text(problems.errors[0]) ==
        "annotation sluice.dev/proxy-port: \"\\x00\" is not a port; allowed: 1 to 65535");
  CHECK(contains(to_text(problems.errors[1]),
                 "annotation traffic.sidecar.istio.io/excludeOutboundPorts: \"80 -j ACCEPT\" is not a range of ports"));
}
