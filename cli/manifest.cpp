// manifest prints the init container that runs sluice with the options given to manifest: a part of a pod's spec, or,
// with --patch, a patch of an object that has a pod template (Deployment, StatefulSet, DaemonSet, Job). As YAML, or,
// with
// --format json and for JSON patches, as JSON.

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/commands.hpp"
#include "cli/output.hpp"
#include "cli/yaml.hpp"
#include "rules/options.hpp"
#include "rules/text.hpp"

namespace sluice::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* volume_name = "sluice-podinfo";
constexpr const char* pod_spec = "/spec/template/spec";

/// The kubelet puts variables in place of $(NAME), and one dollar in place of two.
std::string without_expansion(std::string_view text) {
  std::string safe;
  for (const char c : text) safe += c == '$' ? std::string("$$") : std::string(1, c);
  return safe;
}

bool is_utf8(const std::string& text) {
  try {
    static_cast<void>(Json(text).dump());
    return true;
  } catch (const Json::type_error&) {
    return false;
  }
}

/// What becomes the container's flags: all that its author said, but for what was said to manifest itself.
RawConfig written_down(const RawConfig& said) {
  RawConfig kept;
  for (const auto& [name, values] : said) {
    if (find_option(name)->command == "manifest" || name == "format") continue;
    for (const RawValue& value : values) {
      if (value.origin.source == Source::flag || value.origin.source == Source::file) kept[name].push_back(value);
    }
    // A flag that stands before a file's key replaces it there as here.
    if (const auto found = kept.find(name); found != kept.end()) found->second = effective_values(kept, name);
  }
  return kept;
}

/// `--name=value`, so that no value can be taken for a flag; in the order of the help text.
std::vector<std::string> arguments(const RawConfig& written) {
  std::vector<std::string> arguments;
  for (const OptionSpec& option : options()) {
    const auto found = written.find(option.name);
    if (found == written.end()) continue;
    const std::string flag = flag_name(option.name);
    for (const RawValue& value : found->second) {
      const bool plain_flag = option.arity == Arity::flag && value.text == "true";
      arguments.push_back(plain_flag ? flag : flag + "=" + without_expansion(value.text));
    }
  }
  return arguments;
}

/// Where the file with the annotations is in the container.
struct Mount {
  std::string folder;
  std::string file;
};

std::optional<Mount> mount_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  if (path.empty() || path.front() != '/' || slash == 0) return std::nullopt;
  Mount mount{path.substr(0, slash), path.substr(slash + 1)};
  const auto upward = [](std::string_view part) { return part.empty() || part == "." || part.substr(0, 2) == ".."; };
  const auto parts = split(std::string_view(mount.folder).substr(1), '/');
  if (upward(mount.file) || std::any_of(parts.begin(), parts.end(), upward)) return std::nullopt;
  // A colon separates the parts of a mount in what container runtimes read.
  if (mount.folder.find(':') != std::string::npos) return std::nullopt;
  return mount;
}

/// No more than what programming a network namespace takes.
Json security_context() {
  return {{"allowPrivilegeEscalation", false},
          {"capabilities", {{"drop", {"ALL"}}, {"add", {"NET_ADMIN"}}}},
          {"privileged", false},
          {"readOnlyRootFilesystem", true},
          {"runAsNonRoot", false},
          {"runAsUser", 0},
          {"runAsGroup", 0},
          {"seccompProfile", {{"type", "RuntimeDefault"}}}};
}

Json init_container(const Settings& settings, const std::vector<std::string>& arguments,
                    const std::optional<Mount>& annotations) {
  const ManifestWish& wish = settings.manifest;
  Json container = {{"name", wish.container}, {"image", wish.image.empty() ? "sluice:" SLUICE_VERSION : wish.image}};
  if (!arguments.empty()) container["args"] = arguments;
  if (!wish.env_from.empty()) {
    container["envFrom"] = Json::array({{{"configMapRef", {{"name", wish.env_from}}}}});
  }
  container["securityContext"] = security_context();
  container["resources"] = {{"requests", {{"cpu", "10m"}, {"memory", "16Mi"}}},
                            {"limits", {{"cpu", "500m"}, {"memory", "64Mi"}}}};
  // What sluice says on standard error is what `kubectl describe pod` then shows.
  container["terminationMessagePolicy"] = "FallbackToLogsOnError";
  if (annotations) {
    container["volumeMounts"] =
        Json::array({{{"name", volume_name}, {"mountPath", annotations->folder}, {"readOnly", true}}});
  }
  return container;
}

