// How the C library keeps the heap.
#pragma once

namespace sluice::cli {

/// For a program that ends soon: the heap grows in few large steps, and what is freed stays in it. Each step is a
/// system call, and what goes back to the kernel comes again as fresh pages. Does nothing where the C library is not
/// glibc.
void keep_heap();

}  // namespace sluice::cli
