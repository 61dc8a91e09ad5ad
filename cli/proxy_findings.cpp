#include <algorithm>
#include <map>
#include <set>

#include "cli/findings.hpp"
#include "netfilter/errors.hpp"
#include "netfilter/namespace_keeper.hpp"
#include "netfilter/namespaces.hpp"
#include "netfilter/system_files.hpp"
#include "rules/compile.hpp"
#include "rules/text.hpp"

namespace sluice::cli {
namespace {

using netfilter::Listener;
using netfilter::Process;

enum class Way { outbound, inbound };

std::string_view to_text(Way way) { return way == Way::outbound ? "outbound" : "inbound"; }

/// Where no address leads out of the namespace in that family, there is nothing to miss.
bool is_used(Family family) {
  try {
    return netfilter::has_global_address(family);
  } catch (const netfilter::KernelError&) {
    return true;
  }
}

/// A listener takes redirected connections where it is on every address, or on the one that REDIRECT and TPROXY look
/// for (nf_nat_redirect.c, nf_tproxy_ipv4.c): loopback for what was made here, the interface's own for what arrives.
bool takes(const Listener& listener, Family family, Way way) {
  if (listener.on_one_interface || listener.both_families) return true;
  if (family_of(listener.address) != family) return false;
  if (listener.address == IpAddress(Ipv4{}) || listener.address == IpAddress(Ipv6{})) return true;
  const auto* four = std::get_if<Ipv4>(&listener.address);
  const bool loopback = four != nullptr ? four->value >> 24U == 127 : listener.address == IpAddress(Ipv6{0, 1});
  const bool as_redirected =
      listener.address == IpAddress(Ipv4{0x7f000001U}) || listener.address == IpAddress(Ipv6{0, 1});
  return way == Way::outbound ? as_redirected : !loopback;
}

class ProxyExamination {
 public:
  ProxyExamination(const Settings& settings, const Scene& scene) : s(settings), scene_(scene) {}

  std::vector<Finding> run() {
    way(Way::outbound, s.proxy_port);
    if (s.inbound_mode != InboundMode::off) way(Way::inbound, s.inbound_port);
    // By which user the proxy is known says nothing where it is known by something else as well.
    if (scene_.numbered_elsewhere || s.proxy_uids.empty()) return std::move(findings_);
    listeners_user();
    strangers();
    return std::move(findings_);
  }

 private:
  void note(const std::string& check, Severity severity, const std::string& detail, const std::string& remedy = {}) {
    findings_.push_back({check, severity, detail, remedy});
  }

  [[nodiscard]] std::vector<Listener> on(Port port) const {
    std::vector<Listener> found;
    for (const Listener& one : scene_.listeners.value_or(std::vector<Listener>())) {
      if (one.port == port) found.push_back(one);
    }
    return found;
  }

  // --- Is somebody there? ------------------------------------------------------------------------------------------------

  void way(Way way, Port port) {
    const std::string text =
        std::string(to_text(way)) + " connections go to port " + std::to_string(port.number()) + ", ";
    const std::vector<Listener> here = on(port);
    const bool somebody = scene_.listeners ? !here.empty() : netfilter::listening_ports().contains(port);
    if (!somebody) {
      note("proxy", Severity::warning, text + "where nothing listens: they would be refused",
           "no matter in an init container, which runs before the proxy; else start the proxy, or mend --proxy-port "
           "and --inbound-port");
      return;
    }
    for (const Family family : {Family::ipv4, Family::ipv6}) {
      if (!scene_.listeners || !captures(s, family) || !is_used(family)) continue;
      const bool taken =
          std::any_of(here.begin(), here.end(), [&](const Listener& one) { return takes(one, family, way); });
      if (!taken) return missed(way, text, family, here);
    }
    note("proxy", Severity::ok, text + "and something listens there");
  }

  void missed(Way way, const std::string& text, Family family, const std::vector<Listener>& here) {
    std::vector<std::string> addresses;
    addresses.reserve(here.size());
    for (const Listener& one : here) addresses.push_back(sluice::to_text(one.address));
    const bool four = family == Family::ipv4;
    const std::string arrives = way == Way::inbound ? "at the address of the interface that they come in by"
                                : four              ? "at 127.0.0.1"
                                                    : "at ::1";
    note("proxy", Severity::warning,
         text + "where something listens on " + join(addresses, ", ") + " only; over " + (four ? "IPv4" : "IPv6") +
             " they arrive " + arrives + ", and would be refused",
         std::string("let the proxy listen on ") + (four ? "0.0.0.0" : "::"));
  }

