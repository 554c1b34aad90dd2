#include "tensor_module/ckpt_spread_import.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "tensor_module/ckpt_edit.h"
#include "tensor_module/ckpt_whole_log.h"

namespace cairn::tensor {

namespace {

/// Shards that are filled in one turn.
constexpr size_t kTurnShards = 256;

uint64_t SizeOf(const WholeTensors& tensors) {
  uint64_t bytes = 0;
  for (const auto& chunks : tensors.chunks) {
    for (const ChunkRef& chunk : chunks) bytes += chunk->size();
  }
  return bytes;
}

class SpreadImport {
 public:
  SpreadImport(WholeSave save, std::function<void(CommandRun&)> reply)
      : save_(std::move(save)), reply_(std::move(reply)) {}

  Status Begin(CommandRun& run) {
    Result<RunEdit> edit = RunEdit::Open(run, /*create=*/true);
    if (!edit.ok()) return edit.status();
    const Moment moment = edit->moment();
    // What would be refused in the end is refused now.
    CkptRun trial = edit->run;
    Result<std::vector<uint64_t>> gone = CommitWhole(run, &trial, save_, moment);
    if (!gone.ok()) return gone.status();
    BeginRequest request;
    request.step = save_.step;
    request.world = 1;
    request.attempt = edit->run.highest_attempt;
    if (const Version* latest = edit->run.Latest()) request.parent = latest->step;
    request.new_id = save_.tx;
    Result<Begun> begun = tensor::Begin(&edit->run, request, moment);
    if (!begun.ok()) return begun.status();
    durable_ = edit->run.config.durable;
    CAIRN_RETURN_IF_ERROR(Declare(&edit->run, save_.tx, 0, save_.tensors.specs, moment));
    run.SetRun(run.key(), new RunValue(edit->run), "ckpt.begin");
    LogBegin(run, save_, request.attempt, moment.now_ms);
    const size_t count = save_.tensors.specs.size();
    for (size_t declared = 0; declared < count;) declared = LogDeclare(run, save_, declared);
    edit->Tell("begun", save_.step, save_.tx);
    return Status::Ok();
  }

  /// One turn of what is left. Requires: Gather() has run since the last.
  Status Next(CommandRun& run) {
    Result<RunEdit> edit = RunEdit::Open(run);
    if (!edit.ok()) return edit.status();
    return pieces_.empty() ? CommitAll(run, &*edit) : FillSome(run, &*edit);
  }

  bool is_done() const { return done_; }
  void Reply(CommandRun& run) const { reply_(run); }

  /// Copies what the next turn logs. Thread: a worker.
  void Gather() {
    pieces_.clear();
    uint64_t bytes = 0;
    while (tensor_ < save_.tensors.chunks.size() && pieces_.size() < kTurnShards) {
      const std::vector<ChunkRef>& chunks = save_.tensors.chunks[tensor_];
      Piece piece{tensor_, chunk_, chunk_, {}};
      while (piece.end < chunks.size() &&
             (bytes == 0 || bytes + chunks[piece.end]->size() <= kTurnBytes)) {
        const BlobSlice slice = chunks[piece.end++]->bytes();
        piece.bytes += slice.view();
        bytes += slice.size;
      }
      chunk_ = piece.end;
      const bool whole = chunk_ == chunks.size();
      if (piece.end > piece.begin) pieces_.push_back(std::move(piece));
      if (!whole) return;
      ++tensor_;
      chunk_ = 0;
    }
  }

  /// Ends what is left of the transaction after an error.
  void GiveUp(CommandRun& run) {
    Result<RunEdit> edit = RunEdit::Open(run);
    if (!edit.ok() || !Abort(&edit->run, save_.tx, kReason, edit->moment()).ok()) return;
    const std::string at = std::to_string(run.now_ms());
    edit->StoreAs("ckpt.abort", {"CKPT.ABORT", run.key(), save_.tx, "REASON", kReason, "AT", at});
    edit->Tell("aborted", save_.step, save_.tx);
  }

 private:
  static constexpr std::string_view kReason = "its import failed";

  /// Whole chunks of a tensor, and their bytes.
  struct Piece {
    size_t tensor = 0;
    size_t begin = 0, end = 0;
    std::string bytes;
  };

  /// RESTORE can bring what has the name and is something else.
  Status NotMine() const {
    return Status::Client("CKPTDIVERGED transaction " + save_.tx + " was replaced");
  }

