#include "cli/file_contents.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "rules/text.hpp"

namespace sluice::cli {
namespace {

constexpr std::size_t size_limit = 64UL * 1024 * 1024;

std::optional<std::string> read_whole(const std::string& path, std::string& why) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) {
    why = std::strerror(errno);
    return std::nullopt;
  }
  std::string contents;
  char buffer[65536];
  ssize_t length = 0;
  while ((length = read(descriptor, buffer, sizeof buffer)) > 0 && contents.size() < size_limit) {
    contents.append(buffer, static_cast<std::size_t>(length));
  }
  if (length < 0) why = std::strerror(errno);
  if (contents.size() >= size_limit) why = "larger than 64 MiB";
  close(descriptor);
  if (!why.empty()) return std::nullopt;
  return contents;
}

}  // namespace

std::optional<std::string> contents_of(const std::string& path, const std::string& said_by, const std::string& allowed,
                                       Problems& problems) {
  std::string why;
  if (path.empty()) why = "an empty path";
  auto contents = why.empty() ? read_whole(path, why) : std::nullopt;
  if (!contents) {
    problems.errors.push_back({said_by, sluice::quoted(path) + " cannot be read (" + why + "); allowed: " + allowed});
  }
  return contents;
}

}  // namespace sluice::cli
