#pragma once

// CkptRun: the value behind a key of type ckptrun, as plain data: its settings, committed versions,
// open transactions, tags and history. ckpt_machine.h and ckpt_commit.h say how it may change; a
// command copies the CkptRun, changes the copy and stores it as a new frozen value, which shares
// all parts that were not touched (kept.h). Times are Unix milliseconds and never decide an order.

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tensor_module/ckpt_promise.h"
#include "tensor_module/ckpt_tensor.h"
#include "tensor_module/shared_list.h"

namespace cairn::tensor {

inline constexpr uint32_t kMaxWorld = 65536;
inline constexpr size_t kMaxShardsPerRank = 1 << 20;
inline constexpr size_t kMaxNameBytes = 1024;
inline constexpr size_t kMaxRequiredGroups = 64;
inline constexpr uint32_t kMaxOpenTransactions = 64;
inline constexpr size_t kMaxTags = 1024;
/// Ended transactions and lines of history that are remembered.
inline constexpr size_t kMaxEnded = 256;
inline constexpr size_t kMaxLogLines = 256;
inline constexpr size_t kMaxReasonBytes = 256;
inline constexpr int64_t kDefaultTimeoutMs = 10 * 60 * 1000;
inline constexpr int64_t kMaxTimeoutMs = int64_t{366} * 24 * 3600 * 1000;
/// What a command may say that the time is; a file may hold twice that, with what is added to it.
inline constexpr int64_t kMaxTimeMs = int64_t{1} << 61;
/// How long the chunks of an expired or fenced transaction can still be found by hash (C9).
inline constexpr int64_t kGraceMs = 60 * 1000;

enum class Durable : uint8_t { kMem = 0, kAof = 1, kDisk = 2 };
std::string_view DurableName(Durable durable);

enum class StateKind : uint8_t {
  kOptim = 0,
  kSched = 1,
  kRng = 2,
  kLoader = 3,
  kTrainer = 4,
  kUser = 5
};
inline constexpr size_t kStateKinds = 6;
std::string_view StateKindName(StateKind kind);

struct RunConfig {
  uint32_t world = 0;                ///< 0: what BEGIN says
  std::vector<std::string> require;  ///< groups without which there is no checkpoint (C1)
  int64_t timeout_ms = kDefaultTimeoutMs;
  uint32_t max_concurrent = 4;
  int64_t min_pause_ms = 0;
  uint64_t keep = 0;  ///< versions that stay after a commit; 0: all
  Durable durable = Durable::kMem;
  friend bool operator==(const RunConfig&, const RunConfig&) = default;
};

/// Opaque bytes of one rank.
struct StateBlob {
  StateKind kind = StateKind::kUser;
  std::string name;
  uint64_t size_bytes = 0;
  std::vector<ChunkRef> chunks;
};

/// Names that prepared ranks have brought, numbered in the order they came in. Frozen; a vote that
/// brings new names makes another one with the same numbers for the old ones.
struct NameTable {
  std::vector<Kept<ShardSpec>> heads;  ///< one of each name
  std::unordered_map<std::string_view, uint32_t> ids;
};

/// Where a box lies along the one axis that it does not span.
struct Cut {
  static constexpr uint32_t kWhole = UINT32_MAX, kEmpty = UINT32_MAX - 1, kSeveral = UINT32_MAX - 2;
  uint64_t begin = 0, end = 0;  ///< along the axis; kSeveral: in Ballot::several
  uint32_t axis = kEmpty;
};

/// What a COMMIT needs of a prepared rank, in few cache lines: for each shard its name's number,
/// its cut and what the version gets. Made by PREPARE; a part loaded from a file has none.
struct Ballot {
  std::vector<uint32_t> ids;
  std::vector<Cut> cuts;
  std::vector<Cut> several;  ///< of boxes that several axes are cut for, ascending by axis
  std::vector<Kept<StoredShard>> stored;  ///< empty handles for aliases
  uint64_t size_bytes = 0;                ///< of the shards
};

/// What one rank has in a transaction. specs and data go together, sorted by name and index.
struct RankPart {
  uint32_t rank = 0;
  bool prepared = false;
  SharedList<Kept<ShardSpec>> specs;
  SharedList<Kept<ShardData>> data;
  std::vector<Kept<StateBlob>> states;
  Kept<Ballot> ballot;  ///< of a prepared part, or none

