#include "netfilter/nft/set_codec.hpp"

#include <arpa/inet.h>
#include <libnftnl/udata.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <cstring>

#include "netfilter/attributes.hpp"
#include "netfilter/nft/expression.hpp"
#include "rules/nft_text.hpp"

namespace sluice::netfilter {
namespace {

// enum datatypes in nft's include/datatype.h; seen in what nft 1.0.6 writes.
constexpr std::uint32_t type_ipv4_addr = 7;
constexpr std::uint32_t type_ipv6_addr = 8;
constexpr std::uint32_t type_inet_service = 13;
constexpr std::uint32_t type_uid = 24;
constexpr std::uint32_t type_gid = 25;
constexpr std::uint32_t type_ifname = 41;
constexpr std::size_t ifname_length = 16;

// NFTNL_UDATA_SET_ELEM_FLAGS (type 1, length 4) = NFTNL_SET_ELEM_F_INTERVAL_OPEN, in host order as nft writes it.
Bytes open_end_user_data() {
  const std::uint32_t flags = NFTNL_SET_ELEM_F_INTERVAL_OPEN;
  Bytes data = {NFTNL_UDATA_SET_ELEM_FLAGS, sizeof flags, 0, 0, 0, 0};
  std::memcpy(data.data() + 2, &flags, sizeof flags);
  return data;
}

/// A number as a key: in network order where keys are compared as ranges of bytes, else as the kernel's register has
/// it.
RegisterValue key_of(Port port, bool) {
  return {static_cast<std::uint8_t>(port.number() >> 8), static_cast<std::uint8_t>(port.number())};
}

template <typename Tag>
RegisterValue key_of(Id<Tag> id, bool interval) {
  const std::uint32_t number = interval ? htonl(id.number) : id.number;
  std::array<std::uint8_t, sizeof number> bytes{};
  std::memcpy(bytes.data(), &number, sizeof number);
  return {bytes.begin(), bytes.end()};
}

template <typename Address>
RegisterValue key_of(Address address, bool) requires requires {
  Address::bits;
}
{
  const auto bytes = to_bytes(address);
  return {bytes.begin(), bytes.end()};
}

std::optional<Port> value_of(const RegisterValue& key, bool, const Port*) {
  return Port::from(static_cast<std::uint64_t>(key[0] << 8U | key[1]));
}

template <typename Tag>
std::optional<Id<Tag>> value_of(const RegisterValue& key, bool interval, const Id<Tag>*) {
  std::uint32_t number = 0;
  std::memcpy(&number, key.data(), sizeof number);
  return Id<Tag>::from(interval ? ntohl(number) : number);
}

template <typename Address>
std::optional<Address> value_of(const RegisterValue& key, bool, const Address*) requires requires {
  Address::bits;
}
{
  typename Address::Bytes bytes{};
  std::copy(key.begin(), key.end(), bytes.begin());
  return from_bytes(bytes);
}

Port highest(const Port*) { return every_port().last; }
template <typename Tag>
Id<Tag> highest(const Id<Tag>*) {
  return {Id<Tag>::highest};
}
template <typename Address>
Address highest(const Address*) requires requires {
  Address::bits;
}
{ return every_address<Address>().last; }

RegisterValue padded_name(const std::string& name) {
  return RegisterValue(name.begin(), name.end()).resized_to(ifname_length);
}

/// The key after this one as a big-endian number; nothing after the last.
std::optional<RegisterValue> following(RegisterValue key) {
  for (std::size_t i = key.size(); i-- > 0;) {
    if (++key[i] != 0) return key;
  }
  return std::nullopt;
}

/// The least key above every name that begins with `prefix`.
std::optional<RegisterValue> after_prefix(const std::string& prefix) {
  const auto next = following(RegisterValue(prefix.begin(), prefix.end()));
  return next ? std::optional(next->resized_to(ifname_length)) : std::nullopt;
}

/// Emits closed ranges of keys the way nft does: an end at zero first, so that what lies below the first range is known
/// not to match, then begin and end of each.
class IntervalWriter {
 public:
  explicit IntervalWriter(std::size_t ranges) { out_.reserve(2 * ranges + 1); }

  void add(const RegisterValue& first, const std::optional<RegisterValue>& after_last) {
    const RegisterValue zero = RegisterValue().resized_to(first.size());
    if (out_.empty() && first != zero) out_.push_back({zero, true, false});
    out_.push_back({first, false, !after_last});
    if (after_last) out_.push_back({*after_last, true, false});
  }
  std::vector<WireElement> take() { return std::move(out_); }

