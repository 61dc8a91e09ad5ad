// What is installed beside the program and made from its tables of options and commands: the manual page and the
// completions of three shells.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "rules/options.hpp"

namespace sluice::cli {

/// The words that an option takes, where it takes one of a list.
std::vector<std::string> choices_of(const OptionSpec& option);

std::string bash_completion();
std::string zsh_completion();
std::string fish_completion();

/// `prose` is the page in roff, in which @VERSION@, @COMMANDS@ and @OPTIONS@ are replaced.
std::string manual_page(std::string prose);

}  // namespace sluice::cli
