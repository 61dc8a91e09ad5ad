// The one table of options. Whoever adds an option adds an entry here (name, default, check, help text) and a field in
// Settings; flags, environment variables, file keys, `--help` and the man page all come from this table.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace sluice {

class OptionReader;
struct Settings;

enum class Arity {
  flag,    ///< on or off; the value is optional
  single,  ///< exactly one value, given once
  list,    ///< comma-separated values, may be repeated
};

struct OptionSpec {
  std::string_view name;  ///< as in `--name` and as the key in a file
  Arity arity;
  std::string_view value_name;  ///< for the help text; empty for a flag
  std::string_view fallback;    ///< the default, in the same text that a user would write
  std::string_view group;       ///< heading in the help text
  std::string_view help;        ///< one sentence
  /// Parses and checks what was said and stores it. Not called where nobody said anything.
  void (*read)(OptionReader&, Settings&);
  /// The only command that the option has a meaning for; empty: all. Another refuses it as a flag.
  std::string_view command = {};
};

/// In the order of the help text.
std::span<const OptionSpec> options();

/// Nothing where no option has this name.
const OptionSpec* find_option(std::string_view name);

/// Whether a pod may say it by an annotation: what is captured and how, but neither where nor what this run is to do.
bool settable_by_annotation(const OptionSpec& option);

/// `--proxy-port` for `proxy-port`.
std::string flag_name(std::string_view option);

/// `SLUICE_PROXY_PORT` for `proxy-port`.
std::string environment_name(const OptionSpec& option);

}  // namespace sluice
