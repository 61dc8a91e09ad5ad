#include "netfilter/read_back.hpp"

#include <cerrno>

namespace sluice::netfilter {

KernelError not_as_wanted(const Difference& found) {
  return {EPROTO,
          "read back the rules: " + found.kind + " in " + found.chain + " [" + found.rule + "]: expected " +
              found.expected + ", found " + found.found,
          {},
          "the new rules are not as they should be; please report this"};
}

}  // namespace sluice::netfilter
