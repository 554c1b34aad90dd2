#pragma once

// The life of a transaction (C2 to C7, C9): what each command may do to a CkptRun. Knows neither
// keys nor replies; a failed call leaves the CkptRun as it was. Pure but for the pool's memory;
// executor.
//
//                    Put, Refer, SetState                  Commit (ckpt_commit.h): one swap
//   Begin --> [ open ] --Prepare--> [ preparing ] ----------------------------------> version
//                |  Sweep: no progress for TIMEOUT     |
//                +-----------------------------------> | [ expired ] --+ Sweep: 60 s later;
//                |  Begin of a higher attempt          |               | Begin: 64 others
//                +-----------------------------------> | [ fenced ]  --+---------> forgotten
//                |  Abort                              |
//                +-----------------------------------> aborted, remembered by name
//
// Expired and fenced ones keep their chunks for a grace, so that the next attempt finds them by
// hash.

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tensor_module/ckpt_model.h"

namespace cairn::tensor {

/// When a change happens. `replayed`: it comes from a log and has been judged already: limits and
/// clocks are not asked.
struct Moment {
  int64_t now_ms = 0;
  bool replayed = false;
};

struct BeginRequest {
  uint64_t step = 0;
  uint32_t rank = 0;
  uint32_t world = 0;  ///< 0: the run's, or 1
  uint64_t attempt = 0;
  std::optional<uint64_t> parent;
  std::optional<int64_t> timeout_ms;
  bool coverage = false;
  std::string new_id;               ///< for a transaction that does not exist yet
  std::optional<int64_t> began_ms;  ///< when it was begun, if not now: deadlines count from now
};

/// Transactions that were loaded from a file begin to count. True: there were some.
bool ArmDeadlines(CkptRun* run, Moment moment);
/// The transactions that the clock has ended now, and those whose grace is over.
struct Swept {
  std::vector<std::string> expired;
  std::vector<std::string> forgotten;
  bool armed = false;  ///< a transaction from a file has got its deadline
};
Swept Sweep(CkptRun* run, Moment moment);

struct Begun {
  std::string id;
  bool is_new = false;
};
/// A new transaction, the one that is open for this step, attempt and world, or the one that
/// committed it (C5). Errors: CKPTWORLD, CKPTFENCED, CKPTBUSY, also for more than
/// kMaxOpenTransactions. CKPTABORTED, which alone changes the run, and only its rolls: the last
/// transaction of this step, attempt and world was aborted before this rank had come to it. Those
/// who had will not come to another, so it is told, once, and does not wait for them.
Result<Begun> Begin(CkptRun* run, const BeginRequest& request, Moment moment);

/// The live transaction. Errors: CKPTNOTX, CKPTABORTED, CKPTTIMEOUT, CKPTFENCED.
Result<const Transaction*> FindLive(const CkptRun& run, std::string_view tx);
/// The version that the transaction became, or nullptr.
const Version* FindCommitted(const CkptRun& run, std::string_view tx);
/// Errors: CKPTBUSY, a transaction of that name has not been forgotten.
Status CheckNotThere(const CkptRun& run, std::string_view tx);
const RankPart* FindRank(const Transaction& transaction, uint32_t rank);
/// The shard's place in the part. Errors: not declared.
Result<size_t> FindShard(const RankPart& part, std::string_view name, uint32_t index);

/// Chunks that are finite when they are read as the dtype.
using KnownFinite = std::set<std::pair<const Chunk*, DType>>;
using TypedChunk = std::pair<ChunkRef, DType>;
/// What GUARD FINITE has to look at of a part, each once: chunks that were met as another dtype
/// first, or are not finite as what they were met as.
std::vector<TypedChunk> UnjudgedChunks(const RankPart& part);
/// Those of them that are finite and intact. Cost: a pass over them. Thread: any.
KnownFinite FindFinite(const std::vector<TypedChunk>& chunks);
/// Whether there is room for bytes that a declaration adds to what is promised.
using AskForRoom = std::function<Status(uint64_t added_bytes)>;
/// Adds what is new of `specs`; what was declared before must be the same (C5). `ask`: before
/// anything is allocated for shards, which takes memory too. Errors: those of FindLive, CKPTWORLD,
/// CKPTDIVERGED, too many shards, and what `ask` says.
Status Declare(CkptRun* run, std::string_view tx, uint32_t rank, std::vector<ShardSpec> specs,
               Moment moment, const AskForRoom& ask = nullptr);
/// A shard's place in its rank's part, and what its data becomes.
struct FilledShard {
  size_t shard = 0;
  ShardData data;
};
/// Puts each `data` in place of the shard's. Requires: made from the data that is there.
Status StoreShards(CkptRun* run, std::string_view tx, uint32_t rank,
                   std::vector<FilledShard> filled, Moment moment);
/// The same for one.
Status StoreShard(CkptRun* run, std::string_view tx, uint32_t rank, size_t shard, ShardData data,
                  Moment moment);
/// Errors: those of FindLive, CKPTWORLD, CKPTDIVERGED.
Status SetState(CkptRun* run, std::string_view tx, uint32_t rank, StateBlob blob, Moment moment);
/// C3. `voted_ms`: when the vote was given, if not now. Errors: those of FindLive, CKPTWORLD,
/// CKPTINCOMPLETE, CKPTNOTFINITE.
Status Prepare(CkptRun* run, std::string_view tx, uint32_t rank, bool guard_finite, Moment moment,
               std::optional<int64_t> voted_ms = std::nullopt, const KnownFinite& known = {});
/// Errors: those of FindLive; already committed.
Status Abort(CkptRun* run, std::string_view tx, std::string_view reason, Moment moment);
/// What a log says that Sweep did, and when: a live transaction expires, one that is over is
/// forgotten. Errors: those of FindLive when there is neither.
Status EndByClock(CkptRun* run, std::string_view tx, Moment moment,
                  std::optional<int64_t> at_ms = std::nullopt);

/// First byte missing.
uint64_t NextOffset(const ShardSpec& spec, const ShardData& data);

}  // namespace cairn::tensor
