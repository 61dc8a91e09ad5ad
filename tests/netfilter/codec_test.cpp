#include <doctest/doctest.h>
#include <linux/netfilter/nf_tables.h>

#include <algorithm>
#include <bitset>
#include <random>

#include "netfilter/netlink.hpp"
#include "netfilter/nft/handles.hpp"
#include "netfilter/nft/rule_codec.hpp"
#include "netfilter/nft/set_codec.hpp"
#include "rules/nft_text.hpp"

using namespace sluice;
using namespace sluice::netfilter;

namespace {

Port port(unsigned number) { return *Port::from(number); }
Range<Port> ports(unsigned first, unsigned last) { return {port(first), port(last)}; }
Ipv4 v4(const char* text) { return std::get<Ipv4>(*parse_address(text)); }
Ipv6 v6(const char* text) { return std::get<Ipv6>(*parse_address(text)); }

const Ruleset sets{{{"some_ports", Ranges<Port>{ports(80, 90), ports(443, 443)}},
                    {"some_uids", Ranges<Uid>{{Uid{1}, Uid{5}}, {Uid{9}, Uid{9}}}},
                    {"two_uids", Ranges<Uid>{{Uid{1}, Uid{1}}, {Uid{9}, Uid{9}}}},
                    {"some_names", InterfaceSet{{"eth", true}, {"lo", false}}},
                    {"some_v6", Ranges<Ipv6>{{v6("fd00::1"), v6("fd00::9")}, {v6("fd00::b"), v6("fd00::b")}}},
                    {"some_v4", Ranges<Ipv4>{{v4("10.0.0.0"), v4("10.0.0.9")}, {v4("11.0.0.0"), v4("11.0.0.0")}}}},
                   {}};

const Match tcp = ProtocolIs{Protocol::tcp};

/// At least one row for every kind of match; the port matches need the protocol before them.
const std::vector<std::vector<Match>> matches = {
    {FamilyIs{Family::ipv4}},
    {FamilyIs{Family::ipv6}},
    {tcp},
    {ProtocolIs{Protocol::udp}},
    {ProtocolIs{Protocol::sctp}},
    {tcp, PortIn{Side::destination, ports(80, 80)}},
    {tcp, PortIn{Side::source, ports(1, 65535)}},
    {tcp, PortIn{Side::destination, SetRef{"some_ports"}}},
    {tcp, PortIsNot{Side::destination, port(53)}},
    {Ipv4In{Side::destination, Range<Ipv4>{v4("10.0.0.0"), v4("10.127.255.255")}}},
    {Ipv4In{Side::source, Range<Ipv4>{v4("10.0.0.1"), v4("10.0.0.1")}}},
    {Ipv4In{Side::source, Range<Ipv4>{v4("10.0.0.1"), v4("10.0.0.7")}}},
    {Ipv4In{Side::destination, Range<Ipv4>{v4("0.0.0.0"), v4("255.255.255.255")}}},
    {Ipv4In{Side::destination, SetRef{"some_v4"}}},
    {Ipv4In{Side::destination, Range<Ipv4>{v4("10.0.0.0"), v4("11.0.0.0")}},
     Ipv4In{Side::destination, SetRef{"some_v4"}}},
    {Ipv6In{Side::source, range_of(Cidr<Ipv6>{v6("fd00::"), 65})}, Ipv6In{Side::source, SetRef{"some_v6"}}},
    {FamilyIs{Family::ipv4}, tcp, Ipv4In{Side::destination, SetRef{"some_v4"}}},
    {Ipv6In{Side::destination, Range<Ipv6>{v6("::1"), v6("::1")}}},
    {Ipv6In{Side::source, range_of(Cidr<Ipv6>{v6("fd00::"), 65})}},
    {InterfaceIn{Direction::in, InterfacePattern{"eth0", false}}},
    {InterfaceIn{Direction::out, InterfacePattern{"eth", true}}},
    {InterfaceIn{Direction::out, InterfacePattern{"fifteen-letters", true}}},
    {InterfaceIn{Direction::in, SetRef{"some_names"}}},
    {SocketUidIn{Range<Uid>{Uid{1337}, Uid{1337}}}},
    {SocketUidIn{Range<Uid>{Uid{0}, Uid{Uid::highest}}}},
    {SocketUidIn{SetRef{"some_uids"}}},
    {SocketUidIn{SetRef{"two_uids"}}},
    {SocketGidIn{Range<Gid>{Gid{1}, Gid{2}}}},
    {PacketMarkIs{{0x539, 0xffffffff}}},
    {PacketMarkIs{{0x1, 0xf}}},
    {ConnectionMarkIs{{0x539, 0xfff}}},
    {ConntrackStateIs{ConntrackState::fresh}},
    {ConntrackStateIs{ConntrackState::invalid}},
    {DestinationRewritten{true}},
    {DestinationRewritten{false}},
    {tcp, NotOpening{}},
    {ReplyDirection{}},
    {DestinationLocal{true}},
    {DestinationLocal{false}},
};

const std::vector<Action> actions = {Pass{},
                                     Redirect{port(15001)},
                                     Tproxy{port(15006), 1337},
                                     Reject{RejectWith::tcp_reset},
                                     Reject{RejectWith::port_unreachable},
                                     Drop{},
                                     SetZone{1},
                                     SetConnectionMark{1337},
                                     SetPacketMark{1337}};

/// Into a rule message, and read back from its bytes.
Expressions through_a_message(const Expressions& expressions) {
  Message message(4096);
  put_expressions(message.header(), expressions);
  Expressions back;
  for_each_attribute(*message.header(), 0, [&](const nlattr& attribute) {
    if (mnl_attr_get_type(&attribute) == NFTA_RULE_EXPRESSIONS) back = expressions_in(attribute);
  });
  return back;
}

}  // namespace

