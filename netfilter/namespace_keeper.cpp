#include "netfilter/namespace_keeper.hpp"

#include <arpa/inet.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <variant>

#include "netfilter/attributes.hpp"
#include "netfilter/errors.hpp"
#include "netfilter/netlink.hpp"
#include "netfilter/privileges.hpp"
#include "netfilter/read_back.hpp"
#include "netfilter/system_files.hpp"
#include "rules/text.hpp"

namespace sluice::netfilter {
namespace {

// linux/if_addr.h of Debian 12's kernel headers has it since 5.18.
constexpr std::uint16_t ifa_proto = 11;
// How often what lost its answer is sent again.
constexpr int send_limit = 100;

/// Of lo, in every network namespace (LOOPBACK_IFINDEX; drivers/net/loopback.c:loopback_net_init insists on it).
constexpr std::uint32_t loopback_index = 1;

unsigned char number_of(Family family) { return family == Family::ipv4 ? AF_INET : AF_INET6; }
std::string ip(Family family) { return family == Family::ipv4 ? "ip -4 " : "ip -6 "; }

/// An item to make or remove; equal items are the same thing in the kernel.
struct Address {
  IpAddress address;
};
struct LocalRoute {
  Family family;
  std::uint32_t table;
};
struct MarkRule {
  Family family;
  std::uint32_t mark;
  std::uint32_t table;
};

std::string to_text(const Address& item, const char* verb) {
  const Family family = family_of(item.address);
  return ip(family) + "address " + verb + " " + sluice::to_text(item.address) +
         (family == Family::ipv4 ? "/32" : "/128") + " dev lo";
}
std::string to_text(const LocalRoute& item, const char* verb) {
  return ip(item.family) + "route " + verb + " local default dev lo table " + std::to_string(item.table);
}
std::string to_text(const MarkRule& item, const char* verb) {
  return ip(item.family) + "rule " + verb + " fwmark " + hex32(item.mark) + " lookup " + std::to_string(item.table);
}

class Keeper {
 public:
  Keeper() : socket_(NETLINK_ROUTE) {}

  // --- What is there ---------------------------------------------------------------------------------------------------

  bool is_there(const Address& item) {
    bool found = false;
    each_address([&](const AddressFound& other) { found = found || other.item.address == item.address; });
    return found;
  }

  bool has_global(Family family) {
    bool found = false;
    each_address([&](const AddressFound& other) {
      found = found || (other.global && !other.on_loopback && family_of(other.item.address) == family);
    });
    return found;
  }

  std::vector<Address> our_addresses() {
    std::vector<Address> ours;
    each_address([&](const AddressFound& found) {
      if (found.on_loopback && found.ours) ours.push_back(found.item);
    });
    return ours;
  }

  std::vector<LocalRoute> our_routes() {
    std::vector<LocalRoute> ours;
    for (const Family family : {Family::ipv4, Family::ipv6}) {
      dump<rtmsg>(RTM_GETROUTE, family, [&](const rtmsg& route, const nlmsghdr& reply) {
        if (route.rtm_protocol != made_by_sluice || route.rtm_family != number_of(family)) return;
        const auto attributes = Attributes::after<rtmsg>(reply);
        ours.push_back({family, attributes.has(RTA_TABLE) ? attributes.host_number(RTA_TABLE) : route.rtm_table});
      });
    }
    return ours;
  }

  std::vector<MarkRule> our_rules() {
    std::vector<MarkRule> ours;
    for (const Family family : {Family::ipv4, Family::ipv6}) {
      dump<fib_rule_hdr>(RTM_GETRULE, family, [&](const fib_rule_hdr& header, const nlmsghdr& reply) {
        const auto attributes = Attributes::after<fib_rule_hdr>(reply);
        if (attributes.byte(FRA_PROTOCOL) != made_by_sluice || header.family != number_of(family)) return;
        ours.push_back({family, attributes.host_number(FRA_FWMARK),
                        attributes.has(FRA_TABLE) ? attributes.host_number(FRA_TABLE) : header.table});
      });
    }
    return ours;
  }

  bool is_there(const LocalRoute& item) {
    const auto routes = our_routes();
    return std::any_of(routes.begin(), routes.end(),
                       [&](const auto& other) { return other.family == item.family && other.table == item.table; });
  }
  bool is_there(const MarkRule& item) {
    const auto rules = our_rules();
    return std::any_of(rules.begin(), rules.end(), [&](const auto& other) {
      return other.family == item.family && other.table == item.table && other.mark == item.mark;
    });
  }

