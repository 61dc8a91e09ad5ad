#include "cli/command_line.hpp"

#include <algorithm>
#include <map>
#include <span>

#include "cli/annotations.hpp"
#include "cli/cli11.hpp"
#include "cli/config_file.hpp"
#include "rules/options.hpp"
#include "rules/text.hpp"

namespace sluice::cli {
namespace {

constexpr std::string_view variable_prefix = "SLUICE_";
constexpr std::string_view config_variable = "SLUICE_CONFIG";

std::vector<std::string_view> variable_names(const std::vector<std::string>& owned) {
  std::vector<std::string_view> names(owned.begin(), owned.end());
  names.push_back(config_variable);
  return names;
}

void report_unknown_variable(const std::string& name, Problems& problems) {
  std::vector<std::string> names;
  for (const OptionSpec& option : options()) names.push_back(environment_name(option));
  const auto near = nearest(name, variable_names(names));
  problems.warnings.push_back({name, "is no variable that sluice knows, so it is ignored" +
                                         (near ? "; did you mean " + std::string(*near) + "?" : "")});
}

/// Variables of the environment that name options; `config` receives SLUICE_CONFIG.
void read_environment(const std::vector<std::string_view>& environment, Request& request,
                      std::optional<std::string>& config) {
  for (const std::string_view entry : environment) {
    if (entry.substr(0, variable_prefix.size()) != variable_prefix) continue;
    const std::size_t equals = std::min(entry.find('='), entry.size());
    const std::string name(entry.substr(0, equals));
    const std::string value(entry.substr(std::min(equals + 1, entry.size())));
    const auto known = std::find_if(options().begin(), options().end(),
                                    [&](const OptionSpec& option) { return environment_name(option) == name; });
    if (name == config_variable) {
      config = value;
    } else if (known != options().end()) {
      request.raw[std::string(known->name)].push_back({value, {Source::environment, name}});
    } else {
      report_unknown_variable(name, request.problems);
    }
  }
}

std::vector<std::string_view> flag_names(const std::vector<std::string>& owned) { return {owned.begin(), owned.end()}; }

/// `--tproxy-prot` and the like: CLI11 leaves what it does not know.
void report_unknown(const std::vector<std::string>& left, Problems& problems) {
  if (left.empty()) return;
  std::vector<std::string> owned = {"--config", "--help", "--version"};
  for (const OptionSpec& option : options()) owned.push_back(flag_name(option.name));
  std::vector<std::string_view> command_names;
  for (const Command& command : commands()) command_names.push_back(command.name);
  for (const std::string& word : left) {
    const bool flag = word.substr(0, 1) == "-";
    const std::string name = word.substr(0, word.find('='));
    const auto near = flag ? nearest(name, flag_names(owned)) : nearest(name, command_names);
    std::string message = flag ? "is no option" : "is no command and follows no option that takes a value";
    message += near ? "; did you mean " + std::string(*near) + "?" : "; allowed: what sluice --help lists";
    problems.errors.push_back({sluice::quoted(word), message});
  }
}

/// CLI11 takes `--name=` for a missing value and lets `--flag` swallow the command after it. Written out, neither can
/// be misread.
std::vector<std::string> spelled_out(const std::vector<std::string>& arguments, Problems& problems) {
  std::vector<std::string> out;
  for (std::size_t at = 0; at < arguments.size(); ++at) {
    const std::string& argument = arguments[at];
    const std::size_t equals = argument.find('=');
    const std::string name = argument.substr(0, equals);
    const OptionSpec* option = name.substr(0, 2) == "--" ? find_option(std::string_view(name).substr(2)) : nullptr;
    const bool takes_value = name == "--config" || (option != nullptr && option->arity != Arity::flag);
    if (option != nullptr && option->arity == Arity::flag) {
      out.push_back(name);
      out.push_back(equals == std::string::npos ? "true" : argument.substr(equals + 1));
    } else if (!takes_value) {
      out.push_back(argument);
    } else if (equals != std::string::npos) {
      out.push_back(name);
      out.push_back(argument.substr(equals + 1));
    } else if (at + 1 == arguments.size()) {
      problems.errors.push_back({name, "its value is missing; allowed: a value, or " + name + "= for an empty list"});
    } else {
      out.push_back(name);
      out.push_back(arguments[++at]);
    }
  }
  return out;
}

/// The command line in CLI11's terms.
struct Parsed {
  std::map<std::string_view, std::vector<std::string>> values;
  std::vector<std::string> config;
  std::vector<std::string> words;  ///< commands, and whatever is unknown
  bool help = false;
  bool version = false;
};

Parsed parse(const std::vector<std::string>& arguments, Problems& problems) {
  Parsed parsed;
  const bool only_words = std::none_of(arguments.begin(), arguments.end(),
                                       [](const std::string& argument) { return argument.substr(0, 1) == "-"; });
  if (only_words) {
    parsed.words = arguments;
    return parsed;
  }
  CLI::App app("sluice");
  app.set_help_flag();
  app.allow_extras();
  app.add_flag("-h,--help", parsed.help);
  app.add_flag("--version", parsed.version);
  const auto declare = [&](const std::string& flag, std::vector<std::string>& into) {
    app.add_option(flag, into)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->expected(1)
        ->allow_extra_args(false);
  };
  std::vector<std::string> written = spelled_out(arguments, problems);
  declare("--config", parsed.config);
  // Only what was given: CLI11 compares every new option with all before it, which would be half of a short run's time.
  for (const OptionSpec& option : written.empty() ? std::span<const OptionSpec>{} : options()) {
    const std::string flag = flag_name(option.name);
    const bool given = std::any_of(written.begin(), written.end(),
                                   [&](const std::string& word) { return word.compare(0, flag.size(), flag) == 0; });
    if (given) declare(flag, parsed.values[option.name]);
  }
  std::reverse(written.begin(), written.end());
  try {
    app.parse(written);
  } catch (const CLI::ParseError& error) {
    problems.errors.push_back({"command line", error.what()});
  }
  parsed.words = app.remaining();
  return parsed;
}

const Command* take_command(std::vector<std::string>& words, Problems& problems) {
  const Command* chosen = nullptr;
  std::vector<std::string> left;
  for (const std::string& word : words) {
    const auto known =
        std::find_if(commands().begin(), commands().end(), [&](const auto& c) { return c.name == word; });
    if (known == commands().end()) {
      left.push_back(word);
    } else if (chosen != nullptr) {
      problems.errors.push_back(
          {sluice::quoted(word), "is a second command after " + std::string(chosen->name) + "; allowed: one"});
    } else {
      chosen = &*known;
    }
  }
  words = left;
  return chosen == nullptr ? &commands().front() : chosen;
}

/// An option of one command given to another was meant to do something there.
void report_misplaced(const Parsed& parsed, const Command& command, Problems& problems) {
  for (const auto& [name, values] : parsed.values) {
    const std::string_view only = find_option(name)->command;
    if (values.empty() || only.empty() || only == command.name) continue;
    problems.errors.push_back({flag_name(name), "is an option of sluice " + std::string(only) + ", not of " +
                                                    std::string(command.name) + "; allowed: leave it out"});
  }
}

/// What manifest writes down is what its command line says, whatever the shell around it has exported.
void leave_out_environment(Request& request) {
  constexpr std::string_view own[] = {"format", "log-format", "log-level"};
  for (auto& [name, values] : request.raw) {
    const bool about_printing =
        find_option(name)->command == "manifest" || std::find(std::begin(own), std::end(own), name) != std::end(own);
    if (about_printing) continue;
    std::erase_if(values, [&](const RawValue& value) {
      if (value.origin.source != Source::environment) return false;
      request.problems.warnings.push_back(
          {value.origin.where,
           "is not written down: sluice manifest takes flags; allowed: a flag, or --env-from with a "
           "ConfigMap that has this key"});
      return true;
    });
  }
}

/// The file whose name is in force; a name that cannot be one is left to validation.
void read_annotations(Request& request) {
  const auto named = effective_values(request.raw, "annotations");
  const RawValue& path = named.front();
  if (named.size() > 1 || path.text.empty() || path.text.front() == '-') return;
  read_annotations_file(path.text, path.origin.where, request.raw, request.problems);
}

std::string option_help(const OptionSpec& option) {
  constexpr std::size_t column = 36;
  std::string line = "  --" + std::string(option.name);
  if (!option.value_name.empty()) line += " " + std::string(option.value_name);
  std::string text(option.help);
  if (!option.fallback.empty() && option.arity != Arity::flag) text += " [" + std::string(option.fallback) + "]";
  if (line.size() + 2 > column) {
    line += "\n" + std::string(column, ' ');
  } else {
    line.resize(column, ' ');
  }
  // Wrapped by words, so that the second column stays a column.
  constexpr std::size_t width = 64;
  std::size_t used = 0;
  for (const std::string_view word : split(text, ' ')) {
    if (used > 0 && used + 1 + word.size() > width) {
      line += "\n" + std::string(column, ' ');
      used = 0;
    }
    if (used > 0) line += " ", ++used;
    line += word;
    used += word.size();
  }
  return line + "\n";
}

}  // namespace

Request read_request(const std::vector<std::string>& arguments, const std::vector<std::string_view>& environment) {
  Request request;
  Parsed parsed = parse(arguments, request.problems);
  if (parsed.help || parsed.version) {
    request.text = parsed.help ? help_text() : version_text();
    return request;
  }
  request.command = take_command(parsed.words, request.problems);
  report_unknown(parsed.words, request.problems);
  report_misplaced(parsed, *request.command, request.problems);
  for (const auto& [name, values] : parsed.values) {
    for (const std::string& value : values) {
      request.raw[std::string(name)].push_back({value, {Source::flag, flag_name(name)}});
    }
  }
  std::optional<std::string> config;
  read_environment(environment, request, config);
  std::string said_by(config_variable);
  if (parsed.config.size() > 1) {
    request.problems.errors.push_back({"--config", "given more than once; allowed: once"});
  }
  if (!parsed.config.empty()) {
    config = parsed.config.front();
    said_by = "--config";
  }
  const bool written_down = request.command->name == "manifest";
  if (config && written_down && said_by == config_variable) {
    request.problems.warnings.push_back({said_by, "is not read: sluice manifest takes flags; allowed: --config"});
    config.reset();
  }
  if (config) read_config_file(*config, said_by, request.raw, request.problems);
  // For manifest both are what the container will find: its file and its variables.
  if (written_down) {
    leave_out_environment(request);
  } else {
    read_annotations(request);
  }
  return request;
}

LogFormat log_format_asked_for(const RawConfig& raw) {
  const auto said = effective_values(raw, "log-format");
  return said.size() == 1 && said.front().text == "json" ? LogFormat::json : LogFormat::text;
}

std::string help_text() {
  std::string text =
      "sluice captures a pod's traffic for its sidecar proxy.\n\n"
      "Usage: sluice [COMMAND] [OPTIONS]\n\nCommands:\n";
  for (const Command& command : commands()) {
    std::string line = "  " + std::string(command.name);
    line.resize(14, ' ');
    text += line + std::string(command.help) + "\n";
  }
  std::string_view group;
  for (const OptionSpec& option : options()) {
    if (option.group != group) text += "\n" + std::string(group = option.group) + ":\n";
    text += option_help(option);
  }
  text += "  --config FILE                     read options from a TOML file, option names as keys\n";
  text += "  --version, --help\n";
  text +=
      "\nLists are comma-separated, ports and IDs take ranges, flags may be repeated. Every option is also a variable\n"
      "(SLUICE_ and the name in capitals: SLUICE_PROXY_PORT) and a key of the --config file. Flag beats annotation "
      "beats\n"
      "variable beats file beats preset beats default, which is shown in brackets.\n"
      "Exit status: 0 done; 1 refused, nothing changed; 2 bad input; 3 drift; 4 missing privilege or kernel feature.\n";
  return text;
}

std::string version_text() {
  return "sluice " SLUICE_VERSION " (commit " SLUICE_COMMIT ", libnftnl " SLUICE_NFTNL_VERSION
         ", libmnl " SLUICE_MNL_VERSION ")\n";
}

}  // namespace sluice::cli
