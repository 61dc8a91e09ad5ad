#include "netfilter/privileges.hpp"

#include <doctest/doctest.h>

using namespace sluice::netfilter;

namespace {

bool says(const Shortfall& shortfall, const char* why, const char* remedy) {
  return shortfall.why.find(why) != std::string::npos && shortfall.remedy.find(remedy) != std::string::npos;
}

}  // namespace

TEST_CASE("each way of being without CAP_NET_ADMIN has its own words") {
  CHECK(says(explain({.user = 0, .in_bounding_set = false}), "in none of", "capabilities.add"));
  CHECK(says(explain({.user = 1000, .in_bounding_set = false, .on_program_file = true}), "in none of",
             "capabilities.add"));
  CHECK(says(explain({.user = 0, .in_bounding_set = true}), "although this is user 0", "container's own command"));
  CHECK(says(explain({.user = 65534, .in_bounding_set = true}), "user 65534 gets none", "setcap cap_net_admin=p"));
  // no_new_privs alone is not the reason: without something on the file there is nothing that it could withhold.
  CHECK(says(explain({.user = 65534, .in_bounding_set = true, .no_new_privs = true}), "user 65534 gets none",
             "runAsUser: 0"));
  CapabilityFacts on_file{.user = 65534, .in_bounding_set = true, .on_program_file = true};
  CHECK(says(explain(on_file), "does not accept", "another user namespace"));
  on_file.no_new_privs = true;
  CHECK(says(explain(on_file), "no_new_privs", "allowPrivilegeEscalation: true"));
  on_file.file_system_nosuid = true;
  CHECK(says(explain(on_file), "nosuid", "another file system"));
}
