#include "rules/address.hpp"

#include <doctest/doctest.h>

using namespace sluice;

namespace {

template <typename Address>
std::string listed(const std::string& text) {
  return to_text(range_of(std::get<Cidr<Address>>(parse_cidr(text)->cidr)));
}

Ipv4 v4(const char* text) { return std::get<Ipv4>(*parse_address(text)); }
Ipv6 v6(const char* text) { return std::get<Ipv6>(*parse_address(text)); }

}  // namespace

TEST_CASE("networks are normalised and told apart from those with host bits") {
  CHECK(listed<Ipv4>("10.0.0.0/8") == "10.0.0.0/8");
  CHECK(listed<Ipv4>("10.1.2.3/8") == "10.0.0.0/8");
  CHECK(parse_cidr("10.1.2.3/8")->host_bits);
  CHECK_FALSE(parse_cidr("10.0.0.0/8")->host_bits);
  CHECK(listed<Ipv4>("0.0.0.0/0") == "0.0.0.0/0");
  CHECK(listed<Ipv4>("192.0.2.1") == "192.0.2.1");
  CHECK(listed<Ipv6>("fd00::/8") == "fd00::/8");
  CHECK(listed<Ipv6>("2001:db8::ffff/127") == "2001:db8::fffe/127");
  CHECK(listed<Ipv6>("::/0") == "::/0");
  CHECK(listed<Ipv6>("2001:db8::/64") == "2001:db8::/64");
  CHECK(listed<Ipv6>("2001:db8::/65") == "2001:db8::/65");
}

TEST_CASE("what is not a network is refused") {
  for (const char* text :
       {"", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/08x", "::/129", "10.0.0", "1.2.3.4.5", "::1%lo", " ::1", "/8"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_cidr(text));
  }
  CHECK_FALSE(parse_address(std::string_view("10.0.0.1\0", 9)));
  CHECK_FALSE(parse_address(std::string(1000000, '1')));
}

TEST_CASE("neighbours carry over and stop at the ends") {
  CHECK(next(v4("10.0.0.255")) == v4("10.0.1.0"));
  CHECK_FALSE(next(v4("255.255.255.255")));
  CHECK_FALSE(previous(v4("0.0.0.0")));
  CHECK(next(v6("::ffff:ffff:ffff:ffff")) == v6("0:0:0:1::"));
  CHECK(previous(v6("0:0:0:1::")) == v6("::ffff:ffff:ffff:ffff"));
  CHECK_FALSE(next(v6("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")));
}

TEST_CASE("bytes are in network order, there and back") {
  CHECK(to_bytes(v4("1.2.3.4")) == Ipv4::Bytes{1, 2, 3, 4});
  CHECK(from_bytes(to_bytes(v6("2001:db8::1"))) == v6("2001:db8::1"));
  CHECK(to_bytes(v6("2001:db8::1"))[15] == 1);
}

TEST_CASE("a range falls into the fewest networks") {
  std::string text;
  for (const auto& cidr : cidrs_of(Range<Ipv4>{v4("10.0.0.1"), v4("10.0.0.8")})) text += to_text(range_of(cidr)) + " ";
  CHECK(text == "10.0.0.1 10.0.0.2/31 10.0.0.4/30 10.0.0.8 ");
  CHECK(cidrs_of(every_address<Ipv4>()).size() == 1);
  CHECK(cidrs_of(every_address<Ipv6>()).size() == 1);
  CHECK(to_text(Range<Ipv4>{v4("10.0.0.1"), v4("10.0.0.7")}) == "10.0.0.1-10.0.0.7");
}
