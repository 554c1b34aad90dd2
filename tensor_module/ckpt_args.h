#pragma once

// The arguments of the CKPT commands, as args.h does it for TENSOR: words, numbers, bounds,
// overflow. Views borrow the arguments. Pure; any thread. `AT ms`, `TX id` and `EXPIRED` are what
// the append-only file adds to a command: what the first run chose or read from a clock. `LOGGED`
// stands in the file alone too: chunks of the chunk log (ckpt_naming.h).

#include <optional>
#include <string_view>
#include <vector>

#include "tensor_module/args.h"
#include "tensor_module/ckpt_commit.h"

namespace cairn::tensor {

/// Most hashes of one HAVE or REF, names of one MLOAD, tensors of one DECLARE or SAVE.
inline constexpr uint64_t kMaxListed = 1 << 20;

struct BeginTxArgs {
  BeginRequest request;
  std::optional<std::string_view> parent;  ///< PARENT; "NONE" in any case: none
  std::string_view tx;
  std::optional<int64_t> at_ms;
};
struct DeclareArgs {
  uint32_t rank = 0;
  std::vector<ShardSpec> specs;
};
struct PutArgs {
  uint32_t rank = 0;
  std::string_view name;
  uint32_t shard = 0;
  uint64_t offset = 0;
  size_t blob_at = 0;
  std::optional<Hash128> hash;
};
struct ReferArgs {
  uint32_t rank = 0;
  std::string_view name;
  uint32_t shard = 0;
  uint64_t offset = 0;
  std::vector<Hash128> hashes;
  bool logged = false;
};
struct StateArgs {
  uint32_t rank = 0;
  std::string_view name;
  StateKind kind = StateKind::kUser;
  std::vector<Hash128> logged;  ///< whole chunks ahead of the blob
  size_t blob_at = 0;
};
struct OffsetArgs {
  uint32_t rank = 0;
  std::optional<std::string_view> name;
  uint32_t shard = 0;
};
struct RankArgs {
  uint32_t rank = 0;
  bool guard_finite = false;        ///< PREPARE
  std::optional<int64_t> at_ms;     ///< PREPARE
  std::optional<uint64_t> attempt;  ///< RESUME
};
struct CommitArgs {
  std::optional<Durable> durable;
  int64_t wait_ms = 0;
  std::string_view tag;
  std::optional<int64_t> at_ms;
};
struct AbortArgs {
  std::string_view reason;
  bool expired = false;
  std::optional<int64_t> at_ms;
};
struct SavedTensor {
  std::string_view name;
  TensorHead head;
  std::vector<Hash128> logged;  ///< whole chunks ahead of the blob
  size_t blob_at = 0;
};
struct SaveArgs {
  uint64_t step = 0;
  std::vector<SavedTensor> tensors;
  std::string_view tag;
  std::string_view tx;
  std::optional<int64_t> at_ms;
};
struct LoadArgs {
  std::vector<std::string_view> names;
  std::optional<std::vector<SliceWords>> slice;
  std::optional<ByteRange> range;
  std::optional<DType> as;
};
struct PlanArgs {
  uint32_t world = 1;
  uint32_t rank = 0;
  std::optional<uint64_t> dim;
};
struct StateGetArgs {
  uint32_t rank = 0;
  std::optional<StateKind> kind;
};
struct TagArgs {
  bool pin = false;
  std::optional<std::string_view> if_version;
};
struct RetainArgs {
  RetainRule rule;
  bool dry_run = false;
};
struct WaitArgs {
  uint64_t after = 0;
  int64_t timeout_ms = 0;
};

enum class FileFormat : uint8_t { kSafetensors, kPt };

// Each errors with a client's line. `args` is the whole command, its arity checked.
Result<RunConfig> ParseCreate(Args args);
Result<BeginTxArgs> ParseBeginTx(Args args);
Result<DeclareArgs> ParseDeclare(Args args);
Result<PutArgs> ParsePut(Args args);
Result<ReferArgs> ParseRefer(Args args);
Result<std::vector<Hash128>> ParseHave(Args args);
Result<StateArgs> ParseState(Args args);
Result<OffsetArgs> ParseOffset(Args args);
/// PREPARE run tx RANK r [GUARD FINITE]
Result<RankArgs> ParsePrepare(Args args);
/// RESUME run RANK r [ATTEMPT a]
Result<RankArgs> ParseResume(Args args);
Result<CommitArgs> ParseCommit(Args args);
Result<AbortArgs> ParseAbort(Args args);
Result<SaveArgs> ParseSave(Args args);
/// LOAD run ver name .. and MLOAD run ver n name ..
Result<LoadArgs> ParseLoad(Args args);
Result<LoadArgs> ParseMLoad(Args args);
Result<PlanArgs> ParsePlan(Args args);
Result<StateGetArgs> ParseStateGet(Args args);
Result<TagArgs> ParseTag(Args args);
Result<RetainArgs> ParseRetain(Args args);
Result<WaitArgs> ParseWaitFor(Args args);
/// [AT ms] behind `from` arguments.
Result<std::optional<int64_t>> ParseAt(Args args, size_t from);
/// [LIMIT n] behind `from` arguments; kMaxListed when not given.
Result<uint64_t> ParseLimit(Args args, size_t from);
/// [MATCH glob] behind `from` arguments; "*" when not given.
Result<std::string_view> ParseMatch(Args args, size_t from);
/// FORMAT safetensors|pt <word> file, which are the arguments from `from` on; the file is the last.
Result<FileFormat> ParseFormat(Args args, size_t from, std::string_view word);

}  // namespace cairn::tensor
