// sluice_documents bash|zsh|fish|man: writes one document to standard output; the manual page's prose comes in on
// standard input. Runs while sluice is built and is not installed.
#include <unistd.h>

#include <cstdio>
#include <exception>

#include "cli/documents/documents.hpp"
#include "cli/output.hpp"

namespace {

std::string standard_input() {
  std::string text;
  char buffer[4096];
  for (ssize_t length = 0; (length = read(STDIN_FILENO, buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<std::size_t>(length));
  }
  return text;
}

std::string document(std::string_view name) {
  if (name == "bash") return sluice::cli::bash_completion();
  if (name == "zsh") return sluice::cli::zsh_completion();
  if (name == "fish") return sluice::cli::fish_completion();
  if (name == "man") return sluice::cli::manual_page(standard_input());
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string text = argc == 2 ? document(argv[1]) : "";
    if (text.empty()) {
      std::fputs("usage: sluice_documents bash|zsh|fish|man\n", stderr);
      return 2;
    }
    sluice::cli::print(text);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "sluice_documents: %s\n", error.what());
    return 1;
  }
}
