#pragma once

// Module: the one object of the tensor module in a server process, and CommandRun, what a command
// handler works with: the server's table (module_api.h) in the terms of this folder. Made by
// module_main.cc, ends with the server. Thread: executor, but for PayloadMemory, whose blobs may be
// dropped by any thread.

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "server/engine/module_api.h"
#include "tensor_module/args.h"
#include "tensor_module/chunk_pool.h"
#include "tensor_module/chunk_store.h"
#include "tensor_module/ckpt_encoder.h"
#include "tensor_module/ckpt_file.h"
#include "tensor_module/compute.h"
#include "tensor_module/log_host.h"
#include "tensor_module/run_watch.h"
#include "tensor_module/stats.h"
#include "tensor_module/tensor.h"

namespace cairn::tensor {

/// Memory of the server as this folder's blobs, counted. A blob here is a small handle that owns
/// one reference of the server's blob; its bytes are the server's.
class PayloadMemory final : public BlobSource {
 public:
  PayloadMemory(const CairnApi& api, CairnModule* module) : api_(api), module_(module) {}
  PayloadMemory(const PayloadMemory&) = delete;
  PayloadMemory& operator=(const PayloadMemory&) = delete;

  /// Whole-machine memory bounds each request, whatever the limit: the arena faults pages in at
  /// once.
  Blob* Allocate(size_t size) override;
  /// Takes over the caller's reference.
  BlobRef Wrap(CairnBlob* blob);
  /// The server's blob behind one of ours. Borrows.
  static CairnBlob* HandleOf(const Blob* blob);
  /// Bytes of all payloads alive, shared ones once.
  uint64_t live_bytes() const { return live_bytes_.load(std::memory_order_relaxed); }
  /// The same and what commands have claimed of the rest.
  uint64_t used_bytes() const {
    // In this order: what becomes alive is claimed until it is.
    const uint64_t claimed = claimed_bytes_.load(std::memory_order_acquire);
    return claimed + live_bytes();
  }

 private:
  friend class MemoryClaim;
  struct Handle;
  static void Release(Blob* blob);
  const CairnApi& api_;
  CairnModule* const module_;
  std::atomic<uint64_t> live_bytes_{0};
  std::atomic<uint64_t> claimed_bytes_{0};
};

/// What a command may still allocate of what it has asked for under tensor-memory-limit. It counts
/// as used, so that commands at work at the same time are not given the same room. Thread: one at a
/// time.
class MemoryClaim {
 public:
  explicit MemoryClaim(PayloadMemory& memory) : memory_(memory) {}
  MemoryClaim(MemoryClaim&& other) noexcept
      : memory_(other.memory_), left_bytes_(std::exchange(other.left_bytes_, 0)) {}
  MemoryClaim& operator=(MemoryClaim&&) = delete;
  ~MemoryClaim() { Spend(left_bytes_); }

  /// Claims so much more. False, and nothing: with it more than `room_bytes` would be used.
  bool Take(uint64_t size_bytes, uint64_t room_bytes);
  /// So much of it, or the rest, is alive by now.
  void Spend(uint64_t size_bytes);

  /// While it lives, what the thread allocates spends the claim.
  class Scope {
   public:
    explicit Scope(MemoryClaim& claim);
    Scope(const Scope&) = delete;
    ~Scope();

   private:
    MemoryClaim* const outer_;
  };
  /// Of the innermost Scope; nullptr: there is none.
  static MemoryClaim* Current();

 private:
  PayloadMemory& memory_;
  uint64_t left_bytes_ = 0;
};

class CommandRun;

class Module {
 public:
  Module(const CairnApi& table, CairnModule* handle, const Compute& arithmetic)
      : api(table),
        self(handle),
        compute(arithmetic),
        memory(table, handle),
        pool(memory),
        logs(table, handle),
        encoder(pool, [this] { return api.monotonic_us(self); }) {}

  /// Registers types and commands. CAIRN_OK or CAIRN_FAILED.
  int Register();
  /// Bytes that open transactions of all runs await: promised, not yet taken. Each knows its own
  /// sum (ckpt_promise.h). Cost: O(transactions).
  uint64_t PromisedBytes();
  /// Drops what watch has of keys that are gone, when as many may be: a replica has no clock that
  /// comes to them. Cost: O(1) a call, amortized.
  void TrimWatch();
  /// Has runs swept whose transactions the clock has ended, for kTickUs at most and one of them.
  void OnTick(int64_t now_ms);

  const CairnApi& api;
  CairnModule* const self;
  const Compute& compute;
  PayloadMemory memory;
  ChunkPool pool;
  LogHost logs;
  CkptEncoder encoder;  ///< ends before the pool
  RunWatch watch;
  CairnType* tensor_type = nullptr;
  CairnType* upload_type = nullptr;
  CairnType* run_type = nullptr;

