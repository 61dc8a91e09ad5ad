// A transaction of nf_tables: everything in it happens, or nothing.
#pragma once

#include <libmnl/libmnl.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "netfilter/netlink.hpp"

namespace sluice::netfilter {

/// What one message of a batch asks for, in words.
struct Label {
  std::string what;
  std::string missing;  ///< what the kernel lacks if it answers "not there" or "not supported"
};

/// Finished and ready to send; only OpenBatch::seal makes one.
class SealedBatch {
 public:
  enum class Result {
    committed,
    outdated,  ///< ERESTART: the ruleset changed since the generation the batch was made for; nothing was done
    unknown,   ///< the answer was lost: look
  };
  /// Sends the batch and drains every answer. Throws KernelError, naming the object that was refused, where nothing was
  /// done.
  Result send(NetlinkSocket& socket) const;

  /// Sends the batch and returns every refusal, by sequence number relative to the first message added; for batches
  /// that are made to be refused. Nothing where the answer was lost.
  std::optional<std::vector<Refusal>> send_for_refusals(NetlinkSocket& socket) const;

  /// Whole messages, each at a multiple of NLMSG_ALIGNTO.
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  friend class OpenBatch;
  [[noreturn]] void refuse(const Refusal& refusal) const;

  std::vector<std::byte> bytes_;
  std::vector<std::function<Label()>> steps_;  ///< by sequence number, from first_sequence_ on
  std::uint32_t first_sequence_ = 0;
};

class OpenBatch {
 public:
  /// Bound to ruleset generation `generation` (NFNL_BATCH_GENID): a later one makes the kernel refuse the batch.
  OpenBatch(NetlinkSocket& socket, std::uint32_t generation);

  /// Appends one message of type NFT_MSG_`type` with NLM_F_`flags` for table family NFPROTO_`family`; `fill` adds its
  /// attributes, for which there are `room` bytes. `label` is called only where the kernel refuses; what it refers to
  /// must live until the batch has been sent.
  void add(std::uint8_t family, std::uint16_t type, std::uint16_t flags, std::function<Label()> label,
           const std::function<void(nlmsghdr*)>& fill, std::size_t room = usual_room);

  /// Adds the end mark.
  SealedBatch seal() &&;

  /// Enough for everything but the elements of a set.
  static constexpr std::size_t usual_room = 4096;

 private:
  void make_room(std::size_t room);
  nlmsghdr* begin_message(std::uint16_t type, std::uint16_t flags, std::uint8_t family, std::uint16_t resource);
  void append();

  NetlinkSocket& socket_;
  std::vector<char> scratch_;  // a message under construction; zero from its end on
  std::size_t last_message_at_ = 0;
  SealedBatch batch_;
};

}  // namespace sluice::netfilter
