// Everything that reads what the kernel says, through the doors by which sluice asks: the calls of libmnl and recv()
// are wrapped, and what they bring comes from the input. The first byte chooses what is asked; then come datagrams,
// each after its length in two bytes, whose messages get the sequence number of the question.
//
// Seeds are recorded, not imagined: SLUICE_FUZZ_RECORD=FOLDER netlink_fuzz asks the real kernel everything once, in the
// network namespace it is started in, and writes down what came.
#include <linux/netlink.h>
#include <sanitizer/asan_interface.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <functional>
#include <optional>

#include "netfilter/backend.hpp"
#include "netfilter/errors.hpp"
#include "netfilter/features.hpp"
#include "netfilter/foreign_chains.hpp"
#include "netfilter/namespace_keeper.hpp"
#include "netfilter/nft/rule_codec.hpp"
#include "netfilter/nft/store.hpp"
#include "netfilter/nft/xt_codec.hpp"
#include "rules/compile.hpp"
#include "rules/iptables.hpp"
#include "rules/namespace_state.hpp"
#include "rules/nft_text.hpp"
#include "rules/recover.hpp"
#include "tests/fuzz/support.hpp"

using namespace sluice;
using namespace sluice::netfilter;
using sluice::fuzz::require;

// --- The kernel ----------------------------------------------------------------------------------------------------------

namespace {

constexpr std::size_t overrun = 0xffff;      // instead of a length: answers were lost
constexpr std::size_t interrupted = 0xfffe;  // a signal

/// Adds to the sequence number of every message.
void number(std::span<std::byte> datagram, std::uint32_t sequence) {
  for_each_message(datagram, [&](const nlmsghdr& message) {
    const auto at = reinterpret_cast<const std::byte*>(&message) - datagram.data();
    reinterpret_cast<nlmsghdr*>(datagram.data() + at)->nlmsg_seq += sequence;
    return true;
  });
}

struct FakeKernel {
  std::string_view answers;
  std::uint32_t sequence = 0;        ///< of the last question
  std::string* recording = nullptr;  ///< where set, the real kernel is asked
  unsigned socket[16] = {};          ///< stands for a struct mnl_socket

  /// The next datagram, if there is one, in `length` bytes at most; or the errno.
  ssize_t next(std::byte* into, std::size_t length, bool wait) {
    if (answers.size() < 2) return at_the_end(into, length, wait);
    const auto low = static_cast<unsigned char>(answers[0]);
    const auto high = static_cast<unsigned char>(answers[1]);
    std::size_t size = static_cast<std::size_t>(high) << 8U | low;
    answers.remove_prefix(2);
    if (size == overrun || size == interrupted) {
      errno = size == overrun ? ENOBUFS : EINTR;
      return -1;
    }
    size = std::min({size, answers.size(), length});
    std::memcpy(into, answers.data(), size);
    answers.remove_prefix(size);
    number({into, size}, sequence);
    return static_cast<ssize_t>(size);
  }

 private:
  ssize_t at_the_end(std::byte* into, std::size_t length, bool wait) const {
    if (!wait || length < sizeof(nlmsghdr)) {
      errno = EAGAIN;
      return -1;
    }
    const nlmsghdr done{sizeof(nlmsghdr), NLMSG_DONE, NLM_F_MULTI, sequence, 0};
    std::memcpy(into, &done, sizeof done);
    return sizeof done;
  }
};

FakeKernel kernel;

}  // namespace

