#include "netfilter/probe.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/netfilter_ipv4.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "netfilter/backend.hpp"
#include "netfilter/errors.hpp"
#include "netfilter/namespace_keeper.hpp"
#include "netfilter/namespaces.hpp"
#include "netfilter/netlink.hpp"

namespace sluice::netfilter {
namespace {

using Clock = std::chrono::steady_clock;
using Landed = ProbeResult::Landed;

constexpr char wire_name[] = "eth0";
constexpr std::chrono::milliseconds asked_again{1500};
// linux/netfilter_ipv6/ip6_tables.h, which does not compile beside netinet/in.h.
constexpr int ip6t_so_original_dst = 80;

class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  Descriptor(Descriptor&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  ~Descriptor() {
    if (number_ >= 0) close(number_);
  }
  [[nodiscard]] int number() const { return number_; }
  [[nodiscard]] bool valid() const { return number_ >= 0; }

 private:
  int number_;
};

/// Why a probe could not be made; told, never thrown past the child.
struct Impossible {
  std::string why;
};

[[noreturn]] void give_up(const std::string& step) {
  throw Impossible{step + ": " + std::generic_category().message(errno)};
}

void must(int result, const std::string& step) {
  if (result < 0) give_up(step);
}

void write_file(const std::string& path, const std::string& text) {
  const Descriptor file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  must(file.valid() ? static_cast<int>(write(file.number(), text.data(), text.size())) : -1, "write " + path);
}

// --- The scratch namespaces -------------------------------------------------------------------------------------------

/// Requests to rtnetlink of the namespace that the thread stands in.
class Links {
 public:
  static void make_wire(int peer_namespace) {
    Message message;
    begin<ifinfomsg>(message, RTM_NEWLINK, true);
    mnl_attr_put_strz(message.header(), IFLA_IFNAME, wire_name);
    nlattr* info = mnl_attr_nest_start(message.header(), IFLA_LINKINFO);
    mnl_attr_put_strz(message.header(), IFLA_INFO_KIND, "veth");
    nlattr* data = mnl_attr_nest_start(message.header(), IFLA_INFO_DATA);
    nlattr* peer = mnl_attr_nest_start(message.header(), VETH_INFO_PEER);
    mnl_nlmsg_put_extra_header(message.header(), sizeof(ifinfomsg));
    mnl_attr_put_strz(message.header(), IFLA_IFNAME, wire_name);
    mnl_attr_put_u32(message.header(), IFLA_NET_NS_FD, static_cast<std::uint32_t>(peer_namespace));
    mnl_attr_nest_end(message.header(), peer);
    mnl_attr_nest_end(message.header(), data);
    mnl_attr_nest_end(message.header(), info);
    send(message, "make a veth pair");
  }

  static void bring_up(const char* name) {
    Message message;
    auto* link = begin<ifinfomsg>(message, RTM_NEWLINK, false);
    link->ifi_index = static_cast<int>(if_nametoindex(name));
    link->ifi_flags = IFF_UP;
    link->ifi_change = IFF_UP;
    send(message, std::string("bring up ") + name);
  }

