#include "tensor_module/ckpt_machine.h"

#include <algorithm>
#include <set>

#include "tensor_module/ckpt_ballot.h"

namespace cairn::tensor {

namespace {

std::string Number(uint64_t value) { return std::to_string(value); }

size_t IndexOf(const CkptRun& run, std::string_view tx) {
  size_t i = 0;
  while (i < run.transactions.size() && run.transactions[i]->id != tx) ++i;
  return i;
}

/// Progress was made: the deadline moves.
void Renew(Transaction* transaction, Moment moment) {
  transaction->deadline_ms = moment.replayed ? 0 : moment.now_ms + transaction->timeout_ms;
}

void Replace(CkptRun* run, Transaction transaction) {
  const size_t i = IndexOf(*run, transaction.id);
  run->transactions[i] = Kept<Transaction>::Make(std::move(transaction));
}

/// `at_ms`: when it happened, as the log tells of it. The grace is by this server's clock.
void Suspend(CkptRun* run, size_t i, TxState state, Moment moment, int64_t at_ms) {
  Transaction transaction = *run->transactions[i];
  transaction.state = state;
  transaction.free_at_ms = moment.now_ms + kGraceMs;
  const bool expired = state == TxState::kExpired;
  Note(run, at_ms, expired ? "expired" : "fenced", transaction.step, transaction.id);
  run->transactions[i] = Kept<Transaction>::Make(std::move(transaction));
}

Status NotLive(TxState state, std::string_view tx) {
  if (state == TxState::kExpired) {
    return Status::Client("CKPTTIMEOUT transaction " + std::string(tx) +
                          " made no progress in its time and has expired");
  }
  return Status::Client("CKPTFENCED transaction " + std::string(tx) +
                        " is of an older attempt than the run's");
}

bool IsNameTaken(const CkptRun& run, std::string_view tx) {
  return IndexOf(run, tx) < run.transactions.size() || FindCommitted(run, tx) != nullptr ||
         run.FindEnded(tx) != nullptr;
}

Status NameTaken(std::string_view tx) {
  return Status::Client("CKPTBUSY a transaction '" + std::string(tx) + "' is there, or was");
}

Result<Transaction> LiveCopy(const CkptRun& run, std::string_view tx) {
  Result<const Transaction*> found = FindLive(run, tx);
  if (!found.ok()) return found.status();
  return Transaction(*found.value());
}

Status CheckRank(const Transaction& transaction, uint32_t rank) {
  if (rank < transaction.world) return Status::Ok();
  return Status::Client("CKPTWORLD rank " + Number(rank) + " of a world of " +
                        Number(transaction.world));
}

/// A copy of the rank's part, or a fresh one.
RankPart PartCopy(const Transaction& transaction, uint32_t rank) {
  if (const RankPart* part = FindRank(transaction, rank)) return *part;
  RankPart part;
  part.rank = rank;
  return part;
}

void PutPart(Transaction* transaction, RankPart part) {
  const uint32_t rank = part.rank;
  auto at =
      std::lower_bound(transaction->ranks.begin(), transaction->ranks.end(), rank,
                       [](const Kept<RankPart>& other, uint32_t key) { return other->rank < key; });
  if (at == transaction->ranks.end() || (*at)->rank != rank)
    at = transaction->ranks.insert(at, Kept<RankPart>());
  *at = Kept<RankPart>::Make(std::move(part));
}

/// Where a shard of the part stands, or would.
size_t PlaceOf(const RankPart& part, std::string_view name, uint32_t index) {
  return LowerBound(part.specs, [&](const Kept<ShardSpec>& spec) {
    return spec->name != name ? spec->name < name : spec->index < index;
  });
}

Status CheckSameTensor(const ShardSpec& spec, const ShardSpec& other, uint32_t other_rank) {
  if (IsSameTensor(spec, other)) return Status::Ok();
  return Status::Client("CKPTDIVERGED '" + spec.name + "' was declared by rank " +
                        Number(other_rank) + " as " + std::string(DTypeName(other.dtype)) + " " +
                        ShapeText(other.shape) + " of group '" + other.group +
                        (other.alias_of.empty() ? "'" : "', alias of '" + other.alias_of + "'"));
}

/// A rank's part with what it declares put between what it has declared, in one pass over both: a
/// tensor may be cut into as many shards as a rank may have.
class Declaring {
 public:
  Declaring(const Transaction& transaction, const RankPart& old)
      : transaction_(transaction), old_(old) {}

