#include "netfilter/helper_program.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "netfilter/descriptor.hpp"
#include "netfilter/errors.hpp"
#include "netfilter/privileges.hpp"
#include "rules/text.hpp"

namespace sluice::netfilter {
namespace {

constexpr const char usual_path[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Empty where there is none.
std::string path_of(const std::string& name) {
  const char* path = std::getenv("PATH");
  std::string file;
  for (const std::string_view folder : split(path != nullptr ? path : usual_path, ':')) {
    file.assign(folder);
    file += '/';
    file += name;
    if (access(file.c_str(), X_OK) == 0) return file;
  }
  return {};
}

std::string find_program(const std::string& name) {
  std::string file = path_of(name);
  if (!file.empty()) return file;
  throw KernelError(KernelError::Kind::missing_feature, ENOENT, "find the program " + name + " in PATH", {},
                    "install iptables in this image, or use --backend nftables or --iptables-variant nft, which need "
                    "no program");
}

/// A file without a name, so that neither side can block the other as it could with pipes.
int memory_file(const char* name) {
  const int descriptor = memfd_create(name, MFD_CLOEXEC);
  if (descriptor < 0) throw KernelError(errno, "make a file in memory");
  return descriptor;
}

/// Leaves the file's position at its start, where the program begins to read.
void write_all(int descriptor, std::string_view text) {
  for (off_t at = 0; !text.empty();) {
    const ssize_t written = pwrite(descriptor, text.data(), text.size(), at);
    if (written < 0 && errno != EINTR) throw KernelError(errno, "write to a file in memory");
    if (written <= 0) continue;
    text.remove_prefix(static_cast<std::size_t>(written));
    at += written;
  }
}

/// All of it or an error: half of what a program said would be taken for the whole.
std::string read_all(int descriptor) {
  std::string text;
  std::array<char, 16384> buffer{};
  for (;;) {
    const ssize_t length = pread(descriptor, buffer.data(), buffer.size(), static_cast<off_t>(text.size()));
    if (length < 0 && errno != EINTR) throw KernelError(errno, "read from a file in memory");
    if (length == 0) return text;
    if (length > 0) text.append(buffer.data(), static_cast<std::size_t>(length));
  }
}

class FileActions {
 public:
  FileActions() { posix_spawn_file_actions_init(&actions_); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  ~FileActions() { posix_spawn_file_actions_destroy(&actions_); }
  void place(const Descriptor& descriptor, int as) {
    posix_spawn_file_actions_adddup2(&actions_, descriptor.number(), as);
  }
  [[nodiscard]] const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

/// Whoever started sluice may have had children collected by the kernel, which tells nobody how they ended; that is
/// inherited.
void collect_children_ourselves() {
  struct sigaction usual {};
  usual.sa_handler = SIG_DFL;
  sigaction(SIGCHLD, &usual, nullptr);
}

int wait_for(pid_t process) {
  int status = 0;
  bool failed = false;
  while (waitpid(process, &status, 0) < 0) {
    if (errno == EINTR) continue;
    // A program that is still at work must not be left to itself for one failure.
    if (failed) throw KernelError(errno, "wait for a helper program");
    failed = true;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

bool helper_is_installed(const std::string& name) { return !path_of(name).empty(); }

HelperResult run_helper(const std::string& name, const std::vector<std::string>& arguments, const std::string& input) {
  const std::string file = find_program(name);
  if (!share_privileges_with_helpers()) {
    throw KernelError(
        KernelError::Kind::missing_privilege, EPERM, "run " + name, {},
        "it opens a raw socket: add NET_RAW beside NET_ADMIN to securityContext.capabilities.add; where that is "
        "so, the old tables have changed while sluice was running: run it again");
  }
  const Descriptor in(memory_file("input"));
  const Descriptor out(memory_file("output"));
  const Descriptor err(memory_file("errors"));
  write_all(in.number(), input);
  FileActions actions;
  actions.place(in, STDIN_FILENO);
  actions.place(out, STDOUT_FILENO);
  actions.place(err, STDERR_FILENO);

  std::vector<std::string> words = {name};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::string path = std::string("PATH=") + usual_path;
  std::string language = "LC_ALL=C";
  // Where / is read-only, iptables' lock has to be somewhere else.
  const char* elsewhere = std::getenv("XTABLES_LOCKFILE");
  std::string lock = std::string("XTABLES_LOCKFILE=") + (elsewhere == nullptr ? "" : elsewhere);
  std::array<char*, 4> environment = {path.data(), language.data(), elsewhere == nullptr ? nullptr : lock.data(),
                                      nullptr};

  collect_children_ourselves();
  pid_t process = 0;
  const int error = posix_spawn(&process, file.c_str(), actions.get(), nullptr, argv.data(), environment.data());
  if (error != 0) throw KernelError(error, "start " + file);
  HelperResult result;
  result.status = wait_for(process);
  result.output = read_all(out.number());
  result.errors = read_all(err.number());
  return result;
}

}  // namespace sluice::netfilter
