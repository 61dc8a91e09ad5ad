// Where an option was said, for messages about combinations of options.
#pragma once

#include <string>
#include <string_view>

#include "rules/config.hpp"
#include "rules/options.hpp"

namespace sluice {

class Said {
 public:
  /// `raw` holds what flags, environment, file and preset say, and outlives this.
  explicit Said(const RawConfig& raw) : raw_(raw) {}

  /// By flag, annotation, variable or file: not merely by default or preset.
  [[nodiscard]] bool explicitly(std::string_view option) const {
    const RawValue* value = strongest(option);
    return value != nullptr && value->origin.source < Source::preset;
  }

  /// As the user would look for it; the flag where nobody said anything.
  [[nodiscard]] std::string where(std::string_view option) const {
    const RawValue* value = strongest(option);
    return value != nullptr ? value->origin.where : flag_name(option);
  }

 private:
  [[nodiscard]] const RawValue* strongest(std::string_view option) const {
    const RawValue* found = nullptr;
    if (const auto values = raw_.find(option); values != raw_.end()) {
      for (const RawValue& value : values->second) {
        if (found == nullptr || value.origin.source < found->origin.source) found = &value;
      }
    }
    return found;
  }

  const RawConfig& raw_;
};

}  // namespace sluice
