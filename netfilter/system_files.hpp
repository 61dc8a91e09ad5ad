// Files of the system that options refer to. Nothing here goes through NSS or the resolver.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rules/config.hpp"

namespace sluice::netfilter {

/// Lookups that read /etc/passwd, /etc/group and /etc/resolv.conf, each at most once and only when asked.
Lookups system_lookups();

// What those files say, from their text alone.
/// The number of a user or group: passwd(5) and group(5) agree in name, password, number. The first line with a number
/// that is an ID counts.
std::optional<std::uint32_t> id_in(std::string_view contents, std::string_view name);
/// The `nameserver` lines of resolv.conf(5), without zone indices.
std::vector<IpAddress> name_servers_in(std::string_view contents);
/// The ports of /proc/net/tcp on which something listens.
std::vector<Port> listening_ports_in(std::string_view contents);

/// The whole of a file of /proc; nothing where it cannot be read.
std::optional<std::string> file_text(const std::string& path);

/// The first line of such a file, without its end.
std::optional<std::string> first_line(const std::string& path);

/// TCP ports on which something listens in the namespace of the thread, whatever the address (/proc/net/tcp, tcp6).
Ranges<Port> listening_ports();

/// Sets net.netfilter.nf_conntrack_tcp_timeout_close_wait of the calling thread's network namespace. Returns 0 or a
/// positive errno: ENOENT where conntrack is not in use, EROFS or EACCES where /proc/sys is read-only.
int write_close_wait_timeout(std::chrono::seconds timeout);

}  // namespace sluice::netfilter