  // --- Who is taken for it? ----------------------------------------------------------------------------------------------

  [[nodiscard]] std::vector<Listener> proxy_listeners() const {
    std::vector<Listener> found = on(s.proxy_port);
    if (s.inbound_mode == InboundMode::off || s.inbound_port == s.proxy_port) return found;
    const std::vector<Listener> inbound = on(s.inbound_port);
    found.insert(found.end(), inbound.begin(), inbound.end());
    return found;
  }

  void listeners_user() {
    if (!s.proxy_gids.empty() || s.proxy_mark) return;
    for (const Listener& one : proxy_listeners()) {
      if (s.proxy_uids.contains(Uid{one.user})) continue;
      note("proxy-user", Severity::warning,
           "user " + std::to_string(one.user) + " listens on port " + std::to_string(one.port.number()) +
               ", whom --proxy-uid does not name: what it connects to would be captured and come back to it",
           "run the proxy as the user that --proxy-uid names, or name its own");
      return;
    }
  }

  /// The first of its ancestors that is one of the proxy's users, too: who started the others. Ends, because each step
  /// takes one away.
  [[nodiscard]] pid_t head_of(const Process& process) const {
    std::map<pid_t, pid_t> parents;
    for (const Process& one : scene_.processes) parents[one.number] = one.parent;
    pid_t head = process.number;
    while (true) {
      const auto found = parents.find(head);
      const pid_t parent = found == parents.end() ? 0 : found->second;
      if (found != parents.end()) parents.erase(found);
      if (!parents.contains(parent)) return head;
      head = parent;
    }
  }

  [[nodiscard]] bool is_proxy(const Process& process) const {
    const auto sockets = process.sockets.value_or(std::vector<std::uint32_t>());
    const auto listeners = proxy_listeners();
    return std::any_of(listeners.begin(), listeners.end(), [&](const Listener& one) {
      return std::find(sockets.begin(), sockets.end(), one.inode) != sockets.end();
    });
  }

  /// A proxy is often several processes, of which one listens: what it started, and what started it, are not others.
  void strangers() {
    std::set<pid_t> proxy;
    for (const Process& process : scene_.processes) {
      if (is_proxy(process)) proxy.insert(head_of(process));
    }
    std::vector<std::string> names;
    std::set<Uid> users;
    bool all_seen = scene_.listeners.has_value();
    for (const Process& process : scene_.processes) {
      const pid_t head = head_of(process);
      if (proxy.contains(head)) continue;
      all_seen = all_seen && process.sockets;
      users.insert(process.user);
      if (head == process.number) names.push_back(std::to_string(head) + " " + quoted(process.name));
    }
    if (names.empty()) return;
    const bool may_be_the_proxy = proxy.empty() && !all_seen && !(scene_.listeners && proxy_listeners().empty());
    if (may_be_the_proxy && names.size() == 1) return;
    strangers_found(names, users, may_be_the_proxy);
  }

  void strangers_found(std::vector<std::string> names, const std::set<Uid>& users, bool may_be_the_proxy) {
    constexpr std::size_t most = 5;
    if (names.size() > most) {
      const std::size_t rest = names.size() - most;
      names.resize(most);
      names.push_back("and " + std::to_string(rest) + " more");
    }
    std::vector<std::string> numbers;
    numbers.reserve(users.size());
    for (const Uid user : users) numbers.push_back(std::to_string(user.number));
    note(
        "proxy-user", may_be_the_proxy ? Severity::info : Severity::warning,
        "these processes run as user " + join(numbers, ", ") + ", as the proxy does" +
            (may_be_the_proxy ? ", and which of them is the proxy cannot be seen without CAP_SYS_PTRACE: "
                              : ", and are not the proxy, so what they connect to is not captured: ") +
            join(names, ", "),
        "run them as another user, or tell the proxy by --proxy-mark (and --proxy-uid empty), which they cannot forge");
  }

  const Settings& s;
  const Scene& scene_;
  std::vector<Finding> findings_;
};

}  // namespace

Scene look_around(const Settings& settings) {
  return {netfilter::listeners(), netfilter::processes_of(settings.proxy_uids),
          netfilter::network_owner() == netfilter::NetworkOwner::inner};
}

std::vector<Finding> proxy_findings(const Settings& settings, const Scene& scene) {
  return ProxyExamination(settings, scene).run();
}

}  // namespace sluice::cli