  /// The kernel notices late that both ends of the wire are up (net/core/link_watch.c), and until then drops in silence
  /// what is sent. A request afterwards waits for the lock under which it does that.
  static void wait_until_running(const char* name) {
    const Descriptor socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    std::strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
    constexpr int limit = 1000;
    for (int attempt = 0; attempt < limit; ++attempt) {
      must(ioctl(socket.number(), SIOCGIFFLAGS, &request), "look at a veth");
      if ((request.ifr_flags & IFF_RUNNING) != 0) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    bring_up(name);
  }

  static void add_address(const IpAddress& address) {
    Message message;
    auto* header = begin<ifaddrmsg>(message, RTM_NEWADDR, true);
    const bool v4 = family_of(address) == Family::ipv4;
    header->ifa_family = v4 ? AF_INET : AF_INET6;
    header->ifa_prefixlen = v4 ? 24 : 64;
    header->ifa_flags = v4 ? 0 : IFA_F_NODAD;
    header->ifa_index = if_nametoindex(wire_name);
    put_address(message, IFA_LOCAL, address);
    put_address(message, IFA_ADDRESS, address);
    send(message, "add an address to the veth pair");
  }

  /// Everything else by way of `gateway`, or, without one, to this very namespace.
  static void add_default_route(Family family, const IpAddress* gateway) {
    Message message;
    auto* route = begin<rtmsg>(message, RTM_NEWROUTE, true);
    route->rtm_family = family == Family::ipv4 ? AF_INET : AF_INET6;
    route->rtm_table = RT_TABLE_MAIN;
    route->rtm_protocol = RTPROT_BOOT;
    route->rtm_type = gateway != nullptr ? RTN_UNICAST : RTN_LOCAL;
    route->rtm_scope = gateway != nullptr ? RT_SCOPE_UNIVERSE : RT_SCOPE_HOST;
    if (gateway != nullptr) put_address(message, RTA_GATEWAY, *gateway);
    mnl_attr_put_u32(message.header(), RTA_OIF, if_nametoindex(gateway != nullptr ? wire_name : "lo"));
    send(message, "add the default route");
  }

 private:
  template <typename Header>
  static Header* begin(Message& message, std::uint16_t type, bool create) {
    message.header()->nlmsg_type = type;
    if (create) message.header()->nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
    return static_cast<Header*>(mnl_nlmsg_put_extra_header(message.header(), sizeof(Header)));
  }

  static void put_address(Message& message, std::uint16_t type, const IpAddress& address) {
    std::visit(
        [&](auto own) {
          const auto bytes = to_bytes(own);
          mnl_attr_put(message.header(), type, bytes.size(), bytes.data());
        },
        address);
  }

  static void send(Message& message, const std::string& step) {
    NetlinkSocket socket(NETLINK_ROUTE);
    NetlinkSocket::Status status{};
    const auto refusal = socket.request(
        message, NetlinkSocket::Answer::acknowledgement, [](const nlmsghdr&) {}, status);
    if (!refusal) return;
    errno = refusal->error;
    give_up("in the scratch namespace: " + step);
  }
};

/// Two network namespaces: one that plays the pod, one that plays the world. The thread may stand in either.
class Scratch {
 public:
  /// `uid` and `gid` are the only ones that exist in a user namespace, if one is needed.
  Scratch(Uid uid, Gid gid) {
    if (unshare(CLONE_NEWNET) != 0) enter_user_namespace(uid, gid);
    pod_ = own_namespace();
    must(unshare(CLONE_NEWNET), "make a second network namespace");
    world_ = own_namespace();
    Links::make_wire(pod_.number());
    for (const bool pod : {true, false}) {
      stand_in(pod);
      Links::bring_up("lo");
      Links::bring_up(wire_name);
      for (const Family family : {Family::ipv4, Family::ipv6}) configure(family, pod);
    }
    for (const bool pod : {true, false}) {
      stand_in(pod);
      Links::wait_until_running(wire_name);
    }
  }

  void stand_in(bool pod) const {
    must(setns((pod ? pod_ : world_).number(), CLONE_NEWNET), "enter a scratch network namespace");
  }

  [[nodiscard]] bool in_user_namespace() const { return in_user_namespace_; }
  [[nodiscard]] const std::string& without_ipv6() const { return without_ipv6_; }

 private:
  void enter_user_namespace(Uid uid, Gid gid) {
    const auto own_uid = std::to_string(geteuid());
    const auto own_gid = std::to_string(getegid());
    must(
        unshare(CLONE_NEWUSER | CLONE_NEWNET),
        "make a scratch network namespace (CAP_SYS_ADMIN is missing, and user namespaces are not allowed here either)");
    write_file("/proc/self/setgroups", "deny");
    write_file("/proc/self/uid_map", std::to_string(uid.number) + " " + own_uid + " 1");
    write_file("/proc/self/gid_map", std::to_string(gid.number) + " " + own_gid + " 1");
    in_user_namespace_ = true;
  }

