#include "rules/config.hpp"

#include <algorithm>

#include "rules/lint.hpp"
#include "rules/option_reader.hpp"
#include "rules/options.hpp"
#include "rules/said.hpp"
#include "rules/text.hpp"

namespace sluice {
namespace {

/// Values of the highest source that says anything about the option, which is put first for that.
std::span<const RawValue> in_force(std::vector<RawValue>& said) {
  const auto before = [](const RawValue& a, const RawValue& b) { return a.origin.source < b.origin.source; };
  if (!std::is_sorted(said.begin(), said.end(), before)) std::stable_sort(said.begin(), said.end(), before);
  const auto end =
      std::find_if(said.begin(), said.end(), [&](const RawValue& one) { return before(said.front(), one); });
  return {said.begin(), end};
}

std::string preset_name(Preset preset) {
  switch (preset) {
    case Preset::none:
      return "none";
    case Preset::istio:
      return "istio";
    case Preset::linkerd:
      return "linkerd";
    case Preset::kuma:
      return "kuma";
    case Preset::consul:
      return "consul";
  }
  return "";
}

RawConfig with_preset(RawConfig raw, Preset preset, Problems& problems) {
  for (const PresetValue& value : preset_values(preset)) {
    auto& said = raw[std::string(value.option)];
    const auto* option = find_option(value.option);
    const bool kept =
        std::any_of(said.begin(), said.end(), [&](const RawValue& other) { return other.text == value.text; });
    if (!said.empty() && !kept && option->arity == Arity::list) {
      problems.warnings.push_back({said.front().origin.where, "replaces what preset " + preset_name(preset) +
                                                                  " sets for it (" + std::string(value.text) +
                                                                  "); it does not add to it"});
    }
    said.push_back({std::string(value.text),
                    {Source::preset, "preset " + preset_name(preset) + ": " + std::string(value.option)}});
  }
  return raw;
}

void check_identity(const Settings& s, const Said& said, Problems& problems) {
  if (s.proxy_uids.empty() && s.proxy_gids.empty() && !s.proxy_mark) {
    problems.errors.push_back(
        {said.where("proxy-uid"),
         "nothing tells the proxy's own traffic apart, so it would loop; allowed: at least one of "
         "--proxy-uid, --proxy-gid and --proxy-mark"});
  }
  if (s.proxy_uids.contains(Uid{0})) {
    problems.warnings.push_back({said.where("proxy-uid"), "UID 0 is the proxy's: no process of root is captured"});
  }
  if (s.proxy_gids.contains(Gid{0})) {
    problems.warnings.push_back(
        {said.where("proxy-gid"), "GID 0 is the proxy's: no process of group root is captured"});
  }
}

void check_contradictions(const Settings& s, const Said& said, Problems& problems) {
  const auto contradiction = [&](std::string_view option, const std::string& why) {
    problems.errors.push_back({said.where(option), why});
  };
  for (const std::string_view option : {"tproxy-mark", "tproxy-table"}) {
    if (s.inbound_mode != InboundMode::tproxy && said.explicitly(option)) {
      contradiction(option, "has a meaning only with --inbound-mode tproxy; allowed: leave it out, or set that mode");
    }
  }
  if (s.other_family == OtherFamily::reject && s.ip_family == FamilyMode::dual) {
    contradiction("other-family",
                  "\"reject\" contradicts --ip-family dual, which leaves no other family; allowed: pass, "
                  "or --ip-family ipv4 or ipv6");
  }
  if (s.iptables_variant != IptablesVariant::automatic && s.backend == BackendChoice::nftables) {
    contradiction("iptables-variant", "contradicts --backend nftables; allowed: --backend iptables or auto");
  }
  if (s.dns != DnsMode::off && (s.dns_port == s.proxy_port || s.dns_port == s.inbound_port)) {
    contradiction("dns-port", "is also " + std::string(s.dns_port == s.proxy_port ? "--proxy-port" : "--inbound-port") +
                                  " (" + std::to_string(s.dns_port.number()) +
                                  "); two listeners cannot share a port; allowed: another port");
  }
  if (s.inbound_mode == InboundMode::tproxy && s.proxy_mark && s.proxy_mark->mask == 0xffffffffU &&
      s.proxy_mark->value == s.tproxy_mark) {
    contradiction("proxy-mark",
                  "is also --tproxy-mark; packets from clients carry that mark, so it cannot name the "
                  "proxy; allowed: another mark");
  }
  if (s.inbound_mode == InboundMode::tproxy && s.forwarded == Forwarded::capture) {
    contradiction("forwarded",
                  "\"capture\" contradicts --inbound-mode tproxy: a transparent proxy gets only packets that are "
                  "addressed to this namespace; allowed: pass, or --inbound-mode redirect");
  }
  if (s.inbound_mode == InboundMode::tproxy && s.tproxy_table >= 253 && s.tproxy_table <= 255) {
    contradiction("tproxy-table",
                  "\"" + std::to_string(s.tproxy_table) +
                      "\" is one of the kernel's own tables (default, main, local); allowed: any other");
  }
}

void check_question(const Question& question, const Said& said, Problems& problems) {
  const auto& from = question.source;
  const auto& to = question.destination;
  if (from && to && family_of(from->address) != family_of(to->address)) {
    problems.errors.push_back({said.where("src"), "\"" + to_text(from->address) + "\" and --dst " +
                                                      to_text(to->address) +
                                                      " are of different families; allowed: both IPv4 or both IPv6"});
  }
  if (question.direction != Direction::in) return;
  for (const std::string_view option : {"uid", "gid"}) {
    if (!said.explicitly(option)) continue;
    problems.errors.push_back({said.where(option),
                               "contradicts --direction inbound: what arrives was made by no process of this "
                               "namespace; allowed: leave it out"});
  }
}

void check_without_effect(const Settings& s, const Said& said, Problems& problems) {
  const auto idle = [&](std::string_view option, const std::string& why) {
    if (said.explicitly(option)) problems.warnings.push_back({said.where(option), why});
  };
  if (s.dns == DnsMode::off) idle("dns-port", "has no effect without --dns");
  if (s.inbound_mode == InboundMode::off) {
    if (s.hairpin == Hairpin::direct) idle("inbound-port", "has no effect with --inbound-mode off");
    for (const std::string_view option :
         {"inbound-ports", "exclude-inbound-ports", "exclude-inbound-cidrs", "forwarded"}) {
      idle(option, "has no effect with --inbound-mode off");
    }
    if (s.hairpin == Hairpin::direct) idle("tunnel-ports", "has no effect with --inbound-mode off");
  }
  if (s.hairpin == Hairpin::inbound && s.inbound_mode == InboundMode::redirect && s.passthrough_source.empty()) {
    problems.warnings.push_back({said.where("hairpin"),
                                 "\"inbound\" without --passthrough-source makes the proxy's connection to "
                                 "its application come back to the proxy, unless it uses 127.0.0.1 or ::1"});
  }
  if (s.backend == BackendChoice::iptables)
    idle("priority", "has no effect with --backend iptables, whose priorities are fixed");
}

}  // namespace

std::vector<PresetValue> preset_values(Preset preset) {
  switch (preset) {
    case Preset::none:
      return {};
    case Preset::istio:
      return {{"proxy-port", "15001"},
              {"inbound-port", "15006"},
              {"proxy-uid", "1337"},
              {"proxy-gid", "1337"},
              {"tunnel-ports", "15008"},
              {"exclude-inbound-ports", "15090,15021,15020"},
              {"hairpin", "inbound"},
              {"passthrough-source", "127.0.0.6,::6"},
              {"loopback-cidr", "127.0.0.1/32"}};
    case Preset::linkerd:
      return {{"proxy-port", "4140"},
              {"inbound-port", "4143"},
              {"proxy-uid", "2102"},
              {"exclude-inbound-ports", "4190,4191,4567,4568"},
              {"exclude-outbound-ports", "4567,4568"},
              // Its proxies dial each other's inbound port directly for opaque traffic.
              {"proxy-port-access", "capture"}};
    case Preset::kuma:
      return {
          {"proxy-port", "15001"},          {"inbound-port", "15006"},         {"proxy-uid", "5678"},
          {"hairpin", "inbound"},           {"exclude-inbound-ports", "9001"}, {"passthrough-source", "127.0.0.6,::6"},
          {"loopback-cidr", "127.0.0.1/32"}};
    case Preset::consul:
      return {{"proxy-port", "15001"},
              {"inbound-port", "20000"},
              {"proxy-uid", "5995"},
              {"exclude-uids", "5996"},
              // The inbound port is the one that peers dial.
              {"proxy-port-access", "capture"}};
  }
  return {};
}

std::vector<RawValue> effective_values(const RawConfig& raw, std::string_view option) {
  const OptionSpec* spec = find_option(option);
  if (spec == nullptr) return {};
  const auto said = raw.find(option);
  if (said != raw.end() && !said->second.empty()) {
    auto values = said->second;
    const auto winning = in_force(values);
    return {winning.begin(), winning.end()};
  }
  return {{std::string(spec->fallback), {Source::fallback, flag_name(spec->name)}}};
}

Validation validate(RawConfig raw, const Lookups& lookups) {
  Validation result;
  Settings settings;
  Problems& problems = result.problems;

  const auto read = [&](RawConfig& texts, const OptionSpec& option) {
    const auto said = texts.find(option.name);
    if (said == texts.end() || said->second.empty()) return;
    OptionReader reader(option, in_force(said->second), lookups, problems);
    option.read(reader, settings);
  };
  const OptionSpec& preset = *find_option("preset");
  read(raw, preset);
  RawConfig merged = with_preset(std::move(raw), settings.preset, problems);
  for (const OptionSpec& option : options()) {
    if (option.name != preset.name) read(merged, option);
  }
  const Said said(merged);
  check_identity(settings, said, problems);
  if (problems.errors.empty()) {
    check_contradictions(settings, said, problems);
    check_without_effect(settings, said, problems);
    check_question(settings.question, said, problems);
    std::ranges::move(lint(settings, said), std::back_inserter(problems.warnings));
  }
  if (problems.errors.empty()) result.config = Config(std::move(settings), std::move(merged));
  return result;
}

}  // namespace sluice