TEST_CASE("every match and action survives encoding and decoding") {
  std::bitset<std::variant_size_v<Match>> seen_matches;
  std::bitset<std::variant_size_v<Action>> seen_actions;
  for (const auto& row : matches) {
    for (const Action& action : actions) {
      const Rule rule{"a-rule", row, action};
      CAPTURE(to_nft(rule));
      const Expressions expressions = to_expressions(rule, sets);
      REQUIRE(through_a_message(expressions) == expressions);
      const auto decoded = rule_from_expressions(expressions, "a-rule", sets);
      REQUIRE(decoded.has_value());
      CHECK(*decoded == rule);
      for (const Match& match : row) seen_matches.set(match.index());
      seen_actions.set(action.index());
    }
  }
  CHECK(seen_matches.all());
  CHECK(seen_actions.all());
}

TEST_CASE("a rule that differs in any expression is not taken for ours") {
  for (const auto& row : matches) {
    const Rule rule{"a-rule", row, Redirect{port(15001)}};
    const Expressions original = to_expressions(rule, sets);
    CHECK(rule_from_expressions(original, "a-rule", sets, &rule) == rule);
    CHECK(rule_from_expressions(original, "another", sets, &rule)->name == "another");
    // Neither by itself nor where it is what is expected.
    const auto taken = [&](const Expressions& expressions) {
      const auto found = rule_from_expressions(expressions, "a-rule", sets);
      const auto expected = rule_from_expressions(expressions, "a-rule", sets, &rule);
      CHECK(found == expected);
      return found == rule;
    };
    for (std::size_t at = 0; at < original.size(); ++at) {
      Expressions without = original;
      without.erase(without.begin() + static_cast<std::ptrdiff_t>(at));
      CHECK_FALSE(taken(without));
      Expressions foreign = original;
      foreign[at] = Foreign{"limit"};
      CHECK_FALSE(taken(foreign));
      CHECK_FALSE(rule_from_expressions(foreign, "a-rule", sets));
      Expressions other = original;
      if (auto* compare = std::get_if<Compare>(&other[at])) {
        compare->value[compare->value.size() - 1] ^= 0x40U;
        CHECK_FALSE(taken(other));
      }
    }
  }
  const Rule by_set{"r", {SocketUidIn{SetRef{"some_uids"}}}, Pass{}};
  for (const Rule* likely : {static_cast<const Rule*>(nullptr), &by_set}) {
    CHECK_FALSE(rule_from_expressions(to_expressions(by_set, sets), "r", Ruleset{}, likely));
  }
}

