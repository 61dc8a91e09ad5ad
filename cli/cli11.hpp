// CLI11 without the streams and locales of the standard library. They are a third of a static binary (a locale brings
// its wide characters, money, times, character sets and the loader for those) and have to be set up at every start,
// but all that CLI11 wants of them is to join strings, to read lines and to know a blank.
//
// Inside CLI11's headers `std` is the namespace below: a few names of its own, all others those of the real one. What
// CLI11 includes is included first, so that no header of the standard library is read under that name; <iostream>,
// whose streams are set up by whoever includes it, is declared to have been included (libstdc++'s guard).
#pragma once

#ifdef _GLIBCXX_IOSTREAM
#error "<iostream> has been included already"
#endif

// NOLINTNEXTLINE(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the guard has that name
#define _GLIBCXX_IOSTREAM 1
#include <sys/stat.h>
#include <sys/types.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <exception>
#include <fstream>
#include <functional>
#include <iomanip>
#include <iterator>
#include <limits>
#include <locale>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace cli11_std {

using namespace std;  // NOLINT(google-build-using-namespace): to stand in for it

/// The "C" locale, the only one that a program has which never sets another.
struct locale {};
using std::isalpha;
using std::isspace;
using std::tolower;
template <typename Char>
bool isspace(Char c, locale) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}
template <typename Char>
bool isalpha(Char c, locale) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
template <typename Char>
Char tolower(Char c, locale) {
  return c >= 'A' && c <= 'Z' ? static_cast<Char>(c - 'A' + 'a') : c;
}

struct setw {
  explicit setw(int columns) : width(static_cast<std::size_t>(columns)) {}
  std::size_t width;
};
struct Left {};
struct EndOfLine {};
struct Flush {};
inline constexpr Left left;
inline constexpr EndOfLine endl;
inline constexpr Flush flush;

/// Every stream there is: text that grows at its end and is read by lines. Numbers and the like are not read from it,
/// because CLI11 has other means for all that sluice asks of it.
class Text {
 public:
  Text() = default;
  explicit Text(std::string text) : text_(std::move(text)) {}

  [[nodiscard]] const std::string& str() const { return text_; }
  void str(std::string text) { *this = Text(std::move(text)); }
  [[nodiscard]] std::size_t tellp() const { return text_.size(); }
  [[nodiscard]] bool fail() const { return failed_; }
  [[nodiscard]] bool good() const { return !failed_; }
  explicit operator bool() const { return !failed_; }
  [[nodiscard]] const Text* rdbuf() const { return this; }
  [[nodiscard]] std::size_t in_avail() const { return text_.size() - at_; }

  Text& operator<<(std::string_view text) {
    text_ += text;
    if (text.size() < width_) text_.append(width_ - text.size(), ' ');
    width_ = 0;
    return *this;
  }
  Text& operator<<(char c) { return *this << std::string_view(&c, 1); }
  template <typename Number, std::enable_if_t<std::is_arithmetic_v<Number>, bool> = true>
  Text& operator<<(Number number) {
    return *this << std::string_view(std::to_string(number));
  }
  Text& operator<<(setw columns) {
    width_ = columns.width;
    return *this;
  }
  Text& operator<<(Left) { return *this; }
  Text& operator<<(EndOfLine) { return *this << '\n'; }
  Text& operator<<(Flush) { return *this; }
  Text& put(char c) { return *this << c; }

  Text& read(std::string& line, char end) {
    failed_ = at_ >= text_.size();
    if (failed_) return *this;
    const std::size_t stop = std::min(text_.find(end, at_), text_.size());
    line.assign(text_, at_, stop - at_);
    at_ = std::min(stop + 1, text_.size());
    return *this;
  }

 protected:
  bool failed_ = false;

 private:
  std::string text_;
  std::size_t at_ = 0;     ///< where reading goes on
  std::size_t width_ = 0;  ///< of the next piece that is written
};
inline Text& getline(Text& from, std::string& line, char end = '\n') { return from.read(line, end); }

using ostream = Text;
using istream = Text;
using stringstream = Text;
using ostringstream = Text;
using istringstream = Text;

/// Files are sluice's own matter: one that CLI11 opens cannot be read.
struct ifstream : Text {
  explicit ifstream(const std::string&) { failed_ = true; }
};

// For functions of CLI11 that print. None of them is used, or these would have to be defined.
extern ostream cout;
extern ostream cerr;

}  // namespace cli11_std

// Constants that nothing here uses, each with its own constructor to be run at every start, and destructor at every
// end: so they declare functions.
#define ExistingFile existing_file()
#define ExistingDirectory existing_directory()
#define ExistingPath existing_path()
#define NonexistentPath nonexistent_path()
#define ValidIPV4 valid_ipv4()
#define CLI11_HAS_FILESYSTEM 0  // it asks stat() then, which is all that its checks of paths need
#define std cli11_std
#include <CLI/CLI.hpp>
#undef std
#undef ExistingFile
#undef ExistingDirectory
#undef ExistingPath
#undef NonexistentPath
#undef ValidIPV4
