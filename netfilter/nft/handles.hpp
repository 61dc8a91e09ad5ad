// Owners for libnftnl's objects. Ownership leaves a handle only where libnftnl takes it: nftnl_rule_add_expr.
#pragma once

#include <libnftnl/chain.h>
#include <libnftnl/expr.h>
#include <libnftnl/rule.h>
#include <libnftnl/set.h>
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
using RuleHandle = std::unique_ptr<nftnl_rule, FreeWith<&nftnl_rule_free>>;
using SetHandle = std::unique_ptr<nftnl_set, FreeWith<&nftnl_set_free>>;
using ExprHandle = std::unique_ptr<nftnl_expr, FreeWith<&nftnl_expr_free>>;

template <typename Handle>
Handle owned(typename Handle::pointer allocated) {
  if (allocated == nullptr) throw std::bad_alloc();
  return Handle(allocated);
}

}  // namespace sluice::netfilter
