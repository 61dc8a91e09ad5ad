// Any configuration that is valid, through everything that is made of it. An input is a text of `option=value` lines,
// which the mutator knows how to write; tests/kernel/test_formats.py gives the same texts to the real nft and iptables.
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <random>
#include <vector>

#include "netfilter/netlink.hpp"
#include "netfilter/nft/handles.hpp"
#include "netfilter/nft/rule_codec.hpp"
#include "netfilter/nft/set_codec.hpp"
#include "netfilter/nft/xt_codec.hpp"
#include "rules/compile.hpp"
#include "rules/evaluate.hpp"
#include "rules/iptables_drift.hpp"
#include "rules/iptables_text.hpp"
#include "rules/namespace_state.hpp"
#include "rules/nft_text.hpp"
#include "rules/options.hpp"
#include "rules/packet_path.hpp"
#include "rules/probe_cases.hpp"
#include "rules/recover.hpp"
#include "rules/text.hpp"
#include "rules/verdict.hpp"
#include "rules/words.hpp"
#include "tests/fuzz/support.hpp"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t room);

namespace {

using namespace sluice;
using namespace sluice::netfilter;
using sluice::fuzz::require;
using Random = std::minstd_rand;

RawConfig raw_config(std::string_view text) {
  RawConfig raw;
  for (const std::string_view line : split(text, '\n')) {
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos || find_option(line.substr(0, equals)) == nullptr) continue;
    const std::string name(line.substr(0, equals));
    raw[name].push_back({std::string(line.substr(equals + 1)), {Source::flag, "--" + name}});
  }
  return raw;
}

// --- Connections that are worth judging: at the edges of what the rules list ---------------------------------------------

class Edges {
 public:
  Edges(const Ruleset& ruleset, Random& random) : random_(random) {
    for (const Set& set : ruleset.sets) {
      std::visit([&](const auto& elements) { note_all(elements); }, set.elements);
    }
    for (const Chain& chain : ruleset.chains) {
      for (const Rule& rule : chain.rules) {
        for (const Match& match : rule.matches) {
          std::visit([&](const auto& m) { note(m); }, match);
        }
      }
    }
  }

  Connection connection() {
    Connection made;
    made.flow = random_() % 2 == 0 ? Flow::outbound : Flow::inbound;
    made.protocol = pick(std::vector<std::uint8_t>{6, 6, 6, 17, 17, 132, 1});
    const bool four = random_() % 2 == 0;
    made.source = four ? IpAddress(pick(v4_)) : IpAddress(pick(v6_));
    made.destination = four ? IpAddress(pick(v4_)) : IpAddress(pick(v6_));
    made.source_port = pick(ports_).number();
    made.destination_port = pick(ports_).number();
    made.interface = pick(interfaces_);
    if (made.flow == Flow::outbound && random_() % 8 != 0) {
      made.uid = pick(uids_);
      made.gid = pick(gids_);
    }
    made.mark = pick(marks_);
    made.to_this_host = random_() % 4 != 0;
    return made;
  }

 private:
  template <typename T>
  T pick(const std::vector<T>& from) {
    return from[random_() % from.size()];
  }
  template <typename T>
  void around(const Range<T>& range, std::vector<T>& into) {
    for (const auto& value :
         {previous(range.first), std::optional<T>(range.first), std::optional<T>(range.last), next(range.last)}) {
      if (value) into.push_back(*value);
    }
  }
  void note_range(const Range<Port>& range) { around(range, ports_); }
  void note_range(const Range<Uid>& range) { around(range, uids_); }
  void note_range(const Range<Gid>& range) { around(range, gids_); }
  void note_range(const Range<Ipv4>& range) { around(range, v4_); }
  void note_range(const Range<Ipv6>& range) { around(range, v6_); }
  void note_pattern(const InterfacePattern& pattern) {
    interfaces_.push_back(pattern.name);
    if (pattern.name.size() < 15) interfaces_.push_back(pattern.name + "x");  // IFNAMSIZ - 1, linux/if.h
  }
  template <typename T>
  void note_all(const Ranges<T>& ranges) {
    for (const auto& range : ranges) note_range(range);
  }
  void note_all(const InterfaceSet& patterns) {
    for (const auto& pattern : patterns) note_pattern(pattern);
  }
  template <typename T>
  void note_operand(const Operand<T>& operand) {
    if (const auto* range = std::get_if<Range<T>>(&operand)) note_range(*range);
  }
  void note(const PortIn& m) { note_operand(m.ports); }
  void note(const PortIsNot& m) { note_range({m.port, m.port}); }
  void note(const Ipv4In& m) { note_operand(m.addresses); }
  void note(const Ipv6In& m) { note_operand(m.addresses); }
  void note(const SocketUidIn& m) { note_operand(m.uids); }
  void note(const SocketGidIn& m) { note_operand(m.gids); }
  void note(const InterfaceIn& m) {
    if (const auto* pattern = std::get_if<InterfacePattern>(&m.interfaces)) note_pattern(*pattern);
  }
  void note(const PacketMarkIs& m) {
    marks_.push_back(m.mark.value);
    marks_.push_back(m.mark.value | ~m.mark.mask);
    marks_.push_back(~m.mark.value);
  }
  template <typename Other>
  void note(const Other&) {}

