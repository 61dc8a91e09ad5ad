// Starting a program of somebody else's: no shell, its own arguments, its input and output in memory.
#pragma once

#include <string>
#include <vector>

namespace sluice::netfilter {

struct HelperResult {
  int status = 0;  ///< its exit status, or 128 and the signal that ended it
  std::string output;
  std::string errors;
};

/// Whether there is such a program where run_helper() looks.
bool helper_is_installed(const std::string& name);

/// Runs `name`, found in PATH or where distributions put administrators' programs, in the calling thread's network
/// namespace. Throws KernelError: missing_feature where there is no such program, missing_privilege where it could not
/// do its work.
HelperResult run_helper(const std::string& name, const std::vector<std::string>& arguments, const std::string& input);

}  // namespace sluice::netfilter
