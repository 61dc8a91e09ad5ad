#include "cli/config_file.hpp"

#include <algorithm>
#include <set>

#include "cli/cli11.hpp"
#include "cli/file_contents.hpp"
#include "rules/options.hpp"
#include "rules/text.hpp"

namespace sluice::cli {
namespace {

/// CLI11 does not keep line numbers, so the line of a key is looked for; 0 where it is not found.
std::size_t line_of(const std::vector<std::string_view>& lines, std::string_view key) {
  for (std::size_t number = 1; number <= lines.size(); ++number) {
    const std::string_view line = trimmed(lines[number - 1]);
    if (line.substr(0, key.size()) != key) continue;
    const std::string_view rest = trimmed(line.substr(key.size()));
    if (!rest.empty() && rest.front() != '=' && rest.front() != '\r') continue;
    return number;
  }
  return 0;
}

std::vector<std::string_view> option_names() {
  std::vector<std::string_view> names;
  for (const OptionSpec& option : options()) names.push_back(option.name);
  return names;
}

/// The same settings with every list on one line, without comments, and a long one as several under the same key, which
/// CLI11 joins. CLI11 takes a lone [ at the end of a line for a value, and splits a list by erasing its beginning over
/// and over, which takes a second for fifty thousand elements.
class ListLayout {
 public:
  explicit ListLayout(std::string_view text) : text_(text) {}

  std::string normalized() {
    out_.reserve(text_.size() + text_.size() / 8);
    for (at_ = 0; at_ < text_.size(); ++at_) {
      if (key_.empty()) {
        outside(text_[at_]);
      } else {
        inside(text_[at_]);
      }
    }
    return std::move(out_);
  }

 private:
  static constexpr std::size_t long_enough = 200;  // elements

  /// Whether `c` belongs to a quoted text.
  bool in_quotes(char c) {
    if (quote_ != 0) {
      if (c == quote_) quote_ = 0;
      return true;
    }
    if (c == '"' || c == '\'') quote_ = c;
    return quote_ != 0;
  }

  void outside(char c) {
    out_ += c;
    if (c == '\n') {
      line_begin_ = at_ + 1;
      quote_ = 0;
    }
    if (in_quotes(c) || c != '[') return;
    const std::string_view before = trimmed(text_.substr(line_begin_, at_ - line_begin_));
    if (before.empty() || before.back() != '=' || before.front() == '#') return;
    key_ = before;
    elements_ = 0;
  }

  void inside(char c) {
    if (c == '"' || c == '\'') {
      // A whole text at once: most of a long list is in quotes.
      const std::size_t end = std::min(text_.find(c, at_ + 1), text_.size() - 1);
      out_.append(text_, at_, end - at_ + 1);
      at_ = end;
    } else if (c == '#') {
      at_ = std::min(text_.find('\n', at_), text_.size()) - 1;
    } else if (c == '\n' || c == '\r') {
      out_ += ' ';
    } else if (c == ',' && ++elements_ >= long_enough && another_follows()) {
      out_ += "]\n";
      out_ += key_;
      out_ += '[';
      elements_ = 0;
    } else {
      out_ += c;
      if (c == ']') key_ = {};
    }
  }

  /// After a comma: not the list's end, an empty element or a comment, which are left as they are.
  [[nodiscard]] bool another_follows() const {
    const std::size_t next = text_.find_first_not_of(" \t\r\n", at_ + 1);
    return next != std::string_view::npos && std::string_view("],#").find(text_[next]) == std::string_view::npos;
  }

  std::string_view text_;
  std::string out_;
  std::size_t at_ = 0;
  std::size_t line_begin_ = 0;
  char quote_ = 0;
  std::string_view key_;  ///< `name =` of the list that is being read
  std::size_t elements_ = 0;
};

class FileReader {
 public:
  FileReader(const std::string& text, std::string name, RawConfig& raw, Problems& problems)
      : lines_(split(text, '\n')), name_(std::move(name)), raw_(raw), problems_(problems) {}

