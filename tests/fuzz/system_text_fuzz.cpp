// The parsers of files and programs of the system: /etc/passwd and /etc/group, resolv.conf, /proc/net/tcp, and what
// iptables-save prints. The first byte chooses the parser.
#include "netfilter/iptables_legacy.hpp"
#include "netfilter/system_files.hpp"
#include "rules/evaluate.hpp"
#include "rules/iptables_text.hpp"
#include "rules/text.hpp"
#include "tests/fuzz/support.hpp"

using namespace sluice;
using namespace sluice::netfilter;
using sluice::fuzz::require;

namespace {

/// The name that is looked up ends at the first line's end.
void passwd(std::string_view text) { id_in(text, text.substr(0, text.find('\n'))); }

void save(std::string_view text) {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    for (const auto kind : {IptablesTableKind::mangle, IptablesTableKind::nat}) {
      const ObservedIptables found = iptables_from_save(family, kind, text);
      const Observed observed = to_observed(found);
      diff(IptablesRuleset{}, found);
      for (const ObservedIptablesTable& table : found.tables) {
        for (const ObservedIptablesChain& chain : table.chains) {
          for (const ObservedIptablesRule& rule : chain.rules) {
            // A name that no text format could carry is kept in another form.
            if (!rule.rule || rule.name.find('\\') != std::string::npos) continue;
            require(printable(to_text(*rule.rule, family)) == rule.text, "a rule that was read is written the same",
                    rule.text);
          }
        }
      }
      evaluate(readable_sets(observed), asked_chains(observed), Connection{});
    }
  }
}

void rule(std::string_view text) {
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    const auto found = iptables_rule_from_text(text, family);
    if (found) require(to_text(*found, family) == text, "a rule that was read is written the same", text);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text = fuzz::text_of(data + 1, size - 1);
  switch (data[0]) {
    case 'p':
      passwd(text);
      break;
    case 'r':
      name_servers_in(text);
      break;
    case 't':
      listening_ports_in(text);
      break;
    case 's':
      save(text);
      break;
    case 'i':
      rule(text);
      break;
    default:
      break;
  }
  return 0;
}
