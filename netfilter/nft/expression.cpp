#include "netfilter/nft/expression.hpp"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <optional>
#include <stdexcept>

#include "netfilter/attributes.hpp"
#include "netfilter/nft/handles.hpp"
#include "rules/ruleset.hpp"
#include "rules/text.hpp"

namespace sluice::netfilter {
namespace {

constexpr std::uint32_t reg = NFT_REG_1;

ExprHandle make(const char* name) { return owned<ExprHandle>(nftnl_expr_alloc(name)); }

void put(const ExprHandle& expr, std::uint16_t attribute, std::uint32_t value) {
  nftnl_expr_set_u32(expr.get(), attribute, value);
}

void put(const ExprHandle& expr, std::uint16_t attribute, const Bytes& value) {
  nftnl_expr_set(expr.get(), attribute, value.data(), static_cast<std::uint32_t>(value.size()));
}

bool all_zero(const Bytes& bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::uint8_t byte) { return byte == 0; });
}

/// libnftnl takes this one by pointer and frees it with the expression (libnftnl's expr/match.c).
// NOLINTBEGIN(cppcoreguidelines-owning-memory,clang-analyzer-unix.Malloc): it changes hands here
void put_info(const ExprHandle& expr, std::uint16_t attribute, const Bytes& info) {
  void* copy = std::malloc(info.size());
  if (copy == nullptr) throw std::bad_alloc();
  std::memcpy(copy, info.data(), info.size());
  nftnl_expr_set(expr.get(), attribute, copy, static_cast<std::uint32_t>(info.size()));
}
// NOLINTEND(cppcoreguidelines-owning-memory,clang-analyzer-unix.Malloc)

struct Encoder {
  ExprHandle operator()(const MetaLoad& e) const {
    auto expr = make("meta");
    put(expr, NFTNL_EXPR_META_KEY, e.key);
    put(expr, NFTNL_EXPR_META_DREG, reg);
    return expr;
  }
  ExprHandle operator()(const MetaStore& e) const {
    auto expr = make("meta");
    put(expr, NFTNL_EXPR_META_KEY, e.key);
    put(expr, NFTNL_EXPR_META_SREG, reg);
    return expr;
  }
  ExprHandle operator()(const ConntrackLoad& e) const {
    auto expr = make("ct");
    put(expr, NFTNL_EXPR_CT_KEY, e.key);
    put(expr, NFTNL_EXPR_CT_DREG, reg);
    return expr;
  }
  ExprHandle operator()(const ConntrackStore& e) const {
    auto expr = make("ct");
    put(expr, NFTNL_EXPR_CT_KEY, e.key);
    put(expr, NFTNL_EXPR_CT_SREG, reg);
    return expr;
  }
  ExprHandle operator()(const PayloadLoad& e) const {
    auto expr = make("payload");
    put(expr, NFTNL_EXPR_PAYLOAD_DREG, reg);
    put(expr, NFTNL_EXPR_PAYLOAD_BASE, e.base);
    put(expr, NFTNL_EXPR_PAYLOAD_OFFSET, e.offset);
    put(expr, NFTNL_EXPR_PAYLOAD_LEN, e.length);
    return expr;
  }
  ExprHandle operator()(const FibLoad& e) const {
    auto expr = make("fib");
    put(expr, NFTNL_EXPR_FIB_DREG, reg);
    put(expr, NFTNL_EXPR_FIB_FLAGS, e.flags);
    put(expr, NFTNL_EXPR_FIB_RESULT, e.result);
    return expr;
  }
  ExprHandle operator()(const ToNetworkOrder&) const {
    auto expr = make("byteorder");
    put(expr, NFTNL_EXPR_BYTEORDER_SREG, reg);
    put(expr, NFTNL_EXPR_BYTEORDER_DREG, reg);
    put(expr, NFTNL_EXPR_BYTEORDER_OP, NFT_BYTEORDER_HTON);
    put(expr, NFTNL_EXPR_BYTEORDER_LEN, sizeof(std::uint32_t));
    put(expr, NFTNL_EXPR_BYTEORDER_SIZE, sizeof(std::uint32_t));
    return expr;
  }
  ExprHandle operator()(const And& e) const {
    auto expr = make("bitwise");
    put(expr, NFTNL_EXPR_BITWISE_SREG, reg);
    put(expr, NFTNL_EXPR_BITWISE_DREG, reg);
    put(expr, NFTNL_EXPR_BITWISE_OP, NFT_BITWISE_BOOL);
    put(expr, NFTNL_EXPR_BITWISE_LEN, static_cast<std::uint32_t>(e.mask.size()));
    put(expr, NFTNL_EXPR_BITWISE_MASK, e.mask);
    put(expr, NFTNL_EXPR_BITWISE_XOR, Bytes(e.mask.size(), 0));
    return expr;
  }
  ExprHandle operator()(const Compare& e) const {
    auto expr = make("cmp");
    put(expr, NFTNL_EXPR_CMP_SREG, reg);
    put(expr, NFTNL_EXPR_CMP_OP, e.operation);
    put(expr, NFTNL_EXPR_CMP_DATA, e.value);
    return expr;
  }
  ExprHandle operator()(const Lookup& e) const {
    auto expr = make("lookup");
    put(expr, NFTNL_EXPR_LOOKUP_SREG, reg);
    nftnl_expr_set_str(expr.get(), NFTNL_EXPR_LOOKUP_SET, e.set.c_str());
    return expr;
  }
  ExprHandle operator()(const Count&) const { return make("counter"); }
  ExprHandle operator()(const Verdict& e) const {
    auto expr = make("immediate");
    put(expr, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
    put(expr, NFTNL_EXPR_IMM_VERDICT, e.code);
    return expr;
  }
  ExprHandle operator()(const LoadValue& e) const {
    auto expr = make("immediate");
    put(expr, NFTNL_EXPR_IMM_DREG, reg);
    put(expr, NFTNL_EXPR_IMM_DATA, e.value);
    return expr;
  }
  ExprHandle operator()(const RedirectToRegister&) const {
    auto expr = make("redir");
    put(expr, NFTNL_EXPR_REDIR_REG_PROTO_MIN, reg);
    put(expr, NFTNL_EXPR_REDIR_FLAGS, NF_NAT_RANGE_PROTO_SPECIFIED);
    return expr;
  }
  ExprHandle operator()(const TproxyToRegister&) const {
    auto expr = make("tproxy");
    put(expr, NFTNL_EXPR_TPROXY_FAMILY, NFPROTO_UNSPEC);
    put(expr, NFTNL_EXPR_TPROXY_REG_PORT, reg);
    return expr;
  }
  ExprHandle operator()(const RejectPacket& e) const {
    auto expr = make("reject");
    put(expr, NFTNL_EXPR_REJECT_TYPE, e.type);
    nftnl_expr_set_u8(expr.get(), NFTNL_EXPR_REJECT_CODE, static_cast<std::uint8_t>(e.code));
    return expr;
  }
  ExprHandle operator()(const Jump& e) const {
    auto expr = make("immediate");
    put(expr, NFTNL_EXPR_IMM_DREG, NFT_REG_VERDICT);
    put(expr, NFTNL_EXPR_IMM_VERDICT, static_cast<std::uint32_t>(e.code));
    nftnl_expr_set_str(expr.get(), NFTNL_EXPR_IMM_CHAIN, e.chain.c_str());
    return expr;
  }
  ExprHandle operator()(const CompareRange& e) const {
    auto expr = make("range");
    put(expr, NFTNL_EXPR_RANGE_SREG, reg);
    put(expr, NFTNL_EXPR_RANGE_OP, NFT_RANGE_EQ);
    put(expr, NFTNL_EXPR_RANGE_FROM_DATA, e.first);
    put(expr, NFTNL_EXPR_RANGE_TO_DATA, e.last);
    return expr;
  }
  ExprHandle operator()(const XtMatch& e) const {
    auto expr = make("match");
    nftnl_expr_set_str(expr.get(), NFTNL_EXPR_MT_NAME, e.name.c_str());
    put(expr, NFTNL_EXPR_MT_REV, e.revision);
    put_info(expr, NFTNL_EXPR_MT_INFO, e.info);
    return expr;
  }
  ExprHandle operator()(const XtTarget& e) const {
    auto expr = make("target");
    nftnl_expr_set_str(expr.get(), NFTNL_EXPR_TG_NAME, e.name.c_str());
    put(expr, NFTNL_EXPR_TG_REV, e.revision);
    put_info(expr, NFTNL_EXPR_TG_INFO, e.info);
    return expr;
  }
  ExprHandle operator()(const Foreign& e) const {
    throw std::logic_error("sluice does not write the expression " + e.name);
  }
};

/// The value in a nested NFTA_DATA_VALUE.
Bytes value_in(const Attributes& a, std::size_t type) { return a.nested(type).bytes(NFTA_DATA_VALUE); }

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
  const bool ours = a.number(NFTA_BITWISE_SREG) == reg && a.number(NFTA_BITWISE_DREG) == reg &&
                    a.number(NFTA_BITWISE_OP) == NFT_BITWISE_BOOL && all_zero(value_in(a, NFTA_BITWISE_XOR));
  return ours ? std::optional<Expression>(And{value_in(a, NFTA_BITWISE_MASK)}) : std::nullopt;
}

