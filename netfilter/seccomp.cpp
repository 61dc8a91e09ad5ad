#include "netfilter/seccomp.hpp"

#ifdef SLUICE_SECCOMP
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include <cerrno>
#include <span>
#include <system_error>

#include "seccomp_programs.inc"
#endif

namespace sluice::netfilter {

#if defined(SLUICE_SECCOMP) && !defined(SLUICE_NO_SECCOMP_PROGRAM)

std::string install_seccomp_filter(FileAccess access) {
  const std::span<const sock_filter> instructions = access == FileAccess::read
                                                        ? std::span<const sock_filter>(reading_program)
                                                        : std::span<const sock_filter>(writing_program);
  // The kernel only reads them, whatever the type says (kernel/seccomp.c:seccomp_prepare_filter copies).
  const sock_fprog program{static_cast<unsigned short>(instructions.size()),
                           const_cast<sock_filter*>(instructions.data())};
  // One thread, so nothing to synchronise. prctl(2), because it is older than seccomp(2) and does all that is needed.
  if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0) return {};
  return "the kernel does not take it (" + std::generic_category().message(errno) + ")";
}

#else

std::string install_seccomp_filter(FileAccess) { return "this sluice was built without one"; }

#endif

}  // namespace sluice::netfilter