  // --- Changing it -----------------------------------------------------------------------------------------------------

  /// Each returns the kernel's refusal; EEXIST on adding and "not there" on removing are no refusals.
  std::optional<Refusal> change(const Address& item, bool add) {
    Message message;
    auto* header = begin<ifaddrmsg>(message, add ? RTM_NEWADDR : RTM_DELADDR, add);
    const Family family = family_of(item.address);
    header->ifa_family = number_of(family);
    header->ifa_prefixlen = family == Family::ipv4 ? 32 : 128;
    header->ifa_scope = RT_SCOPE_HOST;
    header->ifa_index = loopback_index;
    // Usable at once: nobody else is on lo to have the same address.
    header->ifa_flags = family == Family::ipv6 ? IFA_F_NODAD : 0;
    std::visit(
        [&](auto address) {
          const auto bytes = to_bytes(address);
          mnl_attr_put(message.header(), IFA_LOCAL, bytes.size(), bytes.data());
          mnl_attr_put(message.header(), IFA_ADDRESS, bytes.size(), bytes.data());
        },
        item.address);
    mnl_attr_put_u8(message.header(), ifa_proto, made_by_sluice);
    return send(message, add, [&] { return is_there(item); });
  }

  std::optional<Refusal> change(const LocalRoute& item, bool add) {
    Message message;
    auto* header = begin<rtmsg>(message, add ? RTM_NEWROUTE : RTM_DELROUTE, add);
    header->rtm_family = number_of(item.family);
    header->rtm_protocol = made_by_sluice;
    header->rtm_scope = RT_SCOPE_HOST;
    header->rtm_type = RTN_LOCAL;
    header->rtm_table = RT_TABLE_UNSPEC;
    mnl_attr_put_u32(message.header(), RTA_TABLE, item.table);
    mnl_attr_put_u32(message.header(), RTA_OIF, loopback_index);
    return send(message, add, [&] { return is_there(item); });
  }

  std::optional<Refusal> change(const MarkRule& item, bool add) {
    Message message;
    auto* header = begin<fib_rule_hdr>(message, add ? RTM_NEWRULE : RTM_DELRULE, add);
    header->family = number_of(item.family);
    header->action = FR_ACT_TO_TBL;
    header->table = RT_TABLE_UNSPEC;
    mnl_attr_put_u32(message.header(), FRA_TABLE, item.table);
    mnl_attr_put_u32(message.header(), FRA_FWMARK, item.mark);
    mnl_attr_put_u32(message.header(), FRA_FWMASK, 0xffffffffU);
    mnl_attr_put_u8(message.header(), FRA_PROTOCOL, made_by_sluice);
    return send(message, add, [&] { return is_there(item); });
  }

 private:
  template <typename Header>
  Header* begin(Message& message, std::uint16_t type, bool add) {
    message.header()->nlmsg_type = type;
    if (add) message.header()->nlmsg_flags = NLM_F_CREATE | NLM_F_EXCL;
    return static_cast<Header*>(mnl_nlmsg_put_extra_header(message.header(), sizeof(Header)));
  }

  /// Where the answer is lost, `is_there` tells: the kernel would add a routing rule a second time without complaint.
  template <typename IsThere>
  std::optional<Refusal> send(Message& message, bool add, const IsThere& is_there) {
    std::optional<Refusal> refusal;
    NetlinkSocket::Status status = NetlinkSocket::Status::inconsistent;
    for (int attempt = 0; !refusal && status == NetlinkSocket::Status::inconsistent; ++attempt) {
      if (attempt == send_limit) return Refusal{0, ENOBUFS, "every answer was lost"};
      refusal = socket_.request(
          message, NetlinkSocket::Answer::acknowledgement, [](const nlmsghdr&) {}, status);
      if (!refusal && status == NetlinkSocket::Status::inconsistent && is_there() == add) return std::nullopt;
    }
    if (!refusal) return std::nullopt;
    const bool as_wanted = add ? refusal->error == EEXIST
                               : refusal->error == ENOENT || refusal->error == ESRCH || refusal->error == EADDRNOTAVAIL;
    return as_wanted ? std::nullopt : refusal;
  }

