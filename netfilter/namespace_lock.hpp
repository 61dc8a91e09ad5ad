// One sluice at a time changes a network namespace.
#pragma once

#include <chrono>

#include "netfilter/descriptor.hpp"
#include "netfilter/namespaces.hpp"

namespace sluice::netfilter {

/// Held while a run changes the calling thread's network namespace. A transaction of nf_tables needs no lock; but its
/// rules, iptables' old tables, routes and addresses are several changes that belong together.
///
/// It is a lock on the namespace itself: no file is made, the kernel releases it with the last process that holds it.
/// Programs started meanwhile hold it, too, so that one whose sluice was killed ends before the next sluice begins.
class NamespaceLock {
 public:
  /// Waits up to `patience` for another run; throws KernelError then. Where the namespace cannot be locked (a kernel
  /// before 4.10 and no /proc), goes on without.
  NamespaceLock(const NamespaceSocket& socket, std::chrono::milliseconds patience);

 private:
  Descriptor namespace_;
};

}  // namespace sluice::netfilter
