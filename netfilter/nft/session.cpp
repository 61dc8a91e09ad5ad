#include "netfilter/nft/session.hpp"

#include <arpa/inet.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <thread>

#include "netfilter/attributes.hpp"
#include "netfilter/errors.hpp"
#include "netfilter/privileges.hpp"

namespace sluice::netfilter {
namespace {

[[noreturn]] void throw_refusal(const Refusal& refusal, const std::string& step) {
  std::string remedy;
  if (refusal.error == EPERM) remedy = remedy_for_denial();
  if (refusal.error == EINVAL || refusal.error == EOPNOTSUPP) {
    // nfnetlink.c:nfnetlink_rcv_msg answers EINVAL for a subsystem that is not there.
    throw KernelError(KernelError::Kind::missing_feature, refusal.error, step, refusal.text,
                      "this kernel lacks nf_tables: load the module on the node, or use --backend iptables");
  }
  throw KernelError(refusal.error, step, refusal.text, remedy);
}

}  // namespace

NftSession::NftSession(std::chrono::milliseconds patience) : socket_(NETLINK_NETFILTER), patience_(patience) {}

std::uint32_t NftSession::generation() {
  std::optional<std::uint32_t> found;
  ask(
      NFT_MSG_GETGEN, AF_UNSPEC, NetlinkSocket::Answer::one, "read the ruleset generation", [](nlmsghdr*) {},
      [&](const nlmsghdr& reply) {
        const auto attributes = Attributes::after<nfgenmsg>(reply);
        if (attributes.has(NFTA_GEN_ID)) found = attributes.number(NFTA_GEN_ID);
      });
  if (!found) throw KernelError(EPROTO, "read the ruleset generation");
  return *found;
}

void NftSession::begin_reading(std::uint32_t at) {
  begun_at_ = at;
  consistent_ = true;
  heard_nothing_ = false;
}

bool NftSession::consistent() {
  if (consistent_ && heard_nothing_) consistent_ = generation() == begun_at_;
  heard_nothing_ = false;
  return consistent_;
}

bool NftSession::ask(std::uint16_t type, std::uint8_t family, NetlinkSocket::Answer answer, const std::string& step,
                     const std::function<void(nlmsghdr*)>& fill,
                     const std::function<void(const nlmsghdr&)>& on_message) {
  Message message;
  put_nfnetlink_header(message.header(), NFNL_SUBSYS_NFTABLES << 8U | type, family);
  fill(message.header());
  NetlinkSocket::Status status{};
  bool answered = false;
  const auto ask_once = [&] {
    return socket_.request(
        message, answer,
        [&](const nlmsghdr& reply) {
          answered = true;
          note_generation(reply);
          on_message(reply);
        },
        status);
  };
  auto refusal = ask_once();
  // A lost single answer is asked for again; a dump that is not whole makes the whole reading start anew.
  for (int again = 0; again < read_limit && answer == NetlinkSocket::Answer::one && !refusal &&
                      status == NetlinkSocket::Status::inconsistent;
       ++again) {
    refusal = ask_once();
  }
  if (status == NetlinkSocket::Status::inconsistent) consistent_ = false;
  heard_nothing_ = heard_nothing_ || !answered;
  if (!refusal) return true;
  if (refusal->error == ENOENT) return false;
  if (refusal->error == EINTR || refusal->error == EAGAIN) {
    consistent_ = false;
    return true;
  }
  throw_refusal(*refusal, step);
}

/// Every answer carries the low 16 bits of the generation it was read in (nf_tables_api.c: nft_base_seq).
void NftSession::note_generation(const nlmsghdr& reply) {
  const auto* header = header_of<nfgenmsg>(reply);
  if (header != nullptr && ntohs(header->res_id) != static_cast<std::uint16_t>(begun_at_)) consistent_ = false;
}

NftSession::Attempts::Attempts(const NftSession& session, std::string step)
    : deadline_(std::chrono::steady_clock::now() + session.patience_), step_(std::move(step)) {}

void NftSession::Attempts::wait_or_give_up() {
  if (number_ > 0 && std::chrono::steady_clock::now() >= deadline_) {
    throw KernelError(EAGAIN, step_, "the ruleset of this namespace keeps changing",
                      "another program writes nftables rules here all the time; stop it, or raise --lock-timeout");
  }
  // Whoever is in the way needs a moment; a little more each time, so that many do not stay in step.
  std::this_thread::sleep_for(std::chrono::microseconds(200) * std::min(number_++, 100U));
}

}  // namespace sluice::netfilter