  Random& random_;
  std::vector<Ipv4> v4_ = {Ipv4{0x7f000001U}, Ipv4{0xc6120001U}, Ipv4{0x0a090002U}};
  std::vector<Ipv6> v6_ = {Ipv6{0, 1}, Ipv6{0x20010db800000000U, 1}};
  std::vector<Port> ports_ = {*Port::from(53), *Port::from(80), *Port::from(15001)};
  std::vector<Uid> uids_ = {Uid{0}, Uid{1000}};
  std::vector<Gid> gids_ = {Gid{0}, Gid{1000}};
  std::vector<std::string> interfaces_ = {"lo", "eth0"};
  std::vector<std::uint32_t> marks_ = {0};
};

// --- What must hold ------------------------------------------------------------------------------------------------------

void rules_survive_the_kernels_encoding(const Ruleset& ruleset) {
  for (const Set& set : ruleset.sets) {
    auto wire = to_wire(set.elements);
    std::reverse(wire.begin(), wire.end());
    require(from_wire(shape_of(set.elements), std::move(wire)) == set.elements, "a set is read as it was written",
            to_nft(set.elements));
  }
  for (const Chain& chain : ruleset.chains) {
    for (const Rule& rule : chain.rules) {
      alignas(nlmsghdr) char buffer[16384] = {};
      nlmsghdr* message = mnl_nlmsg_put_header(buffer);
      mnl_nlmsg_put_extra_header(message, sizeof(nfgenmsg));
      put_expressions(message, to_expressions(rule, ruleset));
      Expressions found;
      for_each_attribute(*message, sizeof(nfgenmsg), [&](const nlattr& attribute) {
        if (mnl_attr_get_type(&attribute) == NFTA_RULE_EXPRESSIONS) found = expressions_in(attribute);
      });
      require(rule_from_expressions(found, rule.name, ruleset) == rule, "a rule is read as it was written",
              to_nft(rule));
    }
  }
}

Observed as_found(const Ruleset& ruleset) {
  Observed observed;
  for (const Set& set : ruleset.sets) observed.sets.push_back({set.name, set.elements});
  for (const Chain& chain : ruleset.chains) {
    ObservedChain& found = observed.chains.emplace_back(ObservedChain{chain, chain.name, true, {}});
    found.base->rules.clear();
    for (const Rule& rule : chain.rules) found.rules.push_back({rule, rule.name, {}});
  }
  return observed;
}

/// The rules as iptables would have them, each through both of its encodings.
Observed as_found(const IptablesRuleset& ruleset) {
  ObservedIptables observed;
  for (const IptablesTable& table : ruleset.tables) {
    ObservedIptablesTable& found =
        observed.tables.emplace_back(ObservedIptablesTable{table.family, table.kind, {}, {}});
    std::size_t position = 0;
    for (const IptablesJump& jump : table.jumps) {
      const bool first = found.jumps.empty() || found.jumps.back().hook != jump.hook;
      position = first ? 0 : position + 1;
      found.jumps.push_back({jump.hook, jump.chain, position, true});
    }
    for (const IptablesChain& chain : table.chains) {
      ObservedIptablesChain& chain_found = found.chains.emplace_back(ObservedIptablesChain{chain.name, {}});
      for (const IptablesRule& rule : chain.rules) {
        const std::string text = to_text(rule, table.family);
        require(iptables_rule_from_text(text, table.family) == rule, "a rule of iptables is read as it is written",
                text);
        require(iptables_rule_from(to_expressions(rule, table.family), table.family) == rule,
                "a rule of iptables is decoded as it was encoded", text);
        chain_found.rules.push_back({text, rule.name, {}, rule});
      }
    }
  }
  require(diff(ruleset, observed).empty(), "the rules of iptables do not differ from themselves");
  return to_observed(observed);
}