 private:
  /// Calls visit(run) for each run with transactions.
  template <typename Visit>
  void VisitRuns(Visit visit);
  static constexpr size_t kLeastTrimmed = 64;
  size_t trim_at_ = kLeastTrimmed;  // entries of watch
};

/// Work in two halves (module_api.h, run_later). Made and destroyed on the executor.
class LateWork {
 public:
  virtual ~LateWork() = default;
  /// Thread: a worker, or the executor when the command may not wait. Sees no command and no key.
  virtual void Work() = 0;
  /// Looks keys up again: they may have changed since Work began. Thread: executor.
  virtual Status Finish(CommandRun& run) = 0;

 private:
  friend class CommandRun;
  Module* module_ = nullptr;
  std::optional<MemoryClaim> claim_;  ///< of the run that began it, until the second half
};

/// Commands that cost less than one fast pass over so many bytes run at once: about 80 us, while
/// handing over and back costs about 20 (toolchain notes, 2026-11).
inline constexpr uint64_t kLateBytes = 256 * 1024;
/// A cast takes about as long as this many passes over the bytes.
inline constexpr uint64_t kCastPasses = 4;
/// The cost of work that needs LibTorch, perhaps: what may have to wait for it does so on a worker,
/// however little it is.
inline uint64_t CostWithTorch(const Compute& compute, bool needs_it, uint64_t cost) {
  return !needs_it || compute.IsReady() ? cost : std::max(cost, kLateBytes);
}
/// How often a command whose source changed during its first half begins anew before it runs at
/// once.
inline constexpr int kLateAttempts = 3;

/// One run of one command: its keys, payloads, effects and replies in this folder's terms.
class CommandRun {
 public:
  CommandRun(Module& module, CairnContext* ctx);

  Module& module() { return module_; }
  PayloadMemory& memory() { return module_.memory; }
  LogHost& logs() const { return module_.logs; }
  Args args() const { return args_; }
  std::string_view key() const { return args_[1]; }

  // --- keys ---
  /// nullptr when there is no such key. Errors: another type.
  Result<const Tensor*> FindTensor(std::string_view key, CairnAccess access);
  /// As FindTensor, but a missing key is an error too.
  Result<const Tensor*> NeedTensor(std::string_view key, CairnAccess access);
  /// The upload `id` of `key`. Errors: there is none.
  Result<const Upload*> NeedUpload(std::string_view key, std::string_view id);
  static std::string UploadKey(std::string_view key, std::string_view id);
  bool Exists(std::string_view key);
  /// Stores and announces `event`.
  void SetTensor(std::string_view key, const Tensor* tensor, CairnExpiry expiry,
                 int64_t expire_at_ms, const char* event);
  void SetUpload(std::string_view key, const Upload* upload, CairnExpiry expiry,
                 int64_t expire_at_ms, const char* event);
  void DeleteKey(std::string_view key);
  /// nullptr when there is no such key. Errors: another type.
  Result<const RunValue*> FindRun(std::string_view key, CairnAccess access);
  /// As FindRun, but a missing key is an error too.
  Result<const RunValue*> NeedRun(std::string_view key, CairnAccess access);
  /// Stores under the key's TTL and announces `event`.
  void SetRun(std::string_view key, const RunValue* value, const char* event);
  /// Stores what is the same to everybody but the clock: nothing is announced or logged.
  void SetRunQuietly(std::string_view key, const RunValue* value);

  // --- payloads ---
  /// The bytes of an argument: by reference when they were received into a blob, else copied.
  Result<BlobSlice> ArgPayload(size_t index);
  /// Room for `size_bytes` more under tensor-memory-limit, beside `promised_bytes` that others will
  /// take. Not asked while the append-only file is replayed. Errors: OOM.
  Status CheckMemory(uint64_t size_bytes, uint64_t promised_bytes) const;
  /// The same beside all that open transactions await, and claims it until it is allocated or the
  /// command is over. Before the first byte that nobody has been promised is allocated.
  Status ClaimMemory(uint64_t size_bytes);
  /// Memory that may be used beside what open transactions await; UINT64_MAX without a limit.
  uint64_t MemoryRoom();
  /// CheckMemory asks for a limit.
  bool HasMemoryLimit() const { return !is_loading() && MemoryLimit() != 0; }

  // --- long work ---
  /// Runs both halves: the first on a worker while other clients are served, when `cost` is
  /// kLateBytes or more and this run may wait; else both here. The handler returns the result and
  /// does nothing after it. `cost`: bytes of one pass at memory speed that take as long.
  Status RunLate(uint64_t cost, std::unique_ptr<LateWork> late);
  /// The same for two functions: `work()` makes something and `finish(run, made)` stores or replies
  /// it. They outlive this run: they hold no views of arguments and no borrowed values.
  template <typename Work, typename Finish>
  Status RunLate(uint64_t cost, Work work, Finish finish);

