#include "cli/commands.hpp"

#include <algorithm>
#include <optional>

#include "netfilter/namespaces.hpp"
#include "rules/text.hpp"

namespace sluice::cli {
namespace {

constexpr Command table[] = {
    {"apply", "program the rules (what sluice does when no command is given)", "text, json", apply},
    {"plan", "print what would be programmed; the same as --dry-run", "nft, iptables, json, mermaid, dot", plan},
    {"cleanup", "remove whatever any sluice made in this namespace; the same as --cleanup", "text, json", cleanup},
    {"verify", "compare the kernel's rules with this configuration; exit 3 and a diff by rule where they differ",
     "text, json", verify},
    {"status", "say what is programmed, by which version and options, and what each rule has counted",
     "text, json, iptables, nft", status},
    {"doctor", "say what this kernel, container and namespace allow, and what to do where they do not", "text, json",
     doctor},
    {"explain", "say what happens to one connection, which rule decides, and why the others do not", "text, json",
     explain},
    {"manifest", "print the init container for a pod, as YAML to paste, or a patch of a Deployment (--patch)",
     "yaml, json", manifest},
};

const Command& named(std::string_view name) {
  return *std::find_if(std::begin(table), std::end(table),
                       [&](const Command& command) { return command.name == name; });
}

/// Where the option was said, where that is not merely a preset or the default.
std::optional<RawValue> said(const RawConfig& raw, std::string_view option) {
  const auto values = effective_values(raw, option);
  if (values.empty() || values.front().origin.source >= Source::preset) return std::nullopt;
  return values.front();
}

/// What needs no kernel takes any name: the namespace may be on another machine, or yet to come.
bool enters_namespace(const Command& command, const Settings& settings) {
  if (command.name == "plan") return settings.diff;
  if (command.name == "explain") return settings.live;
  return command.name != "manifest";
}

std::optional<Problem> wrong_namespace(const Command& command, const Settings& settings, const RawConfig& raw) {
  if (settings.netns.empty() || !enters_namespace(command, settings)) return std::nullopt;
  const auto why = netfilter::no_network_namespace(settings.netns);
  if (!why) return std::nullopt;
  return Problem{effective_values(raw, "netns").front().origin.where,
                 quoted(settings.netns) + " is no network namespace (" + *why +
                     "); allowed: a path such as /proc/123/ns/net, a name that `ip netns list` shows, or the PID of a "
                     "live process"};
}

bool is_in(std::string_view names, std::string_view format) {
  const auto known = split(names, ',');
  return std::any_of(known.begin(), known.end(), [&](std::string_view one) { return trimmed(one) == format; });
}

}  // namespace

std::span<const Command> commands() { return table; }

const Command& effective(const Command& asked, const Settings& settings) {
  if (asked.name != "apply") return asked;
  if (settings.cleanup) return named("cleanup");
  return settings.dry_run ? named("plan") : asked;
}

std::vector<Problem> misplaced(const Command& asked, const Config& config) {
  const Settings& settings = *config;
  const RawConfig& raw = config.said();
  const Command& command = effective(asked, settings);
  std::vector<Problem> problems;
  const auto format = said(raw, "format");
  const bool compares = command.name == "plan" && settings.diff;
  const std::string_view formats = compares ? "text, json" : command.formats;
  if (format && settings.format && !is_in(formats, trimmed(format->text))) {
    problems.push_back({format->origin.where, "\"" + std::string(trimmed(format->text)) + "\" is no format of sluice " +
                                                  std::string(command.name) + (compares ? " --diff" : "") +
                                                  "; allowed: " + std::string(formats)});
  }
  // A variable or a file may serve several commands; what they say is only refused where following the command would
  // do what it was meant to prevent.
  const auto diff = said(raw, "diff");
  const bool changes_something = command.name == "apply" || command.name == "cleanup";
  if (settings.diff && command.name != "plan" && (changes_something || diff->origin.source == Source::flag)) {
    problems.push_back({diff->origin.where, "is an option of sluice plan, not of " + std::string(command.name) +
                                                "; allowed: sluice plan --diff, or leave it out"});
  }
  const auto cleanup = said(raw, "cleanup");
  if (settings.cleanup && command.name != "cleanup" &&
      (command.name == "plan" || cleanup->origin.source == Source::flag)) {
    problems.push_back(
        {cleanup->origin.where, "contradicts the command " + std::string(command.name) +
                                    "; allowed: sluice cleanup, with --dry-run where it is only to be told"});
  }
  if (auto problem = wrong_namespace(command, settings, raw)) problems.push_back(std::move(*problem));
  return problems;
}

}  // namespace sluice::cli
