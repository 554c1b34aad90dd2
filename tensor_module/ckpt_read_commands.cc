// CKPT.MANIFEST, PLAN, DIFF, VERIFY: what a version is, without its bytes.

#include <algorithm>

#include "server/base/strings.h"
#include "tensor_module/ckpt_edit.h"

namespace cairn::tensor {

namespace {

Result<Kept<Version>> FindVersion(CommandRun& run, std::string_view name) {
  Result<const RunValue*> found = run.NeedRun(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  Result<const Version*> version = ResolveVersion(found.value()->run(), name);
  if (!version.ok()) return version.status();
  return Kept<Version>(found.value()->run().FindStep(version.value()->step)->version);
}

// --- MANIFEST ---

/// What chunks take as they are held, each once.
class StoredSum {
 public:
  void Add(const std::vector<ChunkRef>& chunks) {
    for (const ChunkRef& chunk : chunks) chunks_.push_back(chunk.get());
  }
  void Add(const LogicalTensor& tensor) {
    for (const StoredShard& shard : tensor.shards) Add(shard.chunks);
  }
  /// Begins anew.
  uint64_t TakeBytes() {
    std::sort(chunks_.begin(), chunks_.end());
    uint64_t bytes = 0;
    const Chunk* last = nullptr;
    for (const Chunk* chunk : chunks_) {
      if (chunk != last) bytes += chunk->stored_bytes();
      last = chunk;
    }
    chunks_.clear();
    return bytes;
  }

 private:
  std::vector<const Chunk*> chunks_;
};

void ReplyTensor(CommandRun& run, const LogicalTensor& tensor, const ChunkFigures& figures,
                 StoredSum* stored) {
  run.Map(10);
  run.Bulk("name");
  run.Bulk(tensor.name);
  run.Bulk("group");
  run.Bulk(tensor.group);
  run.Bulk("dtype");
  run.Bulk(DTypeName(tensor.dtype));
  run.Bulk("shape");
  run.ShapeOf(tensor.shape);
  run.Bulk("nbytes");
  run.Unsigned(tensor.size_bytes());
  run.Bulk("alias_of");
  if (tensor.alias_of.empty()) {
    run.Null();
  } else {
    run.Bulk(tensor.alias_of);
  }
  size_t chunks = 0;
  for (const StoredShard& shard : tensor.shards) chunks += shard.chunks.size();
  run.Bulk("chunks");
  run.Unsigned(chunks);
  run.Bulk("shards");
  run.Array(tensor.shards.size());
  for (const StoredShard& shard : tensor.shards) {
    run.Map(2);
    run.Bulk("off");
    run.ShapeOf(shard.extent.off);
    run.Bulk("len");
    run.ShapeOf(shard.extent.len);
  }
  const auto finite = static_cast<double>(figures.count - figures.not_finite);
  run.Bulk("figures");
  run.Map(4);
  run.Bulk("not_finite");
  run.Unsigned(figures.not_finite);
  run.Bulk("min");
  if (finite > 0) {
    run.Double(figures.min);
    run.Bulk("max");
    run.Double(figures.max);
    run.Bulk("mean");
    run.Double(figures.sum / finite);
  } else {
    run.Null();
    run.Bulk("max");
    run.Null();
    run.Bulk("mean");
    run.Null();
  }
  stored->Add(tensor);
  run.Bulk("stored_bytes");
  run.Unsigned(stored->TakeBytes());
}

/// `figures`: of each of the tensors.
void ReplyManifest(CommandRun& run, const Version& version,
                   const std::vector<const LogicalTensor*>& matching,
                   const std::vector<ChunkFigures>& figures) {
  run.Map(8);
  run.Bulk("step");
  run.Unsigned(version.step);
  run.Bulk("tx");
  run.Bulk(version.tx);
  run.Bulk("world");
  run.Unsigned(version.world);
  run.Bulk("bytes");
  run.Unsigned(version.size_bytes);
  run.Bulk("ranks");
  run.Array(version.ranks.size());
  for (const RankSummary& rank : version.ranks) {
    run.Map(3);
    run.Bulk("rank");
    run.Unsigned(rank.rank);
    run.Bulk("shards");
    run.Unsigned(rank.shards);
    run.Bulk("bytes");
    run.Unsigned(rank.bytes);
  }
  run.Bulk("states");
  run.Array(version.states.size());
  for (const RankState& state : version.states) {
    run.Map(4);
    run.Bulk("rank");
    run.Unsigned(state.rank);
    run.Bulk("kind");
    run.Bulk(StateKindName(state.blob->kind));
    run.Bulk("name");
    run.Bulk(state.blob->name);
    run.Bulk("nbytes");
    run.Unsigned(state.blob->size_bytes);
  }
  run.Bulk("tensors");
  run.Array(matching.size());
  StoredSum stored;
  for (size_t i = 0; i < matching.size(); ++i) ReplyTensor(run, *matching[i], figures[i], &stored);
  for (const auto& tensor : version.tensors) stored.Add(*tensor);
  for (const RankState& state : version.states) stored.Add(state.blob->chunks);
  run.Bulk("stored_bytes");
  run.Unsigned(stored.TakeBytes());
}

Status ManifestCommand(CommandRun& run) {
  Result<std::string_view> pattern = ParseMatch(run.args(), 3);
  if (!pattern.ok()) return pattern.status();
  Result<Kept<Version>> version = FindVersion(run, run.args()[2]);
  if (!version.ok()) return version.status();
  std::vector<const LogicalTensor*> matching;
  uint64_t cost = 0;
  for (const auto& tensor : (*version)->tensors) {
    if (!GlobMatch(*pattern, tensor->name, false)) continue;
    matching.push_back(tensor.get());
    cost += FiguresCost(*tensor);
  }
  return run.RunLate(
      cost,
      [version = *version, matching] {
        std::vector<ChunkFigures> figures;
        for (const LogicalTensor* tensor : matching) figures.push_back(FiguresOf(*tensor));
        return figures;
      },
      [version = *version, matching](CommandRun& late, const std::vector<ChunkFigures>& figures) {
        ReplyManifest(late, *version, matching, figures);
        return Status::Ok();
      });
}

// --- PLAN ---

Status PlanCommand(CommandRun& run) {
  Result<PlanArgs> args = ParsePlan(run.args());
  if (!args.ok()) return args.status();
  Result<Kept<Version>> found = FindVersion(run, run.args()[2]);
  if (!found.ok()) return found.status();
  const Version& version = **found;
  const uint64_t dim = args->dim.value_or(0);
  run.Array(version.tensors.size());
  for (const auto& tensor : version.tensors) {
    Extent box = Extent::Whole(tensor->shape);
    // What has no such dimension is read whole by every rank.
    if (dim < tensor->shape.size()) {
      __extension__ using Wide = unsigned __int128;
      const Wide size = tensor->shape[dim];
      const auto begin = static_cast<uint64_t>(size * args->rank / args->world);
      box.off[dim] = begin;
      box.len[dim] = static_cast<uint64_t>(size * (args->rank + 1) / args->world) - begin;
    }
    run.Map(6);
    run.Bulk("name");
    run.Bulk(tensor->name);
    run.Bulk("dtype");
    run.Bulk(DTypeName(tensor->dtype));
    run.Bulk("shape");
    run.ShapeOf(tensor->shape);
    run.Bulk("off");
    run.ShapeOf(box.off);
    run.Bulk("len");
    run.ShapeOf(box.len);
    run.Bulk("nbytes");
    run.Unsigned(box.numel() * DTypeSize(tensor->dtype));
  }
  return Status::Ok();
}

// --- DIFF ---

struct DiffRow {
  std::string name;
  Difference difference;
};
struct Diff {
  std::vector<DiffRow> rows;
  std::vector<std::string> fresh, removed, reshaped;
  uint64_t same = 0;
};

/// Both payloads in pieces of common bounds. Shared memory is counted, not looked at.
Result<Difference> DiffTensors(BlobSource& source, const LogicalTensor& a, const LogicalTensor& b) {
  Difference out;
  if (a.size_bytes() == 0) return out;
  Result<Chunks> x = GatherBox(source, a, Extent::Whole(a.shape).AsBox());
  if (!x.ok()) return x.status();
  Result<Chunks> y = GatherBox(source, b, Extent::Whole(b.shape).AsBox());
  if (!y.ok()) return y.status();
  size_t i = 0, j = 0, from_x = 0, from_y = 0;
  while (i < x->size() && j < y->size()) {
    const std::string_view left = (*x)[i].view().substr(from_x);
    const std::string_view right = (*y)[j].view().substr(from_y);
    const size_t size = std::min({left.size(), right.size(), kChunkBytes});
    out.Add(Compare(a.dtype, left.substr(0, size), right.substr(0, size)));
    from_x += size;
    from_y += size;
    if (from_x == (*x)[i].size) ++i, from_x = 0;
    if (from_y == (*y)[j].size) ++j, from_y = 0;
  }
  return out;
}

bool SameChunks(const LogicalTensor& a, const LogicalTensor& b) {
  if (a.shards.size() != b.shards.size()) return false;
  for (size_t i = 0; i < a.shards.size(); ++i) {
    const StoredShard &x = a.shards[i], &y = b.shards[i];
    if (!(x.extent == y.extent)) return false;
    for (size_t chunk = 0; chunk < x.chunks.size(); ++chunk) {
      if (x.chunks[chunk].get() != y.chunks[chunk].get()) return false;
    }
  }
  return true;
}

/// Thread: any.
Result<Diff> DiffVersions(BlobSource& source, const Version& a, const Version& b,
                          std::string_view pattern) {
  Diff diff;
  for (const auto& old : a.tensors) {
    if (!GlobMatch(pattern, old->name, false)) continue;
    const LogicalTensor* now = b.Find(old->name);
    if (now == nullptr) {
      diff.removed.push_back(old->name);
    } else if (now->dtype != old->dtype || now->shape != old->shape) {
      diff.reshaped.push_back(old->name);
    } else if (SameChunks(a.Storage(*old), b.Storage(*now))) {
      ++diff.same;
    } else {
      Result<Difference> difference = DiffTensors(source, a.Storage(*old), b.Storage(*now));
      if (!difference.ok()) return difference.status();
      if (difference->changed == 0) {
        ++diff.same;
      } else {
        diff.rows.push_back({old->name, *difference});
      }
    }
  }
  for (const auto& now : b.tensors) {
    if (GlobMatch(pattern, now->name, false) && a.Find(now->name) == nullptr) {
      diff.fresh.push_back(now->name);
    }
  }
  return diff;
}

void ReplyNames(CommandRun& run, std::string_view word, const std::vector<std::string>& names) {
  run.Bulk(word);
  run.Array(names.size());
  for (const std::string& name : names) run.Bulk(name);
}

void ReplyDiff(CommandRun& run, const Diff& diff) {
  run.Map(5);
  run.Bulk("same");
  run.Unsigned(diff.same);
  run.Bulk("changed");
  run.Array(diff.rows.size());
  for (const DiffRow& row : diff.rows) {
    run.Map(5);
    run.Bulk("name");
    run.Bulk(row.name);
    ReplyDifference(run, row.difference);
  }
  ReplyNames(run, "new", diff.fresh);
  ReplyNames(run, "removed", diff.removed);
  ReplyNames(run, "reshaped", diff.reshaped);
}

Status DiffCommand(CommandRun& run) {
  Result<std::string_view> pattern = ParseMatch(run.args(), 4);
  if (!pattern.ok()) return pattern.status();
  Result<Kept<Version>> a = FindVersion(run, run.args()[2]);
  if (!a.ok()) return a.status();
  Result<Kept<Version>> b = FindVersion(run, run.args()[3]);
  if (!b.ok()) return b.status();
  return run.RunLate((*b)->size_bytes,
                     [&module = run.module(), a = *a, b = *b, pattern = std::string(*pattern)] {
                       return DiffVersions(module.memory, *a, *b, pattern);
                     },
                     [](CommandRun& late, Result<Diff>& diff) {
                       if (!diff.ok()) return diff.status();
                       ReplyDiff(late, *diff);
                       return Status::Ok();
                     });
}

// --- VERIFY ---

struct Verdict {
  uint64_t chunks = 0, bytes = 0;
  std::vector<std::string> bad;
};

void VerifyChunks(const std::vector<ChunkRef>& chunks, const std::string& name, bool deep,
                  Verdict* out) {
  bool good = true;
  for (const ChunkRef& chunk : chunks) {
    ++out->chunks;
    out->bytes += chunk->size();
    good = good &&
           (!deep || (chunk->IsIntact() && HashBytes128(chunk->bytes().view()) == chunk->hash()));
  }
  if (!good) out->bad.push_back(name);
}

/// Thread: any.
Verdict VerifyVersion(const Version& version, bool deep) {
  Verdict verdict;
  for (const auto& tensor : version.tensors) {
    std::vector<const Extent*> extents;
    for (const StoredShard& shard : tensor->shards) {
      extents.push_back(&shard.extent);
      VerifyChunks(shard.chunks, tensor->name, deep, &verdict);
    }
    if (!tensor->alias_of.empty()) continue;
    const Result<bool> covered = IsCovered(tensor->shape, extents);
    if (!covered.ok() || !covered.value()) verdict.bad.push_back(tensor->name);
  }
  for (const RankState& state : version.states) {
    VerifyChunks(state.blob->chunks, state.blob->name, deep, &verdict);
  }
  return verdict;
}

Status VerifyCommand(CommandRun& run) {
  const bool deep = run.args().size() == 4 && EqualsIgnoreCase(run.args()[3], "deep");
  if (run.args().size() > (deep ? 4u : 3u)) return Status::Client("ERR syntax error");
  Result<Kept<Version>> version = FindVersion(run, run.args()[2]);
  if (!version.ok()) return version.status();
  return run.RunLate(
      deep ? (*version)->size_bytes : 0,
      [version = *version, deep] { return VerifyVersion(*version, deep); },
      [](CommandRun& late, Verdict& verdict) {
        late.Map(4);
        late.Bulk("ok");
        late.Unsigned(verdict.bad.empty() ? 1 : 0);
        late.Bulk("chunks");
        late.Unsigned(verdict.chunks);
        late.Bulk("bytes");
        late.Unsigned(verdict.bytes);
        ReplyNames(late, "bad", verdict.bad);
        return Status::Ok();
      });
}

constexpr CairnCommandSpec kSpecs[] = {
    {
        .name = "ckpt.manifest",
        .arity = -3,
        .flags = CAIRN_CMD_READONLY,
        .keys = {kRunRo},
        .since = "1.0.0",
        .complexity = "O(N) in the chunks of the version.",
        .summary = "Returns what a version holds: ranks, states, tensors and their shards.",
        .synopsis = "key#0 version [MATCH=pattern:pattern]",
        .run = Run<ManifestCommand>,
    },
    {
        .name = "ckpt.plan",
        .arity = -7,
        .flags = CAIRN_CMD_READONLY,
        .keys = {kRunRo},
        .since = "1.0.0",
        .complexity = "O(N) in the tensors of the version.",
        .summary = "Returns the box of each tensor that a rank of a world of any size reads.",
        .synopsis = "key#0 version WORLD=world:integer RANK=rank:integer [DIM=dim:integer]",
        .run = Run<PlanCommand>,
    },
    {
        .name = "ckpt.diff",
        .arity = -4,
        .flags = CAIRN_CMD_READONLY,
        .keys = {kRunRo},
        .since = "1.0.0",
        .complexity = "O(N) in the bytes that are not shared, on a worker thread.",
        .summary = "Tells how the tensors of two versions differ.",
        .synopsis = "key#0 from to [MATCH=pattern:pattern]",
        .run = Run<DiffCommand>,
    },
    {
        .name = "ckpt.verify",
        .arity = -3,
        .flags = CAIRN_CMD_READONLY,
        .keys = {kRunRo},
        .since = "1.0.0",
        .complexity = "O(N) in the chunks, with DEEP in the bytes, on a worker thread.",
        .summary = "Checks that a version is whole, with DEEP that its bytes have their hashes.",
        .synopsis = "key#0 version [DEEP]",
        .run = Run<VerifyCommand>,
    },
};

}  // namespace

int RegisterCkptReadCommands(Module& module) {
  for (const CairnCommandSpec& spec : kSpecs) {
    if (module.api.register_command(module.self, &spec) != CAIRN_OK) return CAIRN_FAILED;
  }
  return CAIRN_OK;
}

}  // namespace cairn::tensor
