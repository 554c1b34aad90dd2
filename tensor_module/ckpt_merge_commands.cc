// CKPT.MERGE: a version made of others. The first half makes its tensors on a worker; the second
// commits them if the versions are still what they were. The log names steps in place of tags and
// LATEST. Replicas get no bytes: what they make is the same everywhere (combine.h). A file's
// increments that name chunks (ckpt_naming.h) have what was made, so that a replay needs no byte of
// the sources, which may be damaged by then:
//
//   MERGE .. LOGGED n item.. BLOB bytes
//
// with an item for each of BlendedChunks: "=" is the newest version's chunk itself, "-" the next
// bytes of BLOB, and else it is a hash.

#include <algorithm>
#include <cstring>
#include <deque>

#include "tensor_module/ckpt_durable.h"
#include "tensor_module/ckpt_edit.h"
#include "tensor_module/ckpt_merge.h"
#include "tensor_module/ckpt_naming.h"
#include "tensor_module/ckpt_whole.h"
#include "tensor_module/combine_args.h"

namespace cairn::tensor {

namespace {

/// How much longer than a pass at memory speed a version takes: arithmetic, hash, figures.
constexpr uint64_t kMergePasses = 5;
/// BLOB is for chunks too small to be named: with more than this the log has no result.
constexpr size_t kMaxLoggedBlob = 8 << 20;
/// Where the first version stands among the arguments.
constexpr size_t kVersionsAt = 4;

Result<std::vector<Kept<Version>>> FindVersions(const CkptRun& run,
                                                const std::vector<std::string_view>& names) {
  std::vector<Kept<Version>> versions;
  for (std::string_view name : names) {
    Result<const Version*> version = ResolveVersion(run, name);
    if (!version.ok()) return version.status();
    versions.push_back(run.FindStep(version.value()->step)->version);
  }
  return versions;
}

std::vector<ChunkRef> ChunksOf(const Version& version) {
  std::vector<ChunkRef> chunks;
  for (const auto& tensor : version.tensors) {
    for (const StoredShard& shard : tensor->shards) {
      chunks.insert(chunks.end(), shard.chunks.begin(), shard.chunks.end());
    }
  }
  for (const RankState& state : version.states) {
    chunks.insert(chunks.end(), state.blob->chunks.begin(), state.blob->chunks.end());
  }
  return chunks;
}

/// They are still the versions of their steps.
bool AreThere(const CkptRun& run, const std::vector<Kept<Version>>& versions) {
  for (const auto& version : versions) {
    const VersionRow* row = run.FindStep(version->step);
    if (row == nullptr || row->version.get() != version.get()) return false;
  }
  return true;
}

// --- what was made, in the log ---

/// Puts "LOGGED n item.. BLOB bytes" behind the words, where the chunks may be named. `room` holds
/// what they point to: empty before.
void LogResult(const CommandRun& run, const MergePlan& plan,
               const std::vector<Kept<LogicalTensor>>& made, std::deque<std::string>* room,
               std::vector<std::string_view>* words) {
  if (run.names().log == nullptr) return;
  const std::vector<ChunkRef> old = BlendedChunks(plan.versions[plan.newest]->tensors);
  const std::vector<ChunkRef> chunks = BlendedChunks(made);
  std::vector<ChunkRef> fresh;
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (chunks[i].get() != old[i].get()) fresh.push_back(chunks[i]);
  }
  const std::vector<bool> named = MayName(run, fresh);
  std::vector<std::string_view> items;
  std::string blob;
  for (size_t i = 0, at = 0; i < chunks.size(); ++i) {
    if (chunks[i].get() == old[i].get()) {
      items.push_back("=");
    } else if (named[at++]) {
      items.push_back(room->emplace_back(Hash128Hex(chunks[i]->hash())));
    } else {
      items.push_back("-");
      if (blob.size() + chunks[i]->size() > kMaxLoggedBlob) return;
      blob += chunks[i]->bytes().view();
    }
  }
  words->insert(words->end(), {"LOGGED", room->emplace_back(std::to_string(items.size()))});
  words->insert(words->end(), items.begin(), items.end());
  words->insert(words->end(), {"BLOB", room->emplace_back(std::move(blob))});
}

/// A chunk as large as `like` of the first of *bytes, which are taken from it.
Result<ChunkRef> TakeChunk(CommandRun& run, const Chunk& like, std::string_view* bytes) {
  const size_t size = like.size();
  if (bytes->size() < size) return Status::Client("ERR BLOB is too short");
  Blob* blob = run.memory().Allocate(size);
  if (blob == nullptr) return Status::Client("OOM no memory for checkpoint data");
  const BlobSlice piece{BlobRef::Adopt(blob), 0, size};
  std::memcpy(blob->mutable_data(), bytes->data(), size);
  bytes->remove_prefix(size);
  return run.module().pool.InternOne(piece, like.dtype());
}

/// The inverse of LogResult.
Result<std::vector<Kept<LogicalTensor>>> ReadResult(CommandRun& run, const MergePlan& plan,
                                                    const MergeArgs& merge) {
  std::vector<ChunkRef> chunks = BlendedChunks(plan.versions[plan.newest]->tensors);
  if (merge.made->size() != chunks.size()) return Status::Client("ERR LOGGED is of another layout");
  std::string_view bytes = merge.blob;
  for (size_t i = 0; i < chunks.size(); ++i) {
    const std::string_view item = (*merge.made)[i];
    if (item == "=") continue;
    Hash128 hash;
    if (item != "-" && !ParseHash128Hex(item, &hash)) return Status::Client("ERR syntax error");
    Result<ChunkRef> chunk =
        item == "-" ? TakeChunk(run, *chunks[i], &bytes) : LoadNamed(run, hash, chunks[i]->size());
    if (!chunk.ok()) return chunk.status();
    chunks[i] = std::move(*chunk);
  }
  return WithBlendedChunks(plan, chunks);
}

// --- the command ---

Status Merge(CommandRun& run, int attempt);

/// The second half, when all is as the first half found it.
Status CommitMerged(CommandRun& run, const MergeArgs& merge, const MergePlan& plan,
                    const std::vector<Kept<LogicalTensor>>& made);

class MergeWork final : public LateWork {
 public:
  /// `log`: LogOfNewVersion().
  MergeWork(Module& module, MergePlan plan, ChunkLog* log, NamesTarget names, int attempt)
      : module_(module),
        plan_(std::move(plan)),
        log_(log),
        names_(std::move(names)),
        attempt_(attempt) {}
  void Work() override {
    made_ = MergeTensors(module_.pool, module_.memory, plan_);
    if (!made_.ok()) return;
    // What is not staged is not named: then the file gets the command without what it made.
    [[maybe_unused]] const Status staged = StageChunks(names_, BlendedChunks(*made_));
    const Version version = MergedVersion(plan_, 0, *made_);
    if (Status logged = LogMade(log_, {ChunksOf(version)}); !logged.ok()) made_ = logged;
  }
  Status Finish(CommandRun& run) override;

