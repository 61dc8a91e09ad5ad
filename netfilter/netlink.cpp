#include "netfilter/netlink.hpp"

#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "netfilter/errors.hpp"
#include "netfilter/privileges.hpp"

namespace sluice::netfilter {
namespace {

// Netlink dumps fill buffers of up to 32 KiB (NLMSG_GOODSIZE and the reader's own size, af_netlink.c:netlink_dump).
constexpr std::size_t inbox_size = 32 * 1024;
constexpr int interrupted_limit = 1000;
// The kernel reports an overrun once, and then what is still queued.
constexpr int overrun_limit = 100;

/// What security modules answer to a call that they do not allow.
bool denied(int error) { return error == EPERM || error == EACCES; }

}  // namespace

void put_nfnetlink_header(nlmsghdr* message, unsigned type, std::uint8_t family, std::uint16_t resource) {
  message->nlmsg_type = static_cast<std::uint16_t>(type);
  auto* generic = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(message, sizeof(nfgenmsg)));
  generic->nfgen_family = family;
  generic->version = NFNETLINK_V0;
  generic->res_id = htons(resource);
}

NetlinkSocket::NetlinkSocket(int bus)
    : bus_(bus),
      socket_(mnl_socket_open2(bus, SOCK_CLOEXEC)),
      inbox_(std::make_unique_for_overwrite<std::byte[]>(inbox_size)) {
  if (!socket_) {
    const int error = errno;
    throw KernelError(error, "open a netlink socket", {},
                      denied(error) ? remedy_for_denial() : "the kernel must be built with CONFIG_NETFILTER_NETLINK");
  }
  // The kernel gives it an address with the first request (af_netlink.c:netlink_sendmsg). Both options are refinements:
  // an old kernel without them still answers, only more tersely or at greater length.
  int on = 1;
  mnl_socket_setsockopt(socket_.get(), NETLINK_EXT_ACK, &on, sizeof on);
  mnl_socket_setsockopt(socket_.get(), NETLINK_CAP_ACK, &on, sizeof on);
}

void NetlinkSocket::renew() {
  NetlinkSocket fresh(bus_);
  socket_ = std::move(fresh.socket_);
  send_room_ = 0;
}

void NetlinkSocket::send(std::span<const std::byte> datagram) {
  constexpr std::size_t usual_room = 128 * 1024;
  if (datagram.size() > usual_room && datagram.size() > send_room_) {
    // A transaction is one datagram, however large. The forced size needs CAP_NET_ADMIN in the first user namespace;
    // elsewhere net.core.wmem_max is the limit.
    const int wanted = static_cast<int>(datagram.size() + 4096);
    if (setsockopt(descriptor(), SOL_SOCKET, SO_SNDBUFFORCE, &wanted, sizeof wanted) != 0) {
      setsockopt(descriptor(), SOL_SOCKET, SO_SNDBUF, &wanted, sizeof wanted);
    }
    send_room_ = datagram.size();
  }
  for (int attempt = 0;; ++attempt) {
    if (mnl_socket_sendto(socket_.get(), datagram.data(), datagram.size()) >= 0) return;
    if (errno == EINTR && attempt < interrupted_limit) continue;
    const std::string step = "send " + std::to_string(datagram.size()) + " bytes over netlink";
    if (errno == EMSGSIZE) {
      throw KernelError(errno, step, {}, "raise net.core.wmem_max on the node above that size, or shorten the lists");
    }
    const int error = errno;
    throw KernelError(error, step, {}, denied(error) ? remedy_for_denial() : "");
  }
}

NetlinkSocket::Read NetlinkSocket::receive() {
  for (int attempt = 0;; ++attempt) {
    const ssize_t length = recv(descriptor(), inbox_.get(), inbox_size, MSG_TRUNC | MSG_DONTWAIT);
    if (length >= 0 && static_cast<std::size_t>(length) <= inbox_size) {
      inbox_length_ = static_cast<std::size_t>(length);
      return Read::data;
    }
    if (length >= 0) return Read::overrun;
    if (errno == EINTR && attempt < interrupted_limit) continue;
    if (errno == EAGAIN) return Read::nothing;
    if (errno == ENOBUFS) return Read::overrun;
    throw KernelError(errno, "receive from netlink");
  }
}

