#include "cli/commands.hpp"

#include <algorithm>

namespace sluice::cli {
namespace {

constexpr Command table[] = {
    {"apply", "program the rules (what sluice does when no command is given)", apply},
    {"plan", "print what would be programmed; the same as --dry-run", plan},
    {"cleanup", "remove whatever any sluice made in this namespace; the same as --cleanup", cleanup},
    {"verify", "compare the kernel's rules with this configuration; exit 3 and a diff by rule where they differ",
     verify},
    {"status", "say what is programmed, by which version and options, and what each rule has counted", status},
    {"doctor", "say what this kernel, container and namespace allow, and what to do where they do not", doctor},
    {"explain", "say what happens to one connection, which rule decides, and why the others do not", explain},
};

const Command& named(std::string_view name) {
  return *std::find_if(std::begin(table), std::end(table),
                       [&](const Command& command) { return command.name == name; });
}

}  // namespace

std::span<const Command> commands() { return table; }

const Command& effective(const Command& asked, const Settings& settings) {
  if (asked.name != "apply") return asked;
  if (settings.cleanup) return named("cleanup");
  return settings.dry_run ? named("plan") : asked;
}

}  // namespace sluice::cli