  /// Requires: by name, ascending. Errors: CKPTDIVERGED, too many shards.
  Status Add(ShardSpec spec) {
    if (head_ == nullptr || head_->name != spec.name) Open(spec.name);
    if (head_ != nullptr) CAIRN_RETURN_IF_ERROR(CheckSameTensor(spec, *head_, head_rank_));
    if (extents_.contains(&spec.extent)) return Status::Ok();
    if (old_.prepared) {
      return Status::Client("CKPTDIVERGED rank " + Number(old_.rank) +
                            " is prepared and did not declare this of '" + spec.name + "'");
    }
    if (old_.specs.size() + added_.size() >= kMaxShardsPerRank) {
      return Status::Client("ERR a rank declares at most " + Number(kMaxShardsPerRank) + " shards");
    }
    const bool first = specs_.empty() || specs_.back()->name != spec.name;
    spec.index = first ? 0 : specs_.back()->index + 1;
    data_.emplace_back();
    specs_.push_back(Kept<ShardSpec>::Make(std::move(spec)));
    added_.push_back(specs_.back());
    extents_.insert(&specs_.back()->extent);
    if (head_ != nullptr) return Status::Ok();
    head_ = specs_.back().get();
    head_rank_ = old_.rank;
    return Status::Ok();
  }

  /// What is new, by name.
  const std::vector<Kept<ShardSpec>>& added() const { return added_; }

  RankPart Finish() && {
    while (taken_ < old_.specs.size()) Take();
    for (size_t i = 0; i < specs_.size(); ++i) {
      if (!data_[i]) data_[i] = Kept<ShardData>::Make(ShardData(*specs_[i]));
    }
    RankPart part = old_;
    part.SetShards(std::move(specs_), std::move(data_));
    return part;
  }

 private:
  /// Goes on to a name, behind what is there of it.
  void Open(std::string_view name) {
    extents_.clear();
    while (taken_ < old_.specs.size() && old_.specs[taken_]->name < name) Take();
    while (taken_ < old_.specs.size() && old_.specs[taken_]->name == name) {
      extents_.insert(&old_.specs[taken_]->extent);
      Take();
    }
    // All who declared it said the same: the first of them will do.
    head_ = nullptr;
    for (const auto& other : transaction_.ranks) {
      const size_t at = PlaceOf(*other, name, 0);
      if (at == other->specs.size() || other->specs[at]->name != name) continue;
      head_ = other->specs[at].get();
      head_rank_ = other->rank;
      return;
    }
  }
  void Take() {
    specs_.push_back(old_.specs[taken_]);
    data_.push_back(old_.data[taken_]);
    ++taken_;
  }

