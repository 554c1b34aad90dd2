// Uploads: a tensor that comes in pieces, in any order and from any number of connections, and
// becomes visible at once. The state is a value under "<key>:upload:<id>", so it is saved, logged
// and expired like any other.
//
//                 WRITE, OFFSET                              ENDSET: complete and sealed
//   BEGINSET --> [ open ] ----------------------------------------------------------> tensor under
//   <key>
//                    |  ABORTSET, DEL, or 24 hours
//                    +---------------------------------------------------------------> gone

#include <algorithm>

#include "tensor_module/module.h"

namespace cairn::tensor {

namespace {

/// An upload that nobody ends is dropped after this.
constexpr int64_t kUploadLifetimeMs = 24 * 3600 * 1000;
/// Holes that OFFSET lists at most.
constexpr size_t kMaxListedHoles = 1024;

std::string NewUploadId(Module& module) {
  const uint64_t bits = module.api.random_u64(module.self);
  return HexEncode({reinterpret_cast<const char*>(&bits), sizeof bits});
}

Status BeginSetCommand(CommandRun& run) {
  Result<BeginArgs> begin = ParseBegin(run.args());
  if (!begin.ok()) return begin.status();
  CAIRN_RETURN_IF_ERROR(run.ClaimMemory(begin->head.size_bytes));
  const std::string id =
      begin->upload.empty() ? NewUploadId(run.module()) : std::string(begin->upload);
  const std::string name = CommandRun::UploadKey(run.key(), id);
  if (run.Exists(name)) return Status::Client("TENSORUPLOAD an upload of this name exists");
  Result<Chunks> chunks = ZeroChunks(run.memory(), begin->head.size_bytes);
  if (!chunks.ok()) return chunks.status();
  const size_t head_args = 5 + begin->head.shape.size();
  const int64_t expire_at_ms = begin->expire_at_ms.value_or(run.now_ms() + kUploadLifetimeMs);
  run.SetUpload(name,
                new Upload(begin->head.dtype, std::move(begin->head.shape), std::move(*chunks), {}),
                CAIRN_EXPIRY_AT, expire_at_ms, "tensor.beginset");
  // The name and the end of its life were chosen here: they are written down.
  std::vector<std::string_view> args(run.args().begin(),
                                     run.args().begin() + static_cast<ptrdiff_t>(head_args));
  const std::string at = std::to_string(expire_at_ms);
  args.insert(args.end(), {"UPLOAD", id, "PXAT", at});
  run.PropagateAs(args);
  run.Bulk(id);
  return Status::Ok();
}

// --- write ---

Status Write(CommandRun& run, int attempt);

/// Judges a piece and puts it into a copy of the upload's chunk list.
class PieceWork final : public LateWork {
 public:
  PieceWork(BlobSource& source, const Upload& upload, WriteArgs write, BlobSlice bytes, int attempt)
      : source_(source),
        upload_(upload),
        write_(std::move(write)),
        bytes_(std::move(bytes)),
        attempt_(attempt) {}
  void Work() override { made_ = Make(); }
  Status Finish(CommandRun& run) override {
    const std::string_view id = run.args()[2];
    Result<const Upload*> now = run.NeedUpload(run.key(), id);
    if (!now.ok()) return now.status();
    if (now.value() != upload_.get()) {
      made_ = Chunks();  // its room is asked for again
      return Write(run, attempt_ + 1);
    }
    if (!made_.ok()) return made_.status();
    const ByteRange range{write_.offset, write_.offset + bytes_.size};
    const auto* next = new Upload(upload_->dtype(), upload_->shape(), std::move(*made_),
                                  upload_->ReceivedWith(range));
    const uint64_t offset = next->next_offset();
    run.SetUpload(CommandRun::UploadKey(run.key(), id), next, CAIRN_EXPIRY_KEEP, 0, "tensor.write");
    run.Unsigned(offset);
    return Status::Ok();
  }

 private:
  Result<Chunks> Make() const {
    // Finite, or 0 and 1, is judged of the whole, by ENDSET; the seal of a piece is judged here.
    CAIRN_RETURN_IF_ERROR(CheckPayload(DType::kU8, {bytes_}, false, write_.hash));
    ChunkEditor editor(source_, upload_->chunks());
    CAIRN_RETURN_IF_ERROR(editor.Write(write_.offset, bytes_));
    return editor.Take();
  }