  template <typename Header>
  void dump(std::uint16_t type, Family family, const std::function<void(const Header&, const nlmsghdr&)>& visit) {
    const std::string step = "read addresses and routes";
    Message message;
    begin<rtgenmsg>(message, type, false)->rtgen_family = number_of(family);
    std::vector<std::vector<std::byte>> replies;
    const auto refusal = socket_.dump(
        message, step, [&] { replies.clear(); },
        [&](const nlmsghdr& reply) {
          const auto* first = reinterpret_cast<const std::byte*>(&reply);
          replies.emplace_back(first, first + reply.nlmsg_len);
        });
    // A kernel without the family has nothing of it.
    if (refusal && (refusal->error == EOPNOTSUPP || refusal->error == EAFNOSUPPORT)) return;
    if (refusal) throw KernelError(refusal->error, step, refusal->text);
    for (const auto& bytes : replies) {
      const auto* reply = reinterpret_cast<const nlmsghdr*>(bytes.data());
      if (const auto* found = header_of<Header>(*reply)) visit(*found, *reply);
    }
  }

  struct AddressFound {
    Address item;
    bool on_loopback;
    bool ours;
    bool global;
  };

  void each_address(const std::function<void(const AddressFound&)>& visit) {
    for (const Family family : {Family::ipv4, Family::ipv6}) {
      dump<ifaddrmsg>(RTM_GETADDR, family, [&](const ifaddrmsg& header, const nlmsghdr& reply) {
        if (header.ifa_family != number_of(family)) return;
        const auto attributes = Attributes::after<ifaddrmsg>(reply);
        const bool ours = attributes.byte(ifa_proto) == made_by_sluice;
        // Of a pair of peers IFA_LOCAL is our end; IPv6 addresses without a peer have only IFA_ADDRESS.
        const auto own = address_in(attributes.payload(attributes.has(IFA_LOCAL) ? IFA_LOCAL : IFA_ADDRESS));
        if (own) visit({{*own}, header.ifa_index == loopback_index, ours, header.ifa_scope == RT_SCOPE_UNIVERSE});
      });
    }
  }

  static std::optional<IpAddress> address_in(std::span<const std::byte> payload) {
    if (payload.size() == 4) {
      Ipv4::Bytes bytes{};
      std::memcpy(bytes.data(), payload.data(), bytes.size());
      return from_bytes(bytes);
    }
    if (payload.size() == 16) {
      Ipv6::Bytes bytes{};
      std::memcpy(bytes.data(), payload.data(), bytes.size());
      return from_bytes(bytes);
    }
    return std::nullopt;
  }

  NetlinkSocket socket_;
};

/// The namespace has no such family: net.ipv6.conf.*.disable_ipv6, or a kernel built or booted without IPv6.
bool family_is_off(const Refusal& refusal) {
  return refusal.error == EACCES || refusal.error == EOPNOTSUPP || refusal.error == EAFNOSUPPORT;
}

[[noreturn]] void refuse(const Refusal& refusal, const std::string& step) {
  throw KernelError(refusal.error, step, refusal.text, refusal.error == EPERM ? remedy_for_denial() : "");
}

using Item = std::variant<Address, LocalRoute, MarkRule>;

/// Removes things one after the other; a refusal is thrown once everything was tried.
class Removing {
 public:
  explicit Removing(Keeper& keeper) : keeper_(keeper) {}

  template <typename One>
  void remove(const One& item) {
    const std::string step = to_text(item, "del");
    const auto refusal = keeper_.change(item, false);
    if (!refusal) done.push_back(step);
    if (refusal && !first_) first_ = {*refusal, step};
  }
  void check() const {
    if (first_) refuse(first_->first, first_->second);
  }

  std::vector<std::string> done;

 private:
  Keeper& keeper_;
  std::optional<std::pair<Refusal, std::string>> first_;
};

/// The last one first, through a socket of its own: the one they were made with may be what failed.
void take_back(const std::vector<Item>& items) {
  if (items.empty()) return;
  Keeper keeper;
  Removing removing(keeper);
  std::for_each(items.rbegin(), items.rend(),
                [&](const Item& item) { std::visit([&](const auto& one) { removing.remove(one); }, item); });
  removing.check();
}

/// Adds items one after the other.
class Adding {
 public:
  explicit Adding(Keeper& keeper) : keeper_(keeper) {}

  template <typename One>
  void add(const One& item, Family family) {
    const std::string step = to_text(item, "add");
    // Before it is tried: an answer that cannot be read does not mean that nothing was done.
    items.emplace_back(item);
    const auto refusal = keeper_.change(item, true);
    if (!refusal) {
      changes.done.push_back(step);
      return;
    }
    items.pop_back();
    if (family != Family::ipv6 || !family_is_off(*refusal)) refuse(*refusal, step);
    changes.warnings.push_back("IPv6 is disabled in this namespace, so this was left out: " + step);
  }

