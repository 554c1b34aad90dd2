// TENSOR.LERP, AVG and CAT: a tensor made of others. The first half makes it on a worker (module.h,
// RunLate), the second stores it if its sources are still what they were. The log gets the commands
// as sent: what they make is the same everywhere (combine.h).

#include "tensor_module/combine_args.h"
#include "tensor_module/combine_tensors.h"
#include "tensor_module/module.h"

namespace cairn::tensor {

namespace {

/// How much longer than a pass at memory speed an input takes (bench/tensor_bench).
constexpr uint64_t kBlendPasses = 3;

/// The tensors under these keys. Errors: one is missing, or is none.
Result<TensorList> NeedTensors(CommandRun& run, const std::vector<std::string_view>& keys) {
  TensorList tensors;
  for (std::string_view key : keys) {
    Result<const Tensor*> found = run.NeedTensor(key, CAIRN_READ);
    if (!found.ok()) return found.status();
    tensors.emplace_back(*found.value());
  }
  return tensors;
}

uint64_t TotalBytes(const TensorList& tensors) {
  uint64_t bytes = 0;
  for (const auto& tensor : tensors) bytes += tensor->size_bytes();
  return bytes;
}

bool IsSame(const TensorList& a, const TensorList& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].get() != b[i].get()) return false;
  }
  return true;
}

/// One of the three commands at work.
class CombineWork : public LateWork {
 public:
  using Again = Status (*)(CommandRun& run, int attempt);
  CombineWork(TensorList sources, Again again, int attempt)
      : sources_(std::move(sources)), again_(again), attempt_(attempt) {}
  void Work() final { made_ = Make(); }
  Status Finish(CommandRun& run) final {
    Result<TensorList> now = NeedTensors(run, Keys(run.args()));
    if (!now.ok()) return now.status();
    // Stored must be what a replay of the log makes of the sources of this moment.
    if (!IsSame(*now, sources_)) {
      made_ = Chunks();  // its room is asked for again
      return again_(run, attempt_ + 1);
    }
    if (!made_.ok()) return made_.status();
    Store(run, std::move(*made_));
    run.Ok();
    return Status::Ok();
  }

 protected:
  virtual Result<Chunks> Make() const = 0;
  /// The sources' keys, read again in the second half.
  virtual std::vector<std::string_view> Keys(Args args) const = 0;
  virtual void Store(CommandRun& run, Chunks chunks) = 0;
  const TensorList& sources() const { return sources_; }

 private:
  const TensorList sources_;
  const Again again_;
  const int attempt_;
  Result<Chunks> made_ = Chunks();
};

// --- LERP and AVG ---

Status Lerp(CommandRun& run, int attempt);
Status Average(CommandRun& run, int attempt);

std::vector<std::string_view> LerpKeys(Args args) { return {args[1], args[2]}; }

class BlendWork : public CombineWork {
 public:
  BlendWork(BlobSource& memory, TensorList sources, Recipe recipe, Again again, int attempt)
      : CombineWork(std::move(sources), again, attempt),
        memory_(memory),
        recipe_(std::move(recipe)) {}

 protected:
  Result<Chunks> Make() const final { return BlendTensors(memory_, sources(), recipe_); }
  void StoreAs(CommandRun& run, Chunks chunks, CairnExpiry expiry, const char* event) {
    const Tensor& like = *sources()[0];
    run.SetTensor(run.key(), new Tensor(like.dtype(), like.shape(), std::move(chunks)), expiry, 0,
                  event);
  }

 private:
  BlobSource& memory_;
  const Recipe recipe_;
};

class LerpWork final : public BlendWork {
 public:
  using BlendWork::BlendWork;

 protected:
  std::vector<std::string_view> Keys(Args args) const override { return LerpKeys(args); }
  void Store(CommandRun& run, Chunks chunks) override {
    StoreAs(run, std::move(chunks), CAIRN_EXPIRY_KEEP, "tensor.lerp");
  }
};

class AverageWork final : public BlendWork {
 public:
  using BlendWork::BlendWork;

 protected:
  std::vector<std::string_view> Keys(Args args) const override { return ParseAverage(args)->keys; }
  void Store(CommandRun& run, Chunks chunks) override {
    StoreAs(run, std::move(chunks), CAIRN_EXPIRY_NONE, "tensor.avg");
  }
};

/// 0 for what is only shared.
uint64_t BlendCost(const TensorList& sources) {
  const bool shared = HowCombined(sources[0]->dtype()) == Combining::kNewest;
  return shared ? 0 : TotalBytes(sources) * kBlendPasses;
}

template <typename Work>
Status Blend(CommandRun& run, const std::vector<std::string_view>& keys, const Recipe& recipe,
             CombineWork::Again again, int attempt) {
  Result<TensorList> sources = NeedTensors(run, keys);
  if (!sources.ok()) return sources.status();
  CAIRN_RETURN_IF_ERROR(CheckAlike(*sources));
  const uint64_t cost = BlendCost(*sources);
  if (cost > 0) CAIRN_RETURN_IF_ERROR(run.ClaimMemory((*sources)[0]->size_bytes()));
  return run.RunLate(
      attempt < kLateAttempts ? cost : 0,
      std::make_unique<Work>(run.memory(), std::move(*sources), recipe, again, attempt));
}