 private:
  std::vector<WireElement> out_;
};

template <typename T>
std::vector<WireElement> ranges_to_wire(const Ranges<T>& ranges) {
  std::vector<WireElement> out;
  if (!needs_intervals(ranges)) {
    out.reserve(ranges.size());
    for (const Range<T>& range : ranges) out.push_back({key_of(range.first, false), false, false});
    return out;
  }
  IntervalWriter writer(ranges.size());
  for (const Range<T>& range : ranges) writer.add(key_of(range.first, true), following(key_of(range.last, true)));
  return writer.take();
}

std::vector<WireElement> interfaces_to_wire(const InterfaceSet& patterns) {
  std::vector<WireElement> out;
  if (!needs_intervals(patterns)) {
    for (const InterfacePattern& pattern : patterns) out.push_back({padded_name(pattern.name), false, false});
    return out;
  }
  IntervalWriter writer(patterns.size());
  for (const InterfacePattern& pattern : patterns) {
    const RegisterValue first = padded_name(pattern.name);
    writer.add(first, pattern.prefix ? after_prefix(pattern.name) : following(first));
  }
  return writer.take();
}

template <typename T>
std::optional<SetElements> ranges_from_wire(bool interval, const std::vector<WireElement>& elements) {
  std::vector<Range<T>> ranges;
  for (std::size_t i = 0; i < elements.size(); ++i) {
    const WireElement& element = elements[i];
    if (element.interval_end) continue;
    const auto first = value_of(element.key, interval, static_cast<const T*>(nullptr));
    if (!first) return std::nullopt;
    std::optional<T> last = first;
    if (interval && i + 1 < elements.size() && elements[i + 1].interval_end) {
      RegisterValue before = elements[i + 1].key;
      for (std::size_t byte = before.size(); byte-- > 0;) {
        if (before[byte]-- != 0) break;
      }
      last = value_of(before, interval, static_cast<const T*>(nullptr));
    } else if (interval) {
      last = highest(static_cast<const T*>(nullptr));
    }
    if (!last || *last < *first) return std::nullopt;
    ranges.push_back({*first, *last});
  }
  return Ranges<T>(std::move(ranges));
}

std::optional<SetElements> interfaces_from_wire(bool interval, const std::vector<WireElement>& elements) {
  InterfaceSet patterns;
  for (std::size_t i = 0; i < elements.size(); ++i) {
    if (elements[i].interval_end) continue;
    const RegisterValue& key = elements[i].key;
    std::string name(key.begin(), key.end());
    name.erase(std::min(name.find('\0'), name.size()));
    if (!is_interface_name(name)) return std::nullopt;
    const bool exact = !interval || (i + 1 < elements.size() && elements[i + 1].key == following(padded_name(name)));
    patterns.push_back({name, !exact});
  }
  std::sort(patterns.begin(), patterns.end());
  return patterns;
}

}  // namespace

SetShape shape_of(const SetElements& elements) {
  const bool interval = needs_intervals(elements);
  return std::visit(Overloaded{
                        [&](const Ranges<Port>&) {
                          return SetShape{type_inet_service, 2, true, interval};
                        },
                        [&](const Ranges<Ipv4>&) {
                          return SetShape{type_ipv4_addr, 4, true, interval};
                        },
                        [&](const Ranges<Ipv6>&) {
                          return SetShape{type_ipv6_addr, 16, true, interval};
                        },
                        [&](const Ranges<Uid>&) {
                          return SetShape{type_uid, 4, false, interval};
                        },
                        [&](const Ranges<Gid>&) {
                          return SetShape{type_gid, 4, false, interval};
                        },
                        [&](const InterfaceSet&) {
                          return SetShape{type_ifname, ifname_length, false, interval};
                        },
                    },
                    elements);
}

std::vector<WireElement> to_wire(const SetElements& elements) {
  return std::visit(Overloaded{
                        [](const InterfaceSet& patterns) { return interfaces_to_wire(patterns); },
                        [](const auto& ranges) { return ranges_to_wire(ranges); },
                    },
                    elements);
}

std::optional<SetElements> from_wire(const SetShape& shape, std::vector<WireElement> elements) {
  for (const WireElement& element : elements) {
    if (element.key.size() != shape.key_length) return std::nullopt;
  }
  // An end sorts before a beginning with the same key, so that neighbours pair up.
  const auto before = [](const WireElement& a, const WireElement& b) {
    if (a.key != b.key) return a.key < b.key;
    return a.interval_end && !b.interval_end;
  };
  // The kernel's tree of ranges is listed in descending order (nft_set_rbtree.c:nft_rbtree_cmp has the greater left).
  if (!std::is_sorted(elements.begin(), elements.end(), before)) std::reverse(elements.begin(), elements.end());
  if (!std::is_sorted(elements.begin(), elements.end(), before)) std::sort(elements.begin(), elements.end(), before);
  switch (shape.key_type) {
    case type_inet_service:
      return ranges_from_wire<Port>(shape.interval, elements);
    case type_ipv4_addr:
      return ranges_from_wire<Ipv4>(shape.interval, elements);
    case type_ipv6_addr:
      return ranges_from_wire<Ipv6>(shape.interval, elements);
    case type_uid:
      return ranges_from_wire<Uid>(shape.interval, elements);
    case type_gid:
      return ranges_from_wire<Gid>(shape.interval, elements);
    case type_ifname:
      return interfaces_from_wire(shape.interval, elements);
    default:
      return std::nullopt;
  }
}

std::size_t put_elements(nlmsghdr* message, const std::string& table, const std::string& set, std::uint32_t set_id,
                         const std::vector<WireElement>& elements, std::size_t next, std::size_t room) {
  static const Bytes open_end = open_end_user_data();
  mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, set.c_str());
  mnl_attr_put_u32(message, NFTA_SET_ELEM_LIST_SET_ID, htonl(set_id));
  mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_TABLE, table.c_str());
  nlattr* list = mnl_attr_nest_start(message, NFTA_SET_ELEM_LIST_ELEMENTS);
  for (; next < elements.size() && message->nlmsg_len < room; ++next) {
    const WireElement& element = elements[next];
    nlattr* item = mnl_attr_nest_start(message, NFTA_LIST_ELEM);
    if (element.interval_end) mnl_attr_put_u32(message, NFTA_SET_ELEM_FLAGS, htonl(NFT_SET_ELEM_INTERVAL_END));
    nlattr* key = mnl_attr_nest_start(message, NFTA_SET_ELEM_KEY);
    mnl_attr_put(message, NFTA_DATA_VALUE, element.key.size(), element.key.data());
    mnl_attr_nest_end(message, key);
    if (element.open_end) mnl_attr_put(message, NFTA_SET_ELEM_USERDATA, open_end.size(), open_end.data());
    mnl_attr_nest_end(message, item);
  }
  mnl_attr_nest_end(message, list);
  return next;
}

