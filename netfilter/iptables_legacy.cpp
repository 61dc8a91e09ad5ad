#include "netfilter/iptables_legacy.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>

// After the C library's netinet/in.h: the kernel's headers then leave out what it has defined.
#include <linux/netfilter_ipv4/ip_tables.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string_view>

#include "netfilter/descriptor.hpp"
#include "netfilter/errors.hpp"
#include "netfilter/helper_program.hpp"
#include "netfilter/read_back.hpp"
#include "rules/iptables_text.hpp"
#include "rules/text.hpp"

namespace sluice::netfilter {
namespace {

constexpr Family families[] = {Family::ipv4, Family::ipv6};
constexpr IptablesTableKind kinds[] = {IptablesTableKind::mangle, IptablesTableKind::raw, IptablesTableKind::filter,
                                       IptablesTableKind::nat};

std::string program(Family family, const char* what) {
  return std::string(family == Family::ipv4 ? "iptables" : "ip6tables") + "-legacy-" + what;
}

std::string shown(Family family, IptablesTableKind kind) {
  return (family == Family::ipv4 ? "ip " : "ip6 ") + std::string(to_text(kind));
}

// --- Which tables there are -----------------------------------------------------------------------------------------

/// The tables that exist in this namespace; none where the kernel has no such file, or it cannot be read, as by a user
/// other than root. Throws KernelError for any other failure: tables overlooked would keep their rules.
std::vector<IptablesTableKind> existing_tables(Family family) {
  const std::string path =
      family == Family::ipv4 ? "/proc/self/net/ip_tables_names" : "/proc/self/net/ip6_tables_names";
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<IptablesTableKind> tables;
  if (file.number() < 0 && (errno == ENOENT || errno == EACCES)) return tables;
  if (file.number() < 0) throw KernelError(errno, "open " + path);
  std::string text;
  char buffer[512];
  for (ssize_t length = -1; length != 0;) {
    length = read(file.number(), buffer, sizeof buffer);
    if (length < 0 && errno != EINTR) throw KernelError(errno, "read " + path);
    if (length > 0) text.append(buffer, static_cast<std::size_t>(length));
  }
  const auto names = split(text, '\n');
  for (const IptablesTableKind kind : kinds) {
    if (std::find(names.begin(), names.end(), to_text(kind)) != names.end()) tables.push_back(kind);
  }
  return tables;
}

/// Whether a table that exists holds a chain of ours. Asks the kernel (IPT_SO_GET_ENTRIES, linux/netfilter_ipv4/
/// ip_tables.h, the same for IPv6), so that an image without iptables can tell that there is nothing to do.
bool holds_ours(Family family, IptablesTableKind kind) {
  const bool four = family == Family::ipv4;
  const Descriptor socket_(socket(four ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const int level = four ? IPPROTO_IP : IPPROTO_IPV6;
  ipt_getinfo info{};
  const std::string name(to_text(kind));
  std::memcpy(info.name, name.c_str(), name.size() + 1);
  socklen_t size = sizeof info;
  // Whatever goes wrong here, such as a change of the table in between, is worth a closer look.
  if (getsockopt(socket_.number(), level, IPT_SO_GET_INFO, &info, &size) != 0) return true;
  // A struct ipt_get_entries: the name, the size, and room for that much.
  std::string entries(sizeof(ipt_get_entries) + info.size, '\0');
  std::memcpy(entries.data(), name.c_str(), name.size() + 1);
  std::memcpy(entries.data() + offsetof(ipt_get_entries, size), &info.size, sizeof info.size);
  size = static_cast<socklen_t>(entries.size());
  if (getsockopt(socket_.number(), level, IPT_SO_GET_ENTRIES, entries.data(), &size) != 0) return true;
  return entries.find(iptables_chain_prefix) != std::string::npos;
}

// --- Reading what iptables-save prints ---------------------------------------------------------------------------------

struct Jump {
  std::string chain;     ///< `OUTPUT`
  std::size_t position;  ///< 0 for the first rule
  std::string rule;      ///< without the `-A OUTPUT`
  friend bool operator==(const Jump&, const Jump&) = default;
};

struct Lines {
  std::string chain;
  std::vector<std::string> rules;  ///< without the `-A CHAIN`
  friend bool operator==(const Lines&, const Lines&) = default;
};

/// What is ours in one table, as text.
struct TableText {
  Family family;
  IptablesTableKind kind;
  std::vector<Lines> chains;
  std::vector<Jump> jumps;
  std::vector<Counters> counters;  ///< of the rules of all chains, one after the other

  [[nodiscard]] bool says_the_same(const TableText& other) const {
    return chains == other.chains && jumps == other.jumps;
  }
};

std::optional<Hook> hook_named(std::string_view chain) {
  for (const Hook hook : {Hook::prerouting, Hook::input, Hook::output}) {
    if (chain == iptables_name(hook)) return hook;
  }
  return std::nullopt;
}

bool is_ours(std::string_view chain) { return chain.starts_with(iptables_chain_prefix); }

std::string_view first_word(std::string_view text) { return text.substr(0, text.find(' ')); }

/// The chain that a rule jumps or goes to; empty where it does not.
std::string_view destination_of(std::string_view rule) {
  const auto words = split(rule, ' ');
  for (std::size_t at = 0; at + 1 < words.size(); ++at) {
    if (words[at] == "-j" || words[at] == "-g") return words[at + 1];
  }
  return {};
}

/// `[12:345] ` at the front of a line of iptables-save -c, taken off.
Counters take_counters(std::string_view& line) {
  const std::size_t colon = line.find(':');
  const std::size_t end = line.find("] ");
  if (!line.starts_with('[') || colon == std::string_view::npos || end == std::string_view::npos) return {};
  const Counters counters{parse_number(line.substr(1, colon - 1)).value_or(0),
                          parse_number(line.substr(colon + 1, end - colon - 1)).value_or(0)};
  line.remove_prefix(end + 2);
  return counters;
}

TableText table_in(Family family, IptablesTableKind kind, std::string_view saved) {
  TableText table{family, kind, {}, {}, {}};
  std::string current;
  std::size_t position = 0;
  for (std::string_view line : split(saved, '\n')) {
    if (line.starts_with(":") && is_ours(line.substr(1)))
      table.chains.push_back({std::string(first_word(line.substr(1))), {}});
    const Counters counters = take_counters(line);
    if (!line.starts_with("-A ")) continue;
    line.remove_prefix(3);
    const std::string chain(first_word(line));
    const std::string rule(line.substr(std::min(chain.size() + 1, line.size())));
    position = chain == current ? position + 1 : 0;
    current = chain;
    if (is_ours(chain)) {
      for (Lines& lines : table.chains) {
        if (lines.chain == chain) lines.rules.push_back(rule);
      }
      table.counters.push_back(counters);
    } else if (hook_named(chain) && is_ours(destination_of(rule))) {
      table.jumps.push_back({chain, position, rule});
    }
  }
  return table;
}

/// What a program says, for the end of a message.
std::string in_one_line(std::string_view said) {
  std::string line;
  for (const std::string_view piece : split(said, '\n')) {
    if (trimmed(piece).empty()) continue;
    line += (line.empty() ? "" : "; ") + std::string(trimmed(piece));
  }
  return line;
}

TableText read_table(Family family, IptablesTableKind kind) {
  const HelperResult saved = run_helper(program(family, "save"), {"-c", "-t", std::string(to_text(kind))}, "");
  if (saved.status != 0) {
    throw KernelError(KernelError::Kind::refused, EIO,
                      "read table " + shown(family, kind) + " with iptables-legacy-save", in_one_line(saved.errors),
                      {});
  }
  return table_in(family, kind, saved.output);
}

std::vector<TableText> read_tables() {
  std::vector<TableText> tables;
  for (const Family family : families) {
    for (const IptablesTableKind kind : existing_tables(family)) {
      if (holds_ours(family, kind)) tables.push_back(read_table(family, kind));
    }
  }
  return tables;
}

std::string name_in(const std::string& rule) {
  constexpr std::string_view option = "--comment ";
  const std::size_t at = rule.find(option);
  return at == std::string::npos ? "" : std::string(first_word(std::string_view(rule).substr(at + option.size())));
}

ObservedIptables observed(const std::vector<TableText>& tables) {
  ObservedIptables all;
  for (const TableText& table : tables) {
    if (table.chains.empty()) continue;
    ObservedIptablesTable& found = all.tables.emplace_back(ObservedIptablesTable{table.family, table.kind, {}, {}});
    for (const Jump& jump : table.jumps) {
      const auto hook = hook_named(jump.chain);
      const std::string chain(destination_of(jump.rule));
      if (hook) found.jumps.push_back({*hook, printable(chain), jump.position, jump.rule == "-j " + chain});
    }
    std::size_t number = 0;
    for (const Lines& lines : table.chains) {
      ObservedIptablesChain& chain = found.chains.emplace_back(ObservedIptablesChain{printable(lines.chain), {}});
      for (const std::string& rule : lines.rules) {
        const Counters counters = number < table.counters.size() ? table.counters[number] : Counters{};
        auto decoded = iptables_rule_from_text(rule, table.family);
        if (decoded) decoded->name = quotable(decoded->name);
        chain.rules.push_back({printable(rule), quotable(name_in(rule)), counters, std::move(decoded)});
        ++number;
      }
    }
  }
  return all;
}

// --- Writing -----------------------------------------------------------------------------------------------------------

TableText text_of(const IptablesTable& table) {
  TableText text{table.family, table.kind, {}, {}, {}};
  for (const IptablesChain& chain : table.chains) {
    Lines& lines = text.chains.emplace_back(Lines{chain.name, {}});
    for (const IptablesRule& rule : chain.rules) lines.rules.push_back(to_text(rule, table.family));
  }
  std::string current;
  std::size_t position = 0;
  for (const IptablesJump& jump : table.jumps) {
    const std::string chain(iptables_name(jump.hook));
    position = chain == current ? position + 1 : 0;
    current = chain;
    text.jumps.push_back({chain, position, "-j " + jump.chain});
  }
  return text;
}

const TableText* find(const std::vector<TableText>& tables, Family family, IptablesTableKind kind) {
  const auto found = std::find_if(tables.begin(), tables.end(),
                                  [&](const TableText& table) { return table.family == family && table.kind == kind; });
  return found == tables.end() ? nullptr : &*found;
}

/// What iptables-restore --noflush makes of one table: ours as in `to` instead of as in `from`. Chains that stay are
/// filled anew in place; what others have in the table is not mentioned.
std::string transition(const TableText& from, const TableText& to) {
  std::string text = "*" + std::string(to_text(to.kind)) + "\n";
  for (const Lines& lines : to.chains) text += ":" + lines.chain + " - [0:0]\n";
  for (const Jump& jump : from.jumps) text += "-D " + jump.chain + " " + jump.rule + "\n";
  for (const Lines& lines : to.chains) {
    for (const std::string& rule : lines.rules) text += "-A " + lines.chain + " " + rule + "\n";
  }
  for (const Jump& jump : to.jumps) {
    text += "-I " + jump.chain + " " + std::to_string(jump.position + 1) + " " + jump.rule + "\n";
  }
  const auto leaves = [&](const Lines& lines) {
    return std::none_of(to.chains.begin(), to.chains.end(),
                        [&](const Lines& other) { return other.chain == lines.chain; });
  };
  for (const Lines& lines : from.chains) {
    if (leaves(lines)) text += "-F " + lines.chain + "\n";
  }
  for (const Lines& lines : from.chains) {
    if (leaves(lines)) text += "-X " + lines.chain + "\n";
  }
  return text + "COMMIT\n";
}

/// Everything of one family.
std::string transition(Family family, const std::vector<TableText>& from, const std::vector<TableText>& to) {
  std::string text;
  for (const IptablesTableKind kind : kinds) {
    const TableText* before = find(from, family, kind);
    const TableText* after = find(to, family, kind);
    if (before == nullptr && after == nullptr) continue;
    const TableText nothing{family, kind, {}, {}, {}};
    text += transition(before == nullptr ? nothing : *before, after == nullptr ? nothing : *after);
  }
  return text;
}

HelperResult restore(Family family, const std::string& text, std::chrono::milliseconds patience) {
  // Zero would mean to wait for ever.
  const auto seconds = std::max<long long>(1, std::chrono::ceil<std::chrono::seconds>(patience).count());
  return run_helper(program(family, "restore"), {"--noflush", "--wait=" + std::to_string(seconds)}, text);
}

std::string remedy_for(const HelperResult& result) {
  constexpr int lock_is_held = 4;  // RESOURCE_PROBLEM, xtables.h
  if (result.status == lock_is_held) {
    return "another program holds the xtables lock; raise --lock-timeout, or see who has /run/xtables.lock open; where "
           "the file cannot be made, name another with XTABLES_LOCKFILE";
  }
  return "see what it complains of; kernels with nf_tables need no program: --iptables-variant nft";
}

bool are_the_same(Family family, const std::vector<TableText>& one, const std::vector<TableText>& other) {
  return std::all_of(std::begin(kinds), std::end(kinds), [&](IptablesTableKind kind) {
    const TableText nothing{family, kind, {}, {}, {}};
    const TableText* first = find(one, family, kind);
    const TableText* second = find(other, family, kind);
    return (first == nullptr ? nothing : *first).says_the_same(second == nullptr ? nothing : *second);
  });
}

/// Takes back what became of `begun`: the family that was refused may have committed some of its tables.
bool put_back(const std::vector<Family>& begun, const std::vector<TableText>& before,
              std::chrono::milliseconds patience) {
  const auto all = [&] {
    const std::vector<TableText> now = read_tables();
    return std::all_of(begun.begin(), begun.end(), [&](Family family) {
      if (are_the_same(family, now, before)) return true;
      const std::string back = transition(family, now, before);
      return back.empty() || restore(family, back, patience).status == 0;
    });
  };
  try {
    return twice(all);
  } catch (const KernelError&) {
    return false;
  }
}

/// From one state to the other; on a failure back again.
void commit(const std::vector<TableText>& from, const std::vector<TableText>& to, std::chrono::milliseconds patience) {
  std::vector<Family> begun;
  try {
    for (const Family family : families) {
      const std::string text = transition(family, from, to);
      if (text.empty()) continue;
      begun.push_back(family);
      const HelperResult result = restore(family, text, patience);
      if (result.status == 0) continue;
      throw KernelError(KernelError::Kind::refused, EIO,
                        "program the rules with " + program(family, "restore") + " (exit status " +
                            std::to_string(result.status) + ")",
                        in_one_line(result.errors), remedy_for(result));
    }
  } catch (const KernelError& error) {
    throw error.leaving(put_back(begun, from, patience) ? KernelError::Left::as_it_was : KernelError::Left::in_between);
  }
}

}  // namespace

bool legacy_rules_present() {
  return std::any_of(std::begin(families), std::end(families), [](Family family) {
    const auto tables = existing_tables(family);
    return std::any_of(tables.begin(), tables.end(), [&](auto kind) { return holds_ours(family, kind); });
  });
}

bool legacy_programs_installed() {
  return std::any_of(std::begin(families), std::end(families),
                     [](Family family) { return helper_is_installed(program(family, "restore")); });
}

ObservedIptables iptables_from_save(Family family, IptablesTableKind kind, std::string_view saved) {
  return observed({table_in(family, kind, saved)});
}

ObservedIptables LegacyTables::observe() const { return observed(read_tables()); }

Outcome LegacyTables::apply(const IptablesRuleset& wanted) const {
  const std::vector<TableText> before = read_tables();
  if (diff(wanted, observed(before)).empty()) return Outcome::unchanged;
  std::vector<TableText> after;
  for (const IptablesTable& table : wanted.tables) after.push_back(text_of(table));
  commit(before, after, patience_);
  try {
    const auto differences = diff(wanted, twice([&] { return observe(); }));
    if (!differences.empty()) throw not_as_wanted(differences.front());
  } catch (const KernelError& error) {
    throw error.leaving(KernelError::Left::as_wanted);
  }
  return before.empty() ? Outcome::created : Outcome::replaced;
}

std::vector<std::string> LegacyTables::remove(bool pretend) const {
  const std::vector<TableText> before = read_tables();
  std::vector<std::string> words;
  for (const TableText& table : before) {
    for (const Lines& lines : table.chains) {
      words.push_back("iptables-legacy chain " + shown(table.family, table.kind) + " " + lines.chain);
    }
  }
  if (!pretend && !words.empty()) commit(before, {}, patience_);
  return words;
}

}  // namespace sluice::netfilter
