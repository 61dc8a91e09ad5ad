// The native backend: one table, `inet sluice`, over netlink.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "netfilter/outcome.hpp"
#include "rules/drift.hpp"
#include "rules/ruleset.hpp"

namespace sluice::netfilter {

class NftablesBackend {
 public:
  /// Opens a netlink socket in the calling thread's network namespace. `patience` bounds how long a transaction is
  /// retried against concurrent changes. Throws KernelError.
  explicit NftablesBackend(std::chrono::milliseconds patience);
  NftablesBackend(const NftablesBackend&) = delete;
  NftablesBackend& operator=(const NftablesBackend&) = delete;
  ~NftablesBackend();

  /// What the table holds now; nothing where there is no such table. Reads no other table. Throws KernelError.
  std::optional<Observed> observe();

  /// Makes the kernel's rules equal `ruleset`: no transaction where they already are, else exactly one; afterwards
  /// reads back and compares. `comment` (at most 127 bytes) becomes the table's. Throws KernelError, and then the rules
  /// are either those of before or, where the message says so, the new ones.
  Outcome apply(const Ruleset& ruleset, const std::string& comment);

  /// Removes the table in one transaction; false where there was none. Throws KernelError.
  bool remove();

  /// The ruleset generation of the namespace, which every transaction increments (NFT_MSG_GETGEN). Throws KernelError.
  std::uint32_t generation();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::netfilter
