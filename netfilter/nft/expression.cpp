#include "netfilter/nft/expression.hpp"

#include <arpa/inet.h>
#include <endian.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "netfilter/attributes.hpp"
#include "rules/ruleset.hpp"
#include "rules/text.hpp"

namespace sluice::netfilter {
namespace {

constexpr std::uint32_t reg = NFT_REG_1;

// --- Encoding -----------------------------------------------------------------------------------------------------------

/// Appends attributes to a message. Not libmnl's: its mnl_attr_* are calls into a library, and an apply puts a
/// thousand. They also mark each nested attribute as such (NLA_F_NESTED), which nf_tables neither asks for nor does
/// itself, so that what the kernel tells of a rule could not be compared with what it was sent.
class Writer {
 public:
  explicit Writer(nlmsghdr* message) : message_(message) {}

  void put(std::uint16_t type, const void* payload, std::size_t size) const {
    std::copy_n(static_cast<const std::byte*>(payload), size, begin(type, size));
  }
  void put(std::uint16_t type, std::string_view words) const {
    std::byte* place = begin(type, words.size() + 1);
    std::memcpy(place, words.data(), words.size());
    place[words.size()] = std::byte{0};
  }
  void number(std::uint16_t type, std::uint32_t number) const {
    const std::uint32_t in_network_order = htonl(number);
    put(type, &in_network_order, sizeof in_network_order);
  }
  void long_number(std::uint16_t type, std::uint64_t number) const {
    const std::uint64_t in_network_order = htobe64(number);
    put(type, &in_network_order, sizeof in_network_order);
  }
  /// What `fill` puts, inside of one attribute.
  template <typename Fill>
  void nest(std::uint16_t type, const Fill& fill) const {
    const std::uint32_t start = message_->nlmsg_len;
    static_cast<void>(begin(type, 0));
    fill();
    reinterpret_cast<nlattr*>(reinterpret_cast<std::byte*>(message_) + start)->nla_len =
        static_cast<std::uint16_t>(message_->nlmsg_len - start);
  }

 private:
  static constexpr std::size_t header = aligned(sizeof(nlattr));

  [[nodiscard]] std::byte* begin(std::uint16_t type, std::size_t size) const {
    std::byte* start = reinterpret_cast<std::byte*>(message_) + message_->nlmsg_len;
    const nlattr attribute{static_cast<std::uint16_t>(header + size), type};
    std::memcpy(start, &attribute, sizeof attribute);
    message_->nlmsg_len += static_cast<std::uint32_t>(aligned(header + size));
    return start + header;
  }

  nlmsghdr* message_;
};

bool all_zero(const RegisterValue& value) {
  return std::all_of(value.begin(), value.end(), [](std::uint8_t byte) { return byte == 0; });
}

/// Puts one expression into a message: its name, and its attributes as linux/netfilter/nf_tables.h has them, all
/// numbers in network order. In the order in which the kernel tells them (the dump functions of net/netfilter/nft_*.c),
/// and with those that it would add, so that its answer is, byte for byte, what it was sent.
class Encoder {
 public:
  explicit Encoder(const Writer& out) : out_(out) {}

