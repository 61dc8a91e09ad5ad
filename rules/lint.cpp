#include "rules/lint.hpp"

#include <algorithm>
#include <span>

#include "rules/address.hpp"
#include "rules/compile.hpp"

namespace sluice {
namespace {

constexpr int priority_of_others = -100;  // NF_IP_PRI_NAT_DST, where iptables and most tools put NAT

template <typename T>
bool within(const Range<T>& range, const Ranges<T>& whole) {
  return whole.covers(range);
}

template <typename T>
bool within(const Ranges<T>& some, const Ranges<T>& whole) {
  return std::all_of(some.begin(), some.end(), [&](const Range<T>& range) { return whole.covers(range); });
}

/// The first range of `some` for which `holds` is true; null where there is none.
template <typename T, typename Predicate>
const Range<T>* first(const Ranges<T>& some, Predicate holds) {
  for (const Range<T>& range : some) {
    if (holds(range)) return &range;
  }
  return nullptr;
}

std::string number_text(Port port) { return std::to_string(port.number()); }
template <typename Tag>
std::string number_text(Id<Tag> id) {
  return std::to_string(id.number);
}

template <typename T>
std::string numbers_text(const Range<T>& range) {
  return range.single() ? number_text(range.first) : number_text(range.first) + "-" + number_text(range.last);
}

class Linter {
 public:
  Linter(const Settings& settings, const Said& said) : s(settings), said_(said) {}

  std::vector<Problem> run() {
    ports_of_the_proxy();
    inbound();
    outbound_ports();
    owners();
    networks<Ipv4>(
        Family::ipv4, "0.0.0.0/0", [](const AddressRanges& some) -> auto& { return some.v4; });
    networks<Ipv6>(
        Family::ipv6, "::/0", [](const AddressRanges& some) -> auto& { return some.v6; });
    dns();
    interfaces();
    priority();
    nothing_captured();
    return std::move(problems_);
  }

 private:
  struct OwnPort {
    std::string_view option;
    Port port;
  };

  void warn(std::string_view option, const std::string& text) {
    if (said_.explicitly(option)) problems_.push_back({said_.where(option), text});
  }

  [[nodiscard]] bool inbound_is_off() const { return s.inbound_mode == InboundMode::off; }
  [[nodiscard]] bool refuses_other_family() const {
    return s.other_family == OtherFamily::reject && s.ip_family != FamilyMode::dual;
  }
  [[nodiscard]] static const Ranges<Port>& all_ports() {
    static const Ranges<Port> all{every_port()};
    return all;
  }

  // --- Ports -----------------------------------------------------------------------------------------------------------

  [[nodiscard]] std::vector<OwnPort> own_ports() const {
    std::vector<OwnPort> own = {{"proxy-port", s.proxy_port}};
    if (!inbound_is_off() && s.inbound_port != s.proxy_port) own.push_back({"inbound-port", s.inbound_port});
    if (s.dns != DnsMode::off) own.push_back({"dns-port", s.dns_port});
    return own;
  }

  void one_port_of_the_proxy(std::string_view option, const Ranges<Port>& listed, const std::string& consequence) {
    if (listed == all_ports()) return;
    for (const OwnPort& own : own_ports()) {
      if (!listed.contains(own.port)) continue;
      if (!said_.explicitly(option) && !said_.explicitly(own.option)) continue;
      problems_.push_back(
          {said_.where(option), number_text(own.port) + " is also --" + std::string(own.option) + "; " + consequence});
    }
  }

  void ports_of_the_proxy() {
    const bool refused = s.proxy_port_access == ProxyPortAccess::reject;
    const std::string from_outside =
        refused ? "with --proxy-port-access reject that is refused from outside before this is asked"
                : "whoever dials it from outside reaches the proxy's listener directly";
    if (!inbound_is_off()) {
      one_port_of_the_proxy("exclude-inbound-ports", s.exclude_inbound_ports, from_outside);
      one_port_of_the_proxy("tunnel-ports", s.tunnel_ports, from_outside);
    }
    one_port_of_the_proxy("exclude-outbound-ports", s.exclude_outbound_ports,
                          "the proxy's own needs no exclusion, and that port of other hosts is not captured");
  }