std::optional<std::vector<WireElement>> elements_in(const nlmsghdr& message) {
  std::vector<WireElement> elements;
  bool ours = true;
  // In one pass over the attributes of each: there may be 100,000 of them.
  const auto element_in = [&](std::span<const std::byte> payload) {
    WireElement element;
    for_each_attribute(payload, [&](const nlattr& attribute) {
      switch (type_of(attribute)) {
        case NFTA_SET_ELEM_KEY: {
          const auto key = RegisterValue::from(Attributes(payload_of(attribute)).payload(NFTA_DATA_VALUE));
          ours = ours && key;
          if (key) element.key = *key;
          break;
        }
        case NFTA_SET_ELEM_FLAGS:
          element.interval_end = (Attributes(payload).number(NFTA_SET_ELEM_FLAGS) & NFT_SET_ELEM_INTERVAL_END) != 0;
          break;
        case NFTA_SET_ELEM_USERDATA:
          element.open_end = true;
          break;
        case NFTA_SET_ELEM_DATA:
        case NFTA_SET_ELEM_KEY_END:
        case NFTA_SET_ELEM_EXPR:
        case NFTA_SET_ELEM_OBJREF:
          ours = false;
          break;
        default:
          break;
      }
    });
    if (ours) elements.push_back(element);
  };
  for_each_attribute(message, sizeof(nfgenmsg), [&](const nlattr& attribute) {
    if (type_of(attribute) != NFTA_SET_ELEM_LIST_ELEMENTS) return;
    for_each_attribute(payload_of(attribute), [&](const nlattr& item) { element_in(payload_of(item)); });
  });
  if (!ours) return std::nullopt;
  return elements;
}

}  // namespace sluice::netfilter