std::optional<Refusal> NetlinkSocket::request(Message& message, Answer answer,
                                              const std::function<void(const nlmsghdr&)>& on_message, Status& status) {
  nlmsghdr* header = message.header();
  header->nlmsg_seq = next_sequence();
  header->nlmsg_flags |= NLM_F_REQUEST;
  if (answer == Answer::dump) header->nlmsg_flags |= NLM_F_DUMP;
  if (answer == Answer::acknowledgement) header->nlmsg_flags |= NLM_F_ACK;
  send(message.bytes());

  status = Status::complete;
  std::optional<Refusal> refusal;
  bool done = false;
  int overruns = 0;
  while (!done) {
    const Read read = receive();
    if (read == Read::nothing) {
      status = Status::inconsistent;
      // The kernel refuses a dump while another one is under way on the same socket.
      if (answer == Answer::dump) renew();
      return std::nullopt;
    }
    if (read == Read::overrun) {
      // What is still queued is read to its end all the same: a dump under way would stand in the next one's way.
      status = Status::inconsistent;
      if (++overruns < overrun_limit) continue;
      renew();
      return std::nullopt;
    }
    if (inbox().empty() || !is_whole(inbox())) status = Status::inconsistent;
    for_each_message(inbox(), [&](const nlmsghdr& reply) {
      if (reply.nlmsg_seq != header->nlmsg_seq) return true;
      if ((reply.nlmsg_flags & NLM_F_DUMP_INTR) != 0) status = Status::inconsistent;
      if (reply.nlmsg_type == NLMSG_DONE) {
        done = true;
      } else if (reply.nlmsg_type == NLMSG_ERROR) {
        done = true;
        if (Refusal found = refusal_in(reply); found.error != 0) refusal = std::move(found);
      } else {
        on_message(reply);
        done = answer == Answer::one;
      }
      return !done;
    });
  }
  return refusal;
}

std::optional<Refusal> NetlinkSocket::dump(Message& message, const std::string& step,
                                           const std::function<void()>& start_over,
                                           const std::function<void(const nlmsghdr&)>& on_message) {
  constexpr int read_limit = 100;
  for (int attempt = 0; attempt < read_limit; ++attempt) {
    start_over();
    Status status{};
    auto refusal = request(message, Answer::dump, on_message, status);
    if (refusal || status == Status::complete) return refusal;
  }
  throw KernelError(EAGAIN, step, "they keep changing");
}

Refusal refusal_in(const nlmsghdr& message) {
  Refusal refusal;
  refusal.sequence = message.nlmsg_seq;
  if (mnl_nlmsg_get_payload_len(&message) < sizeof(nlmsgerr)) {
    refusal.error = EPROTO;
    return refusal;
  }
  const auto* error = static_cast<const nlmsgerr*>(mnl_nlmsg_get_payload(&message));
  refusal.error = -error->error;
  if ((message.nlmsg_flags & NLM_F_ACK_TLVS) == 0) return refusal;
  std::size_t offset = sizeof(nlmsgerr);
  if ((message.nlmsg_flags & NLM_F_CAPPED) == 0) offset += error->msg.nlmsg_len - sizeof(nlmsghdr);
  for_each_attribute(message, offset, [&](const nlattr& attribute) {
    if (mnl_attr_get_type(&attribute) == NLMSGERR_ATTR_MSG && mnl_attr_validate(&attribute, MNL_TYPE_NUL_STRING) >= 0) {
      refusal.text = mnl_attr_get_str(&attribute);
    }
  });
  return refusal;
}

bool is_whole(std::span<const std::byte> datagram) {
  while (datagram.size() >= sizeof(nlmsghdr)) {
    nlmsghdr header{};
    std::memcpy(&header, datagram.data(), sizeof header);
    if (header.nlmsg_len < sizeof header || header.nlmsg_len > datagram.size()) return false;
    datagram = datagram.subspan(std::min(aligned(header.nlmsg_len), datagram.size()));
  }
  return datagram.empty();
}

// Not with mnl_nlmsg_ok, which takes a length from 2 GiB on for a negative one and so for short enough (libmnl's
// nlmsg.c).
bool for_each_message(std::span<const std::byte> datagram, const std::function<bool(const nlmsghdr&)>& visit) {
  while (datagram.size() >= sizeof(nlmsghdr)) {
    const auto* message = reinterpret_cast<const nlmsghdr*>(datagram.data());
    const std::size_t length = message->nlmsg_len;
    if (length < sizeof(nlmsghdr) || length > datagram.size()) return true;
    if (!visit(*message)) return false;
    datagram = datagram.subspan(std::min(aligned(length), datagram.size()));
  }
  return true;
}

}  // namespace sluice::netfilter
