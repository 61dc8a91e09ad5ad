#include "netfilter/nft/expression.hpp"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>

#include <cstring>
#include <stdexcept>

#include "netfilter/nft/handles.hpp"
#include "rules/ruleset.hpp"

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

std::uint32_t get(const nftnl_expr* expr, std::uint16_t attribute) {
  return nftnl_expr_is_set(expr, attribute) ? nftnl_expr_get_u32(expr, attribute) : 0;
}

Bytes get_bytes(const nftnl_expr* expr, std::uint16_t attribute) {
  std::uint32_t length = 0;
  const void* data = nftnl_expr_get(expr, attribute, &length);
  if (data == nullptr) return {};
  const auto* first = static_cast<const std::uint8_t*>(data);
  return {first, first + length};
}

bool all_zero(const Bytes& bytes) {
  for (const std::uint8_t byte : bytes) {
    if (byte != 0) return false;
  }
  return true;
}

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
  ExprHandle operator()(const Foreign& e) const {
    throw std::logic_error("sluice does not write the expression " + e.name);
  }
};

std::optional<Expression> decode_meta(const nftnl_expr* expr) {
  const std::uint32_t key = get(expr, NFTNL_EXPR_META_KEY);
  if (get(expr, NFTNL_EXPR_META_DREG) == reg) return MetaLoad{key};
  if (get(expr, NFTNL_EXPR_META_SREG) == reg) return MetaStore{key};
  return std::nullopt;
}

std::optional<Expression> decode_ct(const nftnl_expr* expr) {
  const std::uint32_t key = get(expr, NFTNL_EXPR_CT_KEY);
  if (nftnl_expr_is_set(expr, NFTNL_EXPR_CT_DIR)) return std::nullopt;
  if (get(expr, NFTNL_EXPR_CT_DREG) == reg) return ConntrackLoad{key};
  if (get(expr, NFTNL_EXPR_CT_SREG) == reg) return ConntrackStore{key};
  return std::nullopt;
}

std::optional<Expression> decode_payload(const nftnl_expr* expr) {
  if (get(expr, NFTNL_EXPR_PAYLOAD_DREG) != reg) return std::nullopt;
  return PayloadLoad{get(expr, NFTNL_EXPR_PAYLOAD_BASE), get(expr, NFTNL_EXPR_PAYLOAD_OFFSET),
                     get(expr, NFTNL_EXPR_PAYLOAD_LEN)};
}

std::optional<Expression> decode_fib(const nftnl_expr* expr) {
  if (get(expr, NFTNL_EXPR_FIB_DREG) != reg) return std::nullopt;
  return FibLoad{get(expr, NFTNL_EXPR_FIB_FLAGS), get(expr, NFTNL_EXPR_FIB_RESULT)};
}

std::optional<Expression> decode_byteorder(const nftnl_expr* expr) {
  const bool ours = get(expr, NFTNL_EXPR_BYTEORDER_SREG) == reg && get(expr, NFTNL_EXPR_BYTEORDER_DREG) == reg &&
                    get(expr, NFTNL_EXPR_BYTEORDER_OP) == NFT_BYTEORDER_HTON &&
                    get(expr, NFTNL_EXPR_BYTEORDER_LEN) == sizeof(std::uint32_t) &&
                    get(expr, NFTNL_EXPR_BYTEORDER_SIZE) == sizeof(std::uint32_t);
  return ours ? std::optional<Expression>(ToNetworkOrder{}) : std::nullopt;
}

std::optional<Expression> decode_bitwise(const nftnl_expr* expr) {
  const bool ours = get(expr, NFTNL_EXPR_BITWISE_SREG) == reg && get(expr, NFTNL_EXPR_BITWISE_DREG) == reg &&
                    get(expr, NFTNL_EXPR_BITWISE_OP) == NFT_BITWISE_BOOL &&
                    all_zero(get_bytes(expr, NFTNL_EXPR_BITWISE_XOR));
  return ours ? std::optional<Expression>(And{get_bytes(expr, NFTNL_EXPR_BITWISE_MASK)}) : std::nullopt;
}

std::optional<Expression> decode_cmp(const nftnl_expr* expr) {
  if (get(expr, NFTNL_EXPR_CMP_SREG) != reg) return std::nullopt;
  return Compare{get(expr, NFTNL_EXPR_CMP_OP), get_bytes(expr, NFTNL_EXPR_CMP_DATA)};
}

