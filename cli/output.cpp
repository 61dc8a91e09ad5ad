#include "cli/output.hpp"

#include <unistd.h>

#include <cerrno>
#include <system_error>

namespace sluice::cli {

void print(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) throw std::system_error(errno, std::generic_category(), "write to standard output");
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

}  // namespace sluice::cli
