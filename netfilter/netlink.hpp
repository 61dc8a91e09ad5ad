// A netlink socket and the framing of its messages; the only file that calls mnl_socket_*.
#pragma once

#include <libmnl/libmnl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace sluice::netfilter {

/// A refusal by the kernel: a positive errno and the text of its extended ACK (NLMSGERR_ATTR_MSG, linux/netlink.h).
struct Refusal {
  std::uint32_t sequence = 0;
  int error = 0;
  std::string text;
};

/// One netlink message under construction. Grows never: `room` must hold the largest message.
class Message {
 public:
  explicit Message(std::size_t room = 1024) : bytes_(room) { header_ = mnl_nlmsg_put_header(bytes_.data()); }
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;

  [[nodiscard]] nlmsghdr* header() { return header_; }
  [[nodiscard]] std::span<const std::byte> bytes() const {
    return {reinterpret_cast<const std::byte*>(bytes_.data()), header_->nlmsg_len};
  }

 private:
  std::vector<char> bytes_;
  nlmsghdr* header_;
};

/// Makes a message that only has its header one to nfnetlink (linux/netfilter/nfnetlink.h): `type` is a subsystem and a
/// message of it (NFNL_SUBSYS_* << 8 | ...), `family` NFPROTO_*, `resource` in host order.
void put_nfnetlink_header(nlmsghdr* message, unsigned type, std::uint8_t family, std::uint16_t resource = 0);

class NetlinkSocket {
 public:
  /// `bus` is NETLINK_NETFILTER or NETLINK_ROUTE. Asks for extended ACKs that do not echo the request. Throws
  /// KernelError.
  explicit NetlinkSocket(int bus);

  /// Goes on with a new socket: what was on its way through the old one is forgotten. Throws KernelError.
  void renew();

  /// Sends one datagram, widening the send buffer to fit. Interrupted calls are repeated. Throws KernelError.
  void send(std::span<const std::byte> datagram);

  enum class Read { data, nothing, overrun };
  /// Receives one datagram into `inbox()`. Never waits: the kernel answers during the call of send() and queues the
  /// next part of a dump during that of receive() (af_netlink.c:netlink_recvmsg), so an answer that is not there was
  /// lost. `overrun` is ENOBUFS: answers were lost. Throws KernelError for everything else.
  Read receive();
  [[nodiscard]] std::span<const std::byte> inbox() const { return {inbox_.get(), inbox_length_}; }

  enum class Answer { one, dump, acknowledgement };
  /// inconsistent: NLM_F_DUMP_INTR, ENOBUFS, or an answer lost or cut off; ask again
  enum class Status { complete, inconsistent };
  /// Sends a request and hands every answering message to `on_message`. A refusal of the request is returned.
  /// Throws KernelError where the socket itself fails.
  std::optional<Refusal> request(Message& message, Answer answer,
                                 const std::function<void(const nlmsghdr&)>& on_message, Status& status);

  /// A dump, asked for until nothing changed while it was listed. `start_over` is called before each listing: what
  /// `on_message` was handed before does not count. Throws KernelError besides (EAGAIN, naming `step`) where it keeps
  /// changing.
  std::optional<Refusal> dump(Message& message, const std::string& step, const std::function<void()>& start_over,
                              const std::function<void(const nlmsghdr&)>& on_message);

  std::uint32_t next_sequence() { return ++sequence_; }

  /// Of the socket there is now: renew() changes it.
  [[nodiscard]] int descriptor() const { return mnl_socket_get_fd(socket_.get()); }

 private:
  struct Close {
    void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
  };
  int bus_;
  std::unique_ptr<mnl_socket, Close> socket_;
  std::unique_ptr<std::byte[]> inbox_;  // not zeroed: touching fresh pages is most of a short run's cost
  std::size_t inbox_length_ = 0;
  std::size_t send_room_ = 0;
  std::uint32_t sequence_ = 0;
};

/// The refusal or acknowledgement (error 0) in an NLMSG_ERROR message. nlmsgerr.error is a negative errno.
Refusal refusal_in(const nlmsghdr& message);

constexpr std::size_t aligned(std::size_t length) {
  return (length + NLMSG_ALIGNTO - 1) & ~(std::size_t{NLMSG_ALIGNTO} - 1);
}

/// libmnl's mnl_attr_get_payload and its like are calls into a library; these run some thousand times in an apply.
inline std::span<const std::byte> payload_of(const nlattr& attribute) {
  constexpr std::size_t header = aligned(sizeof(nlattr));
  return {reinterpret_cast<const std::byte*>(&attribute) + header, attribute.nla_len - header};
}
inline std::uint16_t type_of(const nlattr& attribute) {
  return attribute.nla_type & static_cast<std::uint16_t>(NLA_TYPE_MASK);
}

/// Calls `visit` for each well-formed attribute of a payload; stops at the first that is not.
template <typename Visit>
void for_each_attribute(std::span<const std::byte> payload, const Visit& visit) {
  while (payload.size() >= sizeof(nlattr)) {
    const auto* attribute = reinterpret_cast<const nlattr*>(payload.data());
    if (attribute->nla_len < sizeof(nlattr) || attribute->nla_len > payload.size()) return;
    visit(*attribute);
    payload = payload.subspan(std::min(aligned(attribute->nla_len), payload.size()));
  }
}

/// The same after the first `offset` bytes of a message's payload.
template <typename Visit>
void for_each_attribute(const nlmsghdr& message, std::size_t offset, const Visit& visit) {
  const std::size_t length = mnl_nlmsg_get_payload_len(&message);
  if (aligned(offset) > length) return;
  const auto* payload = static_cast<const std::byte*>(mnl_nlmsg_get_payload(&message));
  for_each_attribute({payload + aligned(offset), length - aligned(offset)}, visit);
}

/// Whether a datagram is whole messages and nothing else.
bool is_whole(std::span<const std::byte> datagram);

/// Calls `visit` for each whole message of a datagram; false where `visit` asked to stop.
bool for_each_message(std::span<const std::byte> datagram, const std::function<bool(const nlmsghdr&)>& visit);

}  // namespace sluice::netfilter