  const Transaction& transaction_;
  const RankPart& old_;
  size_t taken_ = 0;  // of old_
  std::vector<Kept<ShardSpec>> added_;
  std::vector<Kept<ShardSpec>> specs_;
  std::vector<Kept<ShardData>> data_;  // none yet for what is new
  const ShardSpec* head_ = nullptr;    // of the name that came last, as it was declared first
  uint32_t head_rank_ = 0;
  std::set<const Extent*, LessExtent> extents_;  // of the rank's shards of that name
};

/// Figures do not say that the chunk is finite as the shard's dtype: its bytes would.
bool IsUnjudged(const ShardSpec& spec, const Chunk& chunk) {
  return HasNonFinite(spec.dtype) &&
         (chunk.dtype() != spec.dtype || chunk.figures().not_finite > 0);
}

Status CheckFinite(const RankPart& part, const KnownFinite& known) {
  for (size_t i = 0; i < part.specs.size(); ++i) {
    const ShardSpec& spec = *part.specs[i];
    const SharedList<Cell>& cells = part.data[i]->cells();
    for (size_t cell = 0; cell < cells.size(); ++cell) {
      const Chunk& chunk = *cells[cell].chunk;
      uint64_t index = 0;
      if (!IsUnjudged(spec, chunk) || known.contains({&chunk, spec.dtype})) continue;
      if (!chunk.IsIntact()) {
        return Status::Client("CKPTDAMAGED bytes of '" + spec.name + "' in the chunk log");
      }
      if (IsFinite(spec.dtype, {chunk.bytes()}, &index)) continue;
      return Status::Client("CKPTNOTFINITE element " +
                            Number(spec.CellRange(cell).begin / DTypeSize(spec.dtype) + index) +
                            " of shard " + Number(spec.index) + " of '" + spec.name +
                            "' is NaN or infinite");
    }
  }
  return Status::Ok();
}

/// Forgets a transaction that is over, but for its name.
void Forget(CkptRun* run, size_t i) {
  const Transaction& transaction = *run->transactions[i];
  const bool expired = transaction.state == TxState::kExpired;
  Remember(run, {transaction.id,
                 transaction.step,
                 expired ? Ended::How::kExpired : Ended::How::kFenced,
                 "",
                 {}});
  run->transactions.erase(run->transactions.begin() + static_cast<ptrdiff_t>(i));
}

/// Attempts that follow one another fast leave more than may be held for the whole grace: the one
/// that has been over for longest makes room. Also when a log is replayed, which ends no grace.
void MakeRoom(CkptRun* run) {
  while (run->transactions.size() >= kMaxOpenTransactions) {
    const auto& all = run->transactions;
    size_t oldest = all.size();
    for (size_t i = 0; i < all.size(); ++i) {
      if (all[i]->live()) continue;
      if (oldest == all.size() || all[i]->free_at_ms < all[oldest]->free_at_ms) oldest = i;
    }
    if (oldest == all.size()) return;
    Forget(run, oldest);
  }
}

/// Refuses what the run's settings do not allow now.
Status CheckRoom(const CkptRun& run, Moment moment) {
  size_t live = 0;
  for (const auto& transaction : run.transactions) {
    live += transaction->live() && !IsImport(transaction->id) ? 1 : 0;
  }
  if (live >= run.config.max_concurrent) {
    return Status::Client("CKPTBUSY " + Number(live) + " transactions of this run are open");
  }
  const int64_t since_ms = moment.now_ms - run.last_commit_ms;
  if (run.last_commit_ms > 0 && since_ms >= 0 && since_ms < run.config.min_pause_ms) {
    return Status::Client("CKPTBUSY the last commit was " + std::to_string(since_ms) +
                          " ms ago, and MINPAUSE is " + std::to_string(run.config.min_pause_ms));
  }
  return Status::Ok();
}

/// The rank has come to the transaction.
void Enroll(CkptRun* run, size_t i, uint32_t rank) {
  const Kept<Roll>& roll = run->transactions[i]->roll;
  if (!roll || roll->knows[rank]) return;
  Transaction joined = *run->transactions[i];
  joined.roll.Own().knows[rank] = true;
  run->transactions[i] = Kept<Transaction>::Make(std::move(joined));
}

/// What a rank that comes late is told of the transaction that was aborted before it came.
Status TellAborted(CkptRun* run, const BeginRequest& request, uint32_t world, Moment moment) {
  for (size_t i = run->ended->size(); i-- > 0;) {
    const Ended& last = (*run->ended)[i];
    const Roll* roll = last.roll.get();
    if (roll == nullptr || last.step != request.step || roll->attempt != request.attempt) continue;
    if (roll->world != world) continue;
    if (roll->knows[request.rank] || roll->told_until_ms <= moment.now_ms) break;
    run->ended.Own()[i].roll.Own().knows[request.rank] = true;
    return FindLive(*run, (*run->ended)[i].tx).status();
  }
  return Status::Ok();
}

void FenceOlder(CkptRun* run, Moment moment, int64_t at_ms) {
  for (size_t i = 0; i < run->transactions.size(); ++i) {
    const Transaction& transaction = *run->transactions[i];
    if (transaction.live() && transaction.attempt < run->highest_attempt) {
      Suspend(run, i, TxState::kFenced, moment, at_ms);
    }
  }
}

}  // namespace

bool ArmDeadlines(CkptRun* run, Moment moment) {
  if (moment.replayed) return false;
  bool any = false;
  for (auto& transaction : run->transactions) {
    if (!transaction->live() || transaction->deadline_ms != 0) continue;
    Transaction armed = *transaction;
    Renew(&armed, moment);
    transaction = Kept<Transaction>::Make(std::move(armed));
    any = true;
  }
  return any;
}

Swept Sweep(CkptRun* run, Moment moment) {
  Swept swept;
  if (moment.replayed) return swept;
  swept.armed = ArmDeadlines(run, moment);
  for (size_t i = 0; i < run->transactions.size();) {
    const Transaction& transaction = *run->transactions[i];
    if (transaction.live() && transaction.deadline_ms <= moment.now_ms) {
      swept.expired.push_back(transaction.id);
      Suspend(run, i, TxState::kExpired, moment, moment.now_ms);
    } else if (!transaction.live() && transaction.free_at_ms <= moment.now_ms) {
      swept.forgotten.push_back(transaction.id);
      Forget(run, i);
      continue;
    }
    ++i;
  }
  return swept;
}

Result<Begun> Begin(CkptRun* run, const BeginRequest& request, Moment moment) {
  const uint32_t world =
      request.world != 0 ? request.world : std::max<uint32_t>(run->config.world, 1);
  // What was logged has been judged: IMPORT saves beside what is open, of a world of its own.
  const bool judged = moment.replayed || IsImport(request.new_id);
  if (!judged && run->config.world != 0 && world != run->config.world) {
    return Status::Client("CKPTWORLD this run is of a world of " + Number(run->config.world));
  }
  if (request.rank >= world) {
    return Status::Client("CKPTWORLD rank " + Number(request.rank) + " of a world of " +
                          Number(world));
  }
  if (request.attempt < run->highest_attempt) {
    return Status::Client("CKPTFENCED attempt " + Number(request.attempt) +
                          " is over: the run is at attempt " + Number(run->highest_attempt));
  }
  // Logs of older servers tell of those who joined by name, too.
  const auto joins = [&](const std::string& id) { return !judged || id == request.new_id; };
  for (size_t i = 0; i < run->transactions.size(); ++i) {
    const Kept<Transaction> open = run->transactions[i];
    const bool same = open->step == request.step && open->attempt == request.attempt;
    if (!open->live() || !same || !joins(open->id)) continue;
    if (IsImport(open->id) && open->id != request.new_id) continue;
    if (open->world == world) {
      if (!moment.replayed) Enroll(run, i, request.rank);
      return Begun{open->id, false};
    }
    return Status::Client("CKPTWORLD step " + Number(request.step) +
                          " is being saved by a world of " + Number(open->world));
  }
  const VersionRow* row = run->FindStep(request.step);
  if (row != nullptr && !row->rolled_back && row->version->attempt == request.attempt &&
      joins(row->version->tx)) {
    if (row->version->world == world) return Begun{row->version->tx, false};
    return Status::Client("CKPTWORLD step " + Number(request.step) + " was saved by a world of " +
                          Number(row->version->world) +
                          ": another begins it with a higher attempt");
  }
  if (!moment.replayed && IsNameTaken(*run, request.new_id)) return NameTaken(request.new_id);
  if (!judged) CAIRN_RETURN_IF_ERROR(TellAborted(run, request, world, moment));
  CkptRun next = *run;
  next.highest_attempt = request.attempt;
  const int64_t began_ms = request.began_ms.value_or(moment.now_ms);
  FenceOlder(&next, moment, began_ms);
  if (!judged) CAIRN_RETURN_IF_ERROR(CheckRoom(next, moment));
  MakeRoom(&next);
  if (!moment.replayed && next.transactions.size() >= kMaxOpenTransactions) {
    return Status::Client("CKPTBUSY " + Number(kMaxOpenTransactions) +
                          " transactions of this run are open");
  }
  Transaction transaction;
  transaction.id = request.new_id;
  transaction.step = request.step;
  transaction.attempt = request.attempt;
  transaction.world = world;
  transaction.parent = request.parent;
  transaction.coverage = request.coverage;
  transaction.timeout_ms = request.timeout_ms.value_or(run->config.timeout_ms);
  transaction.began_ms = began_ms;
  Renew(&transaction, moment);
  if (!judged && world > 1) {
    Roll roll = {request.attempt, world, 0, std::vector<bool>(world)};
    roll.knows[request.rank] = true;
    transaction.roll = Kept<Roll>::Make(std::move(roll));
  }
  next.transactions.push_back(Kept<Transaction>::Make(std::move(transaction)));
  *run = std::move(next);
  return Begun{request.new_id, true};
}

Result<const Transaction*> FindLive(const CkptRun& run, std::string_view tx) {
  const size_t i = IndexOf(run, tx);
  if (i < run.transactions.size()) {
    const Transaction& transaction = *run.transactions[i];
    if (!transaction.live()) return NotLive(transaction.state, tx);
    return &transaction;
  }
  if (const Ended* ended = run.FindEnded(tx)) {
    if (ended->how == Ended::How::kExpired) return NotLive(TxState::kExpired, tx);
    if (ended->how == Ended::How::kFenced) return NotLive(TxState::kFenced, tx);
    return Status::Client("CKPTABORTED transaction " + std::string(tx) + " was aborted" +
                          (ended->reason.empty() ? "" : ": " + ended->reason));
  }
  if (const Version* version = FindCommitted(run, tx)) {
    return Status::Client("CKPTNOTX transaction " + std::string(tx) + " is committed, as step " +
                          Number(version->step));
  }
  return Status::Client("CKPTNOTX this run has no transaction of that name");
}

const Version* FindCommitted(const CkptRun& run, std::string_view tx) {
  for (const VersionRow& row : run.versions) {
    if (row.version->tx == tx) return row.version.get();
  }
  return nullptr;
}

Status CheckNotThere(const CkptRun& run, std::string_view tx) {
  return IndexOf(run, tx) == run.transactions.size() ? Status::Ok() : NameTaken(tx);
}

const RankPart* FindRank(const Transaction& transaction, uint32_t rank) {
  const auto at =
      std::lower_bound(transaction.ranks.begin(), transaction.ranks.end(), rank,
                       [](const Kept<RankPart>& part, uint32_t key) { return part->rank < key; });
  return at == transaction.ranks.end() || (*at)->rank != rank ? nullptr : at->get();
}

Result<size_t> FindShard(const RankPart& part, std::string_view name, uint32_t index) {
  const size_t at = PlaceOf(part, name, index);
  if (at < part.specs.size() && part.specs[at]->name == name && part.specs[at]->index == index) {
    return size_t{at};
  }
  return Status::Client("ERR rank " + Number(part.rank) + " has not declared shard " +
                        Number(index) + " of '" + std::string(name.substr(0, 128)) + "'");
}

Status Declare(CkptRun* run, std::string_view tx, uint32_t rank, std::vector<ShardSpec> specs,
               Moment moment, const AskForRoom& ask) {
  Result<Transaction> transaction = LiveCopy(*run, tx);
  if (!transaction.ok()) return transaction.status();
  CAIRN_RETURN_IF_ERROR(CheckRank(*transaction, rank));
  const RankPart part = PartCopy(*transaction, rank);
  // By name, so that each goes behind those before it.
  std::vector<ShardSpec*> sorted;
  sorted.reserve(specs.size());
  for (ShardSpec& spec : specs) sorted.push_back(&spec);
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const ShardSpec* a, const ShardSpec* b) { return a->name < b->name; });
  Declaring declaring(*transaction, part);
  for (ShardSpec* spec : sorted) CAIRN_RETURN_IF_ERROR(declaring.Add(std::move(*spec)));
  const uint64_t before = transaction->promise.bytes();
  transaction->promise.Add(declaring.added(), run->Latest());
  if (ask != nullptr) CAIRN_RETURN_IF_ERROR(ask(transaction->promise.bytes() - before));
  PutPart(&*transaction, std::move(declaring).Finish());
  Renew(&*transaction, moment);
  Replace(run, std::move(*transaction));
  return Status::Ok();
}

