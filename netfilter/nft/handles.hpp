// Owners for libnftnl's objects.
#pragma once

#include <libnftnl/chain.h>
#include <libnftnl/table.h>

#include <memory>
#include <new>

namespace sluice::netfilter {

template <auto Free>
struct FreeWith {
  template <typename Object>
  void operator()(Object* object) const {
    Free(object);  // NOLINT(cppcoreguidelines-owning-memory): its owner is gone
  }
};

using TableHandle = std::unique_ptr<nftnl_table, FreeWith<&nftnl_table_free>>;
using ChainHandle = std::unique_ptr<nftnl_chain, FreeWith<&nftnl_chain_free>>;

template <typename Handle>
Handle owned(typename Handle::pointer allocated) {
  if (allocated == nullptr) throw std::bad_alloc();
  return Handle(allocated);
}

}  // namespace sluice::netfilter
