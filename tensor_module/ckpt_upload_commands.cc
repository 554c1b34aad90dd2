// CKPT.PUT, HAVE, REF, STATE, OFFSET, PREPARE: how a rank's bytes come, in any order, again, and
// from any number of connections. Hashing is a first half (module.h, RunLate); what is stored is
// decided in the second, on the transaction as it then is.

#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_set>

#include "tensor_module/ckpt_durable.h"
#include "tensor_module/ckpt_edit.h"
#include "tensor_module/ckpt_naming.h"
#include "tensor_module/ckpt_unread.h"

namespace cairn::tensor {

namespace {

/// A shard of a live transaction.
struct Place {
  Kept<ShardSpec> spec;
  Kept<ShardData> data;
  size_t shard = 0;
  bool prepared = false;
};

Result<Place> FindPlace(const CkptRun& run, std::string_view tx, uint32_t rank,
                        std::string_view name, uint32_t index) {
  Result<const Transaction*> transaction = FindLive(run, tx);
  if (!transaction.ok()) return transaction.status();
  const RankPart* part = FindRank(*transaction.value(), rank);
  if (part == nullptr) {
    return Status::Client("ERR rank " + std::to_string(rank) + " has declared nothing");
  }
  Result<size_t> shard = FindShard(*part, name, index);
  if (!shard.ok()) return shard.status();
  return Place{part->specs[shard.value()], part->data[shard.value()], shard.value(),
               part->prepared};
}

Status CheckWithin(const ShardSpec& spec, uint64_t offset, uint64_t size) {
  if (offset <= spec.size_bytes && size <= spec.size_bytes - offset) return Status::Ok();
  return Status::Client("CKPTOFFSET " + std::to_string(size) + " bytes at " +
                        std::to_string(offset) + " end behind the shard's " +
                        std::to_string(spec.size_bytes));
}

// --- PUT ---

using MadeChunks = Result<std::vector<ChunkRef>>;

/// Stores, and logs the first of the commands with it.
void StorePieces(RunEdit& edit, CommandRun& run, const LoggedPlace& place,
                 const std::vector<LoggedPiece>& pieces) {
  bool stored = false;
  LogPieces(run, place, pieces, [&](const std::vector<std::string_view>& args) {
    if (std::exchange(stored, true)) return run.PropagateAs(args);
    edit.StoreAs("ckpt.put", args);
  });
}

/// As it was sent, or naming what the log has.
void StorePut(RunEdit& edit, CommandRun& run, const PutArgs& put, const PutPlan& plan,
              const BlobSlice& bytes, const std::vector<ChunkRef>& chunks) {
  const std::vector<bool> named = MayName(run, chunks);
  if (std::none_of(named.begin(), named.end(), [](bool may) { return may; })) {
    return edit.Store("ckpt.put");
  }
  std::vector<LoggedPiece> pieces;
  size_t at = 0;
  const auto add = [&](size_t size, const Chunk* chunk) {
    if (size > 0) pieces.push_back({{bytes.blob, bytes.offset + at, size}, chunk});
    at += size;
  };
  add(plan.head, nullptr);
  for (size_t i = 0; i < chunks.size(); ++i) {
    add(plan.whole[i], named[i] ? chunks[i].get() : nullptr);
  }
  add(plan.tail, nullptr);
  StorePieces(edit, run, {run.args()[2], put.rank, put.name, put.shard, put.offset}, pieces);
}

/// `spec`: of the shard that `chunks` were cut for.
Status FinishPut(CommandRun& run, const ShardSpec& spec, const BlobSlice& bytes,
                 const std::vector<ChunkRef>& chunks) {
  Result<PutArgs> put = ParsePut(run.args());
  if (!put.ok()) return put.status();
  Result<RunEdit> edit = RunEdit::Open(run);
  if (!edit.ok()) return edit.status();
  const std::string_view tx = run.args()[2];
  CAIRN_RETURN_IF_ERROR(edit->CheckOpenTo(tx));
  Result<Place> place = FindPlace(edit->run, tx, put->rank, put->name, put->shard);
  if (!place.ok()) return place.status();
  // The key may have another run by now, with a transaction of that name.
  if (*place->spec != spec) {
    return Status::Client("CKPTDIVERGED '" + spec.name +
                          "' was declared anew while these bytes came in");
  }
  ShardData data = *place->data;
  const bool complete = data.IsComplete();
  Module& module = run.module();
  const PutPlan plan = PlanPut(spec, put->offset, bytes.size);
  CAIRN_RETURN_IF_ERROR(data.Put(module.pool, module.memory, spec, plan, bytes, chunks));
  const uint64_t next = NextOffset(spec, data);
  if (!complete) {
    CAIRN_RETURN_IF_ERROR(
        StoreShard(&edit->run, tx, put->rank, place->shard, std::move(data), edit->moment()));
    StorePut(*edit, run, *put, plan, bytes, chunks);
  }
  run.Unsigned(next);
  return Status::Ok();
}

Status PutCommand(CommandRun& run) {
  Result<PutArgs> put = ParsePut(run.args());
  if (!put.ok()) return put.status();
  // No effects in a first half: what the clock has ended is found in the second.
  Result<const RunValue*> found = run.NeedRun(run.key(), CAIRN_WRITE);
  if (!found.ok()) return found.status();
  Result<Place> place =
      FindPlace(found.value()->run(), run.args()[2], put->rank, put->name, put->shard);
  if (!place.ok()) return place.status();
  const uint64_t size = run.args()[put->blob_at].size();
  CAIRN_RETURN_IF_ERROR(CheckWithin(*place->spec, put->offset, size));
  // It has been promised this at DECLARE.
  CAIRN_RETURN_IF_ERROR(CheckQuota(run, size, 0));
  Result<BlobSlice> bytes = run.ArgPayload(put->blob_at);
  if (!bytes.ok()) return bytes.status();
  const BlobSlice piece = *bytes;
  const NamesTarget names = run.names();
  return run.RunLate(
      StagingCost(names, size),
      [&module = run.module(), piece, hash = put->hash, spec = place->spec, offset = put->offset,
       names]() -> MadeChunks {
        const PutPlan plan = PlanPut(*spec, offset, piece.size);
        const size_t whole = piece.size - plan.head - plan.tail;
        std::optional<Hash128Stream> arrived;
        if (hash) arrived.emplace();
        if (arrived) arrived->Add(piece.view().substr(0, plan.head));
        MadeChunks made =
            module.pool.Intern({piece.blob, piece.offset + plan.head, whole}, plan.whole,
                               spec->dtype, arrived ? &*arrived : nullptr);
        if (arrived) arrived->Add(piece.view().substr(plan.head + whole));
        if (made.ok() && arrived && arrived->Hash() != *hash) {
          return Status::Client("CKPTHASH the bytes that arrived have another hash");
        }
        if (made.ok() && !made->empty()) CAIRN_RETURN_IF_ERROR(StageChunks(names, *made));
        return made;
      },
      [piece, spec = place->spec](CommandRun& late, MadeChunks& made) {
        return made.ok() ? FinishPut(late, *spec, piece, *made) : made.status();
      });
}

// --- HAVE and REF ---

Status HaveCommand(CommandRun& run) {
  Result<std::vector<Hash128>> hashes = ParseHave(run.args());
  if (!hashes.ok()) return hashes.status();
  Result<const RunValue*> found = run.NeedRun(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  Result<const Transaction*> transaction = FindLive(found.value()->run(), run.args()[2]);
  if (!transaction.ok()) return transaction.status();
  // The bits of a string as GETBIT counts them: the first is the highest of the first byte.
  std::string bits((hashes->size() + 7) / 8, '\0');
  for (size_t i = 0; i < hashes->size(); ++i) {
    if (!run.module().pool.Find((*hashes)[i])) continue;
    bits[i / 8] = static_cast<char>(bits[i / 8] | (0x80 >> (i % 8)));
  }
  run.Bulk(bits);
  return Status::Ok();
}

/// Calls visit(chunk) for the chunks of all committed versions of a tensor: a replay of the log has
/// them when it comes here.
template <typename Visit>
void ForEachCommitted(const CkptRun& run, std::string_view name, Visit visit) {
  for (const VersionRow& row : run.versions) {
    const LogicalTensor* tensor = row.version->Find(name);
    if (tensor == nullptr) continue;
    for (const StoredShard& shard : row.version->Storage(*tensor).shards) {
      for (const ChunkRef& chunk : shard.chunks) visit(chunk);
    }
  }
}

/// What a REF names. `replayed`: also a chunk that cannot be found by its hash any more because
/// its bytes were found damaged: who reads them hears of it, and nobody else.
ChunkRef FindReferred(CommandRun& run, const CkptRun& held, std::string_view name, Hash128 hash,
                      size_t size, bool replayed) {
  ChunkRef found = run.module().pool.Find(hash, size);
  if (found || !replayed) return found;
  ForEachCommitted(held, name, [&](const ChunkRef& chunk) {
    if (chunk->hash() == hash && chunk->size() == size) found = chunk;
  });
  return found;
}

Status NotHeld(Hash128 hash, size_t size, bool replayed) {
  return Status::Client(
      "CKPTHASH no chunk of hash " + Hash128Hex(hash) + " and " + std::to_string(size) +
      " bytes is held: " + (replayed ? "the append-only file refers to it" : "PUT it"));
}

Status ReferNow(CommandRun& run) {
  Result<ReferArgs> refer = ParseRefer(run.args());
  if (!refer.ok()) return refer.status();
  Result<RunEdit> edit = RunEdit::Open(run);
  if (!edit.ok()) return edit.status();
  const std::string_view tx = run.args()[2];
  CAIRN_RETURN_IF_ERROR(edit->CheckOpenTo(tx));
  Result<Place> place = FindPlace(edit->run, tx, refer->rank, refer->name, refer->shard);
  if (!place.ok()) return place.status();
  const ShardSpec& spec = *place->spec;
  CAIRN_RETURN_IF_ERROR(CheckWithin(spec, refer->offset, 0));
  // A replay takes what the log's writer could take; whoever reads it looks again.
  const bool replayed = run.is_loading();
  if (refer->logged && !replayed) return Status::Client("ERR syntax error");
  const auto first = static_cast<size_t>((refer->offset + spec.phase) / kChunkBytes);
  const size_t count = refer->hashes.size();
  if (count > spec.cell_count() - std::min(first, spec.cell_count()) ||
      spec.CellRange(first).begin != refer->offset) {
    return Status::Client("CKPTOFFSET REF takes whole chunks of the shard's grid of " +
                          std::to_string(kChunkBytes) + " bytes");
  }
  std::vector<ChunkRef> chunks;
  for (size_t i = 0; i < count; ++i) {
    const ByteRange range = spec.CellRange(first + i);
    if (refer->logged) {
      Result<ChunkRef> named = LoadNamed(run, refer->hashes[i], range.end - range.begin);
      if (!named.ok()) return named.status();
      chunks.push_back(std::move(*named));
      continue;
    }
    const size_t size = range.end - range.begin;
    chunks.push_back(FindReferred(run, edit->run, refer->name, refer->hashes[i], size, replayed));
    const bool usable = chunks.back() && (replayed || chunks.back()->WasIntact());
    if (!usable) return NotHeld(refer->hashes[i], size, replayed);
    if (!replayed) CAIRN_RETURN_IF_ERROR(CheckBoolChunk(spec.dtype, *chunks.back()));
  }
  ShardData data = *place->data;
  const bool complete = data.IsComplete();
  CAIRN_RETURN_IF_ERROR(data.Refer(spec, first, chunks));
  const uint64_t next = NextOffset(spec, data);
  if (!complete) {
    std::unordered_set<const Chunk*> committed;
    ForEachCommitted(edit->run, refer->name,
                     [&](const ChunkRef& chunk) { committed.insert(chunk.get()); });
    const bool replayable = std::all_of(chunks.begin(), chunks.end(), [&](const ChunkRef& chunk) {
      return committed.contains(chunk.get());
    });
    const bool as_sent = replayable || !run.is_propagated();
    const std::vector<bool> named = as_sent ? std::vector<bool>(count, true) : MayName(run, chunks);
    for (size_t i = 0; i < count; ++i) {
      if (!named[i] && !chunks[i]->IsIntact()) {
        return Status::Client("CKPTDAMAGED bytes of a chunk in the chunk log");
      }
    }
    CAIRN_RETURN_IF_ERROR(
        StoreShard(&edit->run, tx, refer->rank, place->shard, std::move(data), edit->moment()));
    if (as_sent) {
      edit->Store("ckpt.put");
    } else {
      std::vector<LoggedPiece> pieces;
      for (size_t i = 0; i < count; ++i) {
        pieces.push_back(named[i] ? LoggedPiece{{}, chunks[i].get()}
                                  : LoggedPiece{chunks[i]->bytes()});
      }
      StorePieces(*edit, run, {tx, refer->rank, refer->name, refer->shard, refer->offset}, pieces);
    }
  }
  run.Unsigned(next);
  return Status::Ok();
}

Status ReferCommand(CommandRun& run) {
  // A replay does not look at bytes.
  if (run.is_loading()) return ReferNow(run);
  Result<ReferArgs> refer = ParseRefer(run.args());
  if (!refer.ok()) return refer.status();
  std::vector<ChunkRef> chunks;
  for (const Hash128& hash : refer->hashes) chunks.push_back(run.module().pool.Find(hash));
  return AfterReading(run, std::move(chunks), ReferNow);
}

// --- STATE ---

Status FinishState(CommandRun& run, const std::vector<ChunkRef>& chunks) {
  Result<StateArgs> args = ParseState(run.args());
  if (!args.ok()) return args.status();
  Result<RunEdit> edit = RunEdit::Open(run);
  if (!edit.ok()) return edit.status();
  CAIRN_RETURN_IF_ERROR(edit->CheckOpenTo(run.args()[2]));
  const std::string_view payload = run.args()[args->blob_at];
  StateBlob blob{args->kind, std::string(args->name),
                 args->logged.size() * kChunkBytes + payload.size(), chunks};
  CAIRN_RETURN_IF_ERROR(
      SetState(&edit->run, run.args()[2], args->rank, std::move(blob), edit->moment()));
  std::vector<std::string> room;
  const std::vector<std::string_view> named = args->logged.empty()
                                                  ? NamedPayload(run, payload, chunks, &room)
                                                  : std::vector<std::string_view>();
  if (named.empty()) {
    edit->Store("ckpt.state");
  } else {
    // In front of BLOB.
    std::vector<std::string_view> words(run.args().begin(),
                                        run.args().begin() + (args->blob_at - 1));
    words.insert(words.end(), named.begin(), named.end());
    edit->StoreAs("ckpt.state", words);
  }
  run.Ok();
  return Status::Ok();
}

Status StateCommand(CommandRun& run) {
  Result<StateArgs> args = ParseState(run.args());
  if (!args.ok()) return args.status();
  Result<const RunValue*> found = run.NeedRun(run.key(), CAIRN_WRITE);
  if (!found.ok()) return found.status();
  Result<const Transaction*> transaction = FindLive(found.value()->run(), run.args()[2]);
  if (!transaction.ok()) return transaction.status();
  const uint64_t size = run.args()[args->blob_at].size();
  CAIRN_RETURN_IF_ERROR(ClaimQuota(run, size));
  Result<BlobSlice> bytes = run.ArgPayload(args->blob_at);
  if (!bytes.ok()) return bytes.status();
  Result<std::vector<ChunkRef>> logged = LoadNamed(run, args->logged);
  if (!logged.ok()) return logged.status();
  const NamesTarget names = run.names();
  return run.RunLate(
      StagingCost(names, size),
      [&module = run.module(), bytes = *bytes, logged = std::move(*logged), names]() -> MadeChunks {
        MadeChunks made = logged;
        if (bytes.size == 0) return made;
        MadeChunks rest = module.pool.Intern(bytes, PieceSizes(bytes.size), DType::kU8);
        if (!rest.ok()) return rest;
        CAIRN_RETURN_IF_ERROR(StageChunks(names, *rest));
        made->insert(made->end(), rest->begin(), rest->end());
        return made;
      },
      [](CommandRun& late, MadeChunks& made) {
        return made.ok() ? FinishState(late, *made) : made.status();
      });
}

// --- OFFSET and PREPARE ---

void ReplyOffset(CommandRun& run, const ShardSpec& spec, const ShardData& data) {
  const std::vector<ByteRange> holes = data.Holes(spec);
  run.Map(5);
  run.Bulk("name");
  run.Bulk(spec.name);
  run.Bulk("shard");
  run.Unsigned(spec.index);
  run.Bulk("offset");
  run.Unsigned(NextOffset(spec, data));
  run.Bulk("size");
  run.Unsigned(spec.size_bytes);
  run.Bulk("holes");
  run.Array(holes.size());
  for (const ByteRange& hole : holes) {
    run.Array(2);
    run.Unsigned(hole.begin);
    run.Unsigned(hole.end - hole.begin);
  }
}

Status OffsetCommand(CommandRun& run) {
  Result<OffsetArgs> args = ParseOffset(run.args());
  if (!args.ok()) return args.status();
  Result<const RunValue*> found = run.NeedRun(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  Result<const Transaction*> transaction = FindLive(found.value()->run(), run.args()[2]);
  if (!transaction.ok()) return transaction.status();
  const RankPart* part = FindRank(*transaction.value(), args->rank);
  if (args->name) {
    if (part == nullptr) return Status::Client("ERR this rank has declared nothing");
    Result<size_t> shard = FindShard(*part, *args->name, args->shard);
    if (!shard.ok()) return shard.status();
    ReplyOffset(run, *part->specs[shard.value()], *part->data[shard.value()]);
    return Status::Ok();
  }
  const size_t count = part == nullptr ? 0 : part->specs.size();
  run.Array(count);
  for (size_t i = 0; i < count; ++i) ReplyOffset(run, *part->specs[i], *part->data[i]);
  return Status::Ok();
}

void ReplyPrepared(CommandRun& run, uint32_t rank, uint64_t shards, uint64_t bytes) {
  run.Map(3);
  run.Bulk("rank");
  run.Unsigned(rank);
  run.Bulk("shards");
  run.Unsigned(shards);
  run.Bulk("bytes");
  run.Unsigned(bytes);
}

Status PrepareNow(CommandRun& run, const KnownFinite& known) {
  Result<RankArgs> args = ParsePrepare(run.args());
  if (!args.ok()) return args.status();
  const std::string_view tx = run.args()[2];
  Result<RunEdit> edit = RunEdit::Open(run);
  if (!edit.ok()) return edit.status();
  if (const Version* version = FindCommitted(edit->run, tx)) {
    // C5: the first answer again.
    for (const RankSummary& rank : version->ranks) {
      if (rank.rank != args->rank) continue;
      ReplyPrepared(run, rank.rank, rank.shards, rank.bytes);
      return Status::Ok();
    }
  }
  CAIRN_RETURN_IF_ERROR(edit->CheckOpenTo(tx));
  Result<const Transaction*> before = FindLive(edit->run, tx);
  if (!before.ok()) return before.status();
  const RankPart* old = FindRank(*before.value(), args->rank);
  const bool again = old != nullptr && old->prepared;
  // The deadline is by this server's clock, whatever AT says.
  const Moment moment = edit->moment();
  const int64_t voted_ms = args->at_ms.value_or(moment.now_ms);
  CAIRN_RETURN_IF_ERROR(
      Prepare(&edit->run, tx, args->rank, args->guard_finite, moment, voted_ms, known));
  Result<const Transaction*> transaction = FindLive(edit->run, tx);
  CAIRN_CHECK(transaction.ok());
  const RankPart& part = *FindRank(*transaction.value(), args->rank);
  uint64_t bytes = 0;
  for (const auto& spec : part.specs) bytes += spec->size_bytes;
  for (const auto& state : part.states) bytes += state->size_bytes;
  ReplyPrepared(run, part.rank, part.specs.size(), bytes);
  if (again) return Status::Ok();
  edit->Tell("prepared", transaction.value()->step,
             std::string(tx) + " " + std::to_string(args->rank));
  const std::string at = std::to_string(voted_ms);
  edit->StoreAs("ckpt.prepare", args->at_ms ? With(run.args(), {}) : With(run.args(), {"AT", at}));
  return Status::Ok();
}

Status PrepareCommand(CommandRun& run) {
  Result<RankArgs> args = ParsePrepare(run.args());
  if (!args.ok()) return args.status();
  std::vector<TypedChunk> chunks;
  if (args->guard_finite && !run.is_loading()) {
    Result<const RunValue*> found = run.NeedRun(run.key(), CAIRN_WRITE);
    if (!found.ok()) return found.status();
    Result<const Transaction*> live = FindLive(found.value()->run(), run.args()[2]);
    const RankPart* part = live.ok() ? FindRank(*live.value(), args->rank) : nullptr;
    if (part != nullptr) chunks = UnjudgedChunks(*part);
  }
  uint64_t size_bytes = 0;
  for (const auto& [chunk, dtype] : chunks) size_bytes += chunk->size();
  return run.RunLate(
      size_bytes, [chunks] { return FindFinite(chunks); },
      // What is known is told by where they are: they are held until the vote.
      [chunks, rank = args->rank](CommandRun& late, const KnownFinite& known) {
        return AfterLogging(late, FindUnlogged(late, late.args()[2], rank, std::nullopt),
                            [chunks, known](CommandRun& last) { return PrepareNow(last, known); });
      });
}

constexpr CairnCommandSpec kSpecs[] = {
    {
        .name = "ckpt.put",
        .arity = -10,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM | CAIRN_CMD_NO_MULTI,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(N) in the bytes, on a worker thread, and O(C) in the shard's chunks.",
        .summary = "Uploads a piece of a declared shard and returns the first byte missing.",
        .synopsis = "key#0 tx RANK=rank:integer name [SHARD=shard:integer] AT=offset:integer "
                    "BLOB=blob [XXH3=hex32]",
        .run = Run<PutCommand>,
    },
    {
        .name = "ckpt.have",
        .arity = -5,
        .flags = CAIRN_CMD_READONLY,
        .keys = {kRunRo},
        .since = "1.0.0",
        .complexity = "O(N) in the hashes.",
        .summary = "Tells which chunks the server holds already, as a bitmap.",
        .synopsis = "key#0 tx count:integer hash...",
        .run = Run<HaveCommand>,
    },
    {
        .name = "ckpt.ref",
        .arity = -10,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(N) in the hashes and O(C) in the shard's chunks.",
        .summary = "Gives a shard chunks that the server holds already, by their hashes.",
        .synopsis = "key#0 tx RANK=rank:integer name [SHARD=shard:integer] AT=offset:integer "
                    "count:integer hash...",
        .run = Run<ReferCommand>,
    },
    {
        .name = "ckpt.state",
        .arity = -10,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM | CAIRN_CMD_NO_MULTI,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(N) in the bytes, on a worker thread.",
        .summary = "Uploads bytes that are no tensor: the state of a rank's other parts.",
        .synopsis = "key#0 tx RANK=rank:integer name "
                    "KIND=kind(OPTIM|SCHED|RNG|LOADER|TRAINER|USER) BLOB=blob",
        .run = Run<StateCommand>,
    },
    {
        .name = "ckpt.offset",
        .arity = -5,
        .flags = CAIRN_CMD_READONLY,
        .keys = {kRunRo},
        .since = "1.0.0",
        .complexity = "O(N) in the chunks declared.",
        .summary = "Tells which bytes of a rank's shards are missing.",
        .synopsis = "key#0 tx RANK=rank:integer [shard{name [SHARD=shard:integer]}]",
        .run = Run<OffsetCommand>,
    },
    {
        .name = "ckpt.prepare",
        .arity = -5,
        .flags = CAIRN_CMD_WRITE,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(N) in the chunks of the rank.",
        .summary = "A rank's vote: all it declared has arrived, and is frozen.",
        .synopsis = "key#0 tx RANK=rank:integer [guard{GUARD FINITE}] "
                    "[AT=unix-time-milliseconds:unix-time]",
        .run = Run<PrepareCommand>,
    },
};

}  // namespace

int RegisterCkptUploadCommands(Module& module) {
  for (const CairnCommandSpec& spec : kSpecs) {
    if (module.api.register_command(module.self, &spec) != CAIRN_OK) return CAIRN_FAILED;
  }
  return CAIRN_OK;
}

}  // namespace cairn::tensor