  BlobSource& source_;
  const Ref<Upload> upload_;
  const WriteArgs write_;
  const BlobSlice bytes_;
  const int attempt_;
  Result<Chunks> made_ = Chunks();
};

/// A piece off the grid is copied, one on it is adopted.
Status Write(CommandRun& run, int attempt) {
  Result<WriteArgs> write = ParseWrite(run.args());
  if (!write.ok()) return write.status();
  Result<const Upload*> found = run.NeedUpload(run.key(), run.args()[2]);
  if (!found.ok()) return found.status();
  const Upload& upload = *found.value();
  const uint64_t size = run.args()[write->blob_at].size();
  if (write->offset > upload.size_bytes() || size > upload.size_bytes() - write->offset) {
    return Status::Client("TENSOROFFSET " + std::to_string(size) + " bytes at " +
                          std::to_string(write->offset) + " end behind the tensor's " +
                          std::to_string(upload.size_bytes()));
  }
  const uint64_t copied = size == 0 ? 0 : CopiedBytes(upload.size_bytes(), write->offset, size);
  CAIRN_RETURN_IF_ERROR(run.ClaimMemory(size + copied));
  Result<BlobSlice> bytes = run.ArgPayload(write->blob_at);
  if (!bytes.ok()) return bytes.status();
  const uint64_t passes = (write->hash ? 1u : 0u) + (write->offset % kChunkBytes != 0 ? 1u : 0u);
  return run.RunLate(attempt < kLateAttempts ? size * passes : 0,
                     std::make_unique<PieceWork>(run.memory(), upload, std::move(*write),
                                                 std::move(*bytes), attempt));
}

Status WriteCommand(CommandRun& run) { return Write(run, 0); }

// --- end ---

Status EndSet(CommandRun& run, int attempt);

class SealWork final : public LateWork {
 public:
  SealWork(const Upload& upload, std::optional<Hash128> hash, int attempt)
      : upload_(upload), hash_(hash), attempt_(attempt) {}
  void Work() override {
    judged_ = CheckPayload(upload_->dtype(), upload_->chunks(), false, hash_);
  }
  Status Finish(CommandRun& run) override {
    const std::string_view id = run.args()[2];
    Result<const Upload*> now = run.NeedUpload(run.key(), id);
    if (!now.ok()) return now.status();
    if (now.value() != upload_.get()) return EndSet(run, attempt_ + 1);
    CAIRN_RETURN_IF_ERROR(judged_);
    const auto* tensor = new Tensor(upload_->dtype(), upload_->shape(), upload_->chunks());
    if (hash_) tensor->set_known_hash(*hash_);
    run.SetTensor(run.key(), tensor, CAIRN_EXPIRY_NONE, 0, "tensor.set");
    run.DeleteKey(CommandRun::UploadKey(run.key(), id));
    run.Ok();
    return Status::Ok();
  }