Status StoreShards(CkptRun* run, std::string_view tx, uint32_t rank,
                   std::vector<FilledShard> filled, Moment moment) {
  Result<Transaction> transaction = LiveCopy(*run, tx);
  if (!transaction.ok()) return transaction.status();
  RankPart part = PartCopy(*transaction, rank);
  for (FilledShard& each : filled) {
    const ShardSpec& spec = *part.specs[each.shard];
    transaction->promise.Receive(spec, spec.size_bytes - each.data.received_bytes(), run->Latest());
    part.SetData(each.shard, std::move(each.data));
  }
  PutPart(&*transaction, std::move(part));
  Renew(&*transaction, moment);
  Replace(run, std::move(*transaction));
  return Status::Ok();
}

Status StoreShard(CkptRun* run, std::string_view tx, uint32_t rank, size_t shard, ShardData data,
                  Moment moment) {
  std::vector<FilledShard> one;
  one.push_back({shard, std::move(data)});
  return StoreShards(run, tx, rank, std::move(one), moment);
}

Status SetState(CkptRun* run, std::string_view tx, uint32_t rank, StateBlob blob, Moment moment) {
  Result<Transaction> transaction = LiveCopy(*run, tx);
  if (!transaction.ok()) return transaction.status();
  CAIRN_RETURN_IF_ERROR(CheckRank(*transaction, rank));
  RankPart part = PartCopy(*transaction, rank);
  for (const auto& other : part.states) {
    if (other->kind != blob.kind || other->name != blob.name) continue;
    bool same = other->size_bytes == blob.size_bytes;
    for (size_t i = 0; same && i < blob.chunks.size(); ++i) {
      same = SameBytes(*other->chunks[i], *blob.chunks[i]);
    }
    if (same) return Status::Ok();
    return Status::Client("CKPTDIVERGED rank " + Number(rank) + " has another state of kind " +
                          std::string(StateKindName(blob.kind)) + " and name '" + blob.name +
                          "' already");
  }
  if (part.prepared) {
    return Status::Client("CKPTDIVERGED rank " + Number(rank) + " is prepared without this state");
  }
  const auto at = std::find_if(part.states.begin(), part.states.end(), [&](const auto& other) {
    return other->kind != blob.kind ? other->kind > blob.kind : other->name > blob.name;
  });
  part.states.insert(at, Kept<StateBlob>::Make(std::move(blob)));
  PutPart(&*transaction, std::move(part));
  Renew(&*transaction, moment);
  Replace(run, std::move(*transaction));
  return Status::Ok();
}

