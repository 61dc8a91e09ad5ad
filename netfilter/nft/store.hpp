// The two forms in which nf_tables can hold our rules: a table of our own, and chains in iptables' tables. Whatever is
// done with either, both are looked at, so that rules never stand in both.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "netfilter/nft/batch.hpp"
#include "netfilter/nft/session.hpp"
#include "netfilter/outcome.hpp"
#include "rules/drift.hpp"
#include "rules/iptables.hpp"

namespace sluice::netfilter {

class NftStore {
 public:
  virtual ~NftStore() = default;

  /// Reads what is there of ours. Everything below speaks of the last reading. Throws KernelError.
  virtual void read(NftSession& session) = 0;
  /// The same right after `sent`, whose rules are those that are wanted: what is told just as it was sent need not be
  /// taken apart.
  virtual void read_back(NftSession& session, [[maybe_unused]] const SealedBatch& sent) { read(session); }
  /// Whether anything of ours is there.
  [[nodiscard]] virtual bool present() const = 0;
  [[nodiscard]] virtual std::optional<Observed> observed() const = 0;
  /// How that differs from what is wanted.
  [[nodiscard]] virtual std::vector<Difference> differences() const = 0;
  /// Appends what turns the one into the other.
  virtual void add_rules(OpenBatch& batch) const = 0;
  /// Appends what removes everything that is ours. Only where it is present.
  virtual void add_removal(OpenBatch& batch) const = 0;
  /// What that removes, in words.
  [[nodiscard]] virtual std::vector<std::string> removals() const = 0;

 protected:
  NftStore() = default;
  NftStore(const NftStore&) = default;
  NftStore& operator=(const NftStore&) = default;
};

/// `table inet sluice`. `wanted` may be null where nothing is to be installed, and must outlive the store; `comment`
/// (at most 127 bytes) becomes the table's.
std::unique_ptr<NftStore> native_store(const Ruleset* wanted = nullptr, std::string comment = {});

/// Chains in the tables of iptables-nft, with the same meaning of `wanted`. What is not ours there stays as it is, and
/// tables and base chains that had to be made are removed with our rules unless others use them by then.
std::unique_ptr<NftStore> xt_store(const IptablesRuleset* wanted = nullptr);

/// Reads all of them in one generation, which is returned, so that a transaction can insist on it. Throws KernelError.
std::uint32_t read_stores(NftSession& session, std::span<NftStore* const> stores);

/// Makes `wanted` hold what it should, and `other` nothing: no transaction where that is so already, else exactly one;
/// afterwards reads back and compares. Throws KernelError, and then the rules are either those of before or, where the
/// message says so, the new ones.
Outcome install(NftSession& session, NftStore& wanted, NftStore& other);

/// Empties all of them in one transaction; returns what was removed, in words. Throws KernelError.
std::vector<std::string> remove(NftSession& session, std::span<NftStore* const> stores);

}  // namespace sluice::netfilter