extern "C" {
mnl_socket* __real_mnl_socket_open2(int bus, int flags);
int __real_mnl_socket_close(mnl_socket* socket);
int __real_mnl_socket_setsockopt(const mnl_socket* socket, int type, void* value, socklen_t length);
int __real_mnl_socket_get_fd(const mnl_socket* socket);
ssize_t __real_mnl_socket_sendto(const mnl_socket* socket, const void* data, std::size_t length);
ssize_t __real_recv(int descriptor, void* buffer, std::size_t length, int flags);

mnl_socket* __wrap_mnl_socket_open2(int bus, int flags) {
  return kernel.recording != nullptr ? __real_mnl_socket_open2(bus, flags)
                                     : reinterpret_cast<mnl_socket*>(&kernel.socket);
}
int __wrap_mnl_socket_close(mnl_socket* socket) {
  return kernel.recording != nullptr ? __real_mnl_socket_close(socket) : 0;
}
int __wrap_mnl_socket_setsockopt(const mnl_socket* socket, int type, void* value, socklen_t length) {
  return kernel.recording != nullptr ? __real_mnl_socket_setsockopt(socket, type, value, length) : 0;
}
int __wrap_mnl_socket_get_fd(const mnl_socket* socket) {
  return kernel.recording != nullptr ? __real_mnl_socket_get_fd(socket) : -1;
}
ssize_t __wrap_mnl_socket_sendto(const mnl_socket* socket, const void* data, std::size_t length) {
  nlmsghdr first{};
  std::memcpy(&first, data, std::min(length, sizeof first));
  kernel.sequence = first.nlmsg_seq;
  return kernel.recording != nullptr ? __real_mnl_socket_sendto(socket, data, length) : static_cast<ssize_t>(length);
}

/// What lies behind the datagram is poisoned until the next one comes, so that reading on is seen.
ssize_t __wrap_recv(int descriptor, void* buffer, std::size_t length, int flags) {
  ASAN_UNPOISON_MEMORY_REGION(buffer, length);
  if (kernel.recording == nullptr) {
    const ssize_t got = kernel.next(static_cast<std::byte*>(buffer), length, (flags & MSG_DONTWAIT) == 0);
    const std::size_t used = got < 0 ? 0 : static_cast<std::size_t>(got);
    ASAN_POISON_MEMORY_REGION(static_cast<std::byte*>(buffer) + used, length - used);
    return got;
  }
  const ssize_t got = __real_recv(descriptor, buffer, length, flags);
  if (got < 0) return got;
  std::string datagram(static_cast<const char*>(buffer), static_cast<std::size_t>(got));
  number(std::as_writable_bytes(std::span(datagram)), -kernel.sequence);
  *kernel.recording += static_cast<char>(datagram.size() & 0xffU);
  *kernel.recording += static_cast<char>(datagram.size() >> 8U);
  *kernel.recording += datagram;
  return got;
}
}

// --- What is asked of it -------------------------------------------------------------------------------------------------