std::optional<Expression> decode_lookup(const nftnl_expr* expr) {
  const bool plain = get(expr, NFTNL_EXPR_LOOKUP_SREG) == reg && get(expr, NFTNL_EXPR_LOOKUP_FLAGS) == 0 &&
                     !nftnl_expr_is_set(expr, NFTNL_EXPR_LOOKUP_DREG);
  if (!plain) return std::nullopt;
  return Lookup{nftnl_expr_get_str(expr, NFTNL_EXPR_LOOKUP_SET)};
}

std::optional<Expression> decode_counter(const nftnl_expr* expr) {
  return Count{nftnl_expr_get_u64(expr, NFTNL_EXPR_CTR_PACKETS), nftnl_expr_get_u64(expr, NFTNL_EXPR_CTR_BYTES)};
}

std::optional<Expression> decode_immediate(const nftnl_expr* expr) {
  const std::uint32_t destination = get(expr, NFTNL_EXPR_IMM_DREG);
  if (destination == NFT_REG_VERDICT && !nftnl_expr_is_set(expr, NFTNL_EXPR_IMM_CHAIN)) {
    return Verdict{get(expr, NFTNL_EXPR_IMM_VERDICT)};
  }
  if (destination == reg) return LoadValue{get_bytes(expr, NFTNL_EXPR_IMM_DATA)};
  return std::nullopt;
}

std::optional<Expression> decode_redir(const nftnl_expr* expr) {
  const std::uint32_t maximum = get(expr, NFTNL_EXPR_REDIR_REG_PROTO_MAX);
  const bool ours = get(expr, NFTNL_EXPR_REDIR_REG_PROTO_MIN) == reg && (maximum == 0 || maximum == reg) &&
                    get(expr, NFTNL_EXPR_REDIR_FLAGS) == NF_NAT_RANGE_PROTO_SPECIFIED;
  return ours ? std::optional<Expression>(RedirectToRegister{}) : std::nullopt;
}

std::optional<Expression> decode_tproxy(const nftnl_expr* expr) {
  const bool ours = get(expr, NFTNL_EXPR_TPROXY_FAMILY) == NFPROTO_UNSPEC &&
                    get(expr, NFTNL_EXPR_TPROXY_REG_ADDR) == 0 && get(expr, NFTNL_EXPR_TPROXY_REG_PORT) == reg;
  return ours ? std::optional<Expression>(TproxyToRegister{}) : std::nullopt;
}

std::optional<Expression> decode_reject(const nftnl_expr* expr) {
  return RejectPacket{get(expr, NFTNL_EXPR_REJECT_TYPE), nftnl_expr_get_u8(expr, NFTNL_EXPR_REJECT_CODE)};
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
                                                     : "verdict " + std::to_string(static_cast<std::int32_t>(e.code));
                        },
                        [](const LoadValue& e) { return "value " + hex(e.value); },
                        [](const RedirectToRegister&) { return std::string("redirect"); },
                        [](const TproxyToRegister&) { return std::string("tproxy"); },
                        [](const RejectPacket& e) {
                          return "reject type " + std::to_string(e.type) + " code " + std::to_string(e.code);
                        },
                        [](const Foreign& e) { return e.name; },
                    },
                    expression);
}

}  // namespace

nftnl_expr* to_nftnl(const Expression& expression) { return std::visit(Encoder{}, expression).release(); }

Expression from_nftnl(const nftnl_expr* expression) {
  const std::string name = nftnl_expr_get_str(expression, NFTNL_EXPR_NAME);
  struct Decoder {
    const char* name;
    std::optional<Expression> (*decode)(const nftnl_expr*);
  };
  constexpr Decoder decoders[] = {
      {"meta", decode_meta},
      {"ct", decode_ct},
      {"payload", decode_payload},
      {"fib", decode_fib},
      {"byteorder", decode_byteorder},
      {"bitwise", decode_bitwise},
      {"cmp", decode_cmp},
      {"lookup", decode_lookup},
      {"counter", decode_counter},
      {"immediate", decode_immediate},
      {"redir", decode_redir},
      {"tproxy", decode_tproxy},
      {"reject", decode_reject},
  };
  for (const Decoder& decoder : decoders) {
    if (name != decoder.name) continue;
    if (auto decoded = decoder.decode(expression)) return *decoded;
  }
  return Foreign{name};
}

std::string to_text(const Expressions& expressions) {
  std::string text;
  for (const Expression& expression : expressions) text += "[" + expression_text(expression) + "] ";
  if (!text.empty()) text.pop_back();
  return text;
}

}  // namespace sluice::netfilter