std::vector<TypedChunk> UnjudgedChunks(const RankPart& part) {
  std::vector<TypedChunk> out;
  std::set<std::pair<const Chunk*, DType>> met;
  for (size_t i = 0; i < part.specs.size(); ++i) {
    const ShardSpec& spec = *part.specs[i];
    for (const Cell& cell : part.data[i]->cells()) {
      if (!cell.chunk || !IsUnjudged(spec, *cell.chunk)) continue;
      if (met.insert({cell.chunk.get(), spec.dtype}).second) {
        out.push_back({cell.chunk, spec.dtype});
      }
    }
  }
  return out;
}

KnownFinite FindFinite(const std::vector<TypedChunk>& chunks) {
  KnownFinite known;
  uint64_t index = 0;
  for (const auto& [chunk, dtype] : chunks) {
    if (chunk->IsIntact() && IsFinite(dtype, {chunk->bytes()}, &index)) {
      known.insert({chunk.get(), dtype});
    }
  }
  return known;
}

Status Prepare(CkptRun* run, std::string_view tx, uint32_t rank, bool guard_finite, Moment moment,
               std::optional<int64_t> voted_ms, const KnownFinite& known) {
  Result<Transaction> transaction = LiveCopy(*run, tx);
  if (!transaction.ok()) return transaction.status();
  CAIRN_RETURN_IF_ERROR(CheckRank(*transaction, rank));
  RankPart part = PartCopy(*transaction, rank);
  for (size_t i = 0; i < part.specs.size(); ++i) {
    if (part.data[i]->IsComplete()) continue;
    const ByteRange hole = part.data[i]->Holes(*part.specs[i])[0];
    return Status::Client("CKPTINCOMPLETE rank " + Number(rank) + " lacks bytes " +
                          Number(hole.begin) + " to " + Number(hole.end) + " of '" +
                          part.specs[i]->name + "'");
  }
  if (guard_finite && !moment.replayed) CAIRN_RETURN_IF_ERROR(CheckFinite(part, known));
  if (part.prepared) return Status::Ok();
  part.prepared = true;
  part.ballot = MakeBallot(&*transaction, part);
  PutPart(&*transaction, std::move(part));
  transaction->state = TxState::kPreparing;
  const int64_t at_ms = voted_ms.value_or(moment.now_ms);
  if (transaction->first_prepare_ms == 0) transaction->first_prepare_ms = at_ms;
  transaction->last_prepare_ms = at_ms;
  Renew(&*transaction, moment);
  Replace(run, std::move(*transaction));
  return Status::Ok();
}

