#include "tensor_module/module.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "tensor_module/ckpt_commands.h"
#include "tensor_module/ckpt_promise.h"

namespace cairn::tensor {

// --- memory ---

// The Blob comes first, so that a Blob of this source is found to be its Handle. It is raw room, as
// only its own count may end a Blob.
struct PayloadMemory::Handle {
  alignas(Blob) unsigned char blob[sizeof(Blob)];
  PayloadMemory* memory;
  CairnBlob* server_blob;
};

Blob* PayloadMemory::Allocate(size_t size) {
  if (size > api_.machine_memory(module_)) return nullptr;
  CairnBlob* blob = api_.blob_allocate(module_, size);
  return blob == nullptr ? nullptr : Wrap(blob).Release();
}

namespace {

/// Of this thread: Allocate() knows no command.
thread_local MemoryClaim* spent = nullptr;

}  // namespace

MemoryClaim::Scope::Scope(MemoryClaim& claim) : outer_(std::exchange(spent, &claim)) {}
MemoryClaim::Scope::~Scope() { spent = outer_; }
MemoryClaim* MemoryClaim::Current() { return spent; }

bool MemoryClaim::Take(uint64_t size_bytes, uint64_t room_bytes) {
  std::atomic<uint64_t>& all = memory_.claimed_bytes_;
  uint64_t claimed = all.load(std::memory_order_acquire);
  do {
    const uint64_t used = claimed + memory_.live_bytes();
    if (used > room_bytes || size_bytes > room_bytes - used) return false;
  } while (!all.compare_exchange_weak(claimed, claimed + size_bytes, std::memory_order_acq_rel));
  left_bytes_ += size_bytes;
  return true;
}

void MemoryClaim::Spend(uint64_t size_bytes) {
  const uint64_t less = std::min(size_bytes, left_bytes_);
  left_bytes_ -= less;
  if (less > 0) memory_.claimed_bytes_.fetch_sub(less, std::memory_order_release);
}

BlobRef PayloadMemory::Wrap(CairnBlob* blob) {
  const size_t size = api_.blob_size(blob);
  // Written to only by who allocated it and has not shared it yet, as BlobSource has it.
  char* data = const_cast<char*>(api_.blob_data(blob));
  void* room = std::malloc(sizeof(Handle));
  CAIRN_CHECK(room != nullptr);
  auto* handle = new (room) Handle{{}, this, blob};
  live_bytes_.fetch_add(size, std::memory_order_relaxed);
  if (spent != nullptr) spent->Spend(size);
  return BlobRef::Adopt(new (handle->blob)
                            Blob(data, size, sizeof(Handle) + api_.blob_footprint(blob), &Release));
}

CairnBlob* PayloadMemory::HandleOf(const Blob* blob) {
  return reinterpret_cast<const Handle*>(blob)->server_blob;
}

void PayloadMemory::Release(Blob* blob) {
  auto* handle = reinterpret_cast<Handle*>(blob);
  PayloadMemory& memory = *handle->memory;
  // The size may have been cut since: what was counted is the server blob's.
  memory.live_bytes_.fetch_sub(memory.api_.blob_size(handle->server_blob),
                               std::memory_order_relaxed);
  memory.api_.blob_release(handle->server_blob);
  std::free(handle);
}

// --- registration ---

int Module::Register() {
  tensor_type = RegisterTensorType(*this);
  upload_type = RegisterUploadType(*this);
  run_type = RegisterRunType(*this);
  if (tensor_type == nullptr || upload_type == nullptr || run_type == nullptr) return CAIRN_FAILED;
  api.watch_saves(self, [](void* data, CairnBytes file, uint64_t number) {
    auto& module = *static_cast<Module*>(data);
    module.logs.OnSaved({file.data, file.size}, number, module.pool.chunk_bytes());
  });
  api.watch_log(
      self,
      [](void* data, int wait) { return static_cast<Module*>(data)->logs.SyncNamed(wait != 0); },
      [](void* data, uint64_t* named, uint64_t* alive) {
        const auto& module = *static_cast<Module*>(data);
        *alive = module.pool.chunk_bytes();
        *named = module.logs.NamedBytes(*alive);
      });
  api.watch_values(
      self, run_type,
      [](void* data, uint32_t db, CairnBytes key, const void* value) {
        static_cast<Module*>(data)->watch.OnStored(db, {key.data, key.size},
                                                   static_cast<const RunValue*>(value)->run());
      },
      [](void* data, uint32_t a, uint32_t b) {
        static_cast<Module*>(data)->watch.OnSwapped(a, b);
      });
  api.watch_clock(self,
                  [](void* data, int64_t now_ms) { static_cast<Module*>(data)->OnTick(now_ms); });
  for (const auto registrar :
       {RegisterStoreCommands, RegisterFetchCommands, RegisterAnalysisCommands,
        RegisterCombineCommands, RegisterUploadCommands, RegisterCkptSaveCommands,
        RegisterCkptUploadCommands, RegisterCkptCommitCommands, RegisterCkptReadCommands,
        RegisterCkptLoadCommands, RegisterCkptKeepCommands, RegisterCkptMergeCommands,
        RegisterCkptFileCommands, RegisterCkptLogCommands, RegisterCkptCodecCommands}) {
    if (registrar(*this) != CAIRN_OK) return CAIRN_FAILED;
  }
  return CAIRN_OK;
}

// --- the runs that have transactions ---

namespace {

/// Of one tick: a run with many of them gives the rest of its memory back on another thread.
constexpr int64_t kTickUs = 2000;

}  // namespace

template <typename Visit>
void Module::VisitRuns(Visit visit) {
  watch.Visit([&](uint32_t db, std::string_view key) {
    const void* value = api.value_at(self, db, {key.data(), key.size()}, run_type);
    if (value != nullptr) visit(static_cast<const RunValue*>(value)->run());
    return value != nullptr;
  });
}

uint64_t Module::PromisedBytes() {
  uint64_t all = 0;
  VisitRuns([&](const CkptRun& run) { all = SaturatingSum(all, AwaitedBytes(run)); });
  return all;
}

void Module::TrimWatch() {
  if (watch.size() < trim_at_) return;
  VisitRuns([](const CkptRun&) {});
  trim_at_ = std::max(kLeastTrimmed, 2 * watch.size());
}

void Module::OnTick(int64_t now_ms) {
  const int64_t until_us = api.monotonic_us(self) + kTickUs;
  while (const std::optional<RunPlace> place = watch.TakeDue(now_ms)) {
    const CairnBytes key = {place->key.data(), place->key.size()};
    if (api.value_at(self, place->db, key, run_type) == nullptr) {
      watch.Drop(*place);
      continue;
    }
    const CairnBytes words[] = {{"CKPT.SWEEP", 10}, key};
    api.run_command(self, place->db, words, 2);
    if (api.monotonic_us(self) >= until_us) return;
  }
}

// --- one command ---

CommandRun::CommandRun(Module& module, CairnContext* ctx)
    : module_(module), ctx_(ctx), claim_(module.memory), scope_(claim_) {
  const size_t count = module.api.arg_count(ctx);
  args_.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const CairnBytes bytes = module.api.arg(ctx, i);
    args_.emplace_back(bytes.data, bytes.size);
  }
}

