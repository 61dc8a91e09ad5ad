#include "netfilter/nft/store.hpp"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

#include "netfilter/errors.hpp"
#include "netfilter/read_back.hpp"

namespace sluice::netfilter {
namespace {

// How often a mismatch is looked at again, and how long apart.
constexpr int second_looks = 20;
constexpr std::chrono::milliseconds between_looks{1};

/// Seen, not assumed. A mismatch in a later generation is the work of somebody who came right after; the next attempt
/// looks again. One in our own generation means that the kernel did something else than it was told, or that a
/// transaction of somebody else is being prepared, which shows in the kernel's use counts before it is committed.
/// `other` is null where it was empty before: the transaction was made for that state and added nothing to it.
bool seen(NftSession& session, NftStore& wanted, NftStore* other, const SealedBatch& sent, std::uint32_t committed) {
  std::vector<Difference> differences;
  for (int look = 0; look < second_looks; ++look) {
    if (look > 0) std::this_thread::sleep_for(between_looks);
    session.begin_reading(committed);
    wanted.read_back(session, sent);
    if (other != nullptr) other->read(session);
    if (!session.consistent()) return false;
    differences = wanted.differences();
    if (differences.empty() && (other == nullptr || !other->present())) return true;
  }
  if (differences.empty()) return false;
  throw not_as_wanted(differences.front());
}

/// What a loop of transactions has come to: as it was until one is sent, and again once one is known to be refused.
using Left = KernelError::Left;

Left left_after(SealedBatch::Result result) {
  switch (result) {
    case SealedBatch::Result::committed:
      return Left::as_wanted;
    case SealedBatch::Result::unknown:
      return Left::unknown;
    case SealedBatch::Result::outdated:
      break;
  }
  return Left::as_it_was;
}

/// Calls `attempt` until it returns something. What fails after a transaction was sent only hides what it did: looks
/// once more, through a new socket. `left` is kept by `attempt`.
template <typename Attempt>
auto until_done(NftSession& session, const std::string& step, const Left& left, const Attempt& attempt) {
  NftSession::Attempts attempts(session, step);
  for (bool looked_again = false;;) {
    try {
      if (auto result = attempt()) return *std::move(result);
      attempts.wait_or_give_up();
    } catch (const KernelError& error) {
      if (left == Left::as_it_was || looked_again) throw error.leaving(left);
      looked_again = true;
      session.reopen();
    }
  }
}

}  // namespace

std::uint32_t read_stores(NftSession& session, std::span<NftStore* const> stores) {
  for (int attempt = 0; attempt < read_limit; ++attempt) {
    const std::uint32_t at = session.generation();
    session.begin_reading(at);
    for (NftStore* store : stores) store->read(session);
    if (session.consistent()) return at;
  }
  throw KernelError(EAGAIN, "read the rules", "the ruleset of this namespace keeps changing");
}

Outcome install(NftSession& session, NftStore& wanted, NftStore& other) {
  Left left = Left::as_it_was;
  std::optional<Outcome> sent;
  return until_done(session, "apply the rules", left, [&]() -> std::optional<Outcome> {
    const std::uint32_t at = session.generation();
    session.begin_reading(at);
    // Stores that were never read hold nothing.
    if (at != untouched_generation) {
      wanted.read(session);
      other.read(session);
    }
    // Where nothing is there, the kernel tells whether that is still so: it refuses a batch for an older generation.
    if ((wanted.present() || other.present()) && !session.consistent()) return std::nullopt;
    if (!other.present() && wanted.differences().empty()) return sent.value_or(Outcome::unchanged);
    const Outcome outcome = wanted.present() || other.present() ? Outcome::replaced : Outcome::created;
    const bool was_in_other = other.present();
    const SealedBatch batch = [&] {
      OpenBatch open(session.socket(), at);
      if (was_in_other) other.add_removal(open);
      wanted.add_rules(open);
      return std::move(open).seal();
    }();
    left = Left::as_it_was;  // As has been seen just now, whatever became of the transaction before.
    const SealedBatch::Result result = batch.send(session.socket());
    left = left_after(result);
    if (result != SealedBatch::Result::outdated) sent = outcome;
    if (result != SealedBatch::Result::committed) return std::nullopt;
    if (!seen(session, wanted, was_in_other ? &other : nullptr, batch, at + 1)) return std::nullopt;
    return outcome;
  });
}

std::vector<std::string> remove(NftSession& session, std::span<NftStore* const> stores) {
  Left left = Left::as_it_was;
  std::vector<std::string> removed;
  return until_done(session, "remove the rules", left, [&]() -> std::optional<std::vector<std::string>> {
    const std::uint32_t at = read_stores(session, stores);
    std::vector<std::string> present;
    OpenBatch batch(session.socket(), at);
    for (NftStore* store : stores) {
      if (!store->present()) continue;
      std::ranges::move(store->removals(), std::back_inserter(present));
      store->add_removal(batch);
    }
    if (present.empty()) return removed;
    left = Left::as_it_was;
    const auto result = std::move(batch).seal().send(session.socket());
    left = left_after(result);
    if (result == SealedBatch::Result::committed) return present;
    if (result == SealedBatch::Result::unknown) removed = std::move(present);
    return std::nullopt;
  });
}

}  // namespace sluice::netfilter
