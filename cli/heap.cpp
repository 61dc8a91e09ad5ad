#include "cli/heap.hpp"

#include <cstdlib>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace sluice::cli {

void keep_heap() {
#ifdef __GLIBC__
  mallopt(M_TOP_PAD, 512 * 1024);
  mallopt(M_TRIM_THRESHOLD, 64 * 1024 * 1024);
  mallopt(M_MMAP_THRESHOLD, 32 * 1024 * 1024);
#endif
}

}  // namespace sluice::cli
