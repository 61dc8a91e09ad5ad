// A transaction of nf_tables: everything in it happens, or nothing.
#pragma once

#include <libmnl/libmnl.h>

#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "netfilter/netlink.hpp"
#include "netfilter/nft/handles.hpp"

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
  /// attributes. `label` is called only where the kernel refuses; what it refers to must live until the batch has been
  /// sent.
  void add(std::uint8_t family, std::uint16_t type, std::uint16_t flags, std::function<Label()> label,
           const std::function<void(nlmsghdr*)>& fill);

  /// Adds the end mark.
  SealedBatch seal() &&;

  /// The largest message that `fill` may make, in bytes.
  static constexpr std::size_t message_room = 128UL * 1024;

 private:
  nlmsghdr* begin_message(std::uint16_t type, std::uint16_t flags, std::uint8_t family, std::uint16_t resource);
  void append();

  NetlinkSocket& socket_;
  std::unique_ptr<char, FreeWith<&std::free>> scratch_;  // from calloc, which touches no page that it knows to be zero
  std::size_t last_message_at_ = 0;
  SealedBatch batch_;
};

}  // namespace sluice::netfilter
