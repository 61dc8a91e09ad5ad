#include "netfilter/processes.hpp"

#include <dirent.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <string_view>

#include "netfilter/namespaces.hpp"
#include "netfilter/system_files.hpp"
#include "rules/text.hpp"

namespace sluice::netfilter {
namespace {

struct CloseFolder {
  void operator()(DIR* folder) const { closedir(folder); }
};

/// The names in a folder that are numbers; nothing where it cannot be read.
std::optional<std::vector<std::string>> numbers_in(const std::string& path) {
  const std::unique_ptr<DIR, CloseFolder> folder(opendir(path.c_str()));
  if (!folder) return std::nullopt;
  std::vector<std::string> names;
  while (const dirent* entry = readdir(folder.get())) {
    if (parse_number(entry->d_name)) names.emplace_back(entry->d_name);
  }
  return names;
}

bool may_not_look() { return errno == EACCES || errno == EPERM; }

/// `socket:[4711]`; nothing for a link to anything else, and, with errno, where there is no answer.
std::optional<std::uint32_t> socket_behind(const std::string& link) {
  char target[64];
  errno = 0;
  const ssize_t length = readlink(link.c_str(), target, sizeof target);
  if (length <= 0) return std::nullopt;
  const std::string_view text(target, static_cast<std::size_t>(length));
  constexpr std::string_view prefix = "socket:[";
  if (!text.starts_with(prefix) || !text.ends_with(']')) return std::nullopt;
  const auto number = parse_number(text.substr(prefix.size(), text.size() - prefix.size() - 1));
  return number ? std::optional(static_cast<std::uint32_t>(*number)) : std::nullopt;
}

std::optional<std::vector<std::uint32_t>> sockets_of(const std::string& process) {
  const std::string folder = process + "/fd";
  const auto descriptors = numbers_in(folder);
  if (!descriptors) return std::nullopt;
  std::vector<std::uint32_t> sockets;
  for (const std::string& descriptor : *descriptors) {
    std::string link = folder;
    link.append("/").append(descriptor);
    if (const auto socket = socket_behind(link)) {
      sockets.push_back(*socket);
    } else if (may_not_look()) {
      return std::nullopt;  // the folder's names are told to whoever may open it, what they stand for is not
    }
  }
  return sockets;
}

/// What proc_pid_status(5) says; nothing where the process is gone.
std::optional<Process> process_at(const std::string& path) {
  const auto text = file_text(path + "/status");
  if (!text) return std::nullopt;
  Process process;
  std::optional<Uid> user;
  for (const std::string_view line : split(*text, '\n')) {
    const auto fields = split(line, '\t');
    if (fields.size() < 2) continue;
    if (fields[0] == "Name:") process.name = fields[1];
    if (fields[0] == "PPid:") process.parent = static_cast<pid_t>(parse_number(fields[1]).value_or(0));
    if (fields[0] != "Uid:" || fields.size() < 5) continue;
    // Real, effective, saved and of the file system; a socket gets the last (net/socket.c: sock_alloc).
    if (const auto number = parse_number(fields[4])) user = Uid::from(*number);
  }
  if (!user) return std::nullopt;
  process.user = *user;
  return process;
}

bool shares_network(const std::string& process, std::optional<ino_t> own, bool in_container) {
  const auto inode = inode_of(process + "/ns/net");
  if (!inode) return may_not_look() && in_container;
  return inode == own;
}

}  // namespace

std::vector<Process> processes_of(const Ranges<Uid>& users) {
  const auto own = inode_of("/proc/thread-self/ns/net");
  const auto numbering = inode_of("/proc/self/ns/pid");
  const bool in_container = numbering && numbering != first_pid_namespace;
  std::vector<Process> found;
  for (const std::string& number : numbers_in("/proc").value_or(std::vector<std::string>())) {
    const std::string path = "/proc/" + number;
    auto process = process_at(path);
    if (!process || !users.contains(process->user)) continue;
    process->number = static_cast<pid_t>(*parse_number(number));
    if (process->number == getpid() || !shares_network(path, own, in_container)) continue;
    process->sockets = sockets_of(path);
    found.push_back(std::move(*process));
  }
  return found;
}

}  // namespace sluice::netfilter
