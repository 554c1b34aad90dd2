// The commands that look at tensors: what they are, what is in them, whether two are the same.

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "tensor_module/combine_tensors.h"
#include "tensor_module/module.h"
#include "tensor_module/stats.h"

namespace cairn::tensor {

void ReplyDifference(CommandRun& run, const Difference& difference) {
  const auto count = static_cast<double>(difference.count);
  const double lengths = std::sqrt(difference.a_squares) * std::sqrt(difference.b_squares);
  run.Bulk("changed_percent");
  run.Double(count > 0 ? 100.0 * static_cast<double>(difference.changed) / count : 0);
  run.Bulk("l2");
  run.Double(std::sqrt(difference.squares));
  run.Bulk("max");
  run.Double(difference.max);
  run.Bulk("cosine");
  if (lengths > 0) {
    run.Double(difference.dot / lengths);
  } else {
    run.Null();
  }
}

namespace {

/// How much longer than a pass at memory speed these take (bench/tensor_bench).
constexpr uint64_t kStatsPasses = 4;
constexpr uint64_t kClosePasses = 32;

/// References to this tensor's memory that others hold: tensors that share chunks with it.
uint64_t ForeignReferences(const Tensor& tensor) {
  std::unordered_map<const Blob*, uint64_t> own;
  for (const BlobSlice& chunk : tensor.chunks()) ++own[chunk.blob.get()];
  uint64_t foreign = 0;
  for (const auto& [blob, count] : own) foreign += blob->references() - count;
  return foreign;
}

void ReplyInfo(CommandRun& run, const Tensor& tensor) {
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
}

Status InfoCommand(CommandRun& run) {
  Result<const Tensor*> found = run.FindTensor(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  if (found.value() == nullptr) {
    run.Null();
    return Status::Ok();
  }
  const Tensor& tensor = *found.value();
  // The first hash of a value is kept in it.
  return run.RunLate(
      tensor.known_hash() ? 0 : tensor.size_bytes(),
      [kept = Ref<Tensor>(tensor)] {
        [[maybe_unused]] const Hash128 hash = kept->hash();
        return kept;
      },
      [](CommandRun& late, const Ref<Tensor>& kept) {
        ReplyInfo(late, *kept);
        return Status::Ok();
      });
}

struct Measured {
  Stats stats;
  std::vector<uint64_t> histogram;  ///< empty when not asked for
};

void ReplyStats(CommandRun& run, const Measured& made) {
  const Stats& stats = made.stats;
  run.Map(10 + (made.histogram.empty() ? 0 : 1));
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
  if (made.histogram.empty()) return;
  run.Bulk("hist");
  run.Array(made.histogram.size());
  for (uint64_t count : made.histogram) run.Unsigned(count);
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
  const uint64_t passes = bins.value() > 0 ? 2 * kStatsPasses : kStatsPasses;
  return run.RunLate(
      tensor.size_bytes() * passes,
      [kept = Ref<Tensor>(tensor), count = bins.value()] {
        Measured made{ComputeStats(kept->dtype(), kept->chunks()), {}};
        if (count > 0) {
          made.histogram = Histogram(kept->dtype(), kept->chunks(), made.stats.min, made.stats.max,
                                     static_cast<size_t>(count));
        }
        return made;
      },
      [](CommandRun& late, const Measured& made) {
        ReplyStats(late, made);
        return Status::Ok();
      });
}

Status CheckCommand(CommandRun& run) {
  Result<const Tensor*> found = run.FindTensor(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  if (found.value() == nullptr) {
    run.Null();
    return Status::Ok();
  }
  const Tensor& tensor = *found.value();
  return run.RunLate(
      HasNonFinite(tensor.dtype()) ? tensor.size_bytes() : 0,
      [kept = Ref<Tensor>(tensor)]() -> std::optional<uint64_t> {
        uint64_t index = 0;
        if (IsFinite(kept->dtype(), kept->chunks(), &index)) return std::nullopt;
        return index;
      },
      [](CommandRun& late, const std::optional<uint64_t>& first_bad) {
        late.Map(2);
        late.Bulk("finite");
        late.Integer(first_bad ? 0 : 1);
        late.Bulk("first_bad");
        if (first_bad) {
          late.Unsigned(*first_bad);
        } else {
          late.Null();
        }
        return Status::Ok();
      });
}

Status EqualCommand(CommandRun& run) {
  Result<EqualArgs> equal = ParseEqual(run.args());
  if (!equal.ok()) return equal.status();
  Result<const Tensor*> a = run.NeedTensor(run.args()[1], CAIRN_READ);
  if (!a.ok()) return a.status();
  Result<const Tensor*> b = run.NeedTensor(run.args()[2], CAIRN_READ);
  if (!b.ok()) return b.status();
  const Tensor &x = *a.value(), &y = *b.value();
  if (x.shape() != y.shape() || (!equal->tolerant && x.dtype() != y.dtype())) {
    run.Integer(0);
    return Status::Ok();
  }
  return run.RunLate(
      x.size_bytes() * (equal->tolerant ? kClosePasses : 1),
      [left = Ref<Tensor>(x), right = Ref<Tensor>(y), how = *equal] {
        return how.tolerant ? IsClose(*left, *right, how.rtol, how.atol)
                            : IsIdentical(*left, *right);
      },
      [](CommandRun& late, const bool& same) {
        late.Integer(same ? 1 : 0);
        return Status::Ok();
      });
}

/// Two payloads of one dtype and size.
Difference CompareTensors(const Tensor& a, const Tensor& b) {
  Difference out;
  for (size_t i = 0; i < a.chunks().size(); ++i) {
    out.Add(Compare(a.dtype(), a.chunks()[i].view(), b.chunks()[i].view()));
  }
  return out;
}

Status DistCommand(CommandRun& run) {
  Result<const Tensor*> a = run.NeedTensor(run.args()[1], CAIRN_READ);
  if (!a.ok()) return a.status();
  Result<const Tensor*> b = run.NeedTensor(run.args()[2], CAIRN_READ);
  if (!b.ok()) return b.status();
  CAIRN_RETURN_IF_ERROR(CheckSameForm(*a.value(), *b.value()));
  return run.RunLate(
      a.value()->size_bytes() * 2 * kStatsPasses,
      [left = Ref<Tensor>(*a.value()), right = Ref<Tensor>(*b.value())] {
        return CompareTensors(*left, *right);
      },
      [](CommandRun& late, const Difference& difference) {
        late.Map(4);
        ReplyDifference(late, difference);
        return Status::Ok();
      });
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
    {
        .name = "tensor.dist",
        .arity = 3,
        .flags = CAIRN_CMD_READONLY,
        .keys = {{CAIRN_KEYS_RANGE, 1, 1, 1, CAIRN_KEY_RO}},
        .since = "1.0.0",
        .complexity = "O(N) in the number of elements.",
        .summary = "Tells how far two tensors are apart.",
        .synopsis = "a#0 b#0",
        .run = Run<DistCommand>,
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
