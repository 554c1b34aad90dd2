#pragma once

// RunEdit: one change of a run by one command: opens the value, sweeps what the clock has ended,
// stores what became of it, and sees to it that the append-only file gets the certain form. For the
// CKPT command files. Thread: executor.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tensor_module/ckpt_args.h"
#include "tensor_module/module.h"

namespace cairn::tensor {

/// The key of a CKPT command is its run, at argument 1.
inline constexpr CairnKeySpec kRunRw = {CAIRN_KEYS_RANGE, 1, 0, 1, CAIRN_KEY_RW};
inline constexpr CairnKeySpec kRunRo = {CAIRN_KEYS_RANGE, 1, 0, 1, CAIRN_KEY_RO};

class RunEdit {
 public:
  RunEdit() = default;  ///< for Result alone
  /// A copy of the run under the command's key, swept; what has expired is stored at once.
  /// `create`: a missing key is an empty run. Errors: WRONGTYPE, no such run.
  static Result<RunEdit> Open(CommandRun& command, bool create = false);

  CkptRun run;
  bool existed = false;
  size_t ended_by_clock = 0;  ///< transactions that Open found expired, or forgot

  /// Whether this command may change the transaction, if it is live. Errors: CKPTBUSY for an
  /// import's, but not to what a log or a primary says.
  Status CheckOpenTo(std::string_view tx) const;

  Moment moment() const { return {command_->now_ms(), command_->is_loading()}; }
  /// The same, but for when: what a log tells of happened at the time that it has (AT).
  Moment MomentAt(const std::optional<int64_t>& at_ms) const {
    return {at_ms.value_or(command_->now_ms()), command_->is_loading()};
  }
  /// Stores `run` and logs the command as it was sent. `event` is the keyspace event.
  void Store(const char* event);
  /// The same, logged as `args` in place of what was sent.
  void StoreAs(const char* event, const std::vector<std::string_view>& args);
  /// The same, logged as it was sent with the time that MomentAt said.
  void StoreWithTime(const char* event, const std::optional<int64_t>& at_ms);
  /// Tells who subscribes to the run ("event step text" on __ckpt__:<run>) and asks those who wait
  /// for it again: pieces that arrive are not told, so that a COMMIT that waits is not asked for
  /// each.
  void Tell(std::string_view event, uint64_t step, std::string_view text);
  /// Tells of the version of `step` and of those that it left no room for.
  void TellCommitted(uint64_t step, std::string_view tx, const std::vector<uint64_t>& gone);

 private:
  explicit RunEdit(CommandRun& command) : command_(&command) {}
  CommandRun* command_ = nullptr;
  bool logged_ = false;  // something else than the command as sent
};

/// CommandRun::CheckMemory and ClaimMemory as CKPT commands tell of them. Errors: CKPTQUOTA.
Status CheckQuota(const CommandRun& command, uint64_t size_bytes, uint64_t promised_bytes);
Status ClaimQuota(CommandRun& command, uint64_t size_bytes);
/// The argument list with more words behind it.
std::vector<std::string_view> With(Args args, std::initializer_list<std::string_view> more);
/// Sixteen hexadecimal digits.
std::string NewTransactionId(Module& module);
/// The bytes of a blob argument cut into whole chunks from their first byte.
std::vector<size_t> PieceSizes(uint64_t size_bytes);

}  // namespace cairn::tensor
