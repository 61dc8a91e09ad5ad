#include "cli/yaml.hpp"

#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

using sluice::cli::to_yaml;
using Json = nlohmann::ordered_json;

TEST_CASE("objects and lists stand in blocks, as kubectl prints them") {
  CHECK(to_yaml(Json::parse(R"({"a": {"b": [1, {"c": true, "d": [2]}, ["x", "z"]]}, "e": [], "f": {}, "g": null})")) ==
        "a:\n"
        "  b:\n"
        "  - 1\n"
        "  - c: true\n"
        "    d:\n"
        "    - 2\n"
        "  - - x\n"
        "    - z\n"
        "e: []\n"
        "f: {}\n"
        "g: null\n");
  CHECK(to_yaml(Json::parse("[]")) == "[]\n");
  CHECK(to_yaml(Json("x")) == "x\n");
}

TEST_CASE("a text that could be anything else stands in quotes") {
  for (const char* plain : {"sluice", "NET_ADMIN", "a/b-c.d_1", "strategic"})
    CHECK(to_yaml(Json(plain)) == plain + std::string("\n"));
  for (const char* quoted : {"",         "true", "No",  "ON", "y",   "null", "1",  "0x1", "1e3", "2026-11-24", "-",
                             "--flag=x", "a: b", "a b", "#",  "a#b", "&a",   "*a", "!a",  "{a}", "[a]",        "a,b",
                             "|",        ">",    "%a",  "@a", "'",   ".inf", "~",  "=",   "10m"}) {
    CAPTURE(quoted);
    CHECK(to_yaml(Json(quoted)) == "\"" + std::string(quoted) + "\"\n");
  }
}

TEST_CASE("no text breaks out of its quotes") {
  CHECK(to_yaml(Json("a\"b\\c\nd\te\rf")) == "\"a\\\"b\\\\c\\u000Ad\\u0009e\\u000Df\"\n");
  CHECK(to_yaml(Json("\x7f\xc2\x85\xe2\x80\xa8\xef\xbb\xbf")) == "\"\\u007F\\u0085\\u2028\\uFEFF\"\n");
  CHECK(to_yaml(Json("\xf0\x9f\x98\x80\xc3\xa9")) == "\"\\U0001F600\\u00E9\"\n");
  CHECK(to_yaml(Json(std::string("\0", 1))) == "\"\\u0000\"\n");
  CHECK(to_yaml(Json{{"a: {b}\n", 1}}) == "\"a: {b}\\u000A\": 1\n");
}