  // --- waiting and telling ---
  /// False: this run may not wait, or its time is over. True: the handler returns without replies
  /// and runs again when the key has changed.
  bool WaitForKey(std::string_view key, int64_t timeout_ms) {
    return module_.api.wait_for_key(ctx_, KeyBytes(key), timeout_ms) == CAIRN_OK;
  }
  /// As WaitForKey, but it also runs again when `look_ms` are over, and may wait on, until
  /// `timeout_ms` after it first did. Requires: both above 0.
  bool WaitAndLook(std::string_view key, int64_t timeout_ms, int64_t look_ms) {
    return module_.api.wait_and_look(ctx_, KeyBytes(key), timeout_ms, look_ms) == CAIRN_OK;
  }
  /// Those who wait for the key run again.
  void SignalKey(std::string_view key) { module_.api.signal_key(ctx_, KeyBytes(key)); }
  void Publish(std::string_view channel, std::string_view message) {
    module_.api.publish(ctx_, KeyBytes(channel), KeyBytes(message));
  }
  /// CairnDurability of what this command changes.
  int durability() const { return module_.api.durability(ctx_); }

  // --- surroundings ---
  int64_t now_ms() const { return module_.api.now_ms(ctx_); }
  bool is_loading() const { return module_.api.is_loading(ctx_) != 0; }
  void PropagateAs(const std::vector<std::string_view>& args);
  /// Where this command's effects may name chunks.
  NamesTarget names() const { return module_.logs.Names(ctx_); }
  /// False: PropagateAs does nothing.
  bool is_propagated() const { return module_.api.is_propagated(ctx_) != 0; }

  // --- replies ---
  void Ok() { module_.api.reply_ok(ctx_); }
  void Integer(int64_t value) { module_.api.reply_integer(ctx_, value); }
  void Unsigned(uint64_t value) { module_.api.reply_unsigned(ctx_, value); }
  void Double(double value) { module_.api.reply_double(ctx_, value); }
  void Bulk(std::string_view bytes) { module_.api.reply_bulk(ctx_, {bytes.data(), bytes.size()}); }
  void Null() { module_.api.reply_null(ctx_); }
  void Array(size_t count) { module_.api.reply_array(ctx_, count); }
  void Map(size_t pairs) { module_.api.reply_map(ctx_, pairs); }
  void Blob(const Chunks& chunks);
  void ShapeOf(const Shape& shape);
  /// The error reply of a failed status, which ends the replay of a log; nothing for OK.
  void Fail(const Status& status);

 private:
  CairnBytes KeyBytes(std::string_view key) const { return {key.data(), key.size()}; }
  /// module_api.h, fail_load: the append-only file that is replayed cannot be followed any further.
  void FailLoad(std::string_view line) { module_.api.fail_load(ctx_, KeyBytes(line)); }
  /// tensor-memory-limit; 0: none.
  uint64_t MemoryLimit() const;
  Module& module_;
  CairnContext* const ctx_;
  std::vector<std::string_view> args_;
  MemoryClaim claim_;
  const MemoryClaim::Scope scope_;
};

template <typename First, typename Second>
class TwoHalves final : public LateWork {
 public:
  TwoHalves(First first, Second second) : first_(std::move(first)), second_(std::move(second)) {}
  void Work() override { made_.emplace(first_()); }
  Status Finish(CommandRun& run) override { return second_(run, *made_); }

 private:
  First first_;
  Second second_;
  std::optional<std::invoke_result_t<First&>> made_;
};

template <typename Work, typename Finish>
Status CommandRun::RunLate(uint64_t cost, Work work, Finish finish) {
  return RunLate(cost,
                 std::make_unique<TwoHalves<Work, Finish>>(std::move(work), std::move(finish)));
}

using Handler = Status (*)(CommandRun& run);

/// Runs a handler; a failed status becomes the error reply.
template <Handler handler>
void Run(CairnContext* ctx, void* module) {
  CommandRun run(*static_cast<Module*>(module), ctx);
  run.Fail(handler(run));
}

/// What every payload passes before it is stored. Errors: BOOL bytes (T4), TENSORHASH,
/// TENSORNOTFINITE.
Status CheckPayload(DType dtype, const Chunks& chunks, bool guard_finite,
                    const std::optional<Hash128>& hash);

/// What CheckPayload costs, in RunLate's measure.
uint64_t CheckCost(DType dtype, uint64_t size_bytes, bool guard_finite, bool hash);

/// The four entries of a map that say how far two tensors are apart. cosine: null where one of them
/// has no length.
void ReplyDifference(CommandRun& run, const Difference& difference);

// --- the pieces that Module::Register enters ---

/// Each registers its commands. CAIRN_OK or CAIRN_FAILED.
int RegisterStoreCommands(Module& module);
int RegisterFetchCommands(Module& module);
int RegisterAnalysisCommands(Module& module);
int RegisterCombineCommands(Module& module);
int RegisterUploadCommands(Module& module);
int RegisterCkptSaveCommands(Module& module);
int RegisterCkptUploadCommands(Module& module);
int RegisterCkptCommitCommands(Module& module);
int RegisterCkptReadCommands(Module& module);
int RegisterCkptLoadCommands(Module& module);
int RegisterCkptKeepCommands(Module& module);
int RegisterCkptLogCommands(Module& module);
int RegisterCkptCodecCommands(Module& module);
int RegisterCkptMergeCommands(Module& module);
/// Files carry these as "cairntens" and "cairntnup".
CairnType* RegisterTensorType(Module& module);
CairnType* RegisterUploadType(Module& module);

}  // namespace cairn::tensor