  void operator()(const MetaLoad& e) const {
    put("meta", [&] { numbers({{NFTA_META_KEY, e.key}, {NFTA_META_DREG, reg}}); });
  }
  void operator()(const MetaStore& e) const {
    put("meta", [&] { numbers({{NFTA_META_KEY, e.key}, {NFTA_META_SREG, reg}}); });
  }
  void operator()(const ConntrackLoad& e) const {
    put("ct", [&] { numbers({{NFTA_CT_DREG, reg}, {NFTA_CT_KEY, e.key}}); });
  }
  void operator()(const ConntrackStore& e) const {
    put("ct", [&] { numbers({{NFTA_CT_SREG, reg}, {NFTA_CT_KEY, e.key}}); });
  }
  void operator()(const PayloadLoad& e) const {
    put("payload", [&] {
      numbers({{NFTA_PAYLOAD_DREG, reg},
               {NFTA_PAYLOAD_BASE, e.base},
               {NFTA_PAYLOAD_OFFSET, e.offset},
               {NFTA_PAYLOAD_LEN, e.length}});
    });
  }
  void operator()(const FibLoad& e) const {
    put("fib", [&] { numbers({{NFTA_FIB_DREG, reg}, {NFTA_FIB_RESULT, e.result}, {NFTA_FIB_FLAGS, e.flags}}); });
  }
  void operator()(const ToNetworkOrder&) const {
    put("byteorder", [&] {
      numbers({{NFTA_BYTEORDER_SREG, reg},
               {NFTA_BYTEORDER_DREG, reg},
               {NFTA_BYTEORDER_OP, NFT_BYTEORDER_HTON},
               {NFTA_BYTEORDER_LEN, sizeof(std::uint32_t)},
               {NFTA_BYTEORDER_SIZE, sizeof(std::uint32_t)}});
    });
  }
  void operator()(const And& e) const {
    put("bitwise", [&] {
      numbers({{NFTA_BITWISE_SREG, reg},
               {NFTA_BITWISE_DREG, reg},
               {NFTA_BITWISE_LEN, static_cast<std::uint32_t>(e.mask.size())},
               {NFTA_BITWISE_OP, NFT_BITWISE_BOOL}});
      value(NFTA_BITWISE_MASK, e.mask);
      value(NFTA_BITWISE_XOR, RegisterValue::filled(e.mask.size(), 0));
    });
  }
  void operator()(const Compare& e) const {
    put("cmp", [&] {
      numbers({{NFTA_CMP_SREG, reg}, {NFTA_CMP_OP, e.operation}});
      value(NFTA_CMP_DATA, e.value);
    });
  }
  void operator()(const Lookup& e) const {
    put("lookup", [&] {
      out_.put(NFTA_LOOKUP_SET, e.set);
      numbers({{NFTA_LOOKUP_SREG, reg}, {NFTA_LOOKUP_FLAGS, 0}});
    });
  }
  void operator()(const Count& e) const {
    put("counter", [&] {
      out_.long_number(NFTA_COUNTER_BYTES, e.bytes);
      out_.long_number(NFTA_COUNTER_PACKETS, e.packets);
    });
  }
  void operator()(const Verdict& e) const {
    put("immediate", [&] { verdict(e.code, nullptr); });
  }
  void operator()(const LoadValue& e) const {
    put("immediate", [&] {
      numbers({{NFTA_IMMEDIATE_DREG, reg}});
      value(NFTA_IMMEDIATE_DATA, e.value);
    });
  }
  void operator()(const RedirectToRegister&) const {
    put("redir", [&] {
      numbers({{NFTA_REDIR_REG_PROTO_MIN, reg},
               {NFTA_REDIR_REG_PROTO_MAX, reg},
               {NFTA_REDIR_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED}});
    });
  }
  void operator()(const TproxyToRegister&) const {
    put("tproxy", [&] { numbers({{NFTA_TPROXY_FAMILY, NFPROTO_UNSPEC}, {NFTA_TPROXY_REG_PORT, reg}}); });
  }
  void operator()(const RejectPacket& e) const {
    put("reject", [&] {
      numbers({{NFTA_REJECT_TYPE, e.type}});
      if (e.type == NFT_REJECT_TCP_RST) return;
      const auto code = static_cast<std::uint8_t>(e.code);
      out_.put(NFTA_REJECT_ICMP_CODE, &code, sizeof code);
    });
  }
  void operator()(const Jump& e) const {
    put("immediate", [&] { verdict(static_cast<std::uint32_t>(e.code), &e.chain); });
  }
  void operator()(const CompareRange& e) const {
    put("range", [&] {
      numbers({{NFTA_RANGE_SREG, reg}, {NFTA_RANGE_OP, NFT_RANGE_EQ}});
      value(NFTA_RANGE_FROM_DATA, e.first);
      value(NFTA_RANGE_TO_DATA, e.last);
    });
  }
  void operator()(const XtMatch& e) const {
    put("match", [&] {
      out_.put(NFTA_MATCH_NAME, e.name);
      numbers({{NFTA_MATCH_REV, e.revision}});
      out_.put(NFTA_MATCH_INFO, e.info.data(), e.info.size());
    });
  }
  void operator()(const XtTarget& e) const {
    put("target", [&] {
      out_.put(NFTA_TARGET_NAME, e.name);
      numbers({{NFTA_TARGET_REV, e.revision}});
      out_.put(NFTA_TARGET_INFO, e.info.data(), e.info.size());
    });
  }
  void operator()(const Foreign& e) const { throw std::logic_error("sluice does not write the expression " + e.name); }

