// What an apply came to.
#pragma once

namespace sluice::netfilter {

enum class Outcome { unchanged, created, replaced };

}  // namespace sluice::netfilter