std::optional<Expression> decode_cmp(const Attributes& a) {
  if (a.number(NFTA_CMP_SREG) != reg) return std::nullopt;
  return Compare{a.number(NFTA_CMP_OP), value_in(a, NFTA_CMP_DATA)};
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
  if (a.number(NFTA_IMMEDIATE_DREG) == reg) return LoadValue{value_in(a, NFTA_IMMEDIATE_DATA)};
  return std::nullopt;
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
  const bool ours = a.number(NFTA_RANGE_SREG) == reg && a.number(NFTA_RANGE_OP) == NFT_RANGE_EQ;
  if (!ours) return std::nullopt;
  return CompareRange{value_in(a, NFTA_RANGE_FROM_DATA), value_in(a, NFTA_RANGE_TO_DATA)};
}

std::optional<Expression> decode_match(const Attributes& a) {
  return XtMatch{a.text(NFTA_MATCH_NAME), a.number(NFTA_MATCH_REV), a.bytes(NFTA_MATCH_INFO)};
}

std::optional<Expression> decode_target(const Attributes& a) {
  return XtTarget{a.text(NFTA_TARGET_NAME), a.number(NFTA_TARGET_REV), a.bytes(NFTA_TARGET_INFO)};
}

Expression decode(const Attributes& expression) {
  const std::string name = expression.text(NFTA_EXPR_NAME);
  struct Decoder {
    const char* name;
    std::optional<Expression> (*decode)(const Attributes&);
  };
  constexpr Decoder decoders[] = {
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
  return Foreign{name};
}

std::string hex(const Bytes& bytes) {
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

nftnl_expr* to_nftnl(const Expression& expression) { return std::visit(Encoder{}, expression).release(); }

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
