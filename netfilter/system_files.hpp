// Files of the system that options refer to. Nothing here goes through NSS or the resolver.
#pragma once

#include "rules/config.hpp"

namespace sluice::netfilter {

/// Lookups that read /etc/passwd, /etc/group and /etc/resolv.conf, each at most once and only when asked.
Lookups system_lookups();

}  // namespace sluice::netfilter
