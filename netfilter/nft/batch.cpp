#include "netfilter/nft/batch.hpp"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "netfilter/errors.hpp"
#include "netfilter/namespaces.hpp"
#include "netfilter/privileges.hpp"

namespace sluice::netfilter {
namespace {

bool says_missing(int error) {
  return error == ENOENT || error == EOPNOTSUPP || error == EAFNOSUPPORT || error == EPROTONOSUPPORT;
}

std::string remedy_for(int error, const std::string& missing) {
  if (error == EPERM) return remedy_for_denial();
  if (error == EINVAL && network_owner() == NetworkOwner::inner) {
    return "this network namespace belongs to another user namespace, and the kernel takes iptables' match of a user "
           "only from "
           "inside that: use --backend nftables, or --backend iptables, with which sluice enters it";
  }
  if (says_missing(error) && !missing.empty()) {
    return "this kernel lacks " + missing + ": load the module on the node, or use another --backend";
  }
  return {};
}

}  // namespace

OpenBatch::OpenBatch(NetlinkSocket& socket, std::uint32_t generation) : socket_(socket) {
  make_room(usual_room);
  batch_.bytes_.reserve(8192);
  nlmsghdr* begin = begin_message(NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  batch_.first_sequence_ = begin->nlmsg_seq;
  mnl_attr_put_u32(begin, NFNL_BATCH_GENID, htonl(generation));
  batch_.steps_.emplace_back([] { return Label{"commit the transaction", "nf_tables (CONFIG_NF_TABLES)"}; });
  append();
}

void OpenBatch::make_room(std::size_t room) {
  constexpr std::size_t headers = 64;
  if (scratch_.size() < room + headers) scratch_.resize(room + headers);
}

nlmsghdr* OpenBatch::begin_message(std::uint16_t type, std::uint16_t flags, std::uint8_t family,
                                   std::uint16_t resource) {
  nlmsghdr* message = mnl_nlmsg_put_header(scratch_.data());
  message->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  message->nlmsg_seq = socket_.next_sequence();
  put_nfnetlink_header(message, type, family, resource);
  return message;
}

void OpenBatch::append() {
  const auto* message = reinterpret_cast<const nlmsghdr*>(scratch_.data());
  const auto* bytes = reinterpret_cast<const std::byte*>(message);
  last_message_at_ = batch_.bytes_.size();
  batch_.bytes_.insert(batch_.bytes_.end(), bytes, bytes + message->nlmsg_len);
  batch_.bytes_.resize((batch_.bytes_.size() + NLMSG_ALIGNTO - 1) / NLMSG_ALIGNTO * NLMSG_ALIGNTO);
  // What stood here is not to show in the next message, where libmnl leaves the padding of attributes as it is.
  std::fill_n(scratch_.begin(), message->nlmsg_len, char{});
}

void OpenBatch::add(std::uint8_t family, std::uint16_t type, std::uint16_t flags, std::function<Label()> label,
                    const std::function<void(nlmsghdr*)>& fill, std::size_t room) {
  make_room(room);
  nlmsghdr* message = begin_message(static_cast<std::uint16_t>(NFNL_SUBSYS_NFTABLES << 8U | type), flags, family, 0);
  fill(message);
  batch_.steps_.push_back(std::move(label));
  append();
}

SealedBatch OpenBatch::seal() && {
  // The kernel answers a batch only where it is asked to or refuses: the last message asks, so that silence means that
  // an answer was lost. Kernels before 6.10 do not acknowledge the begin and end marks.
  nlmsghdr last{};
  std::memcpy(&last, batch_.bytes_.data() + last_message_at_, sizeof last);
  last.nlmsg_flags |= NLM_F_ACK;
  std::memcpy(batch_.bytes_.data() + last_message_at_, &last, sizeof last);
  begin_message(NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
  append();
  return std::move(batch_);
}

SealedBatch::Result SealedBatch::send(NetlinkSocket& socket) const {
  socket.send(bytes_);
  const std::uint32_t last_sequence = first_sequence_ + static_cast<std::uint32_t>(steps_.size()) - 1;
  std::optional<Refusal> first;
  bool acknowledged = false;
  const auto note = [&](const nlmsghdr& reply) {
    if (reply.nlmsg_type != NLMSG_ERROR || reply.nlmsg_seq - first_sequence_ >= steps_.size()) return true;
    Refusal answer = refusal_in(reply);
    if (answer.error == 0) acknowledged = acknowledged || answer.sequence == last_sequence;
    if (answer.error != 0 && !first) first = std::move(answer);
    return true;
  };
  try {
    // Answers come in the order of the messages (nfnetlink.c:nfnl_err_deliver), and the last message is always
    // answered.
    while (!acknowledged) {
      const NetlinkSocket::Read read = socket.receive();
      if (read == NetlinkSocket::Read::overrun) return Result::unknown;
      if (read == NetlinkSocket::Read::nothing) break;
      for_each_message(socket.inbox(), note);
    }
  } catch (const KernelError&) {
    return Result::unknown;  // What cannot be read is lost, too.
  }
  if (first && first->error == ERESTART) return Result::outdated;
  if (first && (first->error == EINTR || first->error == EAGAIN)) return Result::outdated;
  if (first) refuse(*first);
  return acknowledged ? Result::committed : Result::unknown;
}

std::optional<std::vector<Refusal>> SealedBatch::send_for_refusals(NetlinkSocket& socket) const {
  socket.send(bytes_);
  std::vector<Refusal> refusals;
  for (;;) {
    const NetlinkSocket::Read read = socket.receive();
    if (read == NetlinkSocket::Read::overrun) return std::nullopt;
    if (read == NetlinkSocket::Read::nothing) return refusals;
    for_each_message(socket.inbox(), [&](const nlmsghdr& reply) {
      if (reply.nlmsg_type != NLMSG_ERROR || reply.nlmsg_seq - first_sequence_ >= steps_.size()) return true;
      Refusal answer = refusal_in(reply);
      // The begin mark stands before the first message added.
      answer.sequence -= first_sequence_ + 1;
      if (answer.error != 0) refusals.push_back(std::move(answer));
      return true;
    });
  }
}

void SealedBatch::refuse(const Refusal& refusal) const {
  const Label step = steps_[refusal.sequence - first_sequence_]();
  const auto kind = refusal.error == EPERM                                 ? KernelError::Kind::missing_privilege
                    : says_missing(refusal.error) && !step.missing.empty() ? KernelError::Kind::missing_feature
                                                                           : KernelError::Kind::refused;
  throw KernelError(kind, refusal.error, step.what, refusal.text, remedy_for(refusal.error, step.missing));
}

}  // namespace sluice::netfilter
