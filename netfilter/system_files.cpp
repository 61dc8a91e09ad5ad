#include "netfilter/system_files.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <memory>

#include "netfilter/descriptor.hpp"
#include "rules/text.hpp"

namespace sluice::netfilter {
namespace {

/// Empty where it cannot be read, which for these files means that it names nobody.
std::string contents_of(const char* path) { return file_text(path).value_or(std::string()); }

std::function<std::optional<std::uint32_t>(std::string_view)> lookup_in(const char* path) {
  return [path, contents = std::make_shared<std::optional<std::string>>()](std::string_view name) {
    if (!*contents) *contents = contents_of(path);
    return id_in(**contents, name);
  };
}

}  // namespace

std::optional<std::uint32_t> id_in(std::string_view contents, std::string_view name) {
  for (const std::string_view line : split(contents, '\n')) {
    const auto fields = split(line, ':');
    if (fields.size() < 3 || fields[0] != name) continue;
    const auto number = parse_number(fields[2]);
    if (number && *number <= std::numeric_limits<std::uint32_t>::max()) return static_cast<std::uint32_t>(*number);
  }
  return std::nullopt;
}

std::vector<IpAddress> name_servers_in(std::string_view contents) {
  std::vector<IpAddress> servers;
  for (const std::string_view line : split(contents, '\n')) {
    constexpr std::string_view keyword = "nameserver";
    if (line.substr(0, keyword.size()) != keyword) continue;
    const std::string_view rest = trimmed(line.substr(keyword.size()));
    const std::string_view address = rest.substr(0, rest.find_first_of("% \t\r"));
    if (const auto parsed = parse_address(address)) servers.push_back(*parsed);
  }
  return servers;
}

std::vector<Port> listening_ports_in(std::string_view contents) {
  std::vector<Port> ports;
  for (const std::string_view line : split(contents, '\n')) {
    // `  0: 00000000:3A99 00000000:0000 0A ...`: number, local address and port, remote, state (Documentation/
    // networking/proc_net_tcp.rst); 0A is TCP_LISTEN.
    const std::size_t colon = line.find(": ");
    if (colon == std::string_view::npos) continue;
    const auto fields = split(line.substr(colon + 2), ' ');
    if (fields.size() < 3 || fields[2] != "0A") continue;
    const std::string hex = "0x" + std::string(fields[0].substr(fields[0].find(':') + 1));
    const auto number = parse_hex_or_decimal(hex);
    if (const auto port = number ? Port::from(*number) : std::nullopt) ports.push_back(*port);
  }
  return ports;
}

std::optional<std::string> file_text(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.number() < 0) return std::nullopt;
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t length = read(file.number(), buffer, sizeof buffer);
    if (length == 0) return text;
    if (length < 0) return std::nullopt;
    text.append(buffer, static_cast<std::size_t>(length));
  }
}

std::optional<std::string> first_line(const std::string& path) {
  auto text = file_text(path);
  if (text) text->erase(std::min(text->find('\n'), text->size()));
  return text;
}

Ranges<Port> listening_ports() {
  std::vector<Range<Port>> ports;
  for (const char* path : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    for (const Port port : listening_ports_in(std::string_view(contents_of(path)))) ports.push_back({port, port});
  }
  return Ranges<Port>(std::move(ports));
}

int write_close_wait_timeout(std::chrono::seconds timeout) {
  const int descriptor = open("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait", O_WRONLY | O_CLOEXEC);
  if (descriptor < 0) return errno;
  const std::string text = std::to_string(timeout.count());
  const int error = write(descriptor, text.data(), text.size()) < 0 ? errno : 0;
  close(descriptor);
  return error;
}

Lookups system_lookups() {
  return {lookup_in("/etc/passwd"), lookup_in("/etc/group"),
          [] { return name_servers_in(contents_of("/etc/resolv.conf")); }};
}

}  // namespace sluice::netfilter
