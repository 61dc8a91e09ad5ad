#include <algorithm>

#include "rules/iptables_text.hpp"
#include "rules/text.hpp"

namespace sluice {
namespace {

/// Reads word by word and guesses; whether the guess is right is left to whoever writes it out again.
class RuleReader {
 public:
  explicit RuleReader(std::string_view text) : words_(split(text, ' ')) {}

  /// Nothing where a word is unknown or a number is none.
  std::optional<IptablesRule> read() {
    while (next_ < words_.size()) {
      const std::string_view option = take();
      if (option == "!") {
        negated_ = true;
        continue;
      }
      if (!read_header(option) && !read_match(option) && !read_target(option)) return std::nullopt;
      negated_ = false;
    }
    if (failed_ || !target_) return std::nullopt;
    rule_.target = *std::move(target_);
    return std::move(rule_);
  }

 private:
  bool read_header(std::string_view option) {
    if (option == "-s") {
      rule_.source = network();
    } else if (option == "-d") {
      rule_.destination = network();
    } else if (option == "-i") {
      rule_.in = interface();
    } else if (option == "-o") {
      rule_.out = interface();
    } else if (option == "-p") {
      rule_.protocol = protocol();
    } else if (option == "-m") {
      module_ = take();
    } else if (option == "--comment") {
      rule_.name = take();
    } else {
      return false;
    }
    return true;
  }

  bool read_match(std::string_view option) {
    if (option == "--sport" || option == "--dport") {
      add_port(option == "--sport" ? Side::source : Side::destination);
    } else if (option == "--sports" || option == "--dports") {
      add(ports_in(option == "--sports" ? Side::source : Side::destination));
    } else if (option == "--tcp-flags") {
      take();
      take();
      add(NotOpening{});
    } else if (option == "--uid-owner") {
      add(UidRange{ids<Uid>()});
    } else if (option == "--gid-owner") {
      add(GidRange{ids<Gid>()});
    } else if (option == "--mark" && module_ == "connmark") {
      add(ConnectionMarkIs{mark()});
    } else if (option == "--mark") {
      add(PacketMarkIs{mark()});
    } else if (option == "--ctstate") {
      const std::string_view state = take();
      if (state == "DNAT") {
        add(DestinationRewritten{!negated_});
      } else {
        add(ConntrackStateIs{state == "NEW" ? ConntrackState::fresh : ConntrackState::invalid});
      }
    } else if (option == "--ctdir") {
      take();
      add(ReplyDirection{});
    } else if (option == "--dst-type") {
      take();
      add(DestinationLocal{!negated_});
    } else {
      return false;
    }
    return true;
  }

  bool read_target(std::string_view option) {
    if (option == "-g") {
      target_ = GoTo{std::string(take())};
    } else if (option == "-j") {
      name_target(take());
    } else if (option == "--to-ports") {
      if (const auto found = port(take())) target_ = Redirect{*found};
    } else if (option == "--on-port") {
      if (const auto found = port(take())) target_ = Tproxy{*found, 0};
    } else if (option == "--on-ip") {
      take();
    } else if (option == "--tproxy-mark") {
      if (auto* tproxy = target_ ? std::get_if<Tproxy>(&*target_) : nullptr) tproxy->mark = mark().value;
    } else if (option == "--reject-with") {
      target_ = Reject{take() == "tcp-reset" ? RejectWith::tcp_reset : RejectWith::port_unreachable};
    } else if (option == "--zone") {
      target_ = SetZone{static_cast<std::uint16_t>(number(take()))};
    } else if (option == "--set-xmark" && wanted_ == "CONNMARK") {
      target_ = SetConnectionMark{mark().value};
    } else if (option == "--set-xmark") {
      target_ = SetPacketMark{mark().value};
    } else {
      return false;
    }
    return true;
  }

  /// What has options of its own is known when they have been read.
  void name_target(std::string_view name) {
    wanted_ = name;
    constexpr std::string_view with_options[] = {"REDIRECT", "TPROXY", "REJECT", "CT", "CONNMARK", "MARK"};
    if (name == "RETURN") {
      target_ = Return{};
    } else if (name == "DROP") {
      target_ = Drop{};
    } else if (std::find(std::begin(with_options), std::end(with_options), name) == std::end(with_options)) {
      target_ = JumpTo{std::string(name)};
    }
  }

  void add(IptablesMatch match) { rule_.matches.push_back(std::move(match)); }

  void add_port(Side side) {
    const auto found = port_range(take());
    if (!found) return;
    if (negated_) {
      add(PortIsNot{side, found->first});
    } else {
      add(PortRange{side, *found});
    }
  }

  PortsIn ports_in(Side side) {
    PortsIn ports{side, {}};
    for (const std::string_view item : split(take(), ',')) {
      if (const auto range = port_range(item)) ports.ports.push_back(*range);
    }
    return ports;
  }

  // --- Values ----------------------------------------------------------------------------------------------------------

  std::string_view take() {
    if (next_ < words_.size()) return words_[next_++];
    failed_ = true;
    return {};
  }

  std::uint64_t number(std::string_view text) {
    const auto found = parse_hex_or_decimal(text);
    if (!found) failed_ = true;
    return found.value_or(0);
  }

  std::optional<Port> port(std::string_view text) {
    const auto found = Port::from(number(text));
    if (!found) failed_ = true;
    return found;
  }

  std::optional<Range<Port>> port_range(std::string_view text) {
    const auto ends = split(text, ':');
    const auto first = port(ends.front());
    const auto last = port(ends.back());
    if (!first || !last) return std::nullopt;
    return Range<Port>{*first, *last};
  }

  template <typename Kind>
  Range<Kind> ids() {
    const auto ends = split(take(), '-');
    return {Kind{static_cast<std::uint32_t>(number(ends.front()))},
            Kind{static_cast<std::uint32_t>(number(ends.back()))}};
  }

  Mark mark() {
    const auto parts = split(take(), '/');
    Mark found{static_cast<std::uint32_t>(number(parts.front()))};
    if (parts.size() > 1) found.mask = static_cast<std::uint32_t>(number(parts.back()));
    return found;
  }

  std::optional<Network> network() {
    const auto found = parse_cidr(take());
    if (!found) failed_ = true;
    return found ? std::optional<Network>(found->cidr) : std::nullopt;
  }

  InterfacePattern interface() {
    std::string_view name = take();
    const bool prefix = !name.empty() && name.back() == '+';
    if (prefix) name.remove_suffix(1);
    if (!is_interface_name(name)) failed_ = true;
    return {std::string(name), prefix};
  }

  std::optional<Protocol> protocol() {
    const std::string_view name = take();
    for (const Protocol known : {Protocol::tcp, Protocol::udp, Protocol::sctp}) {
      if (name == to_text(known)) return known;
    }
    failed_ = true;
    return std::nullopt;
  }

  std::vector<std::string_view> words_;
  std::size_t next_ = 0;
  std::string_view module_;  ///< of the last -m
  std::string_view wanted_;  ///< of the -j
  bool negated_ = false;
  bool failed_ = false;
  IptablesRule rule_{{}, {}, {}, {}, {}, {}, {}, Return{}};
  std::optional<IptablesTarget> target_;
};

}  // namespace

std::optional<IptablesRule> iptables_rule_from_text(std::string_view text, Family family) {
  auto rule = RuleReader(text).read();
  if (!rule || to_text(*rule, family) != text) return std::nullopt;
  return rule;
}

}  // namespace sluice
