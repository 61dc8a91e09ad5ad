#include "netfilter/errors.hpp"

#include <cerrno>

namespace sluice::netfilter {
namespace {

KernelError::Kind kind_of(int error) {
  switch (error) {
    case EPERM:
    case EACCES:
      return KernelError::Kind::missing_privilege;
    case EOPNOTSUPP:
    case EPROTONOSUPPORT:
    case EAFNOSUPPORT:
    case ENOSYS:
    case ENOPROTOOPT:
      return KernelError::Kind::missing_feature;
    default:
      return KernelError::Kind::refused;
  }
}

std::string described(const std::string& step, const std::string& kernel_text) {
  return kernel_text.empty() ? step : step + " (kernel: " + kernel_text + ")";
}

}  // namespace

KernelError::KernelError(int error, const std::string& step, const std::string& kernel_text, std::string remedy)
    : KernelError(kind_of(error), error, step, kernel_text, std::move(remedy)) {}

KernelError::KernelError(Kind kind, int error, const std::string& step, const std::string& kernel_text,
                         std::string remedy)
    : std::system_error(error, std::generic_category(), described(step, kernel_text)),
      kind_(kind),
      remedy_(std::move(remedy)) {}

}  // namespace sluice::netfilter
