// The backends behind one door: whoever applies, compares or removes rules does not know which of them it is.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "netfilter/namespaces.hpp"
#include "netfilter/outcome.hpp"
#include "rules/config.hpp"
#include "rules/drift.hpp"
#include "rules/ruleset.hpp"

namespace sluice::netfilter {

enum class BackendKind { nftables, iptables_nft, iptables_legacy };

/// `nftables`, `iptables (nft)`, `iptables (legacy)`
std::string_view to_text(BackendKind kind);

/// Which backends may be used.
struct BackendWish {
  BackendChoice backend = BackendChoice::automatic;
  IptablesVariant variant = IptablesVariant::automatic;
};

/// The backends that a wish allows, in the order in which they are tried; at least one.
std::vector<BackendKind> candidates(const BackendWish& wish);

struct Applied {
  BackendKind backend;
  Outcome outcome;
  std::string reason;  ///< why this backend
};

/// What one of the backends has in the kernel.
struct Found {
  BackendKind backend;
  Observed rules;
};

/// Whether iptables' old tables hold rules of ours, as far as known before a run: legacy_rules_present().
enum class OldTables { unknown, without_ours };

class Backends {
 public:
  /// Works in the calling thread's network namespace. `patience` bounds the waiting for others.
  explicit Backends(std::chrono::milliseconds patience);
  Backends(const Backends&) = delete;
  Backends& operator=(const Backends&) = delete;
  ~Backends();

  /// To ask about the namespace, through the socket to nf_tables where the kernel has one. Must not outlive this.
  NamespaceSocket here();

  /// Makes the rules of the backend equal `ruleset` and removes ours from the others, without a moment in which neither
  /// captures; nothing is done where that is so already. `automatic` tries in the order of BackendKind, and goes on
  /// only where the kernel lacks what the rules need. `comment` is noted where the backend has a place for it. Throws
  /// KernelError, and then the rules are either those of before or, where the message says so, the new ones. Old tables
  /// that are known to be without rules of ours are not looked at again: that is a tenth of a first apply.
  Applied apply(const BackendWish& wish, const Ruleset& ruleset, const std::string& comment,
                OldTables old_tables = OldTables::unknown);

  /// What there is of ours, in every backend; usually one or none. Throws KernelError.
  std::vector<Found> observe();

  /// How the kernel differs from what apply() would make, as far as can be told without trying: with `automatic`, the
  /// backend that holds rules of ours is the one compared. Throws KernelError.
  std::vector<Difference> differences(const BackendWish& wish, const Ruleset& ruleset);

  /// Removes what there is of ours in every backend, or with `pretend` only tells. Throws KernelError.
  std::vector<std::string> remove(bool pretend = false);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sluice::netfilter
