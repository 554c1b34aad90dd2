// CKPT.CREATE, BEGIN, DECLARE, SAVE, ABORT, RESUME: a transaction from its beginning to what it
// announces, and SAVE, which is a whole one in one command. States are in ckpt_machine.h.

#include <algorithm>

#include "server/base/strings.h"
#include "tensor_module/ckpt_durable.h"
#include "tensor_module/ckpt_edit.h"
#include "tensor_module/ckpt_naming.h"
#include "tensor_module/ckpt_promise.h"
#include "tensor_module/ckpt_whole.h"

namespace cairn::tensor {

namespace {

Status CreateCommand(CommandRun& run) {
  Result<RunConfig> config = ParseCreate(run.args());
  if (!config.ok()) return config.status();
  Result<RunEdit> edit = RunEdit::Open(run, /*create=*/true);
  if (!edit.ok()) return edit.status();
  if (edit->existed && edit->run.config == *config) {
    run.Ok();
    return Status::Ok();
  }
  edit->run.config = std::move(*config);
  edit->Store("ckpt.create");
  run.Ok();
  return Status::Ok();
}

/// PARENT as a step: LATEST when not given, none when there is none or NONE was.
Result<std::optional<uint64_t>> ResolveParent(const CkptRun& run,
                                              const std::optional<std::string_view>& parent) {
  if (!parent) {
    const Version* latest = run.Latest();
    return latest == nullptr ? std::nullopt : std::optional<uint64_t>(latest->step);
  }
  if (EqualsIgnoreCase(*parent, "none")) return std::optional<uint64_t>();
  Result<const Version*> version = ResolveVersion(run, *parent);
  if (!version.ok()) return version.status();
  return std::optional<uint64_t>(version.value()->step);
}

Status BeginCommand(CommandRun& run) {
  Result<BeginTxArgs> begin = ParseBeginTx(run.args());
  if (!begin.ok()) return begin.status();
  if (IsImport(begin->tx) && !run.is_loading()) {
    return Status::Client("ERR names that begin with '" + std::string(kImportPrefix) +
                          "' are IMPORT's");
  }
  Result<RunEdit> edit = RunEdit::Open(run, /*create=*/true);
  if (!edit.ok()) return edit.status();
  Result<std::optional<uint64_t>> parent = ResolveParent(edit->run, begin->parent);
  if (!parent.ok()) return parent.status();
  begin->request.parent = *parent;
  const std::string fresh =
      begin->tx.empty() ? NewTransactionId(run.module()) : std::string(begin->tx);
  begin->request.new_id = fresh;
  // The deadline is by this server's clock, whatever AT says.
  const Moment moment = edit->moment();
  const int64_t began_ms = begin->at_ms.value_or(moment.now_ms);
  begin->request.began_ms = began_ms;
  const std::vector<Kept<Transaction>> before = edit->run.transactions;
  Result<Begun> begun = Begin(&edit->run, begin->request, moment);
  // Who has come, or was told, is this server's to know: neither files nor replicas hear of it.
  const bool told = !begun.ok() && begun.status().message().starts_with("CKPTABORTED");
  if (told || (begun.ok() && !begun->is_new)) {
    run.SetRunQuietly(run.key(), new RunValue(edit->run));
  }
  if (!begun.ok()) return begun.status();
  if (begun->is_new) {
    // The name may have been chosen here, and the time read: they are written down.
    const std::string at = std::to_string(began_ms);
    std::vector<std::string_view> words = With(run.args(), {});
    if (begin->tx.empty()) words.insert(words.end(), {"TX", fresh});
    if (!begin->at_ms) words.insert(words.end(), {"AT", at});
    edit->StoreAs("ckpt.begin", words);
    for (const auto& old : before) {
      if (old->live() && old->attempt < edit->run.highest_attempt) {
        edit->Tell("fenced", old->step, old->id);
      }
    }
    edit->Tell("begun", begin->request.step, fresh);
  }
  run.Bulk(begun->id);
  return Status::Ok();
}

Status DeclareCommand(CommandRun& run) {
  Result<DeclareArgs> declare = ParseDeclare(run.args());
  if (!declare.ok()) return declare.status();
  Result<RunEdit> edit = RunEdit::Open(run);
  if (!edit.ok()) return edit.status();
  CAIRN_RETURN_IF_ERROR(edit->CheckOpenTo(run.args()[2]));
  const size_t count = declare->specs.size();
  // What it adds must have room beside all that is promised already, of whatever run: else the PUTs
  // of one of them would be refused. Of the machine's memory alone nothing is promised.
  CAIRN_RETURN_IF_ERROR(Declare(&edit->run, run.args()[2], declare->rank, std::move(declare->specs),
                                edit->moment(), [&run](uint64_t added_bytes) {
                                  if (added_bytes == 0) return Status::Ok();
                                  const bool limited = run.HasMemoryLimit();
                                  return CheckQuota(run, added_bytes,
                                                    limited ? run.module().PromisedBytes() : 0);
                                }));
  edit->Store("ckpt.declare");
  run.Unsigned(count);
  return Status::Ok();
}

Status AbortCommand(CommandRun& run) {
  Result<AbortArgs> abort = ParseAbort(run.args());
  if (!abort.ok()) return abort.status();
  const std::string_view tx = run.args()[2];
  Result<RunEdit> edit = RunEdit::Open(run);
  if (!edit.ok()) return edit.status();
  if (abort->expired) {
    // From a log, for the clock of then. A client that asks for it ends what is live.
    const Result<const Transaction*> live = FindLive(edit->run, tx);
    if (!live.ok() && !run.is_loading()) return live.status();
    const uint64_t step = live.ok() ? live.value()->step : 0;
    if (EndByClock(&edit->run, tx, edit->moment(), abort->at_ms).ok()) {
      if (live.ok()) {
        edit->StoreWithTime("ckpt.expire", abort->at_ms);
        edit->Tell("expired", step, tx);
      } else {
        edit->Store("ckpt.forget");
      }
    }
    run.Ok();
    return Status::Ok();
  }
  // Aborted twice is aborted.
  for (const Ended& ended : *edit->run.ended) {
    if (ended.tx != tx || ended.how != Ended::How::kAborted) continue;
    run.Ok();
    return Status::Ok();
  }
  Result<const Transaction*> found = FindLive(edit->run, tx);
  if (!found.ok()) return found.status();
  const uint64_t step = found.value()->step;
  CAIRN_RETURN_IF_ERROR(Abort(&edit->run, tx, abort->reason, edit->MomentAt(abort->at_ms)));
  edit->StoreWithTime("ckpt.abort", abort->at_ms);
  edit->Tell("aborted", step, tx);
  run.Ok();
  return Status::Ok();
}

// --- RESUME ---

void ReplyHoles(CommandRun& run, const RankPart* part) {
  std::vector<std::pair<const ShardSpec*, std::vector<ByteRange>>> rows;
  for (size_t i = 0; part != nullptr && i < part->specs.size(); ++i) {
    std::vector<ByteRange> holes = part->data[i]->Holes(*part->specs[i]);
    if (!holes.empty()) rows.emplace_back(part->specs[i].get(), std::move(holes));
  }
  run.Array(rows.size());
  for (const auto& [spec, holes] : rows) {
    run.Map(3);
    run.Bulk("name");
    run.Bulk(spec->name);
    run.Bulk("shard");
    run.Unsigned(spec->index);
    run.Bulk("missing");
    run.Array(holes.size());
    for (const ByteRange& hole : holes) {
      run.Array(2);
      run.Unsigned(hole.begin);
      run.Unsigned(hole.end - hole.begin);
    }
  }
}

Status ResumeCommand(CommandRun& run) {
  Result<RankArgs> args = ParseResume(run.args());
  if (!args.ok()) return args.status();
  Result<const RunValue*> found = run.NeedRun(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  const CkptRun& state = found.value()->run();
  if (args->attempt && *args->attempt < state.highest_attempt) {
    return Status::Client("CKPTFENCED the run is at attempt " +
                          std::to_string(state.highest_attempt));
  }
  std::vector<const Transaction*> open;
  for (const auto& transaction : state.transactions) {
    const bool late = transaction->deadline_ms != 0 && transaction->deadline_ms <= run.now_ms();
    const bool open_to_ranks = transaction->live() && !IsImport(transaction->id);
    if (open_to_ranks && !late && args->rank < transaction->world) {
      open.push_back(transaction.get());
    }
  }
  run.Array(open.size());
  for (const Transaction* transaction : open) {
    const RankPart* part = FindRank(*transaction, args->rank);
    run.Map(6);
    run.Bulk("tx");
    run.Bulk(transaction->id);
    run.Bulk("step");
    run.Unsigned(transaction->step);
    run.Bulk("attempt");
    run.Unsigned(transaction->attempt);
    run.Bulk("world");
    run.Unsigned(transaction->world);
    run.Bulk("prepared");
    run.Unsigned(part != nullptr && part->prepared ? 1 : 0);
    run.Bulk("shards");
    ReplyHoles(run, part);
  }
  return Status::Ok();
}

// --- SAVE ---

struct SavedPayload {
  std::vector<ChunkRef> logged;
  BlobSlice bytes;
  DType dtype;
};
using SavedChunks = Result<std::vector<std::vector<ChunkRef>>>;

/// The command as it was sent, with names in place of what the log has.
std::vector<std::string_view> NamedSave(const CommandRun& run, const SaveArgs& save,
                                        const std::vector<std::vector<ChunkRef>>& chunks,
                                        std::vector<std::vector<std::string>>* room) {
  std::vector<std::string_view> words;
  size_t from = 0;
  room->resize(save.tensors.size());
  for (size_t i = 0; i < save.tensors.size(); ++i) {
    const SavedTensor& tensor = save.tensors[i];
    if (!tensor.logged.empty()) continue;
    const std::vector<std::string_view> named =
        NamedPayload(run, run.args()[tensor.blob_at], chunks[i], &(*room)[i]);
    if (named.empty()) continue;
    words.insert(words.end(), run.args().begin() + from, run.args().begin() + (tensor.blob_at - 1));
    words.insert(words.end(), named.begin(), named.end());
    from = tensor.blob_at + 1;
  }
  words.insert(words.end(), run.args().begin() + from, run.args().end());
  return words;
}

WholeTensors TensorsOf(const SaveArgs& save, const std::vector<std::vector<ChunkRef>>& chunks) {
  WholeTensors out;
  out.chunks = chunks;
  for (const SavedTensor& tensor : save.tensors) {
    ShardSpec spec;
    spec.name = tensor.name;
    spec.group = "weights";
    spec.dtype = tensor.head.dtype;
    spec.shape = tensor.head.shape;
    spec.extent = Extent::Whole(spec.shape);
    spec.Settle();
    out.specs.push_back(std::move(spec));
  }
  return out;
}

Status FinishSave(CommandRun& run, const std::vector<std::vector<ChunkRef>>& chunks) {
  Result<SaveArgs> args = ParseSave(run.args());
  if (!args.ok()) return args.status();
  Result<RunEdit> edit = RunEdit::Open(run, /*create=*/true);
  if (!edit.ok()) return edit.status();
  const std::string tx = args->tx.empty() ? NewTransactionId(run.module()) : std::string(args->tx);
  const WholeSave save{args->step, tx, std::string(args->tag), TensorsOf(*args, chunks)};
  Moment moment = edit->moment();
  moment.now_ms = args->at_ms.value_or(moment.now_ms);
  Result<std::vector<uint64_t>> gone = CommitWhole(run, &edit->run, save, moment);
  if (!gone.ok()) return gone.status();
  const std::string at = std::to_string(moment.now_ms);
  std::vector<std::vector<std::string>> room;
  std::vector<std::string_view> words = NamedSave(run, *args, chunks, &room);
  if (args->tx.empty()) words.insert(words.end(), {"TX", tx});
  if (!args->at_ms) words.insert(words.end(), {"AT", at});
  edit->StoreAs("ckpt.commit", words);
  edit->TellCommitted(args->step, tx, *gone);
  run.Bulk(tx);
  return Status::Ok();
}

Status SaveCommand(CommandRun& run) {
  Result<SaveArgs> save = ParseSave(run.args());
  if (!save.ok()) return save.status();
  std::vector<SavedPayload> payloads;
  uint64_t bytes = 0;
  for (const SavedTensor& tensor : save->tensors) bytes += tensor.head.size_bytes;
  CAIRN_RETURN_IF_ERROR(ClaimQuota(run, bytes));
  for (const SavedTensor& tensor : save->tensors) {
    Result<BlobSlice> payload = run.ArgPayload(tensor.blob_at);
    if (!payload.ok()) return payload.status();
    Result<std::vector<ChunkRef>> logged = LoadNamed(run, tensor.logged);
    if (!logged.ok()) return logged.status();
    payloads.push_back({std::move(*logged), std::move(*payload), tensor.head.dtype});
  }
  const NamesTarget names = run.names();
  return run.RunLate(
      StagingCost(names, bytes),
      [&module = run.module(), log = LogOfNewVersion(run), names,
       payloads = std::move(payloads)]() -> SavedChunks {
        std::vector<std::vector<ChunkRef>> made;
        for (const SavedPayload& payload : payloads) {
          Result<std::vector<ChunkRef>> chunks =
              module.pool.Intern(payload.bytes, PieceSizes(payload.bytes.size), payload.dtype);
          if (!chunks.ok()) return chunks.status();
          for (const ChunkRef& chunk : *chunks) {
            CAIRN_RETURN_IF_ERROR(CheckBoolChunk(payload.dtype, *chunk));
          }
          std::vector<ChunkRef>& all = made.emplace_back(payload.logged);
          all.insert(all.end(), chunks->begin(), chunks->end());
        }
        CAIRN_RETURN_IF_ERROR(StageChunks(names, made));
        CAIRN_RETURN_IF_ERROR(LogMade(log, made));
        return made;
      },
      [](CommandRun& late, SavedChunks& made) {
        if (!made.ok()) return made.status();
        ToLog left = FindUnlogged(late, *made);
        return AfterLogging(late, std::move(left), [chunks = std::move(*made)](CommandRun& last) {
          return FinishSave(last, chunks);
        });
      });
}

constexpr CairnCommandSpec kSpecs[] = {
    {
        .name = "ckpt.create",
        .arity = -2,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM | CAIRN_CMD_FAST,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(1)",
        .summary = "Makes a run of checkpoints, or changes its settings.",
        .synopsis = "key#0 [WORLD=world:integer] [REQUIRE=require{count:integer group...}] "
                    "[TIMEOUT=timeout:integer] [MAXCONCURRENT=max-concurrent:integer] "
                    "[MINPAUSE=min-pause:integer] [KEEP=keep:integer] "
                    "[DURABLE=durable(MEM|AOF|DISK)]",
        .run = Run<CreateCommand>,
    },
    {
        .name = "ckpt.begin",
        .arity = -3,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM | CAIRN_CMD_FAST,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(N) in the transactions and versions of the run.",
        .summary = "Begins or joins the transaction that saves a step, and returns its name.",
        .synopsis = "key#0 step:integer [rank{RANK=rank:integer WORLD=world:integer}] "
                    "[ATTEMPT=attempt:integer] [PARENT=parent] [TIMEOUT=timeout:integer] "
                    "[mode(COVERAGE|ALLRANKS)] [TX=tx] [AT=unix-time-milliseconds:unix-time]",
        .run = Run<BeginCommand>,
    },
    {
        .name = "ckpt.declare",
        .arity = -11,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(N*R) in the tensors named and the ranks that declared so far.",
        .summary = "Tells what a rank is going to upload.",
        .synopsis = "key#0 tx RANK=rank:integer count:integer tensor{name group dtype "
                    "SHAPE=shape{ndim:integer [dim:integer...]} "
                    "[SHARD=shard{OFF=off{ndim:integer [off:integer...]} "
                    "LEN=len{ndim:integer [len:integer...]}}] [ALIAS=of]}...",
        .run = Run<DeclareCommand>,
    },
    {
        .name = "ckpt.save",
        .arity = -10,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM | CAIRN_CMD_NO_MULTI,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(N) in the bytes, on a worker thread.",
        .summary = "Saves a checkpoint of one process in one command.",
        .synopsis = "key#0 step:integer count:integer tensor{name dtype "
                    "SHAPE=shape{ndim:integer [dim:integer...]} BLOB=blob}... [TAG=tag] [TX=tx] "
                    "[AT=unix-time-milliseconds:unix-time]",
        .run = Run<SaveCommand>,
    },
    {
        .name = "ckpt.abort",
        .arity = -3,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_FAST,
        .keys = {kRunRw},
        .since = "1.0.0",
        .complexity = "O(N) in the tensors declared.",
        .summary = "Ends a transaction without a checkpoint.",
        .synopsis = "key#0 tx [REASON=reason] [EXPIRED] [AT=unix-time-milliseconds:unix-time]",
        .run = Run<AbortCommand>,
    },
    {
        .name = "ckpt.resume",
        .arity = -4,
        .flags = CAIRN_CMD_READONLY,
        .keys = {kRunRo},
        .since = "1.0.0",
        .complexity = "O(N) in the chunks declared.",
        .summary = "Tells a rank which transactions are open and which of its bytes they lack.",
        .synopsis = "key#0 RANK=rank:integer [ATTEMPT=attempt:integer]",
        .run = Run<ResumeCommand>,
    },
};

}  // namespace

int RegisterCkptSaveCommands(Module& module) {
  for (const CairnCommandSpec& spec : kSpecs) {
    if (module.api.register_command(module.self, &spec) != CAIRN_OK) return CAIRN_FAILED;
  }
  return CAIRN_OK;
}

}  // namespace cairn::tensor