TEST_CASE("the bytes are those that nft 1.0.6 writes") {
  const auto encoded = [](const Match& match) {
    Expressions expressions = to_expressions({"r", {match}, Pass{}}, sets);
    expressions.resize(expressions.size() - 2);  // counter and verdict
    return expressions;
  };
  // [ meta load oifname => reg 1 ] [ cmp eq reg 1 0x00687465 ]
  CHECK(encoded(InterfaceIn{Direction::out, InterfacePattern{"eth", true}}) ==
        Expressions{MetaLoad{NFT_META_OIFNAME}, Compare{NFT_CMP_EQ, {'e', 't', 'h'}}});
  // [ meta load skuid => reg 1 ] [ byteorder reg 1 = hton(reg 1, 4, 4) ] [ cmp gte reg 1 0xe8030000 ] [ cmp lte reg 1
  // 0xf2030000 ]
  CHECK(encoded(SocketUidIn{Range<Uid>{Uid{1000}, Uid{1010}}}) ==
        Expressions{MetaLoad{NFT_META_SKUID}, ToNetworkOrder{}, Compare{NFT_CMP_GTE, {0, 0, 0x03, 0xe8}},
                    Compare{NFT_CMP_LTE, {0, 0, 0x03, 0xf2}}});
  // [ payload load 4b @ network header + 16 => reg 1 ] [ bitwise reg 1 = ( reg 1 & 0x000080ff ) ^ 0 ] [ cmp eq reg 1
  // 0x0000000a ]
  CHECK(encoded(Ipv4In{Side::destination, Range<Ipv4>{v4("10.0.0.0"), v4("10.127.255.255")}}) ==
        Expressions{MetaLoad{NFT_META_NFPROTO}, Compare{NFT_CMP_EQ, {2}},
                    PayloadLoad{NFT_PAYLOAD_NETWORK_HEADER, 16, 4}, And{{0xff, 0x80, 0, 0}},
                    Compare{NFT_CMP_EQ, {10, 0, 0, 0}}});
  // The family once: [ meta load nfproto => reg 1 ] [ cmp eq reg 1 0x00000002 ] [ payload load 4b @ network header + 16
  // => reg 1 ] [ cmp gte reg 1 0x0000000a ] [ cmp lte reg 1 0x7f01000a ] [ payload load 4b @ network header + 16 => reg
  // 1 ] [ lookup reg 1 set some_v4 ]
  Expressions piece = to_expressions({"r",
                                      {Ipv4In{Side::destination, Range<Ipv4>{v4("10.0.0.0"), v4("10.0.1.127")}},
                                       Ipv4In{Side::destination, SetRef{"some_v4"}}},
                                      Pass{}},
                                     sets);
  piece.resize(piece.size() - 2);
  CHECK(piece == Expressions{MetaLoad{NFT_META_NFPROTO}, Compare{NFT_CMP_EQ, {2}},
                             PayloadLoad{NFT_PAYLOAD_NETWORK_HEADER, 16, 4}, Compare{NFT_CMP_GTE, {10, 0, 0, 0}},
                             Compare{NFT_CMP_LTE, {10, 0, 1, 127}}, PayloadLoad{NFT_PAYLOAD_NETWORK_HEADER, 16, 4},
                             Lookup{"some_v4"}});
}

TEST_CASE("an interval set is written as nft writes it") {
  const Ranges<Port> list{ports(80, 80), ports(8000, 8100), ports(65000, 65535)};
  CHECK(to_wire(list) == std::vector<WireElement>{{{0, 0}, true, false},
                                                  {{0x00, 0x50}, false, false},
                                                  {{0x00, 0x51}, true, false},
                                                  {{0x1f, 0x40}, false, false},
                                                  {{0x1f, 0xa5}, true, false},
                                                  {{0xfd, 0xe8}, false, true}});
}

namespace {

Ranges<Port> every_second_port(unsigned count) {
  std::vector<Range<Port>> list;
  for (unsigned number = 0; number < count; ++number) list.push_back(ports(1 + 2 * number, 1 + 2 * number));
  return Ranges<Port>(list);
}

}  // namespace

TEST_CASE("so many ports that the kernel's bitmap would be slow make an interval set") {
  CHECK_FALSE(shape_of(every_second_port(256)).interval);
  CHECK(shape_of(every_second_port(257)).interval);
}

TEST_CASE("sets survive the wire in any order of elements") {
  std::mt19937 random(7);
  const std::vector<SetElements> lists = {
      Ranges<Port>{ports(1, 1), ports(3, 3)},
      Ranges<Port>{ports(1, 10), ports(65535, 65535)},
      every_second_port(300),
      Ranges<Ipv4>{{v4("0.0.0.0"), v4("0.0.0.255")}, {v4("224.0.0.0"), v4("255.255.255.255")}},
      Ranges<Ipv4>{{v4("10.0.0.1"), v4("10.0.0.1")}, {v4("10.0.0.3"), v4("10.0.0.3")}},
      Ranges<Ipv6>{{v6("::"), v6("::1")}, {v6("fd00::"), v6("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")}},
      Ranges<Uid>{{Uid{0}, Uid{5}}, {Uid{7}, Uid{Uid::highest}}},
      Ranges<Gid>{{Gid{1}, Gid{1}}, {Gid{70000}, Gid{70000}}},
      InterfaceSet{{"eth0", false}, {"lo", false}},
      InterfaceSet{{"eth", true}, {"fifteen-letters", true}, {"lo", false}},
  };
  for (const SetElements& list : lists) {
    CAPTURE(to_nft(list));
    std::vector<WireElement> wire = to_wire(list);
    for (int round = 0; round < 10; ++round) {
      const auto back = from_wire(shape_of(list), wire);
      REQUIRE(back.has_value());
      CHECK(*back == list);
      std::shuffle(wire.begin(), wire.end(), random);
    }
  }
}

TEST_CASE("elements of another size or kind are not read as ours") {
  CHECK_FALSE(from_wire(shape_of(Ranges<Port>{}), {{{1, 2, 3}, false, false}}));
  CHECK_FALSE(from_wire(SetShape{99, 2, true, false}, {{{1, 2}, false, false}}));
}
