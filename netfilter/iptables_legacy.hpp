// iptables' old tables, for kernels without nf_tables: through iptables' own programs, because only they have its lock.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "netfilter/outcome.hpp"
#include "rules/iptables.hpp"
#include "rules/iptables_drift.hpp"

namespace sluice::netfilter {

/// Whether the old tables of the calling thread's namespace hold chains of ours. Starts no program and makes no table.
bool legacy_rules_present();

/// Whether the programs that write the old tables are on this machine; without them nothing here can be started.
bool legacy_programs_installed();

/// What is ours in one table, from what `iptables-save -c` prints of it. Total: any text will do.
ObservedIptables iptables_from_save(Family family, IptablesTableKind kind, std::string_view saved);

class LegacyTables {
 public:
  /// `patience` bounds the waiting for the xtables lock.
  explicit LegacyTables(std::chrono::milliseconds patience) : patience_(patience) {}

  /// What there is of ours. Starts no program where there is nothing, and makes no table that is not there: merely
  /// listing one would. Throws KernelError.
  [[nodiscard]] ObservedIptables observe() const;

  /// Makes our rules equal `wanted`; one commit for each family and table, so a refusal in between is rolled back.
  /// Throws KernelError: refused, or missing_feature where there is no iptables-legacy-restore.
  Outcome apply(const IptablesRuleset& wanted) const;

  /// Removes our chains and jumps; returns them in words. Tables stay, empty: there is no way to remove one.
  std::vector<std::string> remove(bool pretend) const;

 private:
  std::chrono::milliseconds patience_;
};

}  // namespace sluice::netfilter
