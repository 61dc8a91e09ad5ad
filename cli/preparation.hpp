// What every command that talks to the kernel does first.
#pragma once

#include <optional>

#include "cli/exit_code.hpp"
#include "cli/log.hpp"
#include "netfilter/backend.hpp"
#include "rules/config.hpp"
#include "rules/iptables.hpp"

namespace sluice::cli {

/// Enters --netns, asks `check` whether that is the right place, drops every privilege but CAP_NET_ADMIN, and sees that
/// one is there. Anything but `done` has been explained to the user. Throws KernelError.
ExitCode stand_in_namespace(const Settings& settings, const Log& log,
                            ExitCode (*check)(const Settings&, const Log&) = nullptr);

/// The backends that the settings allow.
netfilter::BackendWish wish(const Settings& settings);

/// The rules in iptables' terms; nothing, with an explanation, where that would take too many of them.
std::optional<IptablesRuleset> iptables_rules(const Ruleset& ruleset, const Log& log);

}  // namespace sluice::cli
