#include "netfilter/backend.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>

#include "netfilter/errors.hpp"
#include "netfilter/iptables_legacy.hpp"
#include "netfilter/nft/store.hpp"
#include "netfilter/read_back.hpp"
#include "rules/iptables.hpp"
#include "rules/iptables_drift.hpp"

namespace sluice::netfilter {
namespace {

IptablesRuleset translated(const Ruleset& ruleset) {
  auto translation = to_iptables(ruleset);
  if (auto* rules = std::get_if<IptablesRuleset>(&translation)) return std::move(*rules);
  const auto& refused = std::get<TooManyRules>(translation);
  throw KernelError(KernelError::Kind::missing_feature, E2BIG,
                    "say these lists with iptables, which would take " + std::to_string(refused.count) +
                        " rules, most of them for [" + refused.rule + "]; " + std::to_string(iptables_rule_limit) +
                        " are allowed",
                    {}, "use --backend nftables, which keeps lists of any length in sets, or shorten the lists");
}

}  // namespace

std::string_view to_text(BackendKind kind) {
  switch (kind) {
    case BackendKind::nftables:
      return "nftables";
    case BackendKind::iptables_nft:
      return "iptables (nft)";
    case BackendKind::iptables_legacy:
      return "iptables (legacy)";
  }
  return "";
}

std::vector<BackendKind> candidates(const BackendWish& wish) {
  std::vector<BackendKind> kinds;
  if (wish.backend != BackendChoice::iptables) kinds.push_back(BackendKind::nftables);
  if (wish.backend == BackendChoice::nftables) return kinds;
  if (wish.variant != IptablesVariant::legacy) kinds.push_back(BackendKind::iptables_nft);
  if (wish.variant != IptablesVariant::nft) kinds.push_back(BackendKind::iptables_legacy);
  return kinds;
}

class Backends::Impl {
 public:
  explicit Impl(std::chrono::milliseconds patience) : patience_(patience), legacy_(patience) {}

  NamespaceSocket here() {
    try {
      return NamespaceSocket(session().socket());
    } catch (const KernelError&) {
      // Told where rules are to be made through it.
      return {};
    }
  }

  Applied apply(const BackendWish& wish, const Ruleset& ruleset, const std::string& comment, OldTables old_tables) {
    const auto kinds = candidates(wish);
    std::string reason = kinds.size() == 1 ? "it was asked for" : "the kernel has what the rules need";
    for (const BackendKind kind : kinds) {
      try {
        return {kind, apply_with(kind, ruleset, comment, old_tables), reason};
      } catch (const KernelError& error) {
        if (error.kind() != KernelError::Kind::missing_feature || kind == kinds.back()) throw;
        reason = std::string(to_text(kind)) + " is not possible here: " + error.what();
      }
    }
    throw std::logic_error("no backend to try");
  }

  std::vector<Found> observe() {
    const auto native = native_store();
    const auto xt = xt_store();
    read({native.get(), xt.get()});
    std::vector<Found> found;
    if (auto rules = native->observed()) found.push_back({BackendKind::nftables, *std::move(rules)});
    if (auto rules = xt->observed()) found.push_back({BackendKind::iptables_nft, *std::move(rules)});
    if (const auto old = legacy_.observe(); !old.tables.empty()) {
      found.push_back({BackendKind::iptables_legacy, to_observed(old)});
    }
    return found;
  }

  std::vector<Difference> differences(const BackendWish& wish, const Ruleset& ruleset) {
    const auto kinds = candidates(wish);
    IptablesRuleset iptables;
    if (kinds.back() != BackendKind::nftables) iptables = translated_or_nothing(ruleset);
    const auto native = native_store(&ruleset);
    const auto xt = xt_store(&iptables);
    read({native.get(), xt.get()});
    const ObservedIptables old = legacy_.observe();

    std::vector<BackendKind> present;
    if (native->present()) present.push_back(BackendKind::nftables);
    if (xt->present()) present.push_back(BackendKind::iptables_nft);
    if (!old.tables.empty()) present.push_back(BackendKind::iptables_legacy);
    const auto both = std::find_first_of(kinds.begin(), kinds.end(), present.begin(), present.end());
    const BackendKind meant = both == kinds.end() ? kinds.front() : *both;
    auto differences = meant == BackendKind::nftables       ? native->differences()
                       : meant == BackendKind::iptables_nft ? xt->differences()
                                                            : diff(iptables, old);
    for (const BackendKind kind : present) {
      if (kind != meant)
        differences.push_back({"", "", "unexpected", "", "the rules in " + std::string(to_text(kind))});
    }
    return differences;
  }

  std::vector<std::string> remove(bool pretend) {
    // First those whose removal has a program in it, and so more ways to fail.
    std::vector<std::string> words = legacy_.remove(pretend);
    try {
      std::ranges::move(remove_from_nf_tables(pretend), std::back_inserter(words));
    } catch (const KernelError& error) {
      throw words.empty() ? error : error.leaving(KernelError::Left::in_between);
    }
    return words;
  }

