// How netfilter/ fails: one exception type. The other kinds of failure are values (Problem) and std::logic_error.
#pragma once

#include <string>
#include <system_error>

namespace sluice::netfilter {

/// The system refused a step. what() reads `add chain inbound: Operation not supported (kernel: ...)`.
class KernelError : public std::system_error {
 public:
  enum class Kind {
    refused,            ///< exit status 1
    missing_privilege,  ///< exit status 4
    missing_feature,    ///< exit status 4: this kernel cannot do it
  };
  /// What a run that failed leaves behind.
  enum class Left {
    as_it_was,
    as_wanted,  ///< what was to be done is done, but something after that failed
    both,       ///< what was to be done is done, but what it should have replaced may be there, too
    unknown,    ///< the one or the other: it could not be looked at
    in_between  ///< of the old tables of iptables: some commits were made, and could not be taken back
  };

  /// `error` is a positive errno; `kernel_text` is the extended ACK's message, possibly empty; `remedy` says what to
  /// do.
  KernelError(int error, const std::string& step, const std::string& kernel_text = {}, std::string remedy = {});
  /// The same where the errno alone does not tell the kind: nf_tables answers ENOENT for an expression it lacks.
  KernelError(Kind kind, int error, const std::string& step, const std::string& kernel_text, std::string remedy);

  [[nodiscard]] Kind kind() const { return kind_; }
  [[nodiscard]] const std::string& remedy() const { return remedy_; }
  [[nodiscard]] Left left() const { return left_; }
  /// The same error, with that said.
  [[nodiscard]] KernelError leaving(Left left) const {
    KernelError error = *this;
    error.left_ = left;
    return error;
  }
  /// The same error, with more to do.
  [[nodiscard]] KernelError advising(const std::string& more) const {
    KernelError error = *this;
    error.remedy_ += (error.remedy_.empty() ? "" : "; ") + more;
    return error;
  }

 private:
  Kind kind_;
  Left left_ = Left::as_it_was;
  std::string remedy_;
};

}  // namespace sluice::netfilter
