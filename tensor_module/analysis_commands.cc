// The commands that look at tensors: what they are, what is in them, whether two are the same.

#include <algorithm>
#include <unordered_map>

#include "tensor_module/module.h"
#include "tensor_module/stats.h"

namespace cairn::tensor {

namespace {

/// References to this tensor's memory that others hold: tensors that share chunks with it.
uint64_t ForeignReferences(const Tensor& tensor) {
  std::unordered_map<const Blob*, uint64_t> own;
  for (const BlobSlice& chunk : tensor.chunks()) ++own[chunk.blob.get()];
  uint64_t foreign = 0;
  for (const auto& [blob, count] : own) foreign += blob->references() - count;
  return foreign;
}

Status InfoCommand(CommandRun& run) {
  Result<const Tensor*> found = run.FindTensor(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  if (found.value() == nullptr) {
    run.Null();
    return Status::Ok();
  }
  const Tensor& tensor = *found.value();
  run.Map(8);
  run.Bulk("dtype");
  run.Bulk(DTypeName(tensor.dtype()));
  run.Bulk("shape");
  run.ShapeOf(tensor.shape());
  run.Bulk("nbytes");
  run.Unsigned(tensor.size_bytes());
  run.Bulk("stored_bytes");
  run.Unsigned(tensor.StoredBytes());
  run.Bulk("chunks");
  run.Unsigned(tensor.chunks().size());
  run.Bulk("codec");
  run.Bulk("raw");
  run.Bulk("xxh3");
  run.Bulk(Hash128Hex(tensor.hash()));
  run.Bulk("refs");
  run.Unsigned(ForeignReferences(tensor));
  return Status::Ok();
}

void ReplyStats(CommandRun& run, const Stats& stats, size_t more_pairs) {
  run.Map(10 + more_pairs);
  const std::pair<std::string_view, uint64_t> counts[] = {
      {"count", stats.count}, {"nan", stats.nan}, {"inf", stats.inf}, {"zeros", stats.zeros}};
  for (const auto& [name, value] : counts) {
    run.Bulk(name);
    run.Unsigned(value);
  }
  const std::pair<std::string_view, double> values[] = {{"min", stats.min},   {"max", stats.max},
                                                        {"mean", stats.mean}, {"std", stats.std},
                                                        {"l1", stats.l1},     {"l2", stats.l2}};
  for (const auto& [name, value] : values) {
    run.Bulk(name);
    run.Double(value);
  }
}

Status StatsCommand(CommandRun& run) {
  Result<uint64_t> bins = ParseStats(run.args());
  if (!bins.ok()) return bins.status();
  Result<const Tensor*> found = run.FindTensor(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  if (found.value() == nullptr) {
    run.Null();
    return Status::Ok();
  }
  const Tensor& tensor = *found.value();
  if (ClassOf(tensor.dtype()) == DTypeClass::kComplex) {
    return Status::Client(
        "ERR complex tensors have no order and so no statistics: cast the tensor first");
  }
  const Stats stats = ComputeStats(tensor.dtype(), tensor.chunks());
  ReplyStats(run, stats, bins.value() > 0 ? 1 : 0);
  if (bins.value() == 0) return Status::Ok();
  run.Bulk("hist");
  run.Array(bins.value());
  for (uint64_t count :
       Histogram(tensor.dtype(), tensor.chunks(), stats.min, stats.max, bins.value())) {
    run.Unsigned(count);
  }
  return Status::Ok();
}

Status CheckCommand(CommandRun& run) {
  Result<const Tensor*> found = run.FindTensor(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  if (found.value() == nullptr) {
    run.Null();
    return Status::Ok();
  }
  uint64_t index = 0;
  const bool finite = IsFinite(found.value()->dtype(), found.value()->chunks(), &index);
  run.Map(2);
  run.Bulk("finite");
  run.Integer(finite ? 1 : 0);
  run.Bulk("first_bad");
  if (finite) {
    run.Null();
  } else {
    run.Unsigned(index);
  }
  return Status::Ok();
}

Status EqualCommand(CommandRun& run) {
  Result<EqualArgs> equal = ParseEqual(run.args());
  if (!equal.ok()) return equal.status();
  Result<const Tensor*> a = run.NeedTensor(run.args()[1], CAIRN_READ);
  if (!a.ok()) return a.status();
  Result<const Tensor*> b = run.NeedTensor(run.args()[2], CAIRN_READ);
  if (!b.ok()) return b.status();
  const bool same = equal->tolerant ? IsClose(*a.value(), *b.value(), equal->rtol, equal->atol)
                                    : IsIdentical(*a.value(), *b.value());
  run.Integer(same ? 1 : 0);
  return Status::Ok();
}

constexpr CairnKeySpec OneKey(int at, uint32_t flags) {
  return {CAIRN_KEYS_RANGE, at, 0, 1, flags};
}

constexpr CairnCommandSpec kSpecs[] = {
    {
        .name = "tensor.info",
        .arity = 2,
        .flags = CAIRN_CMD_READONLY,
        .keys = {OneKey(1, CAIRN_KEY_RO)},
        .since = "1.0.0",
        .complexity = "O(N) in the bytes for the first hash of a value, O(1) in them afterwards.",
        .summary = "Tells what a tensor is and how it is stored.",
        .synopsis = "key#0",
        .run = Run<InfoCommand>,
    },
    {
        .name = "tensor.stats",
        .arity = -2,
        .flags = CAIRN_CMD_READONLY,
        .keys = {OneKey(1, CAIRN_KEY_RO)},
        .since = "1.0.0",
        .complexity = "O(N) in the number of elements; twice that with HIST.",
        .summary = "Counts, extremes, moments and norms of a tensor's elements.",
        .synopsis = "key#0 [HIST=bins:integer]",
        .run = Run<StatsCommand>,
    },
    {
        .name = "tensor.check",
        .arity = 2,
        .flags = CAIRN_CMD_READONLY,
        .keys = {OneKey(1, CAIRN_KEY_RO)},
        .since = "1.0.0",
        .complexity = "O(N) in the number of elements.",
        .summary = "Tells whether every element is finite, and which is the first that is not.",
        .synopsis = "key#0",
        .run = Run<CheckCommand>,
    },
    {
        .name = "tensor.equal",
        .arity = -3,
        .flags = CAIRN_CMD_READONLY,
        .keys = {{CAIRN_KEYS_RANGE, 1, 1, 1, CAIRN_KEY_RO}},
        .since = "1.0.0",
        .complexity = "O(N) in the number of elements.",
        .summary = "Compares two tensors, bit for bit or within a tolerance.",
        .synopsis = "a#0 b#0 [RTOL=relative:double] [ATOL=absolute:double]",
        .run = Run<EqualCommand>,
    },
};

}  // namespace

int RegisterAnalysisCommands(Module& module) {
  for (const CairnCommandSpec& spec : kSpecs) {
    if (module.api.register_command(module.self, &spec) != CAIRN_OK) return CAIRN_FAILED;
  }
  return CAIRN_OK;
}

}  // namespace cairn::tensor