std::string told(const Connection& c) {
  return std::string(c.flow == Flow::outbound ? "outbound" : "inbound") + " protocol " + std::to_string(c.protocol) +
         " from " + to_text(c.source) + " " + std::to_string(c.source_port) + " to " + to_text(c.destination) + " " +
         std::to_string(c.destination_port) + " by " + c.interface + " uid " +
         (c.uid ? std::to_string(c.uid->number) : "none") + " gid " + (c.gid ? std::to_string(c.gid->number) : "none") +
         " mark " + std::to_string(c.mark) + (c.to_this_host ? "" : " forwarded");
}

void both_forms_decide_alike(const Ruleset& ruleset, const IptablesRuleset& iptables, Random& random) {
  const Observed found = as_found(iptables);
  const Ruleset sets = readable_sets(found);
  const auto chains = asked_chains(found);
  Edges edges(ruleset, random);
  for (int count = 0; count < 40; ++count) {
    const Connection connection = edges.connection();
    const Decision native = evaluate(ruleset, connection);
    const Decision other = evaluate(sets, chains, connection);
    // iptables has no table at all for a family that is left alone.
    const bool same_rule = native.rule == other.rule || (native.rule == "other-family" && other.rule == default_rule);
    require(verdict_text(native.verdict) == verdict_text(other.verdict) && same_rule && other.certain,
            "both backends decide alike",
            told(connection) + ": " + verdict_text(native.verdict) + " [" + native.rule + "], " +
                verdict_text(other.verdict) + " [" + other.rule + "]\n" + to_nft(ruleset));
  }
}

void options_can_be_recovered(const Ruleset& ruleset) {
  const Recovered recovered = recover(ruleset);
  std::string options;
  for (const auto& [name, text] : recovered.options) options.append(name).append("=").append(text).append("\n");
  const auto again = config_of(recovered);
  require(again.has_value(), "the options that were recovered are valid", options + to_nft(ruleset));
  require(compile(*again) == ruleset, "the options that were recovered make the same rules",
          options + to_nft(ruleset) + to_nft(compile(*again)));
}

void everything_can_be_said(const Config& config, const Ruleset& ruleset) {
  to_mermaid(ruleset);
  to_dot(ruleset);
  to_ip_commands(namespace_state(config));
  for (const Chain& chain : ruleset.chains) {
    for (const Rule& rule : chain.rules) in_words(rule, ruleset);
  }
  for (const Family family : {Family::ipv4, Family::ipv6}) {
    const auto here = *parse_address(family == Family::ipv4 ? "192.0.2.2" : "2001:db8::2");
    for (const ProbeCase& probe : probe_cases(*config, family, here, here)) evaluate(ruleset, probe.connection);
  }
}

// --- A mutator that knows the options ------------------------------------------------------------------------------------

class Writer {
 public:
  explicit Writer(unsigned seed) : random_(seed) {}

  std::string mutated(std::string_view text) {
    auto lines = split(text, '\n');
    std::erase(lines, std::string_view());
    std::vector<std::string> written(lines.begin(), lines.end());
    const auto any = [&] { return random_() % written.size(); };
    switch (written.empty() ? 0 : random_() % 5) {
      case 0:
      case 1:
        written.push_back(line());
        break;
      case 2:
        written.erase(written.begin() + static_cast<std::ptrdiff_t>(any()));
        break;
      case 3:
        written[any()] = line();
        break;
      default: {
        std::string& chosen = written[any()];
        const OptionSpec* option = find_option(chosen.substr(0, chosen.find('=')));
        if (option != nullptr) chosen += (chosen.back() == '=' ? "" : ",") + value(*option);
      }
    }
    return join(written, "\n");
  }

 private:
  std::string line() {
    const OptionSpec& option = options()[random_() % options().size()];
    std::string text = value(option);
    if (option.arity == Arity::list) {
      for (unsigned more = random_() % 4; more > 0; --more) text += "," + value(option);
    }
    return std::string(option.name) + "=" + text;
  }

