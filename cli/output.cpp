#include "cli/output.hpp"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>

namespace sluice::cli {
namespace {

constexpr int patience_ms = 5000;

/// Waits until a pipe that somebody has made non-blocking takes more; false where it does not for a while.
bool takes_more() {
  pollfd out{STDOUT_FILENO, POLLOUT, 0};
  return poll(&out, 1, patience_ms) == 1;
}

}  // namespace

void print(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && (errno == EINTR || (errno == EAGAIN && takes_more()))) continue;
    if (written < 0) throw std::system_error(errno, std::generic_category(), "write to standard output");
    text.remove_prefix(static_cast<std::size_t>(written));
  }
}

void print_what_was_done(std::string_view text, const Log& log) {
  try {
    print(text);
  } catch (const std::system_error& error) {
    log.warning("everything was done, but it cannot be said: " + std::string(error.what()));
  }
}

}  // namespace sluice::cli