  Status FillSome(CommandRun& run, RunEdit* edit) {
    Result<const Transaction*> transaction = FindLive(edit->run, save_.tx);
    if (!transaction.ok()) return transaction.status();
    const RankPart* part = FindRank(*transaction.value(), 0);
    if (part == nullptr) return NotMine();
    std::vector<FilledShard> filled;  // each once, as a file has a name once
    for (const Piece& piece : pieces_) {
      const ShardSpec& spec = save_.tensors.specs[piece.tensor];
      Result<size_t> shard = FindShard(*part, spec.name, 0);
      if (!shard.ok() || *part->specs[*shard] != spec) return NotMine();
      const auto chunks = save_.tensors.chunks[piece.tensor].begin();
      ShardData data = *part->data[*shard];
      CAIRN_RETURN_IF_ERROR(data.Refer(spec, piece.begin,
                                       {chunks + static_cast<ptrdiff_t>(piece.begin),
                                        chunks + static_cast<ptrdiff_t>(piece.end)}));
      filled.push_back({*shard, std::move(data)});
    }
    CAIRN_RETURN_IF_ERROR(StoreShards(&edit->run, save_.tx, 0, std::move(filled), edit->moment()));
    run.SetRun(run.key(), new RunValue(edit->run), "ckpt.put");
    for (const Piece& piece : pieces_) {
      const ShardSpec& spec = save_.tensors.specs[piece.tensor];
      run.PropagateAs({"CKPT.PUT", run.key(), save_.tx, "RANK", "0", spec.name, "AT",
                       std::to_string(spec.CellRange(piece.begin).begin), "BLOB", piece.bytes});
    }
    return Status::Ok();
  }

  Status CommitAll(CommandRun& run, RunEdit* edit) {
    Result<Durable> durable = DurabilityFor(run, edit->run, std::nullopt);
    if (!durable.ok()) return durable.status();
    // Chunks were logged for what the run was of when it began.
    if (edit->run.config.durable > durable_) {
      return Status::Client("CKPTDIVERGED the run became DURABLE " +
                            std::string(DurableName(*durable)) + " while it was imported");
    }
    const Moment moment = edit->moment();
    CAIRN_RETURN_IF_ERROR(Prepare(&edit->run, save_.tx, 0, false, moment));
    Result<std::vector<uint64_t>> gone =
        Commit(&edit->run, save_.tx, durable.value(), save_.tag, moment);
    if (!gone.ok()) return gone.status();
    run.SetRun(run.key(), new RunValue(edit->run), "ckpt.commit");
    LogVotes(run, save_, durable.value(), moment.now_ms);
    edit->TellCommitted(save_.step, save_.tx, *gone);
    done_ = true;
    return Status::Ok();
  }

  const WholeSave save_;
  const std::function<void(CommandRun&)> reply_;
  Durable durable_ = Durable::kMem;
  size_t tensor_ = 0, chunk_ = 0;  // the first that is not gathered
  std::vector<Piece> pieces_;      // gathered, not stored yet
  bool done_ = false;
};

/// The turns that are left, with others served between them where this run may wait.
Status GoOn(CommandRun& run, const std::shared_ptr<SpreadImport>& save) {
  const auto work = [save] {
    save->Gather();
    return true;
  };
  // A run that may not wait does both halves before RunLate returns: then the next turn is for the
  // loop, which a turn within a turn would be too deep for.
  const auto here = std::make_shared<bool>(true);
  for (;;) {
    bool next_here = false;
    const Status status =
        run.RunLate(kLateBytes, work, [save, here, &next_here](CommandRun& late, bool) {
          if (const Status went = save->Next(late); !went.ok()) {
            save->GiveUp(late);
            return went;
          }
          if (save->is_done()) {
            save->Reply(late);
            return Status::Ok();
          }
          if (!*here) return GoOn(late, save);
          next_here = true;
          return Status::Ok();
        });
    if (!next_here) {
      *here = false;
      return status;
    }
  }
}

}  // namespace

bool MustSpread(const CommandRun& run, const WholeTensors& tensors) {
  return run.is_propagated() && run.names().log == nullptr && !run.is_loading() &&
         SizeOf(tensors) > kSpreadBytes;
}

Status ImportSpread(CommandRun& run, WholeSave save, std::function<void(CommandRun&)> reply) {
  const auto spread = std::make_shared<SpreadImport>(std::move(save), std::move(reply));
  CAIRN_RETURN_IF_ERROR(spread->Begin(run));
  return GoOn(run, spread);
}

}  // namespace cairn::tensor