Result<const Tensor*> CommandRun::FindTensor(std::string_view key, CairnAccess access) {
  void* value = nullptr;
  switch (module_.api.value_get(ctx_, KeyBytes(key), module_.tensor_type, access, &value)) {
    case CAIRN_ABSENT:
      return static_cast<const Tensor*>(nullptr);
    case CAIRN_FOUND:
      return static_cast<const Tensor*>(value);
    default:
      return Status::Client("WRONGTYPE Operation against a key holding the wrong kind of value");
  }
}

Result<const Tensor*> CommandRun::NeedTensor(std::string_view key, CairnAccess access) {
  Result<const Tensor*> tensor = FindTensor(key, access);
  if (tensor.ok() && tensor.value() == nullptr) return Status::Client("ERR no such key");
  return tensor;
}

Result<const Upload*> CommandRun::NeedUpload(std::string_view key, std::string_view id) {
  void* value = nullptr;
  const std::string name = UploadKey(key, id);
  const int found =
      module_.api.value_get(ctx_, KeyBytes(name), module_.upload_type, CAIRN_WRITE, &value);
  if (found == CAIRN_FOUND) return static_cast<const Upload*>(value);
  return Status::Client(
      "TENSORUPLOAD there is no such upload: it was never begun, has ended, or expired");
}

