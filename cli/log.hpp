// What sluice says on standard error. Results go to standard output, see output.hpp.
#pragma once

#include <memory>
#include <string_view>

#include "rules/config.hpp"

namespace spdlog {
class logger;
}

namespace sluice::cli {

class Log {
 public:
  Log(LogFormat format, LogLevel level);
  ~Log();
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  void error(std::string_view message) const;
  void hint(std::string_view message) const;  ///< what to do about the error before it
  void warning(std::string_view message) const;
  void info(std::string_view message) const;
  void debug(std::string_view message) const;
  /// Every error, then every warning.
  void problems(const Problems& problems) const;

 private:
  /// Text lines carry `word` (error, hint, warning, ...); JSON has the level in a field of its own.
  void say(LogLevel level, std::string_view word, std::string_view message) const;
  spdlog::logger& logger() const;

  LogFormat format_;
  LogLevel level_;
  mutable std::unique_ptr<spdlog::logger> logger_;  ///< made for the first message: most runs have none
};

}  // namespace sluice::cli