  void SetShards(std::vector<Kept<ShardSpec>> new_specs, std::vector<Kept<ShardData>> new_data);
  void SetData(size_t shard, ShardData new_data);
};

/// A transaction that IMPORT fills by itself: no rank joins it, or may do anything to it but ABORT.
/// Its name says so, in files and on replicas too.
inline constexpr std::string_view kImportPrefix = "import-";
inline bool IsImport(std::string_view tx) { return tx.starts_with(kImportPrefix); }

enum class TxState : uint8_t { kOpen = 0, kPreparing = 1, kExpired = 2, kFenced = 3 };
std::string_view TxStateName(TxState state);

/// Which ranks know of a transaction: they began it, sent to it, or were told that it was aborted.
/// Not in files: who comes late to one that a restart or a failover has passed is told nothing.
struct Roll {
  uint64_t attempt = 0;
  uint32_t world = 1;
  int64_t told_until_ms = 0;  ///< of an aborted one
  std::vector<bool> knows;    ///< by rank
};

struct Transaction {
  std::string id;
  uint64_t step = 0;
  uint64_t attempt = 0;
  uint32_t world = 1;
  std::optional<uint64_t> parent;  ///< step
  bool coverage = false;  ///< commits when all is covered, else with the votes of all ranks
  TxState state = TxState::kOpen;
  int64_t timeout_ms = kDefaultTimeoutMs;  ///< without progress
  int64_t deadline_ms = 0;  ///< 0: counts from the next look at it (loaded from a file)
  int64_t began_ms = 0;
  int64_t first_prepare_ms = 0;
  int64_t last_prepare_ms = 0;
  int64_t free_at_ms = 0;             ///< kExpired, kFenced
  std::vector<Kept<RankPart>> ranks;  ///< ascending
  Kept<NameTable> names;              ///< of all ballots
  Promise promise;                    ///< of all ranks; counts while it is live
  Kept<Roll> roll;                    ///< of one of several ranks that was begun here, or none
  bool live() const { return state == TxState::kOpen || state == TxState::kPreparing; }
};

struct RankSummary {
  uint32_t rank = 0;
  uint64_t shards = 0;
  uint64_t bytes = 0;
};

struct RankState {
  uint32_t rank = 0;
  Kept<StateBlob> blob;
};

/// A committed checkpoint.
struct Version {
  uint64_t step = 0;
  std::string tx;
  uint64_t attempt = 0;
  uint32_t world = 1;
  std::optional<uint64_t> parent;
  int64_t began_ms = 0;
  int64_t first_prepare_ms = 0;
  int64_t last_prepare_ms = 0;
  int64_t committed_ms = 0;
  Durable durable = Durable::kMem;  ///< what COMMIT promised
  std::vector<RankSummary> ranks;
  std::vector<Kept<LogicalTensor>> tensors;  ///< ascending by name
  std::vector<RankState> states;             ///< ascending by rank, kind, name
  /// Bytes of tensors and states, aliases not counted again. Freeze() counts them: LIST tells it of
  /// a thousand versions.
  uint64_t size_bytes = 0;
  /// Of memory, for what is here but chunks. Counted by Freeze() too.
  uint64_t head_bytes = 0;

  const LogicalTensor* Find(std::string_view name) const;
  /// The tensor whose shards hold the bytes of `tensor`: itself, or what it is an alias of.
  const LogicalTensor& Storage(const LogicalTensor& tensor) const;
};

/// The version as a run has it. Requires: the shapes fit kMaxTensorBytes.
Kept<Version> Freeze(Version version);

struct VersionRow {
  Kept<Version> version;
  bool rolled_back = false;  ///< ROLLBACK passed it: never LATEST
};

struct Tag {
  std::string name;
  uint64_t step = 0;
  bool pinned = false;
};

/// A transaction that is over without a version.
struct Ended {
  enum class How : uint8_t { kAborted = 0, kExpired = 1, kFenced = 2 };
  std::string tx;
  uint64_t step = 0;
  How how = How::kAborted;
  std::string reason;
  Kept<Roll> roll;  ///< of an aborted one, or none
};

struct LogLine {
  int64_t at_ms = 0;
  std::string event;
  uint64_t step = 0;
  std::string text;
};

struct CkptRun {
  RunConfig config;
  uint64_t highest_attempt = 0;
  int64_t last_commit_ms = 0;
  std::vector<VersionRow> versions;             ///< ascending by step
  std::vector<Kept<Transaction>> transactions;  ///< in the order of their BEGIN
  std::vector<Tag> tags;                        ///< ascending by name
  /// Both oldest first.
  Kept<std::vector<Ended>> ended = Kept<std::vector<Ended>>::Make({});
  Kept<std::vector<LogLine>> log = Kept<std::vector<LogLine>>::Make({});

  /// The highest step that was not rolled back; nullptr when there is none (C8).
  const Version* Latest() const;
  /// Of `step`, rolled back or not.
  const VersionRow* FindStep(uint64_t step) const;
  const Tag* FindTag(std::string_view name) const;
  /// Of those that are remembered.
  const Ended* FindEnded(std::string_view tx) const;
  /// Calls visit(chunk) for every reference to a chunk; partial cells are not chunks.
  template <typename Visit>
  void ForEachChunk(Visit visit) const;
};

void Remember(CkptRun* run, Ended ended);
void Note(CkptRun* run, int64_t at_ms, std::string_view event, uint64_t step, std::string text);

template <typename Visit>
void CkptRun::ForEachChunk(Visit visit) const {
  for (const VersionRow& row : versions) {
    for (const auto& tensor : row.version->tensors) {
      for (const StoredShard& shard : tensor->shards) {
        for (const ChunkRef& chunk : shard.chunks) visit(*chunk);
      }
    }
    for (const RankState& state : row.version->states) {
      for (const ChunkRef& chunk : state.blob->chunks) visit(*chunk);
    }
  }
  for (const auto& transaction : transactions) {
    for (const auto& part : transaction->ranks) {
      for (const auto& data : part->data) {
        for (const Cell& cell : data->cells()) {
          if (cell.chunk) visit(*cell.chunk);
        }
      }
      for (const auto& state : part->states) {
        for (const ChunkRef& chunk : state->chunks) visit(*chunk);
      }
    }
  }
}

}  // namespace cairn::tensor
