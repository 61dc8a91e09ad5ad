// JSON values as YAML, for people to paste.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace sluice::cli {

/// In block style, lists not indented, as kubectl prints. A string that could be read as anything else, or that holds
/// anything but letters, digits and a few marks, stands in double quotes with everything odd escaped: no text can break
/// out of its place, in YAML 1.1 and 1.2 alike. Strings must be UTF-8.
std::string to_yaml(const nlohmann::ordered_json& value);

}  // namespace sluice::cli