  void inbound() {
    if (inbound_is_off()) return;
    if (!s.inbound_ports.empty() && within(s.inbound_ports, s.exclude_inbound_ports)) {
      warn("exclude-inbound-ports",
           "covers every port of --inbound-ports, so nothing is captured inbound; --inbound-mode off says that");
      return;
    }
    const auto missed = [&](const Range<Port>& range) { return !s.inbound_ports.overlaps(range); };
    if (const auto* range = first(s.exclude_inbound_ports, missed)) {
      warn("exclude-inbound-ports", numbers_text(*range) + " is not in --inbound-ports, so it is not captured anyway");
    }
    const auto tunnelled = [&](const Range<Port>& range) { return within(range, s.tunnel_ports); };
    if (const auto* range = first(s.exclude_inbound_ports, tunnelled)) {
      warn("exclude-inbound-ports", numbers_text(*range) + " is in --tunnel-ports already, which is asked before");
    }
    if (s.hairpin == Hairpin::inbound) return;  // tunnel ports have a meaning there, too
    if (const auto* range = first(s.tunnel_ports, missed)) {
      warn("tunnel-ports", numbers_text(*range) + " is not in --inbound-ports, so it is not captured anyway");
    }
  }

  void outbound_ports() {
    if (s.exclude_outbound_ports == all_ports()) {
      warn("exclude-outbound-ports", "covers every port, so --outbound-cidrs and --outbound-ports capture nothing");
      return;
    }
    const auto excluded = [&](const Range<Port>& range) { return within(range, s.exclude_outbound_ports); };
    if (const auto* range = first(s.outbound_ports, excluded)) {
      warn("outbound-ports", numbers_text(*range) + " is in --exclude-outbound-ports, which is asked before");
    }
    if (const auto* range = first(s.udp_reject, excluded)) {
      warn("udp", numbers_text(*range) + " is in --exclude-outbound-ports, which is asked before: it is not refused");
    }
    for (const PortsForUids& entry : s.exclude_outbound_ports_for_uids) {
      if (within(entry.ports, s.exclude_outbound_ports)) {
        warn("exclude-outbound-ports-for-uids",
             numbers_text(entry.ports.front()) + " is in --exclude-outbound-ports already, for every user");
      } else if (within(entry.uids, s.proxy_uids) && s.hairpin == Hairpin::direct) {
        warn("exclude-outbound-ports-for-uids",
             numbers_text(entry.uids.front()) + " is in --proxy-uid, of which nothing is captured anyway");
      }
    }
    const bool only_ports = s.outbound_cidrs.empty() && s.hairpin == Hairpin::direct && !refuses_other_family();
    const auto idle = [&](const Range<Port>& range) {
      const bool asked_for = s.outbound_ports.overlaps(range) || s.udp_reject.overlaps(range) ||
                             (s.dns != DnsMode::off && range.contains(*Port::from(53)));
      return only_ports && !asked_for;
    };
    if (const auto* range = first(s.exclude_outbound_ports, idle)) {
      warn("exclude-outbound-ports", numbers_text(*range) +
                                         " is not in --outbound-ports, and --outbound-cidrs is empty, so it is not "
                                         "captured anyway");
    }
  }

  // --- Users and groups ------------------------------------------------------------------------------------------------

  void owners() {
    const auto by_proxy_uid = [&](const Range<Uid>& range) { return within(range, s.proxy_uids); };
    if (const auto* range = first(s.exclude_uids, by_proxy_uid)) {
      warn("exclude-uids", numbers_text(*range) + " is in --proxy-uid, of which nothing is captured anyway");
    }
    const auto by_proxy_gid = [&](const Range<Gid>& range) { return within(range, s.proxy_gids); };
    if (const auto* range = first(s.exclude_gids, by_proxy_gid)) {
      warn("exclude-gids", numbers_text(*range) + " is in --proxy-gid, of which nothing is captured anyway");
    }
    if (!s.only_gids.empty()) only_some_groups();
    if (within(Range<Uid>{Uid{0}, Uid{Uid::highest}}, s.exclude_uids)) {
      warn("exclude-uids", "covers every user, so --outbound-cidrs and --outbound-ports capture nothing");
    }
  }

  void only_some_groups() {
    const auto left_out = [&](const Range<Gid>& range) { return !s.only_gids.overlaps(range); };
    if (const auto* range = first(s.exclude_gids, left_out)) {
      warn("exclude-gids", numbers_text(*range) + " is not in --only-gids, so it is not captured anyway");
    }
    if (within(s.only_gids, s.exclude_gids)) {
      warn("only-gids", "is covered by --exclude-gids, so nothing is captured outbound");
    } else if (within(s.only_gids, s.proxy_gids)) {
      warn("only-gids", "is covered by --proxy-gid, so nothing is captured outbound");
    }
  }

  // --- Networks, of one family at a time -------------------------------------------------------------------------------