 private:
  const Ref<Upload> upload_;
  const std::optional<Hash128> hash_;
  const int attempt_;
  Status judged_;
};

Status EndSet(CommandRun& run, int attempt) {
  Result<std::optional<Hash128>> hash = ParseEnd(run.args());
  if (!hash.ok()) return hash.status();
  Result<const Upload*> found = run.NeedUpload(run.key(), run.args()[2]);
  if (!found.ok()) return found.status();
  const Upload& upload = *found.value();
  if (const std::vector<ByteRange> holes = upload.Holes(); !holes.empty()) {
    return Status::Client("TENSORINCOMPLETE bytes " + std::to_string(holes[0].begin) + " to " +
                          std::to_string(holes[0].end) + " are missing, " +
                          std::to_string(holes.size()) + " ranges in all");
  }
  const uint64_t cost =
      CheckCost(upload.dtype(), upload.size_bytes(), false, hash.value().has_value());
  return run.RunLate(attempt < kLateAttempts ? cost : 0,
                     std::make_unique<SealWork>(upload, hash.value(), attempt));
}

Status EndSetCommand(CommandRun& run) { return EndSet(run, 0); }

// --- state ---

Status OffsetCommand(CommandRun& run) {
  Result<const Upload*> found = run.NeedUpload(run.key(), run.args()[2]);
  if (!found.ok()) return found.status();
  const std::vector<ByteRange> holes = found.value()->Holes();
  const size_t listed = std::min(holes.size(), kMaxListedHoles);
  run.Map(3);
  run.Bulk("offset");
  run.Unsigned(found.value()->next_offset());
  run.Bulk("nbytes");
  run.Unsigned(found.value()->size_bytes());
  run.Bulk("holes");
  run.Array(listed);
  for (size_t i = 0; i < listed; ++i) {
    run.Array(2);
    run.Unsigned(holes[i].begin);
    run.Unsigned(holes[i].end - holes[i].begin);
  }
  return Status::Ok();
}

Status AbortSetCommand(CommandRun& run) {
  Result<const Upload*> found = run.NeedUpload(run.key(), run.args()[2]);
  if (!found.ok()) return found.status();
  run.DeleteKey(CommandRun::UploadKey(run.key(), run.args()[2]));
  run.Ok();
  return Status::Ok();
}

constexpr CairnKeySpec OneKey(int at, uint32_t flags) {
  return {CAIRN_KEYS_RANGE, at, 0, 1, flags};
}

constexpr CairnCommandSpec kSpecs[] = {
    {
        .name = "tensor.beginset",
        .arity = -5,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM,
        .keys = {OneKey(1, CAIRN_KEY_OW)},
        .since = "1.0.0",
        .complexity = "O(1) in the bytes announced: they share one chunk of zeros.",
        .summary = "Begins a tensor that will come in pieces and returns the upload's name.",
        .synopsis = "key#0 dtype SHAPE=shape{ndim:integer [dim:integer...]} [UPLOAD=id] "
                    "[PXAT=unix-time-milliseconds:unix-time]",
        .run = Run<BeginSetCommand>,
    },
    {
        .name = "tensor.write",
        .arity = -6,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_DENY_OOM,
        .keys = {OneKey(1, CAIRN_KEY_RW)},
        .since = "1.0.0",
        .complexity =
            "O(N) in the chunks of 256 KiB that the bytes cover in part; whole ones are adopted.",
        .summary = "Gives an upload some of its bytes and returns the first one that is missing.",
        .synopsis = "key#0 upload offset:integer BLOB=blob [XXH3=hex32]",
        .run = Run<WriteCommand>,
    },
    {
        .name = "tensor.endset",
        .arity = -3,
        .flags = CAIRN_CMD_WRITE,
        .keys = {OneKey(1, CAIRN_KEY_OW)},
        .since = "1.0.0",
        .complexity = "O(1), or O(N) in the bytes with XXH3.",
        .summary = "Makes a complete upload the tensor of its key.",
        .synopsis = "key#0 upload [XXH3=hex32]",
        .run = Run<EndSetCommand>,
    },
    {
        .name = "tensor.offset",
        .arity = 3,
        .flags = CAIRN_CMD_READONLY | CAIRN_CMD_FAST,
        .keys = {OneKey(1, CAIRN_KEY_RO)},
        .since = "1.0.0",
        .complexity = "O(N) in the number of ranges received apart.",
        .summary = "Tells which bytes an upload still lacks.",
        .synopsis = "key#0 upload",
        .run = Run<OffsetCommand>,
    },
    {
        .name = "tensor.abortset",
        .arity = 3,
        .flags = CAIRN_CMD_WRITE | CAIRN_CMD_FAST,
        .keys = {OneKey(1, CAIRN_KEY_RW)},
        .since = "1.0.0",
        .complexity = "O(1)",
        .summary = "Drops an upload.",
        .synopsis = "key#0 upload",
        .run = Run<AbortSetCommand>,
    },
};

}  // namespace

int RegisterUploadCommands(Module& module) {
  for (const CairnCommandSpec& spec : kSpecs) {
    if (module.api.register_command(module.self, &spec) != CAIRN_OK) return CAIRN_FAILED;
  }
  return CAIRN_OK;
}

}  // namespace cairn::tensor
