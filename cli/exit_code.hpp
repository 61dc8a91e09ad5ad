// The single list of what each exit status means.
#pragma once

namespace sluice::cli {

enum class ExitCode {
  done = 0,
  refused = 1,      ///< the kernel or a helper program refused; nothing was changed unless the message says so
  bad_input = 2,    ///< nothing was touched
  drift = 3,        ///< verify, plan --diff: the kernel's rules are not those of this configuration
  unsupported = 4,  ///< a missing privilege or kernel feature, named with its remedy
  our_bug = 70,     ///< EX_SOFTWARE of sysexits.h: sluice itself is wrong
};

}  // namespace sluice::cli