  template <typename Address, typename Of>
  void networks(Family family, const std::string& everything, Of of) {
    if (!captures(s, family)) {
      networks_of_the_other_family<Address>(family, of);
      return;
    }
    const Ranges<Address>& excluded = of(s.exclude_outbound_cidrs);
    const std::string name(to_text(family));
    if (excluded.covers(every_address<Address>())) {
      warn("exclude-outbound-cidrs",
           everything + " leaves no " + name + " destination for --outbound-cidrs and --outbound-ports to capture");
    } else {
      unreached_networks(excluded, of(s.outbound_cidrs), loopback(Address{}).without(of(s.named_loopback)));
    }
    if (!inbound_is_off() && of(s.exclude_inbound_cidrs).covers(every_address<Address>())) {
      warn("exclude-inbound-cidrs", everything + " leaves no " + name +
                                        " source whose calls to --inbound-ports are "
                                        "captured; --inbound-mode off says that for both families");
    }
  }

  template <typename Address>
  void unreached_networks(const Ranges<Address>& excluded, const Ranges<Address>& captured,
                          const Ranges<Address>& loopback) {
    const auto on_loopback = [&](const Range<Address>& range) { return within(range, loopback); };
    if (const auto* range = first(excluded, on_loopback)) {
      warn("exclude-outbound-cidrs", to_text(*range) +
                                         " is loopback, which is not captured anyway unless "
                                         "--outbound-cidrs names it");
    }
    const bool by_port = !s.outbound_ports.empty() || !s.udp_reject.empty();
    const auto missed = [&](const Range<Address>& range) {
      return !by_port && !captured.overlaps(range) && !on_loopback(range);
    };
    if (const auto* range = first(excluded, missed)) {
      warn("exclude-outbound-cidrs", to_text(*range) + " is not in --outbound-cidrs, so it is not captured anyway");
    }
  }

  template <typename Address, typename Of>
  void networks_of_the_other_family(Family family, Of of) {
    const auto idle = [&](std::string_view option, const AddressRanges& listed) {
      const Ranges<Address>& some = of(listed);
      if (some.empty() || some.covers(every_address<Address>())) return;
      warn(option,
           to_text(some.front()) + " has no effect: --ip-family leaves " + std::string(to_text(family)) + " alone");
    };
    idle("outbound-cidrs", s.outbound_cidrs);
    // What is refused in that family spares excluded destinations.
    if (!refuses_other_family()) idle("exclude-outbound-cidrs", s.exclude_outbound_cidrs);
    if (!inbound_is_off()) idle("exclude-inbound-cidrs", s.exclude_inbound_cidrs);
  }

  [[nodiscard]] Ranges<Ipv4> loopback(Ipv4) const { return Ranges<Ipv4>{range_of(s.loopback_cidr)}; }
  [[nodiscard]] static Ranges<Ipv6> loopback(Ipv6) { return Ranges<Ipv6>{{Ipv6{0, 1}, Ipv6{0, 1}}}; }

  // --- The rest --------------------------------------------------------------------------------------------------------

  void dns() {
    const Port query = *Port::from(53);
    if (s.dns != DnsMode::off && s.exclude_outbound_ports.contains(query)) {
      warn("exclude-outbound-ports", "53 is asked before --dns, which then captures no query");
    }
    if (s.dns == DnsMode::off && s.udp_reject.contains(query) && !s.exclude_outbound_ports.contains(query)) {
      warn("udp", "refuses port 53, so applications resolve no names over UDP; --dns captures those queries instead");
    }
  }

  void interfaces() {
    for (const InterfacePattern& pattern : s.virtual_interfaces) {
      const bool excluded =
          std::any_of(s.exclude_interfaces.begin(), s.exclude_interfaces.end(), [&](const InterfacePattern& other) {
            return other == pattern || (other.prefix && other.matches(pattern.name));
          });
      if (excluded) {
        warn("virtual-interfaces",
             pattern.name + (pattern.prefix ? "*" : "") + " is in --exclude-interfaces, which is asked before");
      }
    }
  }

  void priority() {
    if (s.priority != priority_of_others || s.backend == BackendChoice::iptables) return;
    warn("priority", "-100 is where other tools have their NAT chains, so which of them is asked first is undefined");
  }

  void nothing_captured() {
    const bool outbound = !s.outbound_cidrs.empty() || !s.outbound_ports.empty() || s.dns != DnsMode::off ||
                          !s.udp_reject.empty() || refuses_other_family();
    const bool inbound = !inbound_is_off() && !s.inbound_ports.empty();
    if (outbound || inbound) return;
    warn(said_.explicitly("outbound-cidrs") ? "outbound-cidrs" : "outbound-ports",
         std::string("is empty, and so is what ") + (inbound_is_off() ? "--inbound-mode" : "--inbound-ports") +
             " leaves: nothing is captured at all");
  }

  const Settings& s;
  const Said& said_;
  std::vector<Problem> problems_;
};

}  // namespace

std::vector<Problem> lint(const Settings& settings, const Said& said) { return Linter(settings, said).run(); }

}  // namespace sluice
