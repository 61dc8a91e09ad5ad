#include "rules/question.hpp"

namespace sluice {
namespace {

// Addresses that RFC 5737 and RFC 3849 keep for examples: nobody's own.
constexpr Ipv4 pod_v4{0xc0000202U};      // 192.0.2.2
constexpr Ipv4 outside_v4{0xc6336401U};  // 198.51.100.1
constexpr Ipv6 pod_v6{0x20010db800000000U, 2};
constexpr Ipv6 outside_v6{0x20010db8ffff0000U, 1};
constexpr Ipv4 loopback_v4{0x7f000001U};
constexpr Ipv6 loopback_v6{0, 1};

constexpr std::uint16_t usual_port = 80;
constexpr std::uint16_t client_port = 40000;
constexpr std::uint32_t application = 1000;

template <typename Four, typename Six>
IpAddress in_family(Family family, Four four, Six six) {
  return family == Family::ipv4 ? IpAddress(four) : IpAddress(six);
}

bool is_loopback(const IpAddress& address) {
  if (const auto* four = std::get_if<Ipv4>(&address)) return four->value >> 24 == 127;
  return std::get<Ipv6>(address) == loopback_v6;
}

class Assuming {
 public:
  explicit Assuming(const Question& question) : q_(question) {}

  AssumedConnection run() {
    const bool outbound = q_.direction == Direction::out;
    c_.flow = outbound ? Flow::outbound : Flow::inbound;
    c_.protocol = static_cast<std::uint8_t>(q_.protocol);
    addresses(outbound);
    const bool loopback = is_loopback(c_.destination) || is_loopback(c_.source);
    c_.interface = value_or(q_.interface, std::string(outbound && loopback ? "lo" : "eth0"), "interface");
    if (outbound) {
      c_.uid = value_or(q_.uid, Uid{application}, "uid");
      c_.gid = value_or(q_.gid, Gid{application}, "gid");
    }
    c_.mark = value_or(q_.mark, std::uint32_t{0}, "mark");
    return std::move(result_);
  }

 private:
  template <typename T>
  T value_or(const std::optional<T>& said, const T& otherwise, const char* name) {
    if (!said) result_.assumed.emplace_back(name);
    return said.value_or(otherwise);
  }

  void addresses(bool outbound) {
    const auto& known = q_.destination ? q_.destination : q_.source;
    const Family family = known ? family_of(known->address) : Family::ipv4;
    const IpAddress pod = in_family(family, pod_v4, pod_v6);
    const IpAddress outside = in_family(family, outside_v4, outside_v6);
    end(q_.destination, outbound ? outside : pod, usual_port, "destination", c_.destination, c_.destination_port);
    IpAddress source = outbound ? pod : outside;
    if (outbound && is_loopback(c_.destination)) source = in_family(family, loopback_v4, loopback_v6);
    end(q_.source, source, client_port, "source", c_.source, c_.source_port);
  }

  void end(const std::optional<Endpoint>& said, const IpAddress& address, std::uint16_t port, const std::string& name,
           IpAddress& to_address, std::uint16_t& to_port) {
    to_address = said ? said->address : address;
    if (!said) result_.assumed.push_back(name);
    const bool with_port = said && said->port;
    to_port = with_port ? said->port->number() : port;
    if (!with_port) result_.assumed.push_back(name + "_port");
  }

  const Question& q_;
  AssumedConnection result_;
  Connection& c_ = result_.connection;
};

}  // namespace

AssumedConnection connection_of(const Question& question) { return Assuming(question).run(); }

}  // namespace sluice
