#include "cli/log.hpp"

#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <nlohmann/json.hpp>

#include "rules/text.hpp"

namespace sluice::cli {
namespace {

spdlog::level::level_enum level_of(LogLevel level) {
  switch (level) {
    case LogLevel::error:
      return spdlog::level::err;
    case LogLevel::warning:
      return spdlog::level::warn;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::debug:
      return spdlog::level::debug;
  }
  return spdlog::level::info;
}

/// The message as a JSON string, quotes included; bytes that are not UTF-8 are replaced.
class JsonMessage : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    const nlohmann::ordered_json text = std::string(message.payload.data(), message.payload.size());
    const std::string quoted = text.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    out.append(quoted.data(), quoted.data() + quoted.size());
  }
  [[nodiscard]] std::unique_ptr<spdlog::custom_flag_formatter> clone() const override {
    return std::make_unique<JsonMessage>();
  }
};

}  // namespace

Log::Log(LogFormat format, LogLevel level) : format_(format), level_(level) {}
Log::~Log() = default;

spdlog::logger& Log::logger() const {
  if (logger_) return *logger_;
  // A logger of our own, outside spdlog's registry: its default logger and its locks are not needed here.
  logger_ = std::make_unique<spdlog::logger>("sluice", std::make_shared<spdlog::sinks::stderr_sink_st>());
  // UTC: the local time zone would be read from a file.
  auto formatter = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  if (format_ == LogFormat::json) {
    formatter->add_flag<JsonMessage>('*');
    formatter->set_pattern(R"({"level":"%l","time":"%Y-%m-%dT%H:%M:%S.%eZ","message":%*})");
  } else {
    formatter->set_pattern("sluice: %v");
  }
  logger_->set_formatter(std::move(formatter));
  logger_->set_level(level_of(level_));
  return *logger_;
}

void Log::say(LogLevel level, std::string_view word, std::string_view message) const {
  if (level > level_) return;
  // JSON escapes for itself; a terminal would obey what a name of a variable or file holds.
  std::string line = format_ == LogFormat::text ? printable(message) : std::string(message);
  const bool worded = format_ == LogFormat::text || word == "hint";
  if (worded) line = std::string(word) + ": " + line;
  logger().log(level_of(level), spdlog::string_view_t(line.data(), line.size()));
}

void Log::error(std::string_view message) const { say(LogLevel::error, "error", message); }
void Log::hint(std::string_view message) const { say(LogLevel::error, "hint", message); }
void Log::warning(std::string_view message) const { say(LogLevel::warning, "warning", message); }
void Log::info(std::string_view message) const { say(LogLevel::info, "info", message); }
void Log::debug(std::string_view message) const { say(LogLevel::debug, "debug", message); }

void Log::problems(const Problems& problems) const {
  for (const Problem& problem : problems.errors) error(to_text(problem));
  for (const Problem& problem : problems.warnings) warning(to_text(problem));
}

}  // namespace sluice::cli