  static Descriptor own_namespace() {
    Descriptor found(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!found.valid()) give_up("open /proc/thread-self/ns/net");
    return found;
  }

  void configure(Family family, bool pod) {
    const ProbeAddresses addresses = probe_addresses(family);
    try {
      Links::add_address(pod ? addresses.pod : addresses.world);
      Links::add_default_route(family, pod ? &addresses.world : nullptr);
    } catch (const Impossible& impossible) {
      if (family == Family::ipv4) throw;
      without_ipv6_ = impossible.why;
    }
  }

  Descriptor pod_;
  Descriptor world_;
  bool in_user_namespace_ = false;
  std::string without_ipv6_;
};

// --- Sockets ------------------------------------------------------------------------------------------------------------

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;

  SocketAddress() : length(sizeof storage) {}
  SocketAddress(const IpAddress& address, std::uint16_t port) {
    if (const auto* four = std::get_if<Ipv4>(&address)) {
      auto* in = reinterpret_cast<sockaddr_in*>(&storage);
      in->sin_family = AF_INET;
      in->sin_port = htons(port);
      const auto bytes = to_bytes(*four);
      std::memcpy(&in->sin_addr, bytes.data(), bytes.size());
      length = sizeof *in;
    } else {
      auto* in6 = reinterpret_cast<sockaddr_in6*>(&storage);
      in6->sin6_family = AF_INET6;
      in6->sin6_port = htons(port);
      const auto bytes = to_bytes(std::get<Ipv6>(address));
      std::memcpy(&in6->sin6_addr, bytes.data(), bytes.size());
      length = sizeof *in6;
    }
  }

  [[nodiscard]] sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }

