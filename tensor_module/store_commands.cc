// The commands that store tensors. Judging a large payload and copying the chunks that a slice
// touches are first halves (module.h, RunLate); the keyspace changes in the second.

#include "tensor_module/module.h"
#include "tensor_module/numeric.h"
#include "tensor_module/stats.h"

namespace cairn::tensor {

Status CheckPayload(DType dtype, const Chunks& chunks, bool guard_finite,
                    const std::optional<Hash128>& hash) {
  uint64_t index = 0;
  if (dtype == DType::kBool && !IsCleanBool(chunks, &index)) {
    return Status::Client("ERR byte " + std::to_string(index) +
                          " of a BOOL tensor is neither 0 nor 1");
  }
  if (hash) {
    const Hash128 actual = HashChunks(chunks);
    if (actual != *hash) {
      return Status::Client("TENSORHASH the payload's XXH3-128 is " + Hash128Hex(actual) +
                            ", not " + Hash128Hex(*hash));
    }
  }
  if (guard_finite && !IsFinite(dtype, chunks, &index)) {
    return Status::Client("TENSORNOTFINITE element " + std::to_string(index) +
                          " is NaN or infinite");
  }
  return Status::Ok();
}

uint64_t CheckCost(DType dtype, uint64_t size_bytes, bool guard_finite, bool hash) {
  return size_bytes *
         ((dtype == DType::kBool ? 1u : 0u) + (guard_finite ? 1u : 0u) + (hash ? 1u : 0u));
}

namespace {

/// The chunks of a SET's payload. Errors: size, memory.
Result<Chunks> TakePayload(CommandRun& run, const SetArgs& set) {
  if (set.payload == SetArgs::Payload::kZeros) return ZeroChunks(run.memory(), set.head.size_bytes);
  BlobSlice bytes;
  if (set.payload == SetArgs::Payload::kValues) {
    Blob* blob = run.memory().Allocate(set.head.size_bytes);
    if (blob == nullptr) return Status::Client("OOM no memory for the tensor's values");
    bytes = {BlobRef::Adopt(blob), 0, static_cast<size_t>(set.head.size_bytes)};
    const size_t numbers = set.head.numel() * ScalarsPerElement(set.head.dtype);
    CAIRN_RETURN_IF_ERROR(
        ParseValues(set.head, run.args().subspan(set.payload_at, numbers), blob->mutable_data()));
  } else {
    CAIRN_RETURN_IF_ERROR(CheckPayloadSize(set.head, run.args()[set.payload_at].size()));
    Result<BlobSlice> received = run.ArgPayload(set.payload_at);
    if (!received.ok()) return received.status();
    bytes = std::move(*received);
  }
  return CutOnGrid(run.memory(), std::move(bytes));
}

/// EX and PX count from now: what is written down is the moment.
void PropagateSet(CommandRun& run, const SetArgs& set, int64_t expire_at_ms) {
  if (!set.ttl_ms) return;
  const std::string at = std::to_string(expire_at_ms);
  std::vector<std::string_view> args(run.args().begin(), run.args().end());
  args[set.ttl_at] = "PXAT";
  args[set.ttl_at + 1] = at;
  run.PropagateAs(args);
}

/// When the key will expire, 0 for never or as before.
Status ExpireAt(CommandRun& run, const SetArgs& set, int64_t* expire_at_ms) {
  *expire_at_ms = set.expire_at_ms.value_or(0);
  if (set.ttl_ms && __builtin_add_overflow(run.now_ms(), *set.ttl_ms, expire_at_ms)) {
    return Status::Client("ERR invalid expire time in 'tensor.set' command");
  }
  return Status::Ok();
}

/// NX or XX forbids it.
bool IsUnwanted(CommandRun& run, const SetArgs& set) {
  return (set.nx || set.xx) && run.Exists(run.key()) == set.nx;
}

class SetWork final : public LateWork {
 public:
  SetWork(SetArgs set, Chunks chunks) : set_(std::move(set)), chunks_(std::move(chunks)) {}
  void Work() override {
    judged_ = CheckPayload(set_.head.dtype, chunks_, set_.guard_finite, set_.hash);
  }
  Status Finish(CommandRun& run) override {
    CAIRN_RETURN_IF_ERROR(judged_);
    int64_t expire_at_ms = 0;
    CAIRN_RETURN_IF_ERROR(ExpireAt(run, set_, &expire_at_ms));
    if (IsUnwanted(run, set_)) {
      run.Null();
      return Status::Ok();
    }
    const auto* tensor = new Tensor(set_.head.dtype, set_.head.shape, std::move(chunks_));
    if (set_.hash) tensor->set_known_hash(*set_.hash);
    const CairnExpiry expiry = set_.keep_ttl                      ? CAIRN_EXPIRY_KEEP
                               : set_.ttl_ms || set_.expire_at_ms ? CAIRN_EXPIRY_AT
                                                                  : CAIRN_EXPIRY_NONE;
    run.SetTensor(run.key(), tensor, expiry, expire_at_ms, "tensor.set");
    PropagateSet(run, set_, expire_at_ms);
    run.Ok();
    return Status::Ok();
  }

