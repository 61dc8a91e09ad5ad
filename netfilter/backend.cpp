#include "netfilter/backend.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>

#include "netfilter/errors.hpp"
#include "netfilter/nft/store.hpp"
#include "rules/iptables.hpp"

namespace sluice::netfilter {
namespace {

/// The backends that a wish allows, in the order in which they are tried.
std::vector<BackendKind> candidates(const BackendWish& wish) {
  std::vector<BackendKind> kinds;
  if (wish.backend != BackendChoice::iptables) kinds.push_back(BackendKind::nftables);
  if (wish.backend == BackendChoice::nftables) return kinds;
  if (wish.variant != IptablesVariant::legacy) kinds.push_back(BackendKind::iptables_nft);
  if (wish.variant != IptablesVariant::nft) kinds.push_back(BackendKind::iptables_legacy);
  return kinds;
}

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

class Backends::Impl {
 public:
  explicit Impl(std::chrono::milliseconds patience) : session_(patience) {}

  Applied apply(const BackendWish& wish, const Ruleset& ruleset, const std::string& comment) {
    const auto kinds = candidates(wish);
    std::string reason = kinds.size() == 1 ? "it was asked for" : "the kernel has what the rules need";
    for (const BackendKind kind : kinds) {
      try {
        return {kind, apply_with(kind, ruleset, comment), reason};
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
    const std::array<NftStore*, 2> stores = {native.get(), xt.get()};
    read_stores(session_, stores);
    std::vector<Found> found;
    if (auto rules = native->observed()) found.push_back({BackendKind::nftables, *std::move(rules)});
    if (auto rules = xt->observed()) found.push_back({BackendKind::iptables_nft, *std::move(rules)});
    return found;
  }

  std::vector<Difference> differences(const BackendWish& wish, const Ruleset& ruleset) {
    const auto native = native_store(&ruleset);
    IptablesRuleset iptables;
    const auto kinds = candidates(wish);
    const bool may_be_xt = std::find(kinds.begin(), kinds.end(), BackendKind::iptables_nft) != kinds.end();
    if (may_be_xt) iptables = translated_or_nothing(ruleset);
    const auto xt = xt_store(&iptables);
    const std::array<NftStore*, 2> stores = {native.get(), xt.get()};
    read_stores(session_, stores);
    const bool xt_meant =
        may_be_xt && (wish.backend == BackendChoice::iptables || (xt->present() && !native->present()));
    NftStore& meant = xt_meant ? *xt : *native;
    NftStore& other = xt_meant ? *native : *xt;
    auto differences = meant.differences();
    if (other.present()) {
      for (const std::string& what : other.removals()) differences.push_back({"", "", "unexpected", "", what});
    }
    return differences;
  }

  std::vector<std::string> remove(bool pretend) {
    const auto native = native_store();
    const auto xt = xt_store();
    const std::array<NftStore*, 2> stores = {native.get(), xt.get()};
    if (!pretend) return netfilter::remove(session_, stores);
    read_stores(session_, stores);
    std::vector<std::string> words;
    for (const NftStore* store : stores) {
      if (store->present()) std::ranges::move(store->removals(), std::back_inserter(words));
    }
    return words;
  }

 private:
  Outcome apply_with(BackendKind kind, const Ruleset& ruleset, const std::string& comment) {
    if (kind == BackendKind::nftables) return install(session_, *native_store(&ruleset, comment), *xt_store());
    const IptablesRuleset iptables = translated(ruleset);
    if (kind == BackendKind::iptables_nft) return install(session_, *xt_store(&iptables), *native_store());
    throw KernelError(KernelError::Kind::missing_feature, EOPNOTSUPP, "program the rules with iptables-legacy", {},
                      "this version of sluice has only --iptables-variant nft");
  }

  static IptablesRuleset translated_or_nothing(const Ruleset& ruleset) {
    auto translation = to_iptables(ruleset);
    auto* rules = std::get_if<IptablesRuleset>(&translation);
    return rules == nullptr ? IptablesRuleset{} : std::move(*rules);
  }

  NftSession session_;
};

Backends::Backends(std::chrono::milliseconds patience) : impl_(std::make_unique<Impl>(patience)) {}
Backends::~Backends() = default;
Applied Backends::apply(const BackendWish& wish, const Ruleset& ruleset, const std::string& comment) {
  return impl_->apply(wish, ruleset, comment);
}
std::vector<Found> Backends::observe() { return impl_->observe(); }
std::vector<Difference> Backends::differences(const BackendWish& wish, const Ruleset& ruleset) {
  return impl_->differences(wish, ruleset);
}
std::vector<std::string> Backends::remove(bool pretend) { return impl_->remove(pretend); }

}  // namespace sluice::netfilter