Status Lerp(CommandRun& run, int attempt) {
  Result<Recipe> recipe = ParseLerp(run.args());
  if (!recipe.ok()) return recipe.status();
  return Blend<LerpWork>(run, LerpKeys(run.args()), *recipe, Lerp, attempt);
}

Status Average(CommandRun& run, int attempt) {
  Result<AverageArgs> average = ParseAverage(run.args());
  if (!average.ok()) return average.status();
  return Blend<AverageWork>(run, average->keys, average->recipe, Average, attempt);
}

Status LerpCommand(CommandRun& run) { return Lerp(run, 0); }
Status AverageCommand(CommandRun& run) { return Average(run, 0); }

// --- CAT ---

Status Cat(CommandRun& run, int attempt);

class CatWork final : public CombineWork {
 public:
  CatWork(BlobSource& memory, TensorList sources, Shape shape, size_t dim, int attempt)
      : CombineWork(std::move(sources), Cat, attempt),
        memory_(memory),
        shape_(std::move(shape)),
        dim_(dim) {}

 protected:
  Result<Chunks> Make() const override { return CatTensors(memory_, sources(), shape_, dim_); }
  std::vector<std::string_view> Keys(Args args) const override { return ParseCat(args)->keys; }
  void Store(CommandRun& run, Chunks chunks) override {
    run.SetTensor(run.key(), new Tensor(sources()[0]->dtype(), shape_, std::move(chunks)),
                  CAIRN_EXPIRY_NONE, 0, "tensor.cat");
  }

 private:
  BlobSource& memory_;
  const Shape shape_;
  const size_t dim_;
};

Status Cat(CommandRun& run, int attempt) {
  Result<CatArgs> cat = ParseCat(run.args());
  if (!cat.ok()) return cat.status();
  Result<TensorList> sources = NeedTensors(run, cat->keys);
  if (!sources.ok()) return sources.status();
  Result<Shape> shape = CatShape(*sources, &cat->dim);
  if (!shape.ok()) return shape.status();
  const uint64_t bytes = TotalBytes(*sources);
  CAIRN_RETURN_IF_ERROR(run.ClaimMemory(bytes));
  return run.RunLate(attempt < kLateAttempts ? bytes : 0,
                     std::make_unique<CatWork>(run.memory(), std::move(*sources), std::move(*shape),
                                               static_cast<size_t>(cat->dim), attempt));
}

Status CatCommand(CommandRun& run) { return Cat(run, 0); }

constexpr CairnCommandSpec kSpecs[] = {
    {
        .name = "tensor.lerp",
        .arity = 4,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM,
        .keys = {{CAIRN_KEYS_RANGE, 1, 0, 1, CAIRN_KEY_RW},
                 {CAIRN_KEYS_RANGE, 2, 0, 1, CAIRN_KEY_RO}},
        .since = "1.0.0",
        .complexity = "O(N) in the number of elements, on a worker thread.",
        .summary = "Moves a tensor towards another by a weight.",
        .synopsis = "destination#0 source#1 weight:double",
        .run = Run<LerpCommand>,
    },
    {
        .name = "tensor.avg",
        .arity = -4,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM,
        .keys = {{CAIRN_KEYS_RANGE, 1, 0, 1, CAIRN_KEY_OW},
                 {CAIRN_KEYS_COUNTED, 2, 0, 1, CAIRN_KEY_RO}},
        .since = "1.0.0",
        .complexity = "O(N) in the elements of all tensors, on a worker thread.",
        .summary = "Stores the weighted average of tensors.",
        .synopsis = "destination#0 count:integer key#1... "
                    "[WEIGHTS=weights{count:integer weight:double...}]",
        .run = Run<AverageCommand>,
    },
    {
        .name = "tensor.cat",
        .arity = -6,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM,
        .keys = {{CAIRN_KEYS_RANGE, 1, 0, 1, CAIRN_KEY_OW},
                 {CAIRN_KEYS_COUNTED, 4, 0, 1, CAIRN_KEY_RO}},
        .since = "1.0.0",
        .complexity = "O(N) in the bytes of all tensors, on a worker thread.",
        .summary = "Stores tensors one behind the other along a dimension.",
        .synopsis = "destination#0 DIM=dim:integer count:integer key#1...",
        .run = Run<CatCommand>,
    },
};

}  // namespace

int RegisterCombineCommands(Module& module) {
  for (const CairnCommandSpec& spec : kSpecs) {
    if (module.api.register_command(module.self, &spec) != CAIRN_OK) return CAIRN_FAILED;
  }
  return CAIRN_OK;
}

}  // namespace cairn::tensor
