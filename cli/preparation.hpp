// What every command that talks to the kernel does first.
#pragma once

#include <functional>
#include <optional>

#include "cli/exit_code.hpp"
#include "cli/log.hpp"
#include "netfilter/backend.hpp"
#include "rules/config.hpp"
#include "rules/iptables.hpp"

namespace sluice::cli {

/// What is to be done in the right namespace while all privileges are there.
using Check = std::function<ExitCode(const Settings&, const Log&)>;

/// Enters --netns, asks `check` whether that is the right place, drops every privilege but CAP_NET_ADMIN, and sees that
/// one is there. From then on the seccomp filter holds, unless iptables' own programs may have to be started: because
/// rules of ours are in the old tables, or, for apply, because they may be the last resort. Anything but `done` has
/// been explained to the user. Throws KernelError.
ExitCode stand_in_namespace(const Settings& settings, const Log& log, const Check& check = {});

struct Footing {
  ExitCode code;
  bool helpers_possible;  ///< no seccomp filter holds yet
  netfilter::OldTables old_tables;
};
/// The same for apply. Once it is clear that no such program is needed, settle() makes up for what was kept for them,
/// where the kernel is still asked for anything.
Footing stand_in_namespace_to_apply(const Settings& settings, const Log& log, const Check& check);
void settle(const Settings& settings, const Log& log);

/// The backends that the settings allow.
netfilter::BackendWish wish(const Settings& settings);

/// The rules in iptables' terms; nothing, with an explanation, where that would take too many of them.
std::optional<IptablesRuleset> iptables_rules(const Ruleset& ruleset, const Log& log);

}  // namespace sluice::cli
