#include "netfilter/namespace_lock.hpp"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <thread>

#include "netfilter/errors.hpp"

namespace sluice::netfilter {

namespace {

Descriptor namespace_file(const NamespaceSocket& socket) {
  Descriptor file = socket.file();
  if (file.number() < 0) return Descriptor(open("/proc/self/ns/net", O_RDONLY));
  // Not closed on exec: that is how helper programs come to hold the lock.
  fcntl(file.number(), F_SETFD, 0);
  return file;
}

}  // namespace

NamespaceLock::NamespaceLock(const NamespaceSocket& socket, std::chrono::milliseconds patience)
    : namespace_(namespace_file(socket)) {
  if (namespace_.number() < 0) return;
  constexpr std::chrono::microseconds first_wait{200};
  constexpr std::chrono::microseconds longest_wait{5000};
  const auto deadline = std::chrono::steady_clock::now() + patience;
  for (auto wait = first_wait; flock(namespace_.number(), LOCK_EX | LOCK_NB) != 0;) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) return;
    if (std::chrono::steady_clock::now() >= deadline) {
      throw KernelError(EAGAIN, "wait for another sluice at work in this network namespace", {},
                        "see who holds the lock on /proc/self/ns/net with lslocks, or raise --lock-timeout");
    }
    std::this_thread::sleep_for(wait);
    wait = std::min(wait * 2, longest_wait);
  }
}

}  // namespace sluice::netfilter
