#include "cli/failure.hpp"

namespace sluice::cli {
namespace {

using netfilter::KernelError;

std::string left_behind(KernelError::Left left, const std::string& done) {
  switch (left) {
    case KernelError::Left::as_it_was:
      return "nothing was changed";
    case KernelError::Left::as_wanted:
      return done;
    case KernelError::Left::both:
      return done + ", and those of before may be there, too: run sluice again";
    case KernelError::Left::unknown:
      return "whether that was done before cannot be seen: look with sluice status, or run sluice again";
    case KernelError::Left::in_between:
      return "the rules of before could not be put back: run sluice again, or sluice cleanup";
  }
  return {};
}

ExitCode explain(const std::string& what, const KernelError& error, const Log& log) {
  log.error(what);
  if (!error.remedy().empty()) log.hint(error.remedy());
  return error.kind() == KernelError::Kind::refused ? ExitCode::refused : ExitCode::unsupported;
}

}  // namespace

ExitCode report_failure(const KernelError& error, const Log& log) { return explain(error.what(), error, log); }

ExitCode changing(const Log& log, const std::string& done, const std::function<ExitCode()>& change) {
  try {
    return change();
  } catch (const KernelError& error) {
    return explain(std::string(error.what()) + "; " + left_behind(error.left(), done), error, log);
  }
}

}  // namespace sluice::cli
