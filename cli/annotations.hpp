// The pod's annotations, as the kubelet writes them into a file of a downward API volume: key="value" lines, each value
// quoted as Go's strconv.Quote quotes (pkg/fieldpath/fieldpath.go: FormatMap).
//
//   sluice.dev/OPTION                       any option that is not about one run
//   traffic.sidecar.istio.io/KEY            Istio's settings, with the meaning that they have there
//
// Everything else in the file is somebody else's and means nothing here.
#pragma once

#include <string>

#include "rules/config.hpp"

namespace sluice::cli {

/// Adds what the file at `path` says to `raw`; `said_by` is the flag or variable that named the file.
void read_annotations_file(const std::string& path, const std::string& said_by, RawConfig& raw, Problems& problems);

/// The same for a text, as if it stood in a file called `name`.
void read_annotations_text(const std::string& text, const std::string& name, RawConfig& raw, Problems& problems);

}  // namespace sluice::cli