  std::string value(const OptionSpec& option) {
    const std::string_view kind = option.value_name;
    if (kind == "PORT") return number(1, 65535);
    if (kind == "PORTS") return random_() % 12 == 0 ? "*" : range(65535, 1);
    if (kind == "UIDS" || kind == "GIDS") return range(4294967294U, 0);
    if (kind == "CIDRS") return random_() % 12 == 0 ? "*" : cidr();
    if (kind == "CIDR") return "127." + number(0, 255) + ".0.0/" + number(8, 32);
    if (kind == "ADDRESSES") return address();
    if (kind == "NAMES") return interface();
    if (kind == "MARK" || kind == "TABLE") return number(1, 4294967295U);
    if (kind == "MARK[/MASK]") return number(1, 4294967295U) + (random_() % 2 == 0 ? "" : "/" + number(1, 4294967295U));
    if (kind == "[PROTO:]PORTS:UIDS") {
      return word({"", "tcp:", "udp:"}) + range(65535, 1) + "," + range(65535, 1) + ":" + range(4294967294U, 0);
    }
    if (option.name == "udp") return "reject:" + range(65535, 1);
    if (option.name == "priority") return "-" + number(1, 199);
    if (option.name == "close-wait-timeout") return number(1, 100);
    return word({"none",     "istio",  "linkerd",  "kuma",     "consul", "reject",      "capture", "direct", "inbound",
                 "redirect", "tproxy", "off",      "pass",     "all",    "resolv-conf", "dual",    "ipv4",   "ipv6",
                 "true",     "false",  "iptables", "nftables", "auto",   "nft",         "legacy"});
  }

  std::string word(std::initializer_list<const char*> words) { return words.begin()[random_() % words.size()]; }

  std::uint32_t among(std::uint32_t lowest, std::uint32_t highest) {
    const std::uint32_t known[] = {lowest, highest, lowest + 1, highest - 1, 53,    80,
                                   443,    1000,    1337,       15001,       15006, 15053};
    std::uint32_t chosen =
        random_() % 3 == 0 ? static_cast<std::uint32_t>(random_()) : known[random_() % std::size(known)];
    if (random_() % 4 == 0) chosen = lowest + random_() % 64;
    return std::clamp(chosen, lowest, highest);
  }
  std::string number(std::uint32_t lowest, std::uint32_t highest) { return std::to_string(among(lowest, highest)); }

  std::string range(std::uint32_t highest, std::uint32_t lowest) {
    const std::uint32_t first = among(lowest, highest);
    if (random_() % 2 == 0) return std::to_string(first);
    return std::to_string(first) + "-" + std::to_string(among(first, highest));
  }

  std::string address() {
    if (random_() % 4 == 0) return word({"127.0.0.1", "::1", "127.0.0.6", "::6", "0.0.0.0", "::", "255.255.255.255"});
    if (random_() % 2 == 0) {
      return word({"10", "127", "192", "0", "255", "128"}) + "." + number(0, 255) + "." + number(0, 255) + "." +
             number(0, 255);
    }
    return word({"fd00", "2001", "fe80", "0", "ffff", "8000"}) + ":" + word({"0", "db8", "ffff"}) +
           "::" + word({"", "1", "ffff", "8000"});
  }
  std::string cidr() {
    const std::string host = address();
    return host + "/" + number(0, host.find(':') == std::string::npos ? 32 : 128);
  }
  std::string interface() {
    std::string name = word(
        {"eth0", "lo", "net1", "vnet0", "a", "tap", "docker0", "abcdefghijklmno", "{", "'", "#x", "!", "$a", ";", "`"});
    name.insert(name.begin() + static_cast<std::ptrdiff_t>(random_() % (name.size() + 1)),
                static_cast<char>('!' + random_() % ('~' - '!')));
    return name.substr(0, 15) + word({"", "", "*", "+"});
  }

  Random random_;
};

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t room, unsigned seed) {
  if (seed % 8 == 0) return LLVMFuzzerMutate(data, size, room);
  const std::string mutated = Writer(seed).mutated(fuzz::text_of(data, size));
  if (mutated.size() > room) return size;
  std::copy(mutated.begin(), mutated.end(), data);
  return mutated.size();
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text = fuzz::text_of(data, size);
  const Validation validation = validate(raw_config(text), fuzz::lookups());
  fuzz::check(validation);
  if (!validation.config) return 0;
  const Config& config = *validation.config;
  const Ruleset ruleset = compile(config);
  require(diff(ruleset, as_found(ruleset)).empty(), "the rules do not differ from themselves");
  rules_survive_the_kernels_encoding(ruleset);
  everything_can_be_said(config, ruleset);
  options_can_be_recovered(ruleset);
  const auto translated = to_iptables(ruleset);
  const auto* iptables = std::get_if<IptablesRuleset>(&translated);
  Random random(static_cast<unsigned>(std::hash<std::string_view>()(text)));
  if (iptables != nullptr) both_forms_decide_alike(ruleset, *iptables, random);
  return 0;
}
