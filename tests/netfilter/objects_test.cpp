#include "netfilter/nft/objects.hpp"

#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "netfilter/system_files.hpp"

using namespace sluice::netfilter;

namespace {

/// A message on the heap, without a byte behind its end, so that reading on is seen by whoever watches memory.
class Answer {
 public:
  explicit Answer(std::uint8_t family) : bytes_(NLMSG_HDRLEN + sizeof(nfgenmsg)) {
    const nfgenmsg header{family, 0, 0};
    std::memcpy(bytes_.data() + NLMSG_HDRLEN, &header, sizeof header);
  }
  Answer& with(std::uint16_t type, const void* value, std::size_t length) {
    bytes_.resize(aligned(bytes_.size()));
    const nlattr attribute{static_cast<std::uint16_t>(sizeof(nlattr) + length), type};
    const auto* first = reinterpret_cast<const std::byte*>(&attribute);
    bytes_.insert(bytes_.end(), first, first + sizeof attribute);
    const auto* rest = static_cast<const std::byte*>(value);
    bytes_.insert(bytes_.end(), rest, rest + length);
    return *this;
  }
  Answer& with(std::uint16_t type, std::uint32_t number) {
    const std::uint32_t big_endian = htonl(number);
    return with(type, &big_endian, sizeof big_endian);
  }
  /// Without the NUL that the kernel always sends.
  Answer& with(std::uint16_t type, std::string_view text) { return with(type, text.data(), text.size()); }

  /// Cut off after so many bytes.
  const nlmsghdr& message(std::size_t length = SIZE_MAX) {
    exact_.assign(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(std::min(length, bytes_.size())));
    exact_.shrink_to_fit();
    nlmsghdr header{};
    header.nlmsg_len = static_cast<std::uint32_t>(exact_.size());
    std::memcpy(exact_.data(), &header, sizeof header);
    return *reinterpret_cast<const nlmsghdr*>(exact_.data());
  }
  [[nodiscard]] std::size_t size() const { return bytes_.size(); }

 private:
  std::vector<std::byte> bytes_;
  std::vector<std::byte> exact_;
};

}  // namespace

TEST_CASE("an answer is read as far as it goes") {
  const nlattr number{8, NFTA_HOOK_HOOKNUM};
  const std::uint32_t hook = htonl(NF_INET_LOCAL_OUT);
  std::uint8_t nested[sizeof number + sizeof hook];
  std::memcpy(nested, &number, sizeof number);
  std::memcpy(nested + sizeof number, &hook, sizeof hook);
  Answer answer(NFPROTO_INET);
  answer.with(NFTA_CHAIN_TABLE, "sluice")
      .with(NFTA_CHAIN_NAME, "outbound")
      .with(NFTA_CHAIN_HOOK, nested, sizeof nested);
  answer.with(NFTA_CHAIN_POLICY, std::uint32_t{NF_DROP}).with(NFTA_CHAIN_TYPE, "nat");
  const ChainObject whole = chain_in(answer.message());
  CHECK(whole.family == NFPROTO_INET);
  CHECK(whole.table == "sluice");
  CHECK(whole.name == "outbound");
  CHECK(whole.type == "nat");
  REQUIRE(whole.hook);
  CHECK(whole.hook->number == NF_INET_LOCAL_OUT);
  CHECK_FALSE(whole.accepts);
  for (std::size_t length = NLMSG_HDRLEN; length < answer.size(); ++length) {
    const ChainObject cut = chain_in(answer.message(length));
    CHECK((cut.name.empty() || cut.name == "outbound"));
    CHECK(cut.type.empty());
    table_in(answer.message(length));
    set_in(answer.message(length));
    rule_in(answer.message(length));
  }
}

TEST_CASE("a number of another length is none, and libnftnl does not end the program over it") {
  Answer answer(NFPROTO_IPV4);
  const std::uint8_t byte = 1;
  answer.with(NFTA_TABLE_NAME, "nat").with(NFTA_TABLE_FLAGS, &byte, 1).with(NFTA_TABLE_USE, &byte, 1);
  const TableObject table = table_in(answer.message());
  CHECK(table.name == "nat");
  CHECK(table.flags == 0);
  CHECK(table.use == 0);
}

TEST_CASE("a number in /etc/passwd that is no ID names nobody") {
  CHECK(id_in("envoy:x:101:101::/:\n", "envoy") == 101U);
  // Cut to 32 bits these would be 1 and 0: somebody else.
  CHECK_FALSE(id_in("envoy:x:4294967297:1::/:\n", "envoy"));
  CHECK_FALSE(id_in("envoy:x:18446744073709551616:1::/:\n", "envoy"));
  CHECK(id_in("envoy:x:4294967297:1::/:\nenvoy:x:7:7::/:", "envoy") == 7U);
  CHECK_FALSE(id_in("envoy\nenvoy:x\n:x:5:\n", "envoy"));
}
