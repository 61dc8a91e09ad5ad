#include "netfilter/nft/objects.hpp"

#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include "netfilter/attributes.hpp"

namespace sluice::netfilter {
namespace {

std::uint8_t family_in(const nlmsghdr& message) {
  const auto* header = header_of<nfgenmsg>(message);
  return header == nullptr ? std::uint8_t{NFPROTO_UNSPEC} : header->nfgen_family;
}

}  // namespace

TableObject table_in(const nlmsghdr& message) {
  const auto a = Attributes::after<nfgenmsg>(message);
  return {family_in(message), a.text(NFTA_TABLE_NAME), a.number(NFTA_TABLE_FLAGS), a.number(NFTA_TABLE_USE),
          a.bytes(NFTA_TABLE_USERDATA)};
}

ChainObject chain_in(const nlmsghdr& message) {
  const auto a = Attributes::after<nfgenmsg>(message);
  ChainObject chain{family_in(message),
                    a.text(NFTA_CHAIN_TABLE),
                    a.text(NFTA_CHAIN_NAME),
                    a.text(NFTA_CHAIN_TYPE),
                    std::nullopt,
                    true,
                    a.bytes(NFTA_CHAIN_USERDATA)};
  if (a.has(NFTA_CHAIN_POLICY)) chain.accepts = a.number(NFTA_CHAIN_POLICY) == NF_ACCEPT;
  const Attributes hook = a.nested(NFTA_CHAIN_HOOK);
  if (hook.has(NFTA_HOOK_HOOKNUM)) {
    chain.hook = {hook.number(NFTA_HOOK_HOOKNUM), static_cast<std::int32_t>(hook.number(NFTA_HOOK_PRIORITY))};
  }
  return chain;
}

SetObject set_in(const nlmsghdr& message) {
  const auto a = Attributes::after<nfgenmsg>(message);
  return {a.text(NFTA_SET_TABLE), a.text(NFTA_SET_NAME), a.number(NFTA_SET_FLAGS), a.number(NFTA_SET_KEY_TYPE),
          a.number(NFTA_SET_KEY_LEN)};
}

RuleObject rule_in(const nlmsghdr& message) {
  const auto a = Attributes::after<nfgenmsg>(message);
  const nlattr* expressions = a.find(NFTA_RULE_EXPRESSIONS);
  return {a.text(NFTA_RULE_TABLE), a.text(NFTA_RULE_CHAIN), a.long_number(NFTA_RULE_HANDLE),
          expressions == nullptr ? Expressions{} : expressions_in(*expressions), a.bytes(NFTA_RULE_USERDATA)};
}

}  // namespace sluice::netfilter
