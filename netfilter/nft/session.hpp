// A conversation with nf_tables: questions, each answered in a known generation of the ruleset.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "netfilter/netlink.hpp"

namespace sluice::netfilter {

class NftSession {
 public:
  /// Opens a netlink socket in the calling thread's network namespace. `patience` bounds how long a transaction is
  /// retried against concurrent changes. Throws KernelError.
  explicit NftSession(std::chrono::milliseconds patience);

  [[nodiscard]] NetlinkSocket& socket() { return socket_; }
  /// Goes on with a new socket. Throws KernelError.
  void reopen() { socket_.renew(); }

  /// The ruleset generation of the namespace, which every transaction increments (NFT_MSG_GETGEN). Throws KernelError.
  std::uint32_t generation();

  /// What is asked from now on is meant to be the state in generation `at`.
  void begin_reading(std::uint32_t at);
  /// Whether nothing changed since, and no answer was lost. Asks once more where "nothing there" was an answer, which
  /// carries no generation. Throws KernelError.
  [[nodiscard]] bool consistent();

  /// Asks nf_tables; false where the object is not there. `type` is NFT_MSG_GET*, `family` NFPROTO_*. Throws
  /// KernelError.
  bool ask(std::uint16_t type, std::uint8_t family, NetlinkSocket::Answer answer, const std::string& step,
           const std::function<void(nlmsghdr*)>& fill, const std::function<void(const nlmsghdr&)>& on_message);

  /// For a loop that tries until it succeeds: waits a little before the next attempt, or throws KernelError where
  /// patience is at its end.
  class Attempts {
   public:
    Attempts(const NftSession& session, std::string step);
    void wait_or_give_up();

   private:
    std::chrono::steady_clock::time_point deadline_;
    std::string step_;
    unsigned number_ = 0;
  };

 private:
  void note_generation(const nlmsghdr& reply);

  NetlinkSocket socket_;
  std::chrono::milliseconds patience_;
  // Of the reading under way:
  std::uint32_t begun_at_ = 0;
  bool consistent_ = true;
  bool heard_nothing_ = false;
};

/// The generation of a namespace in which no transaction was ever committed, so that its ruleset is empty
/// (nf_tables_api.c: nf_tables_init_net). It does not come again: the count goes on from there.
inline constexpr std::uint32_t untouched_generation = 1;

/// How often something that changed meanwhile is read again.
inline constexpr int read_limit = 100;

}  // namespace sluice::netfilter