Status Abort(CkptRun* run, std::string_view tx, std::string_view reason, Moment moment) {
  Result<const Transaction*> found = FindLive(*run, tx);
  if (!found.ok()) return found.status();
  const size_t i = IndexOf(*run, tx);
  const Kept<Transaction> over = run->transactions[i];
  Note(run, moment.now_ms, "aborted", over->step,
       std::string(tx) + (reason.empty() ? "" : " " + std::string(reason)));
  Ended ended = {std::string(tx), over->step, Ended::How::kAborted, std::string(reason),
                 over->roll};
  if (ended.roll) {
    Roll& roll = ended.roll.Own();
    roll.told_until_ms = moment.now_ms + over->timeout_ms;
    for (const auto& part : over->ranks) roll.knows[part->rank] = true;
  }
  Remember(run, std::move(ended));
  run->transactions.erase(run->transactions.begin() + static_cast<ptrdiff_t>(i));
  return Status::Ok();
}

Status EndByClock(CkptRun* run, std::string_view tx, Moment moment, std::optional<int64_t> at_ms) {
  const size_t i = IndexOf(*run, tx);
  if (i == run->transactions.size()) return FindLive(*run, tx).status();
  if (run->transactions[i]->live()) {
    Suspend(run, i, TxState::kExpired, moment, at_ms.value_or(moment.now_ms));
  } else {
    Forget(run, i);
  }
  return Status::Ok();
}

uint64_t NextOffset(const ShardSpec& spec, const ShardData& data) {
  const std::vector<ByteRange> holes = data.Holes(spec);
  return holes.empty() ? spec.size_bytes : holes[0].begin;
}

}  // namespace cairn::tensor