 private:
  template <typename Fill>
  void put(std::string_view name, const Fill& fill) const {
    out_.nest(NFTA_LIST_ELEM, [&] {
      out_.put(NFTA_EXPR_NAME, name);
      out_.nest(NFTA_EXPR_DATA, fill);
    });
  }
  void numbers(std::initializer_list<std::pair<std::uint16_t, std::uint32_t>> list) const {
    for (const auto& [type, number] : list) out_.number(type, number);
  }
  void value(std::uint16_t type, const RegisterValue& bytes) const {
    out_.nest(type, [&] { out_.put(NFTA_DATA_VALUE, bytes.data(), bytes.size()); });
  }
  void verdict(std::uint32_t code, const std::string* chain) const {
    numbers({{NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT}});
    out_.nest(NFTA_IMMEDIATE_DATA, [&] {
      out_.nest(NFTA_DATA_VERDICT, [&] {
        numbers({{NFTA_VERDICT_CODE, code}});
        if (chain != nullptr) out_.put(NFTA_VERDICT_CHAIN, *chain);
      });
    });
  }

  const Writer& out_;
};

// --- Decoding -----------------------------------------------------------------------------------------------------------

/// The value in a nested NFTA_DATA_VALUE; nothing where it is longer than any of ours.
std::optional<RegisterValue> value_in(const Attributes& a, std::size_t type) {
  return RegisterValue::from(a.nested(type).payload(NFTA_DATA_VALUE));
}

std::optional<Expression> decode_meta(const Attributes& a) {
  if (a.number(NFTA_META_DREG) == reg) return MetaLoad{a.number(NFTA_META_KEY)};
  if (a.number(NFTA_META_SREG) == reg) return MetaStore{a.number(NFTA_META_KEY)};
  return std::nullopt;
}

std::optional<Expression> decode_ct(const Attributes& a) {
  if (a.has(NFTA_CT_DIRECTION)) return std::nullopt;
  if (a.number(NFTA_CT_DREG) == reg) return ConntrackLoad{a.number(NFTA_CT_KEY)};
  if (a.number(NFTA_CT_SREG) == reg) return ConntrackStore{a.number(NFTA_CT_KEY)};
  return std::nullopt;
}

std::optional<Expression> decode_payload(const Attributes& a) {
  if (a.number(NFTA_PAYLOAD_DREG) != reg) return std::nullopt;
  return PayloadLoad{a.number(NFTA_PAYLOAD_BASE), a.number(NFTA_PAYLOAD_OFFSET), a.number(NFTA_PAYLOAD_LEN)};
}

std::optional<Expression> decode_fib(const Attributes& a) {
  if (a.number(NFTA_FIB_DREG) != reg) return std::nullopt;
  return FibLoad{a.number(NFTA_FIB_FLAGS), a.number(NFTA_FIB_RESULT)};
}

std::optional<Expression> decode_byteorder(const Attributes& a) {
  const bool ours = a.number(NFTA_BYTEORDER_SREG) == reg && a.number(NFTA_BYTEORDER_DREG) == reg &&
                    a.number(NFTA_BYTEORDER_OP) == NFT_BYTEORDER_HTON &&
                    a.number(NFTA_BYTEORDER_LEN) == sizeof(std::uint32_t) &&
                    a.number(NFTA_BYTEORDER_SIZE) == sizeof(std::uint32_t);
  return ours ? std::optional<Expression>(ToNetworkOrder{}) : std::nullopt;
}

std::optional<Expression> decode_bitwise(const Attributes& a) {
  const auto mask = value_in(a, NFTA_BITWISE_MASK);
  const auto flipped = value_in(a, NFTA_BITWISE_XOR);
  const bool ours = a.number(NFTA_BITWISE_SREG) == reg && a.number(NFTA_BITWISE_DREG) == reg &&
                    a.number(NFTA_BITWISE_OP) == NFT_BITWISE_BOOL && mask && flipped && all_zero(*flipped);
  return ours ? std::optional<Expression>(And{*mask}) : std::nullopt;
}

std::optional<Expression> decode_cmp(const Attributes& a) {
  const auto value = value_in(a, NFTA_CMP_DATA);
  if (a.number(NFTA_CMP_SREG) != reg || !value) return std::nullopt;
  return Compare{a.number(NFTA_CMP_OP), *value};
}

std::optional<Expression> decode_lookup(const Attributes& a) {
  const bool plain = a.number(NFTA_LOOKUP_SREG) == reg && a.number(NFTA_LOOKUP_FLAGS) == 0 && !a.has(NFTA_LOOKUP_DREG);
  return plain ? std::optional<Expression>(Lookup{a.text(NFTA_LOOKUP_SET)}) : std::nullopt;
}

std::optional<Expression> decode_counter(const Attributes& a) {
  return Count{a.long_number(NFTA_COUNTER_PACKETS), a.long_number(NFTA_COUNTER_BYTES)};
}

std::optional<Expression> decode_immediate(const Attributes& a) {
  const Attributes verdict = a.nested(NFTA_IMMEDIATE_DATA).nested(NFTA_DATA_VERDICT);
  if (a.has(NFTA_IMMEDIATE_DREG) && a.number(NFTA_IMMEDIATE_DREG) == NFT_REG_VERDICT &&
      verdict.has(NFTA_VERDICT_CODE)) {
    const std::uint32_t code = verdict.number(NFTA_VERDICT_CODE);
    if (!verdict.has(NFTA_VERDICT_CHAIN)) return Verdict{code};
    return Jump{static_cast<std::int32_t>(code), verdict.text(NFTA_VERDICT_CHAIN)};
  }
  const auto value = value_in(a, NFTA_IMMEDIATE_DATA);
  return a.number(NFTA_IMMEDIATE_DREG) == reg && value ? std::optional<Expression>(LoadValue{*value}) : std::nullopt;
}

std::optional<Expression> decode_redir(const Attributes& a) {
  const std::uint32_t maximum = a.number(NFTA_REDIR_REG_PROTO_MAX);
  const bool ours = a.number(NFTA_REDIR_REG_PROTO_MIN) == reg && (maximum == 0 || maximum == reg) &&
                    a.number(NFTA_REDIR_FLAGS) == NF_NAT_RANGE_PROTO_SPECIFIED;
  return ours ? std::optional<Expression>(RedirectToRegister{}) : std::nullopt;
}

std::optional<Expression> decode_tproxy(const Attributes& a) {
  const bool ours = a.number(NFTA_TPROXY_FAMILY) == NFPROTO_UNSPEC && a.number(NFTA_TPROXY_REG_ADDR) == 0 &&
                    a.number(NFTA_TPROXY_REG_PORT) == reg;
  return ours ? std::optional<Expression>(TproxyToRegister{}) : std::nullopt;
}

std::optional<Expression> decode_reject(const Attributes& a) {
  return RejectPacket{a.number(NFTA_REJECT_TYPE), a.byte(NFTA_REJECT_ICMP_CODE)};
}

std::optional<Expression> decode_range(const Attributes& a) {
  const auto first = value_in(a, NFTA_RANGE_FROM_DATA);
  const auto last = value_in(a, NFTA_RANGE_TO_DATA);
  const bool ours = a.number(NFTA_RANGE_SREG) == reg && a.number(NFTA_RANGE_OP) == NFT_RANGE_EQ && first && last;
  return ours ? std::optional<Expression>(CompareRange{*first, *last}) : std::nullopt;
}

std::optional<Expression> decode_match(const Attributes& a) {
  return XtMatch{a.text(NFTA_MATCH_NAME), a.number(NFTA_MATCH_REV), a.bytes(NFTA_MATCH_INFO)};
}

std::optional<Expression> decode_target(const Attributes& a) {
  return XtTarget{a.text(NFTA_TARGET_NAME), a.number(NFTA_TARGET_REV), a.bytes(NFTA_TARGET_INFO)};
}

Expression decode(const Attributes& expression) {
  const std::string_view name = expression.text_view(NFTA_EXPR_NAME);
  struct Decoder {
    std::string_view name;
    std::optional<Expression> (*decode)(const Attributes&);
  };
  static constexpr Decoder decoders[] = {
      {"meta", decode_meta},           {"cmp", decode_cmp},         {"counter", decode_counter},
      {"immediate", decode_immediate}, {"payload", decode_payload}, {"ct", decode_ct},
      {"bitwise", decode_bitwise},     {"fib", decode_fib},         {"lookup", decode_lookup},
      {"byteorder", decode_byteorder}, {"redir", decode_redir},     {"reject", decode_reject},
      {"tproxy", decode_tproxy},       {"range", decode_range},     {"match", decode_match},
      {"target", decode_target},
  };
  for (const Decoder& decoder : decoders) {
    if (name != decoder.name) continue;
    if (auto decoded = decoder.decode(expression.nested(NFTA_EXPR_DATA))) return *std::move(decoded);
  }
  // A jump is told with its goal, for whoever has to find out where it leads.
  const auto verdict = expression.nested(NFTA_EXPR_DATA).nested(NFTA_IMMEDIATE_DATA).nested(NFTA_DATA_VERDICT);
  if (name == "immediate" && verdict.has(NFTA_VERDICT_CHAIN))
    return Foreign{"jump to " + verdict.text(NFTA_VERDICT_CHAIN)};
  return Foreign{std::string(name)};
}

std::string hex(const RegisterValue& bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string text = "0x";
  for (const std::uint8_t byte : bytes) {
    text += digits[byte >> 4U];
    text += digits[byte & 0xfU];
  }
  return text;
}

std::string expression_text(const Expression& expression) {
  return std::visit(Overloaded{
                        [](const MetaLoad& e) { return "meta key " + std::to_string(e.key); },
                        [](const MetaStore& e) { return "set meta key " + std::to_string(e.key); },
                        [](const ConntrackLoad& e) { return "ct key " + std::to_string(e.key); },
                        [](const ConntrackStore& e) { return "set ct key " + std::to_string(e.key); },
                        [](const PayloadLoad& e) {
                          return "payload base " + std::to_string(e.base) + " offset " + std::to_string(e.offset) +
                                 " length " + std::to_string(e.length);
                        },
                        [](const FibLoad& e) { return "fib result " + std::to_string(e.result); },
                        [](const ToNetworkOrder&) { return std::string("hton"); },
                        [](const And& e) { return "and " + hex(e.mask); },
                        [](const Compare& e) { return "cmp op " + std::to_string(e.operation) + " " + hex(e.value); },
                        [](const Lookup& e) { return "in @" + e.set; },
                        [](const Count&) { return std::string("counter"); },
                        [](const Verdict& e) {
                          return e.code == NF_ACCEPT ? std::string("accept")
                                 : e.code == NF_DROP ? std::string("drop")
                                 : static_cast<std::int32_t>(e.code) == NFT_RETURN
                                     ? std::string("return")
                                     : "verdict " + std::to_string(static_cast<std::int32_t>(e.code));
                        },
                        [](const LoadValue& e) { return "value " + hex(e.value); },
                        [](const RedirectToRegister&) { return std::string("redirect"); },
                        [](const TproxyToRegister&) { return std::string("tproxy"); },
                        [](const RejectPacket& e) {
                          return "reject type " + std::to_string(e.type) + " code " + std::to_string(e.code);
                        },
                        [](const Jump& e) { return (e.code == NFT_GOTO ? "goto " : "jump ") + e.chain; },
                        [](const CompareRange& e) { return "in " + hex(e.first) + "-" + hex(e.last); },
                        [](const XtMatch& e) { return "match " + e.name; },
                        [](const XtTarget& e) { return "target " + e.name; },
                        [](const Foreign& e) { return e.name; },
                    },
                    expression);
}

}  // namespace

void put_expressions(nlmsghdr* message, const Expressions& expressions) {
  const Writer out(message);
  out.nest(NFTA_RULE_EXPRESSIONS, [&] {
    for (const Expression& expression : expressions) std::visit(Encoder(out), expression);
  });
}

Expressions expressions_in(const nlattr& list) {
  Expressions expressions;
  expressions.reserve(8);
  for_each_attribute(payload_of(list),
                     [&](const nlattr& element) { expressions.push_back(decode(Attributes(payload_of(element)))); });
  return expressions;
}

std::string to_text(const Expressions& expressions) {
  std::string text;
  for (const Expression& expression : expressions) text += "[" + expression_text(expression) + "] ";
  if (!text.empty()) text.pop_back();
  // Names of sets, chains and extensions are what their makers called them.
  return printable(text);
}

}  // namespace sluice::netfilter