std::string CommandRun::UploadKey(std::string_view key, std::string_view id) {
  return std::string(key) + ":upload:" + std::string(id);
}

bool CommandRun::Exists(std::string_view key) {
  return module_.api.key_exists(ctx_, KeyBytes(key)) != 0;
}

void CommandRun::SetTensor(std::string_view key, const Tensor* tensor, CairnExpiry expiry,
                           int64_t expire_at_ms, const char* event) {
  module_.api.value_set(ctx_, KeyBytes(key), module_.tensor_type, const_cast<Tensor*>(tensor),
                        expiry, expire_at_ms);
  module_.api.changed(ctx_, KeyBytes(key), event);
}

void CommandRun::SetUpload(std::string_view key, const Upload* upload, CairnExpiry expiry,
                           int64_t expire_at_ms, const char* event) {
  module_.api.value_set(ctx_, KeyBytes(key), module_.upload_type, const_cast<Upload*>(upload),
                        expiry, expire_at_ms);
  module_.api.changed(ctx_, KeyBytes(key), event);
}

Result<const RunValue*> CommandRun::FindRun(std::string_view key, CairnAccess access) {
  void* value = nullptr;
  switch (module_.api.value_get(ctx_, KeyBytes(key), module_.run_type, access, &value)) {
    case CAIRN_ABSENT:
      return static_cast<const RunValue*>(nullptr);
    case CAIRN_FOUND:
      return static_cast<const RunValue*>(value);
    default:
      return Status::Client("WRONGTYPE Operation against a key holding the wrong kind of value");
  }
}

Result<const RunValue*> CommandRun::NeedRun(std::string_view key, CairnAccess access) {
  Result<const RunValue*> found = FindRun(key, access);
  if (found.ok() && found.value() == nullptr) return Status::Client("ERR no such run");
  return found;
}

void CommandRun::SetRunQuietly(std::string_view key, const RunValue* value) {
  module_.api.value_set(ctx_, KeyBytes(key), module_.run_type, const_cast<RunValue*>(value),
                        CAIRN_EXPIRY_KEEP, 0);
  module_.TrimWatch();
}

void CommandRun::SetRun(std::string_view key, const RunValue* value, const char* event) {
  SetRunQuietly(key, value);
  module_.api.changed(ctx_, KeyBytes(key), event);
  // What changes which versions there are, or which of them is LATEST.
  for (const std::string_view word : {"ckpt.commit", "ckpt.rollback", "ckpt.del", "ckpt.retain"}) {
    if (word == event) module_.encoder.Offer(value->run().versions);
  }
}

void CommandRun::DeleteKey(std::string_view key) { module_.api.key_delete(ctx_, KeyBytes(key)); }

Result<BlobSlice> CommandRun::ArgPayload(size_t index) {
  const size_t size = args_[index].size();
  if (CairnBlob* blob = module_.api.arg_blob(ctx_, index)) {
    return BlobSlice{module_.memory.Wrap(blob), 0, size};
  }
  cairn::Blob* copy = module_.memory.Allocate(size);
  if (copy == nullptr)
    return Status::Client("OOM no memory for " + std::to_string(size) + " bytes of tensor data");
  if (size > 0) std::memcpy(copy->mutable_data(), args_[index].data(), size);
  return BlobSlice{BlobRef::Adopt(copy), 0, size};
}

Status CommandRun::CheckMemory(uint64_t size_bytes, uint64_t promised_bytes) const {
  if (is_loading()) return Status::Ok();
  if (size_bytes > module_.api.machine_memory(module_.self)) {
    return Status::Client("OOM " + std::to_string(size_bytes) +
                          " bytes of tensors are more than this machine's memory");
  }
  const uint64_t limit = MemoryLimit();
  if (limit == 0) return Status::Ok();
  const uint64_t used = module_.memory.used_bytes();
  const uint64_t left = limit - std::min(limit, used);
  if (used <= limit && promised_bytes <= left && size_bytes <= left - promised_bytes) {
    return Status::Ok();
  }
  return Status::Client("OOM " + std::to_string(size_bytes) +
                        " bytes more of tensors would pass 'tensor-memory-limit' (" +
                        std::to_string(used) + " of " + std::to_string(limit) + " in use" +
                        (promised_bytes == 0 ? ")"
                                             : ", " + std::to_string(promised_bytes) +
                                                   " promised to open transactions)"));
}