 private:
  SetArgs set_;
  Chunks chunks_;
  Status judged_;
};

Status SetCommand(CommandRun& run) {
  Result<SetArgs> set = ParseSet(run.args());
  if (!set.ok()) return set.status();
  int64_t expire_at_ms = 0;
  CAIRN_RETURN_IF_ERROR(ExpireAt(run, *set, &expire_at_ms));
  if (IsUnwanted(run, *set)) {
    run.Null();
    return Status::Ok();
  }
  // Of zeros, which share a chunk, as well: so much they come to as they are written to.
  CAIRN_RETURN_IF_ERROR(run.ClaimMemory(set->head.size_bytes));
  Result<Chunks> chunks = TakePayload(run, *set);
  if (!chunks.ok()) return chunks.status();
  const uint64_t cost =
      CheckCost(set->head.dtype, set->head.size_bytes, set->guard_finite, set->hash.has_value());
  return run.RunLate(cost, std::make_unique<SetWork>(std::move(*set), std::move(*chunks)));
}

class MSetWork final : public LateWork {
 public:
  MSetWork(std::vector<KeyedTensor> tensors, std::vector<Chunks> payloads)
      : tensors_(std::move(tensors)), payloads_(std::move(payloads)) {}
  void Work() override {
    for (size_t i = 0; i < tensors_.size() && judged_.ok(); ++i) {
      judged_ = CheckPayload(tensors_[i].head.dtype, payloads_[i], false, std::nullopt);
    }
  }
  Status Finish(CommandRun& run) override {
    // All payloads are judged before the first key changes.
    CAIRN_RETURN_IF_ERROR(judged_);
    for (size_t i = 0; i < tensors_.size(); ++i) {
      TensorHead& head = tensors_[i].head;
      const auto* tensor = new Tensor(head.dtype, std::move(head.shape), std::move(payloads_[i]));
      run.SetTensor(run.args()[tensors_[i].key_at], tensor, CAIRN_EXPIRY_NONE, 0, "tensor.set");
    }
    run.Ok();
    return Status::Ok();
  }

 private:
  std::vector<KeyedTensor> tensors_;
  std::vector<Chunks> payloads_;
  Status judged_;
};

Status MSetCommand(CommandRun& run) {
  Result<std::vector<KeyedTensor>> parsed = ParseMSet(run.args());
  if (!parsed.ok()) return parsed.status();
  uint64_t total = 0, cost = 0;
  for (const KeyedTensor& each : *parsed) {
    total += each.head.size_bytes;
    cost += CheckCost(each.head.dtype, each.head.size_bytes, false, false);
  }
  CAIRN_RETURN_IF_ERROR(run.ClaimMemory(total));
  std::vector<Chunks> payloads;
  for (const KeyedTensor& each : *parsed) {
    Result<BlobSlice> bytes = run.ArgPayload(each.blob_at);
    if (!bytes.ok()) return bytes.status();
    Result<Chunks> chunks = CutOnGrid(run.memory(), std::move(*bytes));
    if (!chunks.ok()) return chunks.status();
    payloads.push_back(std::move(*chunks));
  }
  return run.RunLate(cost, std::make_unique<MSetWork>(std::move(*parsed), std::move(payloads)));
}

size_t FindMSetKeys(const CairnBytes* args, size_t count, size_t* positions, size_t most) {
  std::vector<std::string_view> words;
  for (size_t i = 0; i < count; ++i) words.emplace_back(args[i].data, args[i].size);
  const Result<std::vector<KeyedTensor>> parsed = ParseMSet(words);
  if (!parsed.ok()) return 0;
  for (size_t i = 0; i < std::min(most, parsed->size()); ++i) positions[i] = (*parsed)[i].key_at;
  return parsed->size();
}

// --- a part of a tensor ---

Status SetSlice(CommandRun& run, int attempt);

class SetSliceWork final : public LateWork {
 public:
  SetSliceWork(BlobSource& source, const Tensor& tensor, Box box, BlobSlice bytes, int attempt)
      : source_(source),
        tensor_(tensor),
        box_(std::move(box)),
        bytes_(std::move(bytes)),
        attempt_(attempt) {}
  void Work() override {
    if (Status judged = CheckPayload(tensor_->dtype(), {bytes_}, false, std::nullopt);
        !judged.ok()) {
      made_ = judged;
    } else {
      made_ = WriteSlice(source_, *tensor_, box_, bytes_);
    }
  }
  Status Finish(CommandRun& run) override {
    Result<const Tensor*> now = run.NeedTensor(run.key(), CAIRN_WRITE);
    if (!now.ok()) return now.status();
    if (now.value() != tensor_.get()) {
      made_ = Chunks();  // its room is asked for again
      return SetSlice(run, attempt_ + 1);
    }
    if (!made_.ok()) return made_.status();
    run.SetTensor(run.key(), new Tensor(tensor_->dtype(), tensor_->shape(), std::move(*made_)),
                  CAIRN_EXPIRY_KEEP, 0, "tensor.setslice");
    run.Ok();
    return Status::Ok();
  }