namespace {

constexpr std::chrono::milliseconds no_patience{0};

Config config(std::initializer_list<std::pair<const char*, const char*>> options) {
  RawConfig raw;
  for (const auto& [name, text] : options) raw[name].push_back({text, {Source::flag, name}});
  return validate(raw, fuzz::lookups()).config.value();
}

const Config& wanted_config() {
  static const Config wanted = config({{"preset", "istio"},
                                       {"dns", "all"},
                                       {"inbound-mode", "tproxy"},
                                       {"exclude-outbound-cidrs", "10.0.0.0/8,192.0.2.1,fd00::/8,2001:db8::1"},
                                       {"exclude-interfaces", "eth1,docker*"},
                                       {"exclude-uids", "1-5,9"}});
  return wanted;
}

const Ruleset& wanted_rules() {
  static const Ruleset wanted = compile(wanted_config());
  return wanted;
}

const IptablesRuleset& wanted_iptables() {
  static const auto wanted = std::get<IptablesRuleset>(to_iptables(wanted_rules()));
  return wanted;
}

/// What explain, status and verify make of it.
void judge(const Observed& observed) {
  const Ruleset sets = readable_sets(observed);
  Connection connection{Flow::outbound,
                        6,
                        *parse_address("192.0.2.2"),
                        *parse_address("198.51.100.1"),
                        40000,
                        443,
                        "eth0",
                        Uid{1000},
                        Gid{1000},
                        0,
                        true};
  evaluate(sets, asked_chains(observed), connection);
  connection.flow = Flow::inbound;
  evaluate(sets, asked_chains(observed), connection);
  Ruleset readable = sets;
  for (const ObservedChain& chain : observed.chains) {
    if (!chain.base) continue;
    readable.chains.push_back(*chain.base);
    for (const ObservedRule& rule : chain.rules) {
      if (const auto* ours = std::get_if<Rule>(&rule.rule)) readable.chains.back().rules.push_back(*ours);
    }
  }
  to_nft(readable);
  if (const auto config = config_of(recover(readable))) compile(*config);
}

void ask_store(NftStore& store) {
  NftSession session(no_patience);
  NftStore* const stores[] = {&store};
  const std::uint32_t generation = read_stores(session, stores);
  if (const auto observed = store.observed()) judge(*observed);
  static_cast<void>(store.differences());
  static_cast<void>(store.removals());
  OpenBatch batch(session.socket(), generation);
  if (store.present()) store.add_removal(batch);
  OpenBatch replacement(session.socket(), generation);
  store.add_rules(replacement);
}

/// What an apply asks once it has sent its rules; these are not sent.
void ask_back() {
  const auto store = native_store(&wanted_rules(), "sluice");
  NftSession session(no_patience);
  OpenBatch batch(session.socket(), 1);
  store->add_rules(batch);
  const SealedBatch sealed = std::move(batch).seal();
  session.begin_reading(2);
  store->read_back(session, sealed);
  if (const auto observed = store->observed()) judge(*observed);
  static_cast<void>(store->differences());
}

void ask_foreign() {
  const Connection connection{Flow::outbound,
                              17,
                              *parse_address("192.0.2.2"),
                              *parse_address("198.51.100.1"),
                              40000,
                              53,
                              "eth0",
                              Uid{1000},
                              Gid{1000},
                              0,
                              true};
  evaluate(Ruleset{}, foreign_chains(), connection);
}

/// The expressions of one rule, without the messages around them.
void decode(std::string_view bytes) {
  bytes = bytes.substr(0, 60000);
  std::vector<char> attribute(sizeof(nlattr) + bytes.size());
  const nlattr header{static_cast<std::uint16_t>(attribute.size()), 1};
  std::memcpy(attribute.data(), &header, sizeof header);
  std::memcpy(attribute.data() + sizeof header, bytes.data(), bytes.size());
  const Expressions expressions = expressions_in(*reinterpret_cast<const nlattr*>(attribute.data()));
  to_text(expressions);
  if (const auto rule = rule_from_expressions(expressions, "name", wanted_rules())) {
    to_nft(*rule);
    to_expressions(*rule, wanted_rules());
  }
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    const auto rule = iptables_rule_from(expressions, family);
    if (rule) require(to_expressions(*rule, family) == expressions, "what was decoded encodes the same");
  }
}

struct KernelQuestion {
  char name;
  std::function<void()> ask;
};

const std::vector<KernelQuestion>& questions() {
  static const std::vector<KernelQuestion> all = {
      {'n', [] { ask_store(*native_store(&wanted_rules(), "sluice")); }},
      {'x', [] { ask_store(*xt_store(&wanted_iptables())); }},
      {'b', ask_back},
      {'f', ask_foreign},
      {'c', [] { all_chains(); }},
      {'k', [] { remove_unwanted(NamespaceState{}, true); }},
      {'m', [] { missing(namespace_state(wanted_config())); }},
      {'g', [] { has_global_address(Family::ipv6); }},
      {'d', [] { probe_features(wanted_rules()); }},
  };
  return all;
}

void record(const std::string& folder) {
  for (const KernelQuestion& question : questions()) {
    std::string recording(1, question.name);
    kernel.recording = &recording;
    question.ask();
    std::ofstream(folder + "/" + question.name, std::ios::binary) << recording;
  }
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  if (const char* folder = std::getenv("SLUICE_FUZZ_RECORD")) {
    record(folder);
    std::exit(0);
  }
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text = fuzz::text_of(data + 1, size - 1);
  if (data[0] == 'e') decode(text);
  for (const KernelQuestion& question : questions()) {
    if (static_cast<char>(data[0]) != question.name) continue;
    kernel.answers = text;
    try {
      question.ask();
    } catch (const KernelError&) {
      // What the kernel said makes no sense; that is told, and nothing else happens.
    }
  }
  return 0;
}
