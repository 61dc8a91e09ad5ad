#include <stdexcept>

#include "cli/commands.hpp"
#include "cli/documents/documents.hpp"
#include "rules/text.hpp"

namespace sluice::cli {
namespace {

/// As roff(7) must read it: a backslash and a hyphen mean themselves, and no line begins with a control character.
std::string roff(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '\\') {
      escaped += "\\e";
    } else if (c == '-') {
      escaped += "\\-";
    } else {
      escaped += c;
    }
  }
  const bool control = !escaped.empty() && (escaped.front() == '.' || escaped.front() == '\'');
  return control ? "\\&" + escaped : escaped;
}

std::string command_text(const Command& command) {
  return ".TP\n\\fBsluice " + roff(command.name) + "\\fR\n" + roff(command.help) + ".\n";
}

std::string option_text(const OptionSpec& option) {
  std::string text = ".TP\n\\fB\\-\\-" + roff(option.name) + "\\fR";
  if (!option.value_name.empty()) text += " \\fI" + roff(option.value_name) + "\\fR";
  text += "\n" + roff(option.help) + ".\n";
  const auto choices = choices_of(option);
  if (choices.size() > 1) text += "One of " + roff(join(choices, ", ")) + ".\n";
  if (!option.fallback.empty() && option.arity != Arity::flag) text += "Default: " + roff(option.fallback) + ".\n";
  text += "Variable: " + roff(environment_name(option)) + ".\n";
  if (!option.command.empty()) text += "Only for \\fBsluice " + roff(option.command) + "\\fR.\n";
  return text;
}

void replace(std::string& text, const std::string& mark, const std::string& with) {
  const std::size_t at = text.find(mark);
  if (at == std::string::npos) throw std::logic_error("the manual page's prose has no " + mark);
  text.replace(at, mark.size(), with);
}

}  // namespace

std::string manual_page(std::string prose) {
  std::string command_list;
  for (const Command& command : commands()) command_list += command_text(command);
  std::string option_list;
  std::string_view group;
  for (const OptionSpec& option : options()) {
    if (option.group != group) option_list += ".SS \"" + roff(group = option.group) + "\"\n";
    option_list += option_text(option);
  }
  replace(prose, "@VERSION@", SLUICE_VERSION);
  replace(prose, "@COMMANDS@\n", command_list);
  replace(prose, "@OPTIONS@\n", option_list);
  return prose;
}

}  // namespace sluice::cli
