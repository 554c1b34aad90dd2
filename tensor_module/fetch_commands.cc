// The commands that fetch tensors, as they are, in part, or as another dtype; and CAST, which
// stores what it fetched. Casts and gathering a slice's bytes are first halves (module.h, RunLate).

#include <algorithm>

#include "tensor_module/module.h"
#include "tensor_module/numeric.h"

namespace cairn::tensor {

namespace {

/// A cast of more is logged as the command: the executor copies what is logged, and a transaction
/// keeps it until its end.
constexpr uint64_t kMaxLoggedBytes = uint64_t{8} << 20;
/// VALUES makes a reply element of each number, on the executor: about 50 ms at this bound.
constexpr uint64_t kMaxReplyValues = uint64_t{1} << 20;

/// What a reply is about: the tensor itself, or what AS and SLICE made of it.
struct Fetched {
  DType dtype = DType::kF32;
  Shape shape;
  Chunks bytes;
};

Result<Chunks> CutBox(const Compute& compute, BlobSource& source, const Tensor& tensor,
                      const Box& box) {
  const Chunks whole = ReadChunks(tensor.chunks(), 0, tensor.size_bytes());
  const bool strided = !box.sides.empty() && box.sides.back().step > 1;
  // Runs of more than one element are copied faster than LibTorch's strided loop does it.
  if (!strided || whole.size() != 1) return ReadSlice(source, tensor, box);
  Result<BlobSlice> cut = compute.Slice(source, tensor.dtype(), tensor.shape(), whole[0], box);
  if (!cut.ok()) return cut.status();
  return Chunks{std::move(*cut)};
}

/// Thread: any. Errors: memory, arithmetic.
Result<Fetched> Fetch(const Compute& compute, BlobSource& source, const Tensor& tensor,
                      const std::optional<Box>& box, std::optional<DType> as) {
  Fetched out{tensor.dtype(), tensor.shape(), ReadChunks(tensor.chunks(), 0, tensor.size_bytes())};
  if (box) {
    Result<Chunks> cut = CutBox(compute, source, tensor, *box);
    if (!cut.ok()) return cut.status();
    out.bytes = std::move(*cut);
    out.shape = box->shape();
  }
  if (as && *as != out.dtype) {
    Result<BlobSlice> whole = Join(source, out.bytes);
    if (!whole.ok()) return whole.status();
    Result<BlobSlice> cast = compute.Cast(source, out.dtype, *whole, *as);
    if (!cast.ok()) return cast.status();
    out.bytes = {std::move(*cast)};
    out.dtype = *as;
  }
  return out;
}

uint64_t FetchCost(const Compute& compute, const Tensor& tensor, const std::optional<Box>& box,
                   std::optional<DType> as) {
  const size_t element = DTypeSize(tensor.dtype());
  uint64_t bytes = tensor.size_bytes(), cost = 0;
  const bool casts = as && *as != tensor.dtype();
  bool gathers = false;
  if (box) {
    bytes = PayloadBytes(tensor.dtype(), box->shape()).value();
    gathers = !IsOneRun(tensor.shape(), element, *box);
  }
  if (gathers) cost += bytes;
  if (casts) cost += bytes * kCastPasses;
  return CostWithTorch(compute, casts || gathers, cost);
}

/// Bytes of any pieces, on the grid or not.
uint64_t SizeOf(const Chunks& pieces) {
  uint64_t bytes = 0;
  for (const BlobSlice& piece : pieces) bytes += piece.size;
  return bytes;
}

void ReplyScalar(CommandRun& run, const Scalar& value) {
  if (value.kind == DTypeClass::kSigned) return run.Integer(value.integer);
  if (value.kind == DTypeClass::kUnsigned) return run.Unsigned(value.natural);
  run.Double(value.real);
}

void ReplyValues(CommandRun& run, const Fetched& fetched) {
  const size_t size = DTypeSize(fetched.dtype), parts = ScalarsPerElement(fetched.dtype);
  run.Array(SizeOf(fetched.bytes) / size * parts);
  for (const BlobSlice& piece : fetched.bytes) {
    const char* at = piece.view().data();
    for (size_t i = 0; i < piece.size; i += size) {
      for (size_t part = 0; part < parts; ++part)
        ReplyScalar(run, LoadScalar(fetched.dtype, at + i, part));
    }
  }
}

void ReplyFetched(CommandRun& run, const GetArgs& get, const Fetched& fetched) {
  const bool whole = !get.meta && !get.blob && !get.values;
  if (get.blob && !get.meta) return run.Blob(fetched.bytes);
  if (get.values && !get.meta) return ReplyValues(run, fetched);
  run.Map(2 + (whole || get.blob || get.values ? 1 : 0));
  run.Bulk("dtype");
  run.Bulk(DTypeName(fetched.dtype));
  run.Bulk("shape");
  run.ShapeOf(fetched.shape);
  if (whole || get.blob) {
    run.Bulk("blob");
    run.Blob(fetched.bytes);
  } else if (get.values) {
    run.Bulk("values");
    ReplyValues(run, fetched);
  }
}

Status CheckValues(const Fetched& fetched) {
  const uint64_t numbers =
      SizeOf(fetched.bytes) / DTypeSize(fetched.dtype) * ScalarsPerElement(fetched.dtype);
  if (numbers <= kMaxReplyValues) return Status::Ok();
  return Status::Client("ERR VALUES returns at most " + std::to_string(kMaxReplyValues) +
                        " numbers, these are " + std::to_string(numbers) +
                        ": take a SLICE, or the BLOB");
}

Status ReplyRange(CommandRun& run, const Tensor& tensor, ByteRange range) {
  if (range.begin > tensor.size_bytes()) {
    return Status::Client("ERR the range begins at byte " + std::to_string(range.begin) + " of " +
                          std::to_string(tensor.size_bytes()));
  }
  const uint64_t end = std::min(range.end, tensor.size_bytes());
  run.Blob(ReadChunks(tensor.chunks(), range.begin, end - range.begin));
  return Status::Ok();
}

Status GetCommand(CommandRun& run) {
  Result<GetArgs> get = ParseGet(run.args());
  if (!get.ok()) return get.status();
  Result<const Tensor*> found = run.FindTensor(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  if (found.value() == nullptr) {
    run.Null();
    return Status::Ok();
  }
  const Tensor& tensor = *found.value();
  if (get->range) return ReplyRange(run, tensor, *get->range);
  std::optional<Box> box;
  if (get->slice) {
    Result<Box> resolved = ResolveSlice(tensor.shape(), *get->slice);
    if (!resolved.ok()) return resolved.status();
    box = std::move(*resolved);
  }
  const uint64_t cost = FetchCost(run.module().compute, tensor, box, get->as);
  return run.RunLate(
      cost,
      [&module = run.module(), kept = Ref<Tensor>(tensor), box = std::move(box), as = get->as] {
        return Fetch(module.compute, module.memory, *kept, box, as);
      },
      [get = std::move(*get)](CommandRun& late, Result<Fetched>& fetched) {
        if (!fetched.ok()) return fetched.status();
        if (get.values) CAIRN_RETURN_IF_ERROR(CheckValues(*fetched));
        ReplyFetched(late, get, *fetched);
        return Status::Ok();
      });
}

Status MGetCommand(CommandRun& run) {
  Result<MGetArgs> mget = ParseMGet(run.args());
  if (!mget.ok()) return mget.status();
  // As MGET: what is missing or of another type is null.
  std::vector<std::optional<Ref<Tensor>>> tensors;
  uint64_t cost = 0;
  for (std::string_view key : mget->keys) {
    Result<const Tensor*> found = run.FindTensor(key, CAIRN_READ);
    tensors.emplace_back();
    if (!found.ok() || found.value() == nullptr) continue;
    tensors.back().emplace(*found.value());
    cost += FetchCost(run.module().compute, *found.value(), std::nullopt, mget->as);
  }
  return run.RunLate(
      cost,
      [&module = run.module(), tensors = std::move(tensors), as = mget->as] {
        std::vector<std::optional<Result<Fetched>>> made;
        for (const auto& tensor : tensors) {
          made.emplace_back();
          if (!tensor) continue;
          made.back() = Fetch(module.compute, module.memory, **tensor, std::nullopt, as);
        }
        return made;
      },
      [](CommandRun& late, std::vector<std::optional<Result<Fetched>>>& made) {
        late.Array(made.size());
        for (const auto& each : made) {
          if (each && !each->ok()) return each->status();
          if (each) {
            ReplyFetched(late, GetArgs{}, **each);
          } else {
            late.Null();
          }
        }
        return Status::Ok();
      });
}

// --- cast ---

Status Cast(CommandRun& run, int attempt);

class CastWork final : public LateWork {
 public:
  CastWork(Module& module, const Tensor& source, DType dtype, int attempt)
      : module_(module), source_(source), dtype_(dtype), attempt_(attempt) {}
  void Work() override { made_ = Make(); }
  Status Finish(CommandRun& run) override {
    Result<const Tensor*> now = run.NeedTensor(run.key(), CAIRN_READ);
    if (!now.ok()) return now.status();
    // Made of the source of this moment, as who gets the command makes it.
    if (now.value() != source_.get()) {
      whole_ = {};
      made_ = Chunks();  // its room is asked for again
      return Cast(run, attempt_ + 1);
    }
    if (!made_.ok()) return made_.status();
    run.SetTensor(run.args()[2], new Tensor(dtype_, source_->shape(), std::move(*made_)),
                  CAIRN_EXPIRY_NONE, 0, "tensor.cast");
    Log(run);
    run.Ok();
    return Status::Ok();
  }

 private:
  Result<Chunks> Make() {
    whole_ = {};
    if (dtype_ == source_->dtype()) return Chunks(source_->chunks());
    Result<Fetched> cast = Fetch(module_.compute, module_.memory, *source_, std::nullopt, dtype_);
    if (!cast.ok()) return cast.status();
    if (cast->bytes.empty()) return Chunks();
    whole_ = cast->bytes[0];
    return CutOnGrid(module_.memory, std::move(cast->bytes[0]));
  }

  /// As a SET of what was made: who replays it needs no LibTorch, and another one's integer of NaN
  /// is another. As it was sent where nothing was converted, or it would be too long.
  void Log(CommandRun& run) const {
    if (!run.is_propagated() || dtype_ == source_->dtype() || whole_.size > kMaxLoggedBytes) return;
    const Shape& shape = source_->shape();
    std::vector<std::string> sides = {std::to_string(shape.size())};
    for (uint64_t side : shape) sides.push_back(std::to_string(side));
    std::vector<std::string_view> words = {"TENSOR.SET", run.args()[2], DTypeName(dtype_), "SHAPE"};
    words.insert(words.end(), sides.begin(), sides.end());
    words.insert(words.end(), {"BLOB", whole_.size == 0 ? std::string_view() : whole_.view()});
    run.PropagateAs(words);
  }

  Module& module_;
  const Ref<Tensor> source_;
  const DType dtype_;
  const int attempt_;
  Result<Chunks> made_ = Chunks();
  BlobSlice whole_;  // the bytes of made_ in one piece, where a cast made them
};

Status Cast(CommandRun& run, int attempt) {
  Result<DType> dtype = ParseDTypeArg(run.args()[3]);
  if (!dtype.ok()) return dtype.status();
  Result<const Tensor*> found = run.NeedTensor(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  const Tensor& source = *found.value();
  Result<uint64_t> size = PayloadBytes(dtype.value(), source.shape());
  if (!size.ok()) return size.status();
  const bool shared = dtype.value() == source.dtype();
  CAIRN_RETURN_IF_ERROR(run.ClaimMemory(shared ? 0 : size.value()));
  const uint64_t cost = FetchCost(run.module().compute, source, std::nullopt, dtype.value());
  return run.RunLate(attempt < kLateAttempts ? cost : 0,
                     std::make_unique<CastWork>(run.module(), source, dtype.value(), attempt));
}

Status CastCommand(CommandRun& run) { return Cast(run, 0); }

constexpr CairnKeySpec OneKey(int at, uint32_t flags) {
  return {CAIRN_KEYS_RANGE, at, 0, 1, flags};
}

constexpr CairnCommandSpec kSpecs[] = {
    {
        .name = "tensor.get",
        .arity = -2,
        .flags = CAIRN_CMD_READONLY,
        .keys = {OneKey(1, CAIRN_KEY_RO)},
        .since = "1.0.0",
        .complexity =
            "O(1): payloads go out by reference. O(N) with AS, VALUES or a strided SLICE.",
        .summary = "Returns a tensor, a part of it, or what it is.",
        .synopsis =
            "key#0 [META] [form(BLOB|VALUES)] [AS=dtype] "
            "[part(SLICE=slice{count:integer [bound{start:integer stop:integer step:integer}...]}|"
            "RANGE=range{offset:integer length:integer})]",
        .run = Run<GetCommand>,
    },
    {
        .name = "tensor.mget",
        .arity = -3,
        .flags = CAIRN_CMD_READONLY,
        .keys = {{CAIRN_KEYS_COUNTED, 1, 0, 1, CAIRN_KEY_RO}},
        .since = "1.0.0",
        .complexity = "O(N) in the number of tensors.",
        .summary = "Returns several tensors.",
        .synopsis = "count:integer key#0... [AS=dtype]",
        .run = Run<MGetCommand>,
    },
    {
        .name = "tensor.cast",
        .arity = 4,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM,
        .keys = {OneKey(1, CAIRN_KEY_RO), OneKey(2, CAIRN_KEY_OW)},
        .since = "1.0.0",
        .complexity = "O(N) in the number of elements.",
        .summary = "Stores a tensor converted to another dtype.",
        .synopsis = "source#0 destination#1 dtype",
        .run = Run<CastCommand>,
    },
};

}  // namespace

int RegisterFetchCommands(Module& module) {
  for (const CairnCommandSpec& spec : kSpecs) {
    if (module.api.register_command(module.self, &spec) != CAIRN_OK) return CAIRN_FAILED;
  }
  return CAIRN_OK;
}

}  // namespace cairn::tensor
