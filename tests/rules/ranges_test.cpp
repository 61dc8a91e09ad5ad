#include "rules/ranges.hpp"

#include <doctest/doctest.h>

#include <random>
#include <set>

#include "rules/address.hpp"

using namespace sluice;

namespace {

Port port(unsigned number) { return *Port::from(number); }
Range<Port> range(unsigned first, unsigned last) { return {port(first), port(last)}; }

}  // namespace

TEST_CASE("overlapping, nested and adjacent ranges become one") {
  CHECK(Ranges<Port>{range(10, 20), range(15, 30)} == Ranges<Port>{range(10, 30)});
  CHECK(Ranges<Port>{range(10, 30), range(15, 20)} == Ranges<Port>{range(10, 30)});
  CHECK(Ranges<Port>{range(21, 30), range(10, 20)} == Ranges<Port>{range(10, 30)});
  CHECK(Ranges<Port>{range(10, 20), range(22, 30)}.size() == 2);
  CHECK(Ranges<Port>{range(1, 65535), range(65535, 65535)} == Ranges<Port>{every_port()});
}

TEST_CASE("membership holds at the edges and not one past them") {
  const Ranges<Port> ranges{range(1000, 2000), range(1500, 2500), range(3000, 3000)};
  for (const unsigned inside : {1000U, 2000U, 2500U, 3000U}) CHECK(ranges.contains(port(inside)));
  for (const unsigned outside : {999U, 2501U, 2999U, 3001U}) CHECK_FALSE(ranges.contains(port(outside)));
  CHECK(ranges.covers(range(1000, 2500)));
  CHECK_FALSE(ranges.covers(range(2500, 2501)));
  CHECK(ranges.overlaps(range(2500, 2600)));
  CHECK_FALSE(ranges.overlaps(range(2501, 2999)));
}

TEST_CASE("the difference works at both ends of the value space") {
  CHECK(Ranges<Port>{every_port()}.without({range(1, 10), range(65535, 65535)}) == Ranges<Port>{range(11, 65534)});
  CHECK(Ranges<Port>{range(5, 9)}.without({every_port()}).empty());
  const Ranges<Gid> all{{Gid{0}, Gid{Gid::highest}}};
  CHECK(all.without({{Gid{0}, Gid{0}}, {Gid{5}, Gid{Gid::highest}}}) == Ranges<Gid>{{Gid{1}, Gid{4}}});
}

TEST_CASE("set algebra agrees with std::set on random ranges") {
  std::mt19937 engine(20261124);
  const auto random = [&] { return static_cast<unsigned>(engine()); };
  for (int round = 0; round < 500; ++round) {
    CAPTURE(round);
    std::set<unsigned> plain[2];
    Ranges<Port> ranges[2];
    for (int side = 0; side < 2; ++side) {
      for (unsigned n = random() % 6; n > 0; --n) {
        const unsigned first = 1 + random() % 40;
        const unsigned last = first + random() % 8;
        for (unsigned value = first; value <= last; ++value) plain[side].insert(value);
        ranges[side] = ranges[side].united({range(first, last)});
      }
    }
    const auto difference = ranges[0].without(ranges[1]);
    for (unsigned value = 1; value <= 50; ++value) {
      CAPTURE(value);
      REQUIRE(ranges[0].contains(port(value)) == (plain[0].count(value) != 0));
      REQUIRE(difference.contains(port(value)) == (plain[0].count(value) != 0 && plain[1].count(value) == 0));
    }
  }
}