 private:
  /// Anew, and what was made gives its room back first.
  Status Again(CommandRun& run) {
    made_ = std::vector<Kept<LogicalTensor>>();
    return Merge(run, attempt_ + 1);
  }
  Module& module_;
  const MergePlan plan_;
  ChunkLog* const log_;
  const NamesTarget names_;
  const int attempt_;
  Result<std::vector<Kept<LogicalTensor>>> made_ = std::vector<Kept<LogicalTensor>>();
};

Status MergeWork::Finish(CommandRun& run) {
  Result<MergeArgs> merge = ParseMerge(run.args());
  if (!merge.ok()) return merge.status();
  // Looked at before anything is swept: a run that waits again has had no effect.
  Result<const RunValue*> now = run.NeedRun(run.key(), CAIRN_WRITE);
  if (!now.ok()) return now.status();
  if (!AreThere(now.value()->run(), plan_.versions)) return Again(run);
  if (!made_.ok()) return made_.status();
  if (log_ == nullptr) {
    const ToLog left = FindUnlogged(run, {ChunksOf(MergedVersion(plan_, merge->step, *made_))});
    // CREATE has made the run one of DISK meanwhile: another first half logs what it makes.
    if (left.log != nullptr && !left.chunks.empty()) return Again(run);
    CAIRN_RETURN_IF_ERROR(LogNow(left));  // there is no log
  }
  return CommitMerged(run, *merge, plan_, *made_);
}

Status CommitMerged(CommandRun& run, const MergeArgs& merge, const MergePlan& plan,
                    const std::vector<Kept<LogicalTensor>>& made) {
  Result<RunEdit> edit = RunEdit::Open(run);
  if (!edit.ok()) return edit.status();
  Result<Durable> durable = DurabilityFor(run, edit->run, std::nullopt);
  if (!durable.ok()) return durable.status();
  Moment moment = edit->moment();
  moment.now_ms = merge.at_ms.value_or(moment.now_ms);
  const bool first = merge.tx.empty();
  const std::string tx = first ? NewTransactionId(run.module()) : std::string(merge.tx);

  Version version = MergedVersion(plan, merge.step, made);
  version.tx = tx;
  version.attempt = edit->run.highest_attempt;
  version.durable = durable.value();
  version.began_ms = version.first_prepare_ms = version.last_prepare_ms = moment.now_ms;
  CAIRN_RETURN_IF_ERROR(CheckGroups(edit->run, version));
  Result<std::vector<uint64_t>> gone = CommitVersion(&edit->run, std::move(version), "", moment);
  if (!gone.ok()) return gone.status();

  const std::string at = std::to_string(moment.now_ms);
  std::vector<std::string_view> logged =
      first ? With(run.args(), {"TX", tx, "AT", at}) : With(run.args(), {});
  std::deque<std::string> room;
  for (size_t i = 0; i < plan.versions.size(); ++i) {
    logged[kVersionsAt + 2 * i] = room.emplace_back(std::to_string(plan.versions[i]->step));
  }
  LogResult(run, plan, made, &room, &logged);
  edit->StoreAs("ckpt.commit", logged);
  edit->TellCommitted(merge.step, tx, *gone);
  run.Bulk(tx);
  return Status::Ok();
}

Status Merge(CommandRun& run, int attempt) {
  // Made in place it would hold everybody up for as long as all the bytes take.
  if (attempt == kLateAttempts) {
    return Status::Client(
        "CKPTBUSY the versions or the run were replaced while they were merged, " +
        std::to_string(attempt) + " times");
  }
  Result<MergeArgs> merge = ParseMerge(run.args());
  if (!merge.ok()) return merge.status();
  if (merge->made && !run.is_loading()) return Status::Client("ERR syntax error");
  Result<const RunValue*> found = run.NeedRun(run.key(), CAIRN_WRITE);
  if (!found.ok()) return found.status();
  const CkptRun& state = found.value()->run();
  CAIRN_RETURN_IF_ERROR(CheckNotPinned(state, merge->step));
  if (Result<Durable> durable = DurabilityFor(run, state, std::nullopt); !durable.ok()) {
    return durable.status();
  }
  Result<std::vector<Kept<Version>>> versions = FindVersions(state, merge->versions);
  if (!versions.ok()) return versions.status();
  Result<MergePlan> plan = PlanMerge(std::move(*versions), std::move(merge->recipe));
  if (!plan.ok()) return plan.status();
  CAIRN_RETURN_IF_ERROR(ClaimQuota(run, plan->fresh_bytes));
  if (merge->made) {
    Result<std::vector<Kept<LogicalTensor>>> made = ReadResult(run, *plan, *merge);
    return made.ok() ? CommitMerged(run, *merge, *plan, *made) : made.status();
  }
  NamesTarget names = run.names();
  const uint64_t cost = std::max(plan->fresh_bytes * plan->versions.size() * kMergePasses,
                                 StagingCost(names, plan->fresh_bytes));
  return run.RunLate(
      cost, std::make_unique<MergeWork>(run.module(), std::move(*plan), LogOfNewVersion(run),
                                        std::move(names), attempt));
}

Status MergeCommand(CommandRun& run) { return Merge(run, 0); }

constexpr CairnCommandSpec kSpecs[] = {
    {
        .name = "ckpt.merge",
        .arity = -6,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(N) in the bytes of all the versions, on a worker thread.",
        .summary = "Makes a version of several, by weights.",
        .synopsis = "key#0 step:integer count:integer source{version weight:double}... "
                    "[METHOD=method(AVG|LERP|EMA)] [TX=tx] "
                    "[AT=unix-time-milliseconds:unix-time]",
        .run = Run<MergeCommand>,
    },
};

}  // namespace

int RegisterCkptMergeCommands(Module& module) {
  for (const CairnCommandSpec& spec : kSpecs) {
    if (module.api.register_command(module.self, &spec) != CAIRN_OK) return CAIRN_FAILED;
  }
  return CAIRN_OK;
}

}  // namespace cairn::tensor
