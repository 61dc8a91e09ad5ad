#include "netfilter/netlink.hpp"

#include <doctest/doctest.h>
#include <linux/netlink.h>

#include <cerrno>
#include <cstring>

using namespace sluice::netfilter;

namespace {

/// An NLMSG_ERROR message as the kernel sends it with NETLINK_CAP_ACK: the header of the request only, then attributes.
struct ErrorMessage {
  alignas(nlmsghdr) char bytes[512] = {};
  nlmsghdr* header = mnl_nlmsg_put_header(bytes);

  ErrorMessage(std::uint32_t sequence, int error, const char* text) {
    header->nlmsg_type = NLMSG_ERROR;
    header->nlmsg_seq = sequence;
    header->nlmsg_flags = NLM_F_CAPPED;
    auto* body = static_cast<nlmsgerr*>(mnl_nlmsg_put_extra_header(header, sizeof(nlmsgerr)));
    body->error = error;
    body->msg.nlmsg_len = 4000;  // of the request, which is not echoed
    if (text == nullptr) return;
    header->nlmsg_flags |= NLM_F_ACK_TLVS;
    mnl_attr_put_strz(header, NLMSGERR_ATTR_MSG, text);
  }
  [[nodiscard]] std::span<const std::byte> span() const {
    return {reinterpret_cast<const std::byte*>(bytes), header->nlmsg_len};
  }
};

}  // namespace

TEST_CASE("a refusal carries a positive errno, its sequence number and the kernel's words") {
  const ErrorMessage message(7, -ENOENT, "No such chain");
  const Refusal refusal = refusal_in(*message.header);
  CHECK(refusal.error == ENOENT);
  CHECK(refusal.sequence == 7);
  CHECK(refusal.text == "No such chain");
}

TEST_CASE("an acknowledgement is a refusal with error 0") {
  CHECK(refusal_in(*ErrorMessage(7, 0, nullptr).header).error == 0);
}

TEST_CASE("a refusal cut short is a protocol error, not a success") {
  ErrorMessage message(7, -ENOENT, nullptr);
  message.header->nlmsg_len = NLMSG_HDRLEN + 2;
  CHECK(refusal_in(*message.header).error == EPROTO);
}

TEST_CASE("a datagram is read message by message, and what is cut off is left") {
  const ErrorMessage message(1, 0, "x");
  std::vector<std::byte> twice(message.span().begin(), message.span().end());
  twice.insert(twice.end(), message.span().begin(), message.span().end());
  int count = 0;
  for_each_message(twice, [&](const nlmsghdr&) { return ++count > 0; });
  CHECK(count == 2);
  count = 0;
  for_each_message(std::span(twice).first(twice.size() - 1), [&](const nlmsghdr&) { return ++count > 0; });
  CHECK(count == 1);
}

TEST_CASE("a message that claims to be longer than its datagram is not read, however long it claims to be") {
  for (const std::uint32_t length : {15U, 1000U, 0x7fffffffU, 0x80000010U, 0xffffffffU}) {
    ErrorMessage message(1, 0, "x");
    const std::size_t real = message.header->nlmsg_len;
    message.header->nlmsg_len = length;
    int count = 0;
    for_each_message(std::as_bytes(std::span(message.bytes)).first(real), [&](const nlmsghdr&) { return ++count > 0; });
    CHECK(count == 0);
  }
}

TEST_CASE("attributes that reach beyond their container are not read") {
  for (std::size_t length = 0; length < 12; ++length) {
    std::vector<std::byte> payload(length, std::byte{0xff});
    int count = 0;
    for_each_attribute(payload, [&](const nlattr&) { ++count; });
    CHECK(count == 0);
  }
  alignas(nlattr) std::byte payload[8] = {};
  const nlattr attribute{8, 1};
  std::memcpy(payload, &attribute, sizeof attribute);
  int count = 0;
  for_each_attribute(payload, [&](const nlattr& found) { count += payload_of(found).size() == 4 ? 1 : 0; });
  CHECK(count == 1);
}
