// The commands that store and fetch tensors.

#include <algorithm>

#include "tensor_module/module.h"
#include "tensor_module/numeric.h"
#include "tensor_module/stats.h"

namespace cairn::tensor {

namespace {

// --- storing
// --------------------------------------------------------------------------------------------------------

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

}  // namespace

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

namespace {

/// EX and PX count from now: what is written down is the moment.
void PropagateSet(CommandRun& run, const SetArgs& set, int64_t expire_at_ms) {
  if (!set.ttl_ms) return;
  const std::string at = std::to_string(expire_at_ms);
  std::vector<std::string_view> args(run.args().begin(), run.args().end());
  args[set.ttl_at] = "PXAT";
  args[set.ttl_at + 1] = at;
  run.PropagateAs(args);
}

Status SetCommand(CommandRun& run) {
  Result<SetArgs> parsed = ParseSet(run.args());
  if (!parsed.ok()) return parsed.status();
  SetArgs& set = *parsed;
  int64_t expire_at_ms = set.expire_at_ms.value_or(0);
  if (set.ttl_ms && __builtin_add_overflow(run.now_ms(), *set.ttl_ms, &expire_at_ms)) {
    return Status::Client("ERR invalid expire time in 'tensor.set' command");
  }
  if ((set.nx || set.xx) && run.Exists(run.key()) == set.nx) {
    run.Null();
    return Status::Ok();
  }
  CAIRN_RETURN_IF_ERROR(run.CheckMemory(set.head.size_bytes));
  Result<Chunks> chunks = TakePayload(run, set);
  if (!chunks.ok()) return chunks.status();
  CAIRN_RETURN_IF_ERROR(CheckPayload(set.head.dtype, *chunks, set.guard_finite, set.hash));

  const auto* tensor = new Tensor(set.head.dtype, std::move(set.head.shape), std::move(*chunks));
  if (set.hash) tensor->set_known_hash(*set.hash);
  const CairnExpiry expiry = set.keep_ttl                     ? CAIRN_EXPIRY_KEEP
                             : set.ttl_ms || set.expire_at_ms ? CAIRN_EXPIRY_AT
                                                              : CAIRN_EXPIRY_NONE;
  run.SetTensor(run.key(), tensor, expiry, expire_at_ms, "tensor.set");
  PropagateSet(run, set, expire_at_ms);
  run.Ok();
  return Status::Ok();
}

Status MSetCommand(CommandRun& run) {
  Result<std::vector<KeyedTensor>> parsed = ParseMSet(run.args());
  if (!parsed.ok()) return parsed.status();
  uint64_t total = 0;
  for (const KeyedTensor& each : *parsed) total += each.head.size_bytes;
  CAIRN_RETURN_IF_ERROR(run.CheckMemory(total));
  // All payloads are judged before the first key changes.
  std::vector<Chunks> payloads;
  for (const KeyedTensor& each : *parsed) {
    Result<BlobSlice> bytes = run.ArgPayload(each.blob_at);
    if (!bytes.ok()) return bytes.status();
    Result<Chunks> chunks = CutOnGrid(run.memory(), std::move(*bytes));
    if (!chunks.ok()) return chunks.status();
    CAIRN_RETURN_IF_ERROR(CheckPayload(each.head.dtype, *chunks, false, std::nullopt));
    payloads.push_back(std::move(*chunks));
  }
  for (size_t i = 0; i < parsed->size(); ++i) {
    KeyedTensor& each = (*parsed)[i];
    const auto* tensor =
        new Tensor(each.head.dtype, std::move(each.head.shape), std::move(payloads[i]));
    run.SetTensor(each.key, tensor, CAIRN_EXPIRY_NONE, 0, "tensor.set");
  }
  run.Ok();
  return Status::Ok();
}

Status SetSliceCommand(CommandRun& run) {
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
  CAIRN_RETURN_IF_ERROR(run.CheckMemory(part.size_bytes));
  Result<BlobSlice> bytes = run.ArgPayload(parsed->blob_at);
  if (!bytes.ok()) return bytes.status();
  CAIRN_RETURN_IF_ERROR(CheckPayload(tensor.dtype(), {*bytes}, false, std::nullopt));
  Result<Chunks> chunks = WriteSlice(run.memory(), tensor, *box, *bytes);
  if (!chunks.ok()) return chunks.status();
  run.SetTensor(run.key(), new Tensor(tensor.dtype(), tensor.shape(), std::move(*chunks)),
                CAIRN_EXPIRY_KEEP, 0, "tensor.setslice");
  run.Ok();
  return Status::Ok();
}

// --- fetching
// -------------------------------------------------------------------------------------------------------

/// What a GET replies about: the tensor itself, or what AS and SLICE made of it.
struct Fetched {
  DType dtype;
  Shape shape;
  Chunks bytes;
};

Result<Fetched> Fetch(CommandRun& run, const Tensor& tensor,
                      const std::optional<std::vector<SliceWords>>& slice,
                      std::optional<DType> as) {
  Fetched out{tensor.dtype(), tensor.shape(), ReadChunks(tensor.chunks(), 0, tensor.size_bytes())};
  const Compute& compute = run.module().compute;
  if (slice) {
    Result<Box> box = ResolveSlice(tensor.shape(), *slice);
    if (!box.ok()) return box.status();
    out.shape = box->shape();
    const bool strided = !box->sides.empty() && box->sides.back().step > 1;
    if (strided && out.bytes.size() == 1) {
      Result<BlobSlice> cut =
          compute.Slice(run.memory(), tensor.dtype(), tensor.shape(), out.bytes[0], *box);
      if (!cut.ok()) return cut.status();
      out.bytes = {std::move(*cut)};
    } else {
      Result<Chunks> cut = ReadSlice(run.memory(), tensor, *box);
      if (!cut.ok()) return cut.status();
      out.bytes = std::move(*cut);
    }
  }
  if (as && *as != out.dtype) {
    Result<BlobSlice> whole = Join(run.memory(), out.bytes);
    if (!whole.ok()) return whole.status();
    Result<BlobSlice> cast = compute.Cast(run.memory(), out.dtype, *whole, *as);
    if (!cast.ok()) return cast.status();
    out.bytes = {std::move(*cast)};
    out.dtype = *as;
  }
  return out;
}

void ReplyScalar(CommandRun& run, const Scalar& value) {
  if (value.kind == DTypeClass::kSigned) return run.Integer(value.integer);
  if (value.kind == DTypeClass::kUnsigned) return run.Unsigned(value.natural);
  run.Double(value.real);
}

void ReplyValues(CommandRun& run, const Fetched& fetched) {
  const size_t size = DTypeSize(fetched.dtype), parts = ScalarsPerElement(fetched.dtype);
  uint64_t bytes = 0;
  for (const BlobSlice& piece : fetched.bytes) bytes += piece.size;
  run.Array(bytes / size * parts);
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
  if (get->range) {
    const auto [begin, end] = *get->range;
    if (begin > tensor.size_bytes()) {
      return Status::Client("ERR the range begins at byte " + std::to_string(begin) + " of " +
                            std::to_string(tensor.size_bytes()));
    }
    run.Blob(ReadChunks(tensor.chunks(), begin, std::min(end, tensor.size_bytes()) - begin));
    return Status::Ok();
  }
  Result<Fetched> fetched = Fetch(run, tensor, get->slice, get->as);
  if (!fetched.ok()) return fetched.status();
  ReplyFetched(run, *get, *fetched);
  return Status::Ok();
}

Status MGetCommand(CommandRun& run) {
  Result<MGetArgs> mget = ParseMGet(run.args());
  if (!mget.ok()) return mget.status();
  run.Array(mget->keys.size());
  for (std::string_view key : mget->keys) {
    // As MGET: what is missing or of another type is null.
    Result<const Tensor*> found = run.FindTensor(key, CAIRN_READ);
    if (!found.ok() || found.value() == nullptr) {
      run.Null();
      continue;
    }
    Result<Fetched> fetched = Fetch(run, *found.value(), std::nullopt, mget->as);
    if (!fetched.ok()) return fetched.status();
    ReplyFetched(run, GetArgs{}, *fetched);
  }
  return Status::Ok();
}

Status CastCommand(CommandRun& run) {
  Result<DType> dtype = ParseDTypeArg(run.args()[3]);
  if (!dtype.ok()) return dtype.status();
  Result<const Tensor*> found = run.NeedTensor(run.key(), CAIRN_READ);
  if (!found.ok()) return found.status();
  const Tensor& source = *found.value();
  const uint64_t size = source.numel() * DTypeSize(dtype.value());
  if (size > kMaxTensorBytes) return PayloadBytes(dtype.value(), source.shape()).status();
  CAIRN_RETURN_IF_ERROR(run.CheckMemory(size));
  Result<Fetched> fetched = Fetch(run, source, std::nullopt, dtype.value());
  if (!fetched.ok()) return fetched.status();
  Chunks chunks = source.chunks();
  if (dtype.value() != source.dtype()) {
    Result<Chunks> cut =
        fetched->bytes.empty() ? Chunks() : CutOnGrid(run.memory(), fetched->bytes[0]);
    if (!cut.ok()) return cut.status();
    chunks = std::move(*cut);
  }
  run.SetTensor(run.args()[2], new Tensor(dtype.value(), source.shape(), std::move(chunks)),
                CAIRN_EXPIRY_NONE, 0, "tensor.cast");
  run.Ok();
  return Status::Ok();
}

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
        .name = "tensor.mset",
        .arity = -8,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM,
        .keys = {{CAIRN_KEYS_UNKNOWN, 2, 0, 1, CAIRN_KEY_OW | CAIRN_KEY_PARTIAL}},
        .since = "1.0.0",
        .complexity = "O(N) in the number of tensors.",
        .summary = "Stores several tensors, all or none.",
        .synopsis = "count:integer tensor{key:string dtype SHAPE=shape{ndim:integer "
                    "[dim:integer...]} BLOB=blob}...",
        .run = Run<MSetCommand>,
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

int RegisterTensorCommands(Module& module) {
  for (const CairnCommandSpec& spec : kSpecs) {
    if (module.api.register_command(module.self, &spec) != CAIRN_OK) return CAIRN_FAILED;
  }
  return CAIRN_OK;
}

}  // namespace cairn::tensor