  void read(const std::string& text) {
    if (!well_formed()) return;
    cli11_std::istringstream stream(ListLayout(text).normalized());
    try {
      for (CLI::ConfigItem& item : CLI::ConfigTOML().from_config(stream)) take(item);
    } catch (const CLI::Error& error) {
      problems_.errors.push_back({name_, std::string("is not TOML: ") + error.what()});
    }
  }

 private:
  void error(std::size_t line, const std::string& message) {
    problems_.errors.push_back({name_ + ":" + std::to_string(line), message});
  }

  /// CLI11 reads leniently; what it would quietly take for something else is refused first.
  bool well_formed() {
    const std::size_t before = problems_.errors.size();
    std::size_t number = 0;
    bool in_list = false;
    for (const std::string_view whole : lines_) {
      ++number;
      if (whole.find('\0') != std::string_view::npos) {
        error(number, "contains a NUL byte; allowed: text");
        break;
      }
      const std::string_view line = trimmed(whole.substr(0, whole.find('\r')));
      if (line.empty() || line.front() == '#') continue;
      if (!in_list) check_line(number, line);
      const std::size_t open = line.find('[');
      if (!in_list && open != std::string_view::npos && line.find('=') < open) in_list = true;
      if (in_list && line.substr(0, line.find('#')).find(']') != std::string_view::npos) in_list = false;
    }
    if (in_list) error(number, "a list that begins with [ does not end; allowed: [\"a\", \"b\"]");
    return problems_.errors.size() == before;
  }

  void check_line(std::size_t number, std::string_view line) {
    if (line.front() == '[') {
      error(number, sluice::quoted(line) + " begins a section; allowed: key = value lines without sections");
      return;
    }
    const std::size_t equals = line.find('=');
    if (equals == std::string_view::npos) {
      error(number, sluice::quoted(line) + " is not a setting; allowed: key = value");
      return;
    }
    // CLI11 would join the values of both.
    const std::string_view key = trimmed(line.substr(0, equals));
    if (!keys_.insert(key).second) error(number, sluice::quoted(key) + " is given more than once; allowed: once");
    const std::string_view value = trimmed(line.substr(equals + 1));
    if (value.empty()) {
      error(number, sluice::quoted(line) + " has no value; allowed: key = value, with \"\" for an empty one");
      return;
    }
    const char quote = value.front();
    if ((quote == '"' || quote == '\'') && value.find(quote, 1) == std::string_view::npos) {
      error(number, sluice::quoted(line) + " has a quote that does not end; allowed: key = \"value\"");
    }
  }

  void take(CLI::ConfigItem& item) {
    // CLI11 marks sections with items of its own.
    if (item.name == "++" || item.name == "--") return;
    const std::size_t line = line_of(lines_, item.name);
    const std::string where = name_ + ":" + std::to_string(line) + ": " + item.name;
    const OptionSpec* option = find_option(item.name);
    if (option == nullptr) {
      const auto near = nearest(item.name, option_names());
      problems_.errors.push_back(
          {name_ + ":" + std::to_string(line),
           sluice::quoted(item.name) + " is no option" + (near ? "; did you mean " + std::string(*near) + "?" : "")});
      return;
    }
    std::vector<RawValue>& values = raw_[item.name];
    values.reserve(values.size() + item.inputs.size());
    if (item.inputs.empty()) values.push_back({"", {Source::file, where}});
    for (std::string& input : item.inputs) values.push_back({std::move(input), {Source::file, where}});
  }

  std::vector<std::string_view> lines_;
  std::string name_;
  RawConfig& raw_;
  Problems& problems_;
  std::set<std::string_view> keys_;
};

}  // namespace

void read_config_text(const std::string& text, const std::string& name, RawConfig& raw, Problems& problems) {
  FileReader(text, name, raw, problems).read(text);
}

void read_config_file(const std::string& path, const std::string& said_by, RawConfig& raw, Problems& problems) {
  const auto text = contents_of(path, said_by, "a readable TOML file", problems);
  if (text) read_config_text(*text, path, raw, problems);
}

}  // namespace sluice::cli
