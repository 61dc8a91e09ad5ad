// Real connections through the rules of this namespace, without touching it: a scratch namespace gets a copy of its
// rules, a wire to another scratch namespace that plays the world, and listeners of its own.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "rules/evaluate.hpp"
#include "rules/namespace_state.hpp"

namespace sluice::netfilter {

/// The addresses of the scratch namespaces; RFC 5737 and RFC 3849 keep them for examples. The world answers on every
/// other address too.
struct ProbeAddresses {
  IpAddress pod;
  IpAddress world;
};
ProbeAddresses probe_addresses(Family family);

struct ProbePlan {
  std::string netns;                    ///< whose rules are copied, as --netns names it; empty: this one's
  NamespaceState state;                 ///< what the rules need besides; copied if the namespace has all of it
  std::vector<Port> proxy_ports;        ///< where the proxy would listen
  std::vector<Connection> connections;  ///< TCP, by eth0 or lo; the source is chosen by the kernel
  std::chrono::milliseconds timeout{};  ///< for all of them together
};

struct ProbeResult {
  enum class Landed {
    in_pod,     ///< a listener of the scratch pod accepted it
    in_world,   ///< it left, and the world accepted it
    refused,    ///< a TCP reset or an ICMP error came back
    nowhere,    ///< no answer came in time
    not_tried,  ///< `note` says why
  };
  Landed landed = Landed::not_tried;
  std::uint16_t port = 0;  ///< of the listener that accepted
  std::string original;    ///< the destination as that listener learns it (SO_ORIGINAL_DST), `192.0.2.1:80`
  std::string note;
};

/// One result for each connection. Forks; the child keeps its privileges, so that it can make namespaces and sockets of
/// other users (CAP_SYS_ADMIN, CAP_SETUID, CAP_SETGID), or else does so in a user namespace of its own, and is gone
/// after `timeout` and a moment. To be called before drop_privileges(). Throws KernelError where it cannot fork.
std::vector<ProbeResult> probe(const ProbePlan& plan);

}  // namespace sluice::netfilter