uint64_t CommandRun::MemoryRoom() {
  if (!HasMemoryLimit()) return UINT64_MAX;
  const uint64_t limit = MemoryLimit();
  return limit - std::min(limit, module_.PromisedBytes());
}

Status CommandRun::ClaimMemory(uint64_t size_bytes) {
  if (!HasMemoryLimit()) return CheckMemory(size_bytes, 0);
  const uint64_t promised = module_.PromisedBytes();
  const uint64_t limit = MemoryLimit();
  do {
    CAIRN_RETURN_IF_ERROR(CheckMemory(size_bytes, promised));
    // A worker may have claimed some since.
  } while (!claim_.Take(size_bytes, limit - std::min(limit, promised)));
  return Status::Ok();
}

uint64_t CommandRun::MemoryLimit() const {
  uint64_t limit = 0;
  const bool known =
      module_.api.setting_unsigned(module_.self, "tensor-memory-limit", &limit) == CAIRN_OK;
  return known ? limit : 0;
}

Status CommandRun::RunLate(uint64_t cost, std::unique_ptr<LateWork> late) {
  if (cost >= kLateBytes) {
    late->module_ = &module_;
    const CairnJob job = {
        .state = late.get(),
        .work =
            [](void* state) {
              auto* begun = static_cast<LateWork*>(state);
              const MemoryClaim::Scope scope(*begun->claim_);
              begun->Work();
            },
        .finish =
            [](CairnContext* ctx, void* state) {
              auto* waited = static_cast<LateWork*>(state);
              waited->claim_.reset();
              CommandRun run(*waited->module_, ctx);
              run.Fail(waited->Finish(run));
            },
        .drop = [](void* state) { delete static_cast<LateWork*>(state); },
    };
    // Before the worker can begin.
    MemoryClaim& claim = late->claim_.emplace(std::move(claim_));
    if (module_.api.run_later(ctx_, &job) == CAIRN_OK) {
      [[maybe_unused]] LateWork* const taken = late.release();
      return Status::Ok();
    }
    {
      const MemoryClaim::Scope scope(claim);
      late->Work();
    }
    late->claim_.reset();
    return late->Finish(*this);
  }
  late->Work();
  return late->Finish(*this);
}

void CommandRun::PropagateAs(const std::vector<std::string_view>& args) {
  std::vector<CairnBytes> bytes;
  bytes.reserve(args.size());
  for (std::string_view arg : args) bytes.push_back({arg.data(), arg.size()});
  module_.api.propagate_as(ctx_, bytes.data(), bytes.size());
}

void CommandRun::Blob(const Chunks& chunks) {
  std::vector<CairnBlobPart> parts;
  parts.reserve(chunks.size());
  for (const BlobSlice& chunk : chunks) {
    parts.push_back({PayloadMemory::HandleOf(chunk.blob.get()), chunk.offset, chunk.size});
  }
  module_.api.reply_blobs(ctx_, parts.data(), parts.size());
}

void CommandRun::Fail(const Status& status) {
  if (status.ok()) return;
  const bool plain = status.code() == StatusCode::kClient;
  const std::string line = (plain ? "" : "ERR ") + std::string(status.message());
  // What a log has was done once: passed over it would be lost, and what builds on it with it.
  if (is_loading()) {
    return FailLoad(line + " (" + std::string(args_[0]) + " of key '" + std::string(key()) + "')");
  }
  module_.api.reply_error(ctx_, {line.data(), line.size()});
}

void CommandRun::ShapeOf(const Shape& shape) {
  Array(shape.size());
  for (uint64_t dim : shape) Unsigned(dim);
}

}  // namespace cairn::tensor