  [[nodiscard]] std::string text() const {
    char host[INET6_ADDRSTRLEN] = "";
    if (storage.ss_family == AF_INET) {
      const auto* in = reinterpret_cast<const sockaddr_in*>(&storage);
      inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
      return std::string(host) + ":" + std::to_string(ntohs(in->sin_port));
    }
    const auto* in6 = reinterpret_cast<const sockaddr_in6*>(&storage);
    inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
    return "[" + std::string(host) + "]:" + std::to_string(ntohs(in6->sin6_port));
  }
};

Descriptor tcp_socket(Family family) {
  return Descriptor(socket(family == Family::ipv4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

struct Listener {
  Descriptor socket;
  Family family;
  bool in_pod;
  std::uint16_t port;
};

/// What a proxy would ask: the destination before a redirect, or, with TPROXY, the local address.
std::string original_destination(int connection, Family family) {
  SocketAddress original;
  const bool v4 = family == Family::ipv4;
  if (getsockopt(connection, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? SO_ORIGINAL_DST : ip6t_so_original_dst,
                 original.get(), &original.length) == 0) {
    return original.text();
  }
  SocketAddress own;
  return getsockname(connection, own.get(), &own.length) == 0 ? own.text() : "";
}

class Prober {
 public:
  explicit Prober(const Scratch& scratch) : scratch_(scratch) {}

  void listen_on(bool in_pod, const std::vector<std::uint16_t>& ports) {
    scratch_.stand_in(in_pod);
    for (const std::uint16_t port : ports) {
      for (const Family family : {Family::ipv4, Family::ipv6}) add_listener(in_pod, family, port);
    }
  }

  ProbeResult connect(const Connection& connection, Clock::time_point deadline) {
    ProbeResult result;
    const Family family = family_of(connection.destination);
    scratch_.stand_in(connection.flow == Flow::outbound);
    const Descriptor client = client_socket(connection, result.note);
    if (!client.valid()) return result;
    SocketAddress to(connection.destination, connection.destination_port);
    if (::connect(client.number(), to.get(), to.length) != 0 && errno != EINPROGRESS) return failed(errno);
    return wait(client, family, deadline);
  }

 private:
  void add_listener(bool in_pod, Family family, std::uint16_t port) {
    Descriptor listener = tcp_socket(family);
    // A family that the kernel lacks has no connections to wait for either.
    if (!listener.valid()) return;
    const int on = 1;
    setsockopt(listener.number(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (family == Family::ipv6) setsockopt(listener.number(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    // Takes connections to any address, as a proxy behind TPROXY does.
    if (in_pod) {
      setsockopt(listener.number(), SOL_IP, IP_TRANSPARENT, &on, sizeof on);
    }
    SocketAddress any(family == Family::ipv4 ? IpAddress(Ipv4{}) : IpAddress(Ipv6{}), port);
    if (bind(listener.number(), any.get(), any.length) != 0 || listen(listener.number(), 16) != 0) {
      if (family == Family::ipv4) give_up("listen on port " + std::to_string(port) + " of a scratch namespace");
      return;
    }
    listeners_.push_back({std::move(listener), family, in_pod, port});
  }

  /// The kernel judges by the credentials that opened the socket (nft_meta.c: sk_socket->file->f_cred->fsuid).
  Descriptor client_socket(const Connection& connection, std::string& note) {
    const std::uint32_t uid = connection.uid ? connection.uid->number : geteuid();
    const std::uint32_t gid = connection.gid ? connection.gid->number : getegid();
    const int old_gid = setfsgid(gid);
    const int old_uid = setfsuid(uid);
    const bool as_wanted =
        static_cast<std::uint32_t>(setfsuid(uid)) == uid && static_cast<std::uint32_t>(setfsgid(gid)) == gid;
    Descriptor client = as_wanted ? tcp_socket(family_of(connection.destination)) : Descriptor();
    const int error = errno;
    setfsuid(static_cast<uid_t>(old_uid));
    setfsgid(static_cast<gid_t>(old_gid));
    if (!as_wanted) {
      note = "cannot act as user " + std::to_string(uid) + " and group " + std::to_string(gid) +
             ": CAP_SETUID and CAP_SETGID are missing";
    } else if (!client.valid()) {
      note = "no socket of this family: " + std::generic_category().message(error);
    } else if (connection.mark != 0 &&
               setsockopt(client.number(), SOL_SOCKET, SO_MARK, &connection.mark, sizeof connection.mark) != 0) {
      note = "cannot mark a socket: " + std::generic_category().message(errno);
      return Descriptor();
    }
    return client;
  }

  static ProbeResult failed(int error) {
    const bool refused = error == ECONNREFUSED || error == EHOSTUNREACH || error == ENETUNREACH || error == EACCES;
    return {refused ? Landed::refused : Landed::nowhere, 0, "", std::generic_category().message(error)};
  }

  ProbeResult wait(const Descriptor& client, Family family, Clock::time_point deadline) {
    bool connected = false;
    for (;;) {
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
      if (left <= 0) return {Landed::nowhere, 0, "", "no answer in time"};
      std::vector<pollfd> watched;
      for (const Listener& listener : listeners_) watched.push_back({listener.socket.number(), POLLIN, 0});
      watched.push_back({connected ? -1 : client.number(), POLLOUT, 0});
      if (poll(watched.data(), watched.size(), static_cast<int>(left)) < 0 && errno != EINTR) give_up("poll");
      for (std::size_t at = 0; at < listeners_.size(); ++at) {
        if ((watched[at].revents & POLLIN) == 0) continue;
        const Descriptor accepted(accept4(listeners_[at].socket.number(), nullptr, nullptr, SOCK_CLOEXEC));
        if (!accepted.valid()) continue;
        return {listeners_[at].in_pod ? Landed::in_pod : Landed::in_world, listeners_[at].port,
                original_destination(accepted.number(), family), ""};
      }
      if (watched.back().revents == 0) continue;
      int error = 0;
      socklen_t length = sizeof error;
      getsockopt(client.number(), SOL_SOCKET, SO_ERROR, &error, &length);
      if (error != 0) return failed(error);
      connected = true;
    }
  }

  const Scratch& scratch_;
  std::vector<Listener> listeners_;
};

// --- The child ----------------------------------------------------------------------------------------------------------

/// What goes through the pipe: fixed, so that half of it is told from the whole.
struct Reply {
  Landed landed = Landed::not_tried;
  std::uint16_t port = 0;
  char original[72] = "";
  char note[256] = "";
};

Reply packed(const ProbeResult& result) {
  Reply reply;
  reply.landed = result.landed;
  reply.port = result.port;
  result.original.copy(reply.original, sizeof reply.original - 1);
  result.note.copy(reply.note, sizeof reply.note - 1);
  return reply;
}

/// Connections of one user and group, since in a user namespace there is only one of each.
struct Group {
  Uid uid;
  Gid gid;
  std::vector<std::size_t> members;  ///< indices into the plan's connections
};

std::vector<Group> groups_of(const ProbePlan& plan) {
  std::vector<Group> groups;
  for (std::size_t at = 0; at < plan.connections.size(); ++at) {
    const Connection& connection = plan.connections[at];
    const Uid uid = connection.uid.value_or(Uid{geteuid()});
    const Gid gid = connection.gid.value_or(Gid{getegid()});
    const auto known = std::find_if(groups.begin(), groups.end(),
                                    [&](const Group& group) { return group.uid == uid && group.gid == gid; });
    if (known == groups.end()) {
      groups.push_back({uid, gid, {at}});
    } else {
      known->members.push_back(at);
    }
  }
  return groups;
}

/// The rules as they are in the kernel, for copying.
std::optional<Ruleset> rules_here() {
  const auto found = Backends(std::chrono::seconds(1)).observe();
  const Observed* observed = found.empty() ? nullptr : &found.front().rules;
  if (observed == nullptr || observed->dormant) return std::nullopt;
  Ruleset rules = readable_sets(*observed);
  if (rules.sets.size() != observed->sets.size()) throw Impossible{"a set is in the table that sluice cannot copy"};
  for (const ObservedChain& chain : observed->chains) {
    if (!chain.base || !chain.accepts_by_default) {
      throw Impossible{"chain " + chain.name + " is not one that sluice can copy"};
    }
    rules.chains.push_back(*chain.base);
    for (const ObservedRule& rule : chain.rules) {
      const auto* own = std::get_if<Rule>(&rule.rule);
      if (own == nullptr)
        throw Impossible{"chain " + chain.name + " has a rule that sluice cannot read, hence not copy"};
      rules.chains.back().rules.push_back(*own);
    }
  }
  return rules;
}

std::vector<std::uint16_t> ports_in(const ProbePlan& plan, bool in_pod) {
  std::vector<std::uint16_t> ports;
  for (const Port port : plan.proxy_ports) {
    if (in_pod) ports.push_back(port.number());
  }
  for (const Connection& connection : plan.connections) {
    if (in_pod || (connection.flow == Flow::outbound && connection.interface != "lo")) {
      ports.push_back(connection.destination_port);
    }
  }
  std::sort(ports.begin(), ports.end());
  ports.erase(std::unique(ports.begin(), ports.end()), ports.end());
  return ports;
}

class Child {
 public:
  Child(const ProbePlan& plan, const Group& group, int pipe, Clock::time_point deadline)
      : plan_(plan), group_(group), pipe_(pipe), deadline_(deadline) {}

  void run() {
    try {
      probe_all();
    } catch (const Impossible& impossible) {
      not_tried(impossible.why);
    } catch (const std::exception& error) {
      not_tried(error.what());
    }
  }

 private:
  void probe_all() {
    if (!plan_.netns.empty()) enter_network_namespace(plan_.netns);
    const auto rules = rules_here();
    const bool complete = missing(plan_.state).empty();
    const Scratch scratch(group_.uid, group_.gid);
    scratch.stand_in(true);
    if (complete) add_missing(plan_.state);
    if (rules) Backends(std::chrono::seconds(1)).apply({BackendChoice::nftables, {}}, *rules, "a copy for probing");
    Prober prober(scratch);
    prober.listen_on(true, ports_in(plan_, true));
    prober.listen_on(false, ports_in(plan_, false));
    for (const std::size_t member : group_.members) {
      const Connection& connection = plan_.connections[member];
      const bool v6 = family_of(connection.destination) == Family::ipv6;
      if (v6 && !scratch.without_ipv6().empty()) {
        tell({Landed::not_tried, 0, "", scratch.without_ipv6()});
        continue;
      }
      const auto now = Clock::now();
      if (now >= deadline_) return not_tried("the time of --probe-timeout was up");
      // One that gets no answer leaves the others their share of the time, but TCP and ARP ask again only after a
      // second (RFC 6298, 2), and the first packet over a new wire may be lost.
      const auto share = (deadline_ - now) / static_cast<int>(group_.members.size() - told_);
      tell(prober.connect(connection, std::min(deadline_, now + std::max<Clock::duration>(share, asked_again))));
    }
  }

  void not_tried(const std::string& why) {
    while (told_ < group_.members.size()) tell({Landed::not_tried, 0, "", why});
  }

  void tell(const ProbeResult& result) {
    const Reply reply = packed(result);
    // Smaller than PIPE_BUF, so it arrives whole; where nobody reads any more there is nobody to tell.
    if (write(pipe_, &reply, sizeof reply) < 0) _exit(1);
    ++told_;
  }

  const ProbePlan& plan_;
  const Group& group_;
  int pipe_;
  Clock::time_point deadline_;
  std::size_t told_ = 0;
};

/// Reads whole replies until all are there, the child is gone, or the time is up.
std::vector<Reply> replies_from(int pipe, std::size_t count, Clock::time_point deadline) {
  std::vector<Reply> replies;
  while (replies.size() < count) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd watched{pipe, POLLIN, 0};
    if (left <= 0) break;
    const int ready = poll(&watched, 1, static_cast<int>(left));
    if (ready < 0 && errno == EINTR) continue;
    Reply reply;
    if (ready <= 0 || read(pipe, &reply, sizeof reply) != static_cast<ssize_t>(sizeof reply)) break;
    replies.push_back(reply);
  }
  return replies;
}

/// In a child of its own, which takes the scratch namespaces with it when it ends.
std::vector<Reply> run_child(const ProbePlan& plan, const Group& group, Clock::time_point deadline) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw KernelError(errno, "make a pipe");
  const Descriptor reading(ends[0]);
  Descriptor writing(ends[1]);
  const pid_t child = fork();
  if (child < 0) throw KernelError(errno, "start a process that probes");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    Child(plan, group, writing.number(), deadline).run();
    _exit(0);
  }
  writing = Descriptor();
  constexpr std::chrono::milliseconds grace{500};
  auto replies = replies_from(reading.number(), group.members.size(), deadline + grace);
  kill(child, SIGKILL);
  while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  return replies;
}

}  // namespace

ProbeAddresses probe_addresses(Family family) {
  if (family == Family::ipv4) return {Ipv4{0xc0000202U}, Ipv4{0xc0000201U}};
  return {Ipv6{0x20010db800000000U, 2}, Ipv6{0x20010db800000000U, 1}};
}

std::vector<ProbeResult> probe(const ProbePlan& plan) {
  std::vector<ProbeResult> results(plan.connections.size());
  for (ProbeResult& result : results) result.note = "the time was up before it could be tried";
  const auto deadline = Clock::now() + plan.timeout;
  for (const Group& group : groups_of(plan)) {
    if (Clock::now() >= deadline) break;
    const auto replies = run_child(plan, group, deadline);
    for (std::size_t at = 0; at < replies.size(); ++at) {
      const Reply& reply = replies[at];
      results[group.members[at]] = {reply.landed, reply.port, reply.original, reply.note};
    }
  }
  return results;
}

}  // namespace sluice::netfilter