Json annotations_volume(const Mount& mount) {
  const Json item = {{"path", mount.file}, {"fieldRef", {{"fieldPath", "metadata.annotations"}}}};
  return {{"name", volume_name}, {"downwardAPI", {{"items", Json::array({item})}}}};
}

/// A list that is there already must not be replaced, and JSON Patch knows no "where it is missing": so one patch makes
/// the list and is refused where there is one, and another adds to it and is refused where there is none.
void add_to_list(Json& patch, const std::string& path, const Json& element, bool append) {
  if (append) {
    patch.push_back({{"op", "add"}, {"path", path + "/-"}, {"value", element}});
    return;
  }
  patch.push_back({{"op", "test"}, {"path", path}, {"value", nullptr}});
  patch.push_back({{"op", "add"}, {"path", path}, {"value", Json::array({element})}});
}

Json document(PatchKind kind, const Json& container, const std::optional<Mount>& annotations) {
  Json part = {{"initContainers", Json::array({container})}};
  if (annotations) part["volumes"] = Json::array({annotations_volume(*annotations)});
  switch (kind) {
    case PatchKind::none:
      return part;
    case PatchKind::strategic:
      return {{"spec", {{"template", {{"spec", part}}}}}};
    case PatchKind::json:
    case PatchKind::json_append:
      break;
  }
  Json patch = Json::array();
  for (const auto& [list, elements] : part.items()) {
    add_to_list(patch, std::string(pod_spec) + "/" + list, elements.front(), kind == PatchKind::json_append);
  }
  return patch;
}

/// What would be no init container that captures anything, or none that Kubernetes takes.
bool is_sound(const RawConfig& written, const std::optional<Mount>& annotations, const Log& log) {
  bool sound = true;
  const auto refuse = [&](const std::string& where, const std::string& why) {
    log.error(where + ": " + why);
    sound = false;
  };
  for (const auto& [name, values] : written) {
    for (const RawValue& value : values) {
      if (name == "dry-run" || name == "cleanup" || name == "diff") {
        refuse(value.origin.where, "would make a container that captures nothing; allowed: leave it out");
      }
      if (!is_utf8(value.text)) {
        refuse(value.origin.where,
               sluice::quoted(value.text) + " is not UTF-8, so no manifest can say it; allowed: UTF-8");
      }
    }
  }
  if (const auto path = written.find("annotations"); path != written.end() && !annotations) {
    refuse(path->second.front().origin.where,
           sluice::quoted(path->second.front().text) +
               " is no place for a volume; allowed: the absolute path of a file in a folder of its own, such as "
               "/etc/podinfo/annotations");
  }
  return sound;
}

/// sluice's own image has no /etc/passwd, whatever the machine has that this runs on.
void warn_of_names(const RawConfig& written, const Log& log) {
  const Lookups nobody{[](std::string_view) { return std::nullopt; }, [](std::string_view) { return std::nullopt; },
                       [] { return std::vector<IpAddress>{}; }};
  for (const Problem& problem : validate(written, nobody).problems.errors) {
    log.warning("in a container without /etc/passwd and /etc/group, as sluice's image is one: " + to_text(problem));
  }
}

}  // namespace

ExitCode manifest(const Config& config, const Log& log) {
  const RawConfig written = written_down(config.said());
  const auto annotations = mount_of(config->annotations);
  if (!is_sound(written, annotations, log)) return ExitCode::bad_input;
  warn_of_names(written, log);

  const PatchKind kind = config->manifest.patch;
  const Json container = init_container(*config, arguments(written), annotations);
  const Json printed = document(kind, container, annotations);
  const bool json_patch = kind == PatchKind::json || kind == PatchKind::json_append;
  const OutputFormat usual = json_patch ? OutputFormat::json : OutputFormat::yaml;
  print(config->format.value_or(usual) == OutputFormat::json ? printed.dump(2) + "\n" : to_yaml(printed));
  return ExitCode::done;
}

}  // namespace sluice::cli
