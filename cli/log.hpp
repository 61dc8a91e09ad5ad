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
  std::unique_ptr<spdlog::logger> logger_;
};

}  // namespace sluice::cli
