// Which processes of certain users are in this network namespace.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "rules/scalars.hpp"

namespace sluice::netfilter {

struct Process {
  pid_t number = 0;
  pid_t parent = 0;
  Uid user{};        ///< whose the sockets are that it makes
  std::string name;  ///< as the kernel has it, up to 15 bytes (TASK_COMM_LEN)
  /// Inodes of the sockets that it holds; nothing where sluice may not look (ptrace(2): of another user, without
  /// CAP_SYS_PTRACE).
  std::optional<std::vector<std::uint32_t>> sockets;
};

/// Those of `users` in the network namespace of the thread that /proc shows, sluice itself excepted. One whose
/// namespace may not be looked at counts where /proc shows a container and not the node. To be called before privileges
/// are dropped and before the seccomp filter.
std::vector<Process> processes_of(const Ranges<Uid>& users);

}  // namespace sluice::netfilter
