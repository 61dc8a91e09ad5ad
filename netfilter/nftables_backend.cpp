#include "netfilter/nftables_backend.hpp"

#include <array>

#include "netfilter/nft/store.hpp"

namespace sluice::netfilter {

class NftablesBackend::Impl {
 public:
  explicit Impl(std::chrono::milliseconds patience) : session(patience) {}
  NftSession session;
};

NftablesBackend::NftablesBackend(std::chrono::milliseconds patience) : impl_(std::make_unique<Impl>(patience)) {}
NftablesBackend::~NftablesBackend() = default;

std::optional<Observed> NftablesBackend::observe() {
  const auto store = native_store();
  const std::array<NftStore*, 1> stores = {store.get()};
  read_stores(impl_->session, stores);
  return store->observed();
}

Outcome NftablesBackend::apply(const Ruleset& ruleset, const std::string& comment) {
  return install(impl_->session, *native_store(&ruleset, comment), *xt_store());
}

bool NftablesBackend::remove() {
  const auto store = native_store();
  const std::array<NftStore*, 1> stores = {store.get()};
  return !netfilter::remove(impl_->session, stores).empty();
}

std::uint32_t NftablesBackend::generation() { return impl_->session.generation(); }

}  // namespace sluice::netfilter