  KeptChanges changes;
  std::vector<Item> items;

 private:
  Keeper& keeper_;
};

bool wants(const NamespaceState& wanted, const Address& item) {
  const auto& addresses = wanted.local_addresses;
  return std::find(addresses.begin(), addresses.end(), item.address) != addresses.end();
}

bool wants(const NamespaceState& wanted, Family family, std::uint32_t table) {
  return wanted.tproxy && wanted.tproxy->table == table &&
         std::find(wanted.tproxy->families.begin(), wanted.tproxy->families.end(), family) !=
             wanted.tproxy->families.end();
}

bool wants(const NamespaceState& wanted, const LocalRoute& item) { return wants(wanted, item.family, item.table); }

bool wants(const NamespaceState& wanted, const MarkRule& item) {
  return wants(wanted, item.family, item.table) && wanted.tproxy->mark == item.mark;
}

/// Calls `visit` with each item that `wanted` names and the namespace lacks, and its family.
template <typename Visit>
void each_missing(Keeper& keeper, const NamespaceState& wanted, const Visit& visit) {
  for (const IpAddress& address : wanted.local_addresses) {
    const Address item{address};
    if (!keeper.is_there(item)) visit(item, family_of(address));
  }
  if (!wanted.tproxy) return;
  for (const Family family : wanted.tproxy->families) {
    const LocalRoute route{family, wanted.tproxy->table};
    if (!keeper.is_there(route)) visit(route, family);
    const MarkRule rule{family, wanted.tproxy->mark, wanted.tproxy->table};
    if (!keeper.is_there(rule)) visit(rule, family);
  }
}

/// Calls `visit` with each item that is ours and that `wanted` does not name: rules first, which need the routes.
template <typename Visit>
void each_unwanted(Keeper& keeper, const NamespaceState& wanted, const Visit& visit) {
  const auto visit_all = [&](const auto& items) {
    for (const auto& item : items) {
      if (!wants(wanted, item)) visit(item);
    }
  };
  visit_all(keeper.our_rules());
  visit_all(keeper.our_routes());
  visit_all(keeper.our_addresses());
}

}  // namespace

bool has_global_address(Family family) { return Keeper().has_global(family); }

std::vector<std::string> missing(const NamespaceState& wanted) {
  std::vector<std::string> lines;
  if (wanted == NamespaceState{}) return lines;
  Keeper keeper;
  const bool has_ipv6 = first_line("/proc/sys/net/ipv6/conf/lo/disable_ipv6") == "0";
  each_missing(keeper, wanted, [&](const auto& item, Family family) {
    if (family == Family::ipv4 || has_ipv6) lines.push_back(to_text(item, "add"));
  });
  return lines;
}

KeptChanges add_missing(const NamespaceState& wanted) {
  if (wanted == NamespaceState{}) return {};
  Keeper keeper;
  Adding adding(keeper);
  try {
    each_missing(keeper, wanted, [&](const auto& item, Family family) { adding.add(item, family); });
  } catch (const KernelError& error) {
    try {
      take_back(adding.items);
    } catch (const KernelError&) {
      throw error.advising("an address or route that was made for the rules stays until the next run");
    }
    throw;
  }
  adding.changes.take_back = [items = std::move(adding.items)] { take_back(items); };
  return adding.changes;
}

namespace {

std::vector<std::string> unwanted(const NamespaceState& wanted, const char* verb) {
  Keeper keeper;
  std::vector<std::string> lines;
  each_unwanted(keeper, wanted, [&](const auto& item) { lines.push_back(to_text(item, verb)); });
  return lines;
}

void remove_once(const NamespaceState& wanted, KeptChanges& changes) {
  Keeper keeper;
  Removing removing(keeper);
  each_unwanted(keeper, wanted, [&](const auto& item) { removing.remove(item); });
  std::ranges::move(removing.done, std::back_inserter(changes.done));
  removing.check();
}

}  // namespace

std::vector<std::string> unwanted(const NamespaceState& wanted) { return unwanted(wanted, "add"); }

KeptChanges remove_unwanted(const NamespaceState& wanted, bool pretend) {
  if (pretend) return {unwanted(wanted, "del"), {}, {}};
  KeptChanges changes;
  twice([&] { remove_once(wanted, changes); });
  return changes;
}

}  // namespace sluice::netfilter
