#include "netfilter/listeners.hpp"

#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <cstring>

#include "netfilter/attributes.hpp"
#include "netfilter/errors.hpp"
#include "netfilter/netlink.hpp"

namespace sluice::netfilter {
namespace {

/// `words` is in network order; IPv4 has the first of its four.
template <typename Address>
Address address_in(const __be32 (&words)[4]) {
  typename Address::Bytes bytes{};
  std::memcpy(bytes.data(), words, bytes.size());
  return from_bytes(bytes);
}

/// ::ffff:a.b.c.d is how a socket for IPv6 says that it is bound to a.b.c.d.
IpAddress unmapped(Ipv6 address) {
  const bool mapped = address.high == 0 && address.low >> 32U == 0xffff;
  return mapped ? IpAddress(Ipv4{static_cast<std::uint32_t>(address.low)}) : IpAddress(address);
}

std::optional<Listener> listener_in(const nlmsghdr& message) {
  const auto* socket = header_of<inet_diag_msg>(message);
  if (socket == nullptr || socket->idiag_state != TCP_LISTEN) return std::nullopt;
  const auto port = Port::from(ntohs(socket->id.idiag_sport));
  if (!port) return std::nullopt;
  Listener found{Ipv4{}, *port, false, socket->id.idiag_if != 0, socket->idiag_uid, socket->idiag_inode};
  if (socket->idiag_family == AF_INET) {
    found.address = address_in<Ipv4>(socket->id.idiag_src);
    return found;
  }
  const auto address = address_in<Ipv6>(socket->id.idiag_src);
  found.address = unmapped(address);
  // Kernels before 4.8 do not tell; there sockets are as they are unless asked otherwise.
  found.both_families = address == Ipv6{} && Attributes::after<inet_diag_msg>(message).byte(INET_DIAG_SKV6ONLY) == 0;
  return found;
}

/// False where the kernel does not answer such questions.
bool add_listeners(NetlinkSocket& socket, unsigned char family, std::vector<Listener>& found) {
  Message message;
  message.header()->nlmsg_type = SOCK_DIAG_BY_FAMILY;
  auto* request =
      static_cast<inet_diag_req_v2*>(mnl_nlmsg_put_extra_header(message.header(), sizeof(inet_diag_req_v2)));
  request->sdiag_family = family;
  request->sdiag_protocol = IPPROTO_TCP;
  request->idiag_states = 1U << TCP_LISTEN;
  const auto others = static_cast<std::ptrdiff_t>(found.size());
  const auto refusal = socket.dump(
      message, "list the listening sockets", [&] { found.erase(found.begin() + others, found.end()); },
      [&](const nlmsghdr& reply) {
        if (const auto listener = listener_in(reply)) found.push_back(*listener);
      });
  return !refusal;
}

}  // namespace

std::optional<std::vector<Listener>> listeners() {
  try {
    NetlinkSocket socket(NETLINK_SOCK_DIAG);
    std::vector<Listener> found;
    if (!add_listeners(socket, AF_INET, found)) return std::nullopt;
    // A kernel without IPv6 has no such sockets, and no answer either.
    add_listeners(socket, AF_INET6, found);
    return found;
  } catch (const KernelError&) {
    return std::nullopt;
  }
}

}  // namespace sluice::netfilter
