// What every backend does about a failure around its change: once more, and telling what was found instead.
#pragma once

#include "netfilter/errors.hpp"
#include "rules/drift.hpp"

namespace sluice::netfilter {

/// Does again what failed once. Throws the KernelError of the second time.
template <typename Action>
auto twice(const Action& action) {
  try {
    return action();
  } catch (const KernelError&) {
    return action();
  }
}

/// The error that rules which were just made read back otherwise: `found` is the first difference.
KernelError not_as_wanted(const Difference& found);

}  // namespace sluice::netfilter