 private:
  BlobSource& source_;
  const Ref<Tensor> tensor_;
  const Box box_;
  const BlobSlice bytes_;
  const int attempt_;
  Result<Chunks> made_ = Chunks();
};

/// A slice that is not one run may touch, and so copy, every chunk.
Status SetSlice(CommandRun& run, int attempt) {
  Result<SetSliceArgs> parsed = ParseSetSlice(run.args());
  if (!parsed.ok()) return parsed.status();
  Result<const Tensor*> found = run.NeedTensor(run.key(), CAIRN_WRITE);
  if (!found.ok()) return found.status();
  const Tensor& tensor = *found.value();
  Result<Box> box = ResolveSlice(tensor.shape(), parsed->slice);
  if (!box.ok()) return box.status();
  TensorHead part{tensor.dtype(), box->shape(), 0};
  part.size_bytes = PayloadBytes(part.dtype, part.shape).value();
  CAIRN_RETURN_IF_ERROR(CheckPayloadSize(part, run.args()[parsed->blob_at].size()));
  const bool one_run = IsOneRun(tensor.shape(), DTypeSize(tensor.dtype()), *box);
  CAIRN_RETURN_IF_ERROR(run.ClaimMemory(part.size_bytes + CopiedBytes(tensor, *box)));
  Result<BlobSlice> bytes = run.ArgPayload(parsed->blob_at);
  if (!bytes.ok()) return bytes.status();
  const uint64_t copied = one_run ? part.size_bytes : tensor.size_bytes();
  return run.RunLate(attempt < kLateAttempts ? copied : 0,
                     std::make_unique<SetSliceWork>(run.memory(), tensor, std::move(*box),
                                                    std::move(*bytes), attempt));
}

Status SetSliceCommand(CommandRun& run) { return SetSlice(run, 0); }

constexpr CairnKeySpec OneKey(int at, uint32_t flags) {
  return {CAIRN_KEYS_RANGE, at, 0, 1, flags};
}

constexpr CairnCommandSpec kSpecs[] = {
    {
        .name = "tensor.set",
        .arity = -6,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM,
        .keys = {OneKey(1, CAIRN_KEY_OW)},
        .since = "1.0.0",
        .complexity = "O(1) for a blob of 64 KiB and more without XXH3 and GUARD, which is "
                      "adopted; O(N) otherwise.",
        .summary = "Stores a tensor.",
        .synopsis =
            "key#0 dtype SHAPE=shape{ndim:integer [dim:integer...]} "
            "payload(BLOB=blob|VALUES=values{count:integer [value...]}|ZEROS) [condition(NX|XX)] "
            "[expiration(EX=seconds:integer|PX=milliseconds:integer|PXAT=unix-time-milliseconds:"
            "unix-time|KEEPTTL)] "
            "[XXH3=hex32] [GUARD=guard(FINITE)]",
        .run = Run<SetCommand>,
    },
    {
        .name = "tensor.mset",
        .arity = -8,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM,
        .keys = {{CAIRN_KEYS_UNKNOWN, 2, 0, 1, CAIRN_KEY_OW | CAIRN_KEY_PARTIAL}},
        .find_keys = FindMSetKeys,
        .since = "1.0.0",
        .complexity = "O(N) in the number of tensors.",
        .summary = "Stores several tensors, all or none.",
        .synopsis = "count:integer tensor{key:string dtype SHAPE=shape{ndim:integer "
                    "[dim:integer...]} BLOB=blob}...",
        .run = Run<MSetCommand>,
    },
    {
        .name = "tensor.setslice",
        .arity = -6,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM,
        .keys = {OneKey(1, CAIRN_KEY_RW)},
        .since = "1.0.0",
        .complexity = "O(N) in the 256 KiB chunks that the slice touches, which are copied; the "
                      "others are shared.",
        .summary = "Replaces a slice of a tensor.",
        .synopsis = "key#0 SLICE=slice{count:integer [bound{start:integer stop:integer "
                    "step:integer}...]} BLOB=blob",
        .run = Run<SetSliceCommand>,
    },
};

}  // namespace

int RegisterStoreCommands(Module& module) {
  for (const CairnCommandSpec& spec : kSpecs) {
    if (module.api.register_command(module.self, &spec) != CAIRN_OK) return CAIRN_FAILED;
  }
  return CAIRN_OK;
}

}  // namespace cairn::tensor