 private:
  /// New rules first, then away with the old; over netlink both at once.
  Outcome apply_with(BackendKind kind, const Ruleset& ruleset, const std::string& comment, OldTables old_tables) {
    const auto in_nf_tables = [&](bool pretend) { return remove_from_nf_tables(pretend); };
    const auto in_legacy = [&](bool pretend) { return legacy_.remove(pretend); };
    const auto old_legacy = [&](bool pretend) {
      return old_tables == OldTables::without_ours ? std::vector<std::string>{} : in_legacy(pretend);
    };
    if (kind == BackendKind::nftables) {
      const auto make = [&] { return install(session(), *native_store(&ruleset, comment), *xt_store()); };
      return moved(make, old_legacy, in_nf_tables);
    }
    if (kind == BackendKind::iptables_nft) {
      const IptablesRuleset iptables = translated(ruleset);
      return moved([&] { return install(session(), *xt_store(&iptables), *native_store()); }, old_legacy, in_nf_tables);
    }
    return moved([&] { return legacy_.apply(translated(ruleset)); }, in_nf_tables, in_legacy);
  }

  /// Makes the new rules, then removes what is on the other side: nf_tables and the old tables have no transaction in
  /// common. Where the old rules cannot be removed, the new ones go again.
  template <typename Make, typename RemoveOld, typename RemoveNew>
  static Outcome moved(const Make& make, const RemoveOld& remove_old, const RemoveNew& remove_new) {
    const Outcome outcome = made(make, remove_old);
    try {
      return twice([&] { return remove_old(false); }).empty() ? outcome : Outcome::replaced;
    } catch (const KernelError& error) {
      throw error.leaving(taken_back(outcome, error, remove_new));
    }
  }

  template <typename Make, typename RemoveOld>
  static Outcome made(const Make& make, const RemoveOld& remove_old) {
    try {
      return make();
    } catch (const KernelError& error) {
      if (error.left() != KernelError::Left::as_wanted) throw;
      bool old_rules = true;
      try {
        old_rules = !remove_old(true).empty();
      } catch (const KernelError&) {
        // Not to be seen, so they may be there.
      }
      throw old_rules ? error.leaving(KernelError::Left::both) : error;
    }
  }

  template <typename RemoveNew>
  static KernelError::Left taken_back(Outcome outcome, const KernelError& error, const RemoveNew& remove_new) {
    using Left = KernelError::Left;
    // Nothing but the old rules was there before, and they are there still.
    if (error.left() != Left::as_it_was) return error.left();
    if (outcome != Outcome::created) return Left::as_wanted;
    try {
      remove_new(false);
    } catch (const KernelError&) {
      return Left::in_between;
    }
    return Left::as_it_was;
  }

  static IptablesRuleset translated_or_nothing(const Ruleset& ruleset) {
    auto translation = to_iptables(ruleset);
    auto* rules = std::get_if<IptablesRuleset>(&translation);
    return rules == nullptr ? IptablesRuleset{} : std::move(*rules);
  }

  /// A kernel without nf_tables holds no rules there.
  void read(std::array<NftStore*, 2> stores) {
    try {
      read_stores(session(), stores);
    } catch (const KernelError& error) {
      if (error.kind() != KernelError::Kind::missing_feature) throw;
    }
  }

  std::vector<std::string> remove_from_nf_tables(bool pretend) {
    const auto native = native_store();
    const auto xt = xt_store();
    const std::array<NftStore*, 2> stores = {native.get(), xt.get()};
    if (pretend) {
      read(stores);
      std::vector<std::string> words;
      for (const NftStore* store : stores) {
        if (store->present()) std::ranges::move(store->removals(), std::back_inserter(words));
      }
      return words;
    }
    try {
      return netfilter::remove(session(), stores);
    } catch (const KernelError& error) {
      if (error.kind() != KernelError::Kind::missing_feature) throw;
      return {};
    }
  }

  /// Opened when first needed, because a kernel without nf_tables may have no such socket.
  NftSession& session() {
    if (!session_) session_.emplace(patience_);
    return *session_;
  }

  std::chrono::milliseconds patience_;
  std::optional<NftSession> session_;
  LegacyTables legacy_;
};

Backends::Backends(std::chrono::milliseconds patience) : impl_(std::make_unique<Impl>(patience)) {}
Backends::~Backends() = default;
NamespaceSocket Backends::here() { return impl_->here(); }
Applied Backends::apply(const BackendWish& wish, const Ruleset& ruleset, const std::string& comment,
                        OldTables old_tables) {
  return impl_->apply(wish, ruleset, comment, old_tables);
}
std::vector<Found> Backends::observe() { return impl_->observe(); }
std::vector<Difference> Backends::differences(const BackendWish& wish, const Ruleset& ruleset) {
  return impl_->differences(wish, ruleset);
}
std::vector<std::string> Backends::remove(bool pretend) { return impl_->remove(pretend); }

}  // namespace sluice::netfilter
