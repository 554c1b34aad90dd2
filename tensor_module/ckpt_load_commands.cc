// CKPT.LOAD, MLOAD, STATEGET, FETCHDELTA: payloads out of a version, by reference where the bytes
// lie in the order asked for, else gathered and cast by a first half on a worker (module.h,
// RunLate).

#include <algorithm>

#include "tensor_module/ckpt_delta.h"
#include "tensor_module/ckpt_edit.h"

namespace cairn::tensor {

namespace {

/// What of which tensor.
struct Wanted {
  Kept<Version> version;
  const LogicalTensor* tensor = nullptr;  ///< storage of it, within version
  Box box;
  std::optional<DType> as;
};
struct Loaded {
  DType dtype = DType::kF32;
  Shape shape;
  Chunks bytes;
};

Result<Kept<Version>> FindVersion(CommandRun& run, std::string_view name) {
  Result<const RunValue*> found = run.NeedRun(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  Result<const Version*> version = ResolveVersion(found.value()->run(), name);
  if (!version.ok()) return version.status();
  return Kept<Version>(found.value()->run().FindStep(version.value()->step)->version);
}

Result<Wanted> Want(const Kept<Version>& version, std::string_view name,
                    const std::optional<std::vector<SliceWords>>& slice, std::optional<DType> as) {
  const LogicalTensor* tensor = version->Find(name);
  if (tensor == nullptr) {
    return Status::Client("ERR the version has no tensor '" + std::string(name) + "'");
  }
  Wanted wanted{version, &version->Storage(*tensor), {}, as};
  Result<Box> box = ResolveSlice(wanted.tensor->shape, slice.value_or(std::vector<SliceWords>()));
  if (!box.ok()) return box.status();
  wanted.box = std::move(*box);
  return wanted;
}

uint64_t CostOf(const Compute& compute, const Wanted& wanted) {
  const uint64_t bytes = PayloadBytes(wanted.tensor->dtype, wanted.box.shape()).value();
  uint64_t cost = IsReadByReference(*wanted.tensor, wanted.box) ? 0 : bytes;
  const bool casts = wanted.as && *wanted.as != wanted.tensor->dtype;
  if (casts) cost += bytes * kCastPasses;
  return CostWithTorch(compute, casts, cost);
}

/// Thread: any.
Result<Loaded> Load(const Compute& compute, BlobSource& source, const Wanted& wanted) {
  Result<Chunks> bytes = GatherBox(source, *wanted.tensor, wanted.box);
  if (!bytes.ok()) return bytes.status();
  Loaded out{wanted.tensor->dtype, wanted.box.shape(), std::move(*bytes)};
  if (!wanted.as || *wanted.as == out.dtype) return out;
  Result<BlobSlice> whole = Join(source, out.bytes);
  if (!whole.ok()) return whole.status();
  Result<BlobSlice> cast = compute.Cast(source, out.dtype, *whole, *wanted.as);
  if (!cast.ok()) return cast.status();
  out.bytes = {std::move(*cast)};
  out.dtype = *wanted.as;
  return out;
}

void ReplyLoaded(CommandRun& run, const Loaded& loaded) {
  run.Map(3);
  run.Bulk("dtype");
  run.Bulk(DTypeName(loaded.dtype));
  run.Bulk("shape");
  run.ShapeOf(loaded.shape);
  run.Bulk("blob");
  run.Blob(loaded.bytes);
}

Status LoadRangeCommand(CommandRun& run, const Wanted& wanted, ByteRange range) {
  const uint64_t size = wanted.tensor->size_bytes();
  if (range.begin > size) {
    return Status::Client("ERR the range begins at byte " + std::to_string(range.begin) + " of " +
                          std::to_string(size));
  }
  range.end = std::min(range.end, size);
  const bool direct = IsReadByReference(*wanted.tensor, wanted.box);
  return run.RunLate(
      direct ? 0 : size,
      [&module = run.module(), wanted, range] {
        return ReadRanges(module.memory, *wanted.tensor, {range});
      },
      [](CommandRun& late, Result<std::vector<Chunks>>& bytes) {
        if (!bytes.ok()) return bytes.status();
        late.Blob((*bytes)[0]);
        return Status::Ok();
      });
}

Status LoadCommand(CommandRun& run) {
  Result<LoadArgs> args = ParseLoad(run.args());
  if (!args.ok()) return args.status();
  Result<Kept<Version>> version = FindVersion(run, run.args()[2]);
  if (!version.ok()) return version.status();
  Result<Wanted> wanted = Want(*version, args->names[0], args->slice, args->as);
  if (!wanted.ok()) return wanted.status();
  if (args->range) return LoadRangeCommand(run, *wanted, *args->range);
  return run.RunLate(
      CostOf(run.module().compute, *wanted),
      [&module = run.module(), wanted = *wanted] {
        return Load(module.compute, module.memory, wanted);
      },
      [](CommandRun& late, Result<Loaded>& loaded) {
        if (!loaded.ok()) return loaded.status();
        ReplyLoaded(late, *loaded);
        return Status::Ok();
      });
}

Status MLoadCommand(CommandRun& run) {
  Result<LoadArgs> args = ParseMLoad(run.args());
  if (!args.ok()) return args.status();
  Result<Kept<Version>> version = FindVersion(run, run.args()[2]);
  if (!version.ok()) return version.status();
  std::vector<std::optional<Wanted>> wanted;
  uint64_t cost = 0;
  for (std::string_view name : args->names) {
    wanted.emplace_back();
    if ((*version)->Find(name) == nullptr) continue;
    Result<Wanted> each = Want(*version, name, std::nullopt, args->as);
    if (!each.ok()) return each.status();
    cost += CostOf(run.module().compute, *each);
    wanted.back() = std::move(*each);
  }
  return run.RunLate(
      cost,
      [&module = run.module(), wanted = std::move(wanted)] {
        std::vector<std::optional<Result<Loaded>>> made;
        for (const auto& each : wanted) {
          made.emplace_back();
          if (each) made.back() = Load(module.compute, module.memory, *each);
        }
        return made;
      },
      [](CommandRun& late, std::vector<std::optional<Result<Loaded>>>& made) {
        late.Array(made.size());
        for (const auto& each : made) {
          if (each && !each->ok()) return each->status();
          if (each) {
            ReplyLoaded(late, **each);
          } else {
            late.Null();
          }
        }
        return Status::Ok();
      });
}

using KeptStates = std::vector<Kept<StateBlob>>;

/// What STATEGET asks for, by reference.
Result<KeptStates> FindStates(CommandRun& run) {
  Result<StateGetArgs> args = ParseStateGet(run.args());
  if (!args.ok()) return args.status();
  Result<Kept<Version>> version = FindVersion(run, run.args()[2]);
  if (!version.ok()) return version.status();
  KeptStates blobs;
  for (const RankState& state : (*version)->states) {
    if (state.rank != args->rank || (args->kind && state.blob->kind != *args->kind)) continue;
    blobs.push_back(state.blob);
  }
  return blobs;
}

/// The bytes of each. Errors: CKPTDAMAGED. Thread: any.
Result<std::vector<Chunks>> ReadStates(const KeptStates& blobs) {
  std::vector<Chunks> out;
  for (const auto& blob : blobs) {
    Chunks& bytes = out.emplace_back();
    for (const ChunkRef& chunk : blob->chunks) {
      if (!chunk->IsIntact()) return Damaged("state '" + blob->name + "'");
      bytes.push_back(chunk->bytes());
    }
  }
  return out;
}

Status ReplyStates(CommandRun& run, const KeptStates& blobs,
                   const Result<std::vector<Chunks>>& bytes) {
  if (!bytes.ok()) return bytes.status();
  run.Array(blobs.size());
  for (size_t i = 0; i < blobs.size(); ++i) {
    run.Map(3);
    run.Bulk("kind");
    run.Bulk(StateKindName(blobs[i]->kind));
    run.Bulk("name");
    run.Bulk(blobs[i]->name);
    run.Bulk("blob");
    run.Blob((*bytes)[i]);
  }
  return Status::Ok();
}

Status StateGetCommand(CommandRun& run) {
  Result<KeptStates> blobs = FindStates(run);
  if (!blobs.ok()) return blobs.status();
  uint64_t cold_bytes = 0;
  for (const auto& blob : *blobs) {
    for (const ChunkRef& chunk : blob->chunks) cold_bytes += chunk->IsCold() ? chunk->size() : 0;
  }
  return run.RunLate(
      cold_bytes == 0 ? 0 : std::max(cold_bytes, kLateBytes),
      [states = *blobs] { return ReadStates(states); },
      [states = *blobs](CommandRun& late, Result<std::vector<Chunks>>& bytes) {
        return ReplyStates(late, states, bytes);
      });
}

// --- FETCHDELTA ---

/// What of a tensor goes out.
struct Delta {
  const LogicalTensor* named = nullptr;
  const LogicalTensor* storage = nullptr;
  std::vector<ByteRange> ranges;
};

struct DeltaBytes {
  Delta delta;
  std::vector<Chunks> bytes;
};

void ReplyDelta(CommandRun& run, const DeltaBytes& row) {
  run.Map(4);
  run.Bulk("name");
  run.Bulk(row.delta.named->name);
  run.Bulk("dtype");
  run.Bulk(DTypeName(row.delta.storage->dtype));
  run.Bulk("shape");
  run.ShapeOf(row.delta.storage->shape);
  run.Bulk("pieces");
  run.Array(row.bytes.size());
  for (size_t i = 0; i < row.bytes.size(); ++i) {
    run.Array(2);
    run.Unsigned(row.delta.ranges[i].begin);
    run.Blob(row.bytes[i]);
  }
}

using DeltaRows = Result<std::vector<DeltaBytes>>;

Status FetchDeltaCommand(CommandRun& run) {
  if (run.args().size() > 5) return Status::Client("ERR syntax error");
  Result<Kept<Version>> from = FindVersion(run, run.args()[2]);
  if (!from.ok()) return from.status();
  Result<Kept<Version>> to = FindVersion(run, run.args()[3]);
  if (!to.ok()) return to.status();
  const std::string_view only = run.args().size() == 5 ? run.args()[4] : std::string_view();
  std::vector<Delta> deltas;
  uint64_t cost = 0;
  for (const auto& tensor : (*to)->tensors) {
    if (!only.empty() && tensor->name != only) continue;
    const LogicalTensor& storage = (*to)->Storage(*tensor);
    const LogicalTensor* old = (*from)->Find(tensor->name);
    const LogicalTensor* old_storage = old == nullptr ? nullptr : &(*from)->Storage(*old);
    Delta delta{tensor.get(), &storage, ChangedRanges(old_storage, storage)};
    if (delta.ranges.empty()) continue;
    if (!IsReadByReference(storage, Extent::Whole(storage.shape).AsBox())) {
      cost += storage.size_bytes();
    }
    deltas.push_back(std::move(delta));
  }
  if (!only.empty() && (*to)->Find(only) == nullptr) {
    return Status::Client("ERR the version has no tensor '" + std::string(only) + "'");
  }
  return run.RunLate(
      cost,
      [&module = run.module(), kept = *to, deltas = std::move(deltas)]() -> DeltaRows {
        std::vector<DeltaBytes> rows;
        for (const Delta& delta : deltas) {
          Result<std::vector<Chunks>> bytes =
              ReadRanges(module.memory, *delta.storage, delta.ranges);
          if (!bytes.ok()) return bytes.status();
          rows.push_back({delta, std::move(*bytes)});
        }
        return rows;
      },
      [](CommandRun& late, DeltaRows& rows) {
        if (!rows.ok()) return rows.status();
        late.Array(rows->size());
        for (const DeltaBytes& row : *rows) ReplyDelta(late, row);
        return Status::Ok();
      });
}

constexpr CairnCommandSpec kSpecs[] = {
    {
        .name = "ckpt.load",
        .arity = -4,
        .flags = CAIRN_CMD_READONLY,
        .keys = {kRunRo},
        .since = "1.0.0",
        .complexity = "O(1) where the bytes lie in order: they go out by reference. Else O(N).",
        .summary =
            "Returns a tensor of a version, or a box of it, whatever shards it was saved in.",
        .synopsis = "key#0 version name "
                    "[part(SLICE=slice{count:integer [bound{start:integer stop:integer "
                    "step:integer}...]}|RANGE=range{offset:integer length:integer})] [AS=dtype]",
        .run = Run<LoadCommand>,
    },
    {
        .name = "ckpt.mload",
        .arity = -5,
        .flags = CAIRN_CMD_READONLY,
        .keys = {kRunRo},
        .since = "1.0.0",
        .complexity = "O(N) in the tensors, and in the bytes of those that must be gathered.",
        .summary = "Returns several tensors of a version.",
        .synopsis = "key#0 version count:integer name... [AS=dtype]",
        .run = Run<MLoadCommand>,
    },
    {
        .name = "ckpt.stateget",
        .arity = -5,
        .flags = CAIRN_CMD_READONLY,
        .keys = {kRunRo},
        .since = "1.0.0",
        .complexity = "O(N) in the states of the version.",
        .summary = "Returns the states that a rank saved.",
        .synopsis = "key#0 version RANK=rank:integer "
                    "[KIND=kind(OPTIM|SCHED|RNG|LOADER|TRAINER|USER)]",
        .run = Run<StateGetCommand>,
    },
    {
        .name = "ckpt.fetchdelta",
        .arity = -4,
        .flags = CAIRN_CMD_READONLY,
        .keys = {kRunRo},
        .since = "1.0.0",
        .complexity = "O(N) in the chunks of both versions.",
        .summary = "Returns what changed from one version to another, in pieces of whole chunks.",
        .synopsis = "key#0 from to [name]",
        .run = Run<FetchDeltaCommand>,
    },
};

}  // namespace

int RegisterCkptLoadCommands(Module& module) {
  for (const CairnCommandSpec& spec : kSpecs) {
    if (module.api.register_command(module.self, &spec) != CAIRN_OK) return CAIRN_FAILED;
  }
  return CAIRN_OK;
}

}  // namespace cairn::tensor
