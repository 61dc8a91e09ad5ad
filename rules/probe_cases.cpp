#include "rules/probe_cases.hpp"

namespace sluice {
namespace {

constexpr std::uint16_t client_port = 40000;

template <typename Kind>
Kind first_outside(const Ranges<Kind>& taken, Kind from) {
  // The ranges are in order, so what lies behind one can only be in a later one.
  Kind candidate = from;
  for (const Range<Kind>& range : taken) {
    if (!range.contains(candidate)) continue;
    const auto after = next(range.last);
    if (!after) return from;
    candidate = *after;
  }
  return candidate;
}

class Cases {
 public:
  Cases(const Settings& settings, Family family, const IpAddress& pod, const IpAddress& world)
      : s(settings), family_(family), pod_(pod), world_(world) {}

  std::vector<ProbeCase> run() {
    outbound();
    loopback();
    inbound();
    return std::move(cases_);
  }

 private:
  void outbound() {
    const Port open = usual_port(s.exclude_outbound_ports);
    add("outbound, an application", from_here(application(), captured_destination(), open));
    add("outbound, the proxy", from_here(proxy(), captured_destination(), open));
    if (!s.exclude_outbound_ports.empty()) {
      add("outbound, an application to an excluded port",
          from_here(application(), captured_destination(), s.exclude_outbound_ports.front().first));
    }
    if (const auto excluded = first_of(s.exclude_outbound_cidrs)) {
      add("outbound, an application to an excluded network", from_here(application(), *excluded, open));
    }
    if (!s.exclude_uids.empty()) {
      Connection connection = from_here(application(), captured_destination(), open);
      connection.uid = s.exclude_uids.front().first;
      add("outbound, an excluded user", connection);
    }
  }

  void loopback() {
    const IpAddress local = family_ == Family::ipv4 ? IpAddress(Ipv4{0x7f000001U}) : IpAddress(Ipv6{0, 1});
    add("loopback, an application", on_loopback(application(), local));
    add("loopback, the proxy to the application", on_loopback(proxy(), local));
    add("the proxy to its own pod's address", on_loopback(proxy(), pod_));
  }

  void inbound() {
    add("inbound", from_outside(application_port()));
    if (!s.exclude_inbound_ports.empty())
      add("inbound to an excluded port", from_outside(s.exclude_inbound_ports.front().first));
    add("inbound to the proxy's own port", from_outside(s.proxy_port));
  }

  // --- Who and where -----------------------------------------------------------------------------------------------------

  [[nodiscard]] Connection application() const {
    Connection connection;
    connection.uid = first_outside(s.proxy_uids.united(s.exclude_uids), Uid{1000});
    connection.gid =
        s.only_gids.empty() ? first_outside(s.proxy_gids.united(s.exclude_gids), Gid{1000}) : s.only_gids.front().first;
    return connection;
  }

  /// By each of the signs that the configuration knows it by, as a real one would have.
  [[nodiscard]] Connection proxy() const {
    Connection connection = application();
    if (!s.proxy_uids.empty()) connection.uid = s.proxy_uids.front().first;
    if (!s.proxy_gids.empty()) connection.gid = s.proxy_gids.front().first;
    if (s.proxy_mark) connection.mark = s.proxy_mark->value;
    return connection;
  }

  Connection from_here(Connection connection, const IpAddress& to, Port port) const {
    connection.source = pod_;
    connection.destination = to;
    connection.destination_port = port.number();
    connection.interface = "eth0";
    return connection;
  }

  Connection on_loopback(Connection connection, const IpAddress& to) const {
    connection.source = to;
    connection.destination = to;
    connection.destination_port = application_port().number();
    connection.interface = "lo";
    return connection;
  }

  [[nodiscard]] Connection from_outside(Port port) const {
    Connection connection;
    connection.flow = Flow::inbound;
    connection.source = world_;
    connection.destination = pod_;
    connection.destination_port = port.number();
    connection.interface = "eth0";
    return connection;
  }

  /// Somewhere outside that is captured, if anything is.
  [[nodiscard]] IpAddress captured_destination() const {
    const IpAddress outside = family_ == Family::ipv4 ? IpAddress(Ipv4{0xc6336401U})  // 198.51.100.1, RFC 5737
                                                      : IpAddress(Ipv6{0x20010db8ffff0000U, 1});
    if (s.outbound_cidrs.contains(outside)) return outside;
    return first_of(s.outbound_cidrs).value_or(outside);
  }

  /// Not the network's own address, which is nobody's, where it has more than one.
  [[nodiscard]] std::optional<IpAddress> first_of(const AddressRanges& ranges) const {
    return family_ == Family::ipv4 ? first_of(ranges.v4) : first_of(ranges.v6);
  }
  template <typename Address>
  static std::optional<IpAddress> first_of(const Ranges<Address>& ranges) {
    if (ranges.empty()) return std::nullopt;
    const Range<Address>& range = ranges.front();
    return range.single() ? range.first : *next(range.first);
  }

  [[nodiscard]] Port usual_port(const Ranges<Port>& excluded) const {
    const Ranges<Port> own = proxy_ports().united(excluded);
    return first_outside(own, *Port::from(80));
  }

  [[nodiscard]] Port application_port() const {
    const Ranges<Port> excluded = proxy_ports().united(s.exclude_inbound_ports).united(s.tunnel_ports);
    const Ranges<Port> left = s.inbound_ports.without(excluded);
    const Port usual = *Port::from(8080);
    return left.empty() || left.contains(usual) ? first_outside(excluded, usual) : left.front().first;
  }

  [[nodiscard]] Ranges<Port> proxy_ports() const {
    return Ranges<Port>{{s.proxy_port, s.proxy_port}, {s.inbound_port, s.inbound_port}, {s.dns_port, s.dns_port}};
  }

  void add(const std::string& what, Connection connection) {
    connection.source_port = client_port;
    cases_.push_back({what, std::move(connection)});
  }

  const Settings& s;
  Family family_;
  IpAddress pod_;
  IpAddress world_;
  std::vector<ProbeCase> cases_;
};

}  // namespace

std::vector<ProbeCase> probe_cases(const Settings& settings, Family family, const IpAddress& pod,
                                   const IpAddress& world) {
  return Cases(settings, family, pod, world).run();
}

}  // namespace sluice
