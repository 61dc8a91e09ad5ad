#include "cli/commands.hpp"
#include "cli/documents/documents.hpp"
#include "rules/option_reader.hpp"
#include "rules/text.hpp"

namespace sluice::cli {
namespace {

std::string flag(const OptionSpec& option) { return flag_name(option.name); }

std::string words_of(const std::vector<std::string>& list) { return join(list, " "); }

std::vector<std::string> command_names() {
  std::vector<std::string> names;
  for (const Command& command : commands()) names.emplace_back(command.name);
  return names;
}

bool is_file(const OptionSpec& option) { return option.name == "netns" || option.name == "annotations"; }

/// Flags that every command knows, or those of one command only.
std::vector<std::string> flags_of(std::string_view command) {
  std::vector<std::string> flags;
  for (const OptionSpec& option : options()) {
    if (option.command == command) flags.push_back(flag(option));
  }
  if (command.empty()) flags.insert(flags.end(), {"--config", "--help", "--version"});
  return flags;
}

/// In single quotes, as all three shells read them.
std::string quoted_for_shell(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

std::string with_escapes(std::string_view text, std::string_view special) {
  std::string escaped;
  for (const char c : text) {
    if (special.find(c) != std::string_view::npos) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

}  // namespace

/// The table knows them only as code, so the option is given what it cannot take, and says what it can.
std::vector<std::string> choices_of(const OptionSpec& option) {
  if (option.arity == Arity::flag) return {};
  Problems problems;
  Settings settings;
  const Lookups nobody{[](std::string_view) { return std::nullopt; }, [](std::string_view) { return std::nullopt; },
                       [] { return std::vector<IpAddress>{}; }};
  const std::vector<RawValue> values = {{"?", {Source::flag, flag(option)}}};
  OptionReader reader(option, values, nobody, problems);
  option.read(reader, settings);
  constexpr std::string_view said = "is not a choice; allowed: ";
  if (problems.errors.empty()) return {};
  const std::string& message = problems.errors.front().message;
  const std::size_t at = message.find(said);
  if (at == std::string::npos) return {};
  std::vector<std::string> choices;
  for (const std::string_view choice : split(std::string_view(message).substr(at + said.size()), ',')) {
    choices.emplace_back(trimmed(choice));
  }
  return choices;
}

std::string bash_completion() {
  std::string values;
  std::string free;
  for (const OptionSpec& option : options()) {
    const auto choices = choices_of(option);
    if (option.arity == Arity::flag || is_file(option)) continue;
    if (choices.empty()) {
      free += (free.empty() ? "" : " | ") + flag(option);
    } else {
      values += "    " + flag(option) + ")\n      COMPREPLY=($(compgen -W " + quoted_for_shell(words_of(choices)) +
                " -- \"$cur\"))\n      return\n      ;;\n";
    }
  }
  std::string own;
  for (const Command& command : commands()) {
    const auto flags = flags_of(command.name);
    if (!flags.empty()) own += "    " + std::string(command.name) + ") words+=' " + words_of(flags) + "' ;;\n";
  }
  return "# bash completion of sluice, made from its table of options\n\n_sluice() {\n"
         "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} word command='' words\n"
         "  COMPREPLY=()\n"
         "  case $prev in\n" +
         values +
         "    --config | --netns | --annotations)\n      COMPREPLY=($(compgen -f -- \"$cur\"))\n      return\n      "
         ";;\n"
         "    " +
         free + ")\n      return\n      ;;\n  esac\n" +
         "  for word in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n    case $word in\n      " +
         join(command_names(), " | ") +
         ") command=$word ;;\n    esac\n  done\n  words=" + quoted_for_shell(words_of(flags_of(""))) +
         "\n  case $command in\n    '') words+=" + quoted_for_shell(" " + words_of(command_names())) + " ;;\n" + own +
         "  esac\n  COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\n\ncomplete -F _sluice sluice\n";
}

std::string zsh_completion() {
  std::string text = "#compdef sluice\n# zsh completion of sluice, made from its table of options\n\n_arguments \\\n";
  for (const OptionSpec& option : options()) {
    std::string spec = option.arity == Arity::list ? "*" : "";
    spec += flag(option);
    spec += "[" + with_escapes(option.help, "[]\\:") + "]";
    if (option.arity != Arity::flag) {
      const auto choices = choices_of(option);
      spec += ":" + with_escapes(option.value_name, ":[]\\") + ":" +
              (is_file(option)   ? "_files"
               : choices.empty() ? ""
                                 : "(" + words_of(choices) + ")");
    }
    text += "  " + quoted_for_shell(spec) + " \\\n";
  }
  text += "  '--config[read options from a TOML file]:FILE:_files' \\\n  '--help' \\\n  '--version' \\\n  ";
  std::string described;
  for (const Command& command : commands()) {
    described += (described.empty() ? "" : " ") + std::string(command.name) + "\\:\"" +
                 with_escapes(command.help, ":\"\\()") + "\"";
  }
  return text + quoted_for_shell("1:command:((" + described + "))") + "\n";
}

std::string fish_completion() {
  std::string text = "# fish completion of sluice, made from its table of options\n\ncomplete -c sluice -f\n";
  const std::string names = words_of(command_names());
  for (const Command& command : commands()) {
    text += "complete -c sluice -n 'not __fish_seen_subcommand_from " + names + "' -a " + std::string(command.name) +
            " -d " + quoted_for_shell(command.help) + "\n";
  }
  for (const OptionSpec& option : options()) {
    text += "complete -c sluice -l " + std::string(option.name);
    if (!option.command.empty()) text += " -n '__fish_seen_subcommand_from " + std::string(option.command) + "'";
    const auto choices = choices_of(option);
    if (option.arity != Arity::flag) text += is_file(option) ? " -r -F" : " -x";
    if (!choices.empty()) text += " -a " + quoted_for_shell(words_of(choices));
    text += " -d " + quoted_for_shell(option.help) + "\n";
  }
  return text + "complete -c sluice -l config -r -F -d 'read options from a TOML file'\n" +
         "complete -c sluice -l help\ncomplete -c sluice -l version\n";
}

}  // namespace sluice::cli
