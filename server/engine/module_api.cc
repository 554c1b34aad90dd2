// The functions behind the table of module_api.h.

#include "server/engine/module_api.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>

#include "persistence/save_target.h"
#include "server/base/strings.h"
#include "server/engine/durability.h"
#include "server/engine/engine.h"
#include "server/engine/key_access.h"
#include "server/engine/module_state.h"
#include "server/platform/memory.h"

namespace cairn {

namespace {

std::string_view View(CairnBytes bytes) { return {bytes.data, bytes.size}; }
CairnBytes Bytes(std::string_view view) { return {view.data(), view.size()}; }
Blob* Of(CairnBlob* blob) { return reinterpret_cast<Blob*>(blob); }
const Blob* Of(const CairnBlob* blob) { return reinterpret_cast<const Blob*>(blob); }
CairnBlob* Give(BlobRef blob) { return reinterpret_cast<CairnBlob*>(blob.Release()); }
RespWriter& Reply(CairnContext* ctx) { return ctx->command.reply(); }
KeyRef Key(CairnContext* ctx, CairnBytes key) { return ctx->command.db().MakeKey(View(key)); }

// --- registration ---

int ModuleDescribe(CairnModule* module, const char* name, int version, void* data,
                   void (*free_data)(void*)) {
  if (!module->description.name.empty()) return CAIRN_FAILED;
  module->description.name = name;
  module->description.version = version;
  module->data = data;
  module->free_data = free_data;
  return CAIRN_OK;
}

int RegisterCommand(CairnModule* module, const CairnCommandSpec* spec) {
  return module->host->RegisterCommand(*module, *spec);
}

CairnType* RegisterType(CairnModule* module, const CairnTypeSpec* spec) {
  return module->host->RegisterType(*module, *spec);
}

void WatchValues(CairnModule* module, CairnType* type,
                 void (*on_stored)(void*, uint32_t, CairnBytes, const void*),
                 void (*on_swapped)(void*, uint32_t, uint32_t)) {
  type->on_stored = on_stored;
  module->on_swapped = on_swapped;
}

void WatchClock(CairnModule* module, void (*on_tick)(void*, int64_t)) { module->on_tick = on_tick; }

void GuardType(CairnType* type, int (*may_evict)(const void* value)) {
  type->may_evict = may_evict;
}

// --- arguments ---

size_t ArgCount(CairnContext* ctx) { return ctx->command.argc(); }
CairnBytes Arg(CairnContext* ctx, size_t index) { return Bytes(ctx->command.arg(index)); }
CairnBlob* ArgBlob(CairnContext* ctx, size_t index) { return Give(ctx->command.ArgBlob(index)); }

// --- replies ---

void ReplyOk(CairnContext* ctx) { Reply(ctx).Ok(); }
void ReplyInteger(CairnContext* ctx, int64_t value) { Reply(ctx).Integer(value); }
void ReplyUnsigned(CairnContext* ctx, uint64_t value) {
  if (value <= INT64_MAX) return Reply(ctx).Integer(static_cast<int64_t>(value));
  Reply(ctx).BigNumber(std::to_string(value));
}
void ReplyDouble(CairnContext* ctx, double value) { Reply(ctx).Double(value); }
void ReplyBulk(CairnContext* ctx, CairnBytes bytes) { Reply(ctx).Bulk(View(bytes)); }
void ReplyBlobs(CairnContext* ctx, const CairnBlobPart* parts, size_t count) {
  uint64_t total = 0;
  for (size_t i = 0; i < count; ++i) total += parts[i].size;
  RespWriter& reply = Reply(ctx);
  reply.Raw("$" + std::to_string(total) + "\r\n");
  for (size_t i = 0; i < count; ++i) {
    reply.buffer().AppendBlob({BlobRef::Share(Of(parts[i].blob)), parts[i].offset, parts[i].size});
  }
  reply.Raw("\r\n");
}
void ReplyNull(CairnContext* ctx) { Reply(ctx).Null(); }
void ReplyArray(CairnContext* ctx, size_t count) { Reply(ctx).ArrayHeader(count); }
void ReplyMap(CairnContext* ctx, size_t pairs) { Reply(ctx).MapHeader(pairs); }
void ReplyError(CairnContext* ctx, CairnBytes line) {
  if (ctx->status.ok()) ctx->status = Status::Client(std::string(View(line)));
}

// --- keys ---

int ValueGet(CairnContext* ctx, CairnBytes key, CairnType* type, int access, void** value) {
  *value = nullptr;
  const KeyRef ref = Key(ctx, key);
  const Entry* entry =
      access == CAIRN_WRITE ? ctx->command.db().LookupWrite(ref) : ReadKey(ctx->command, ref);
  if (entry == nullptr) return CAIRN_ABSENT;
  if (entry->type() != ValueType::kModule) return CAIRN_WRONG_TYPE;
  const auto* object = static_cast<const AnyModuleObject*>(entry->object());
  if (object->type() != nullptr) {
    if (object->type() != type) return CAIRN_WRONG_TYPE;
    *value = static_cast<const ModuleObject*>(object)->value();
    return CAIRN_FOUND;
  }
  // Loaded before its module was: it becomes a value of the module now.
  const auto* foreign = static_cast<const ForeignObject*>(object);
  if (!ModuleHost::SameType(foreign->type_id(), type->id)) return CAIRN_WRONG_TYPE;
  Result<ObjectRef> made = LoadModuleValue(*type, foreign->type_id(), foreign->events(), true);
  if (!made.ok()) return CAIRN_WRONG_TYPE;
  *value = static_cast<const ModuleObject*>(made->get())->value();
  Database& db = ctx->command.db();
  ModuleHost::OnStored(
      db.index(), *db.Replace(ref, ValueInput::FromObject(ValueType::kModule, std::move(*made))));
  return CAIRN_FOUND;
}

void ValueSet(CairnContext* ctx, CairnBytes key, CairnType* type, void* value, int expiry,
              int64_t expire_at_ms) {
  CommandContext& command = ctx->command;
  const KeyRef ref = Key(ctx, key);
  int64_t at_ms = expiry == CAIRN_EXPIRY_AT ? expire_at_ms : kNoExpiry;
  if (expiry == CAIRN_EXPIRY_KEEP) {
    const Entry* entry = command.db().LookupWrite(ref);
    if (entry != nullptr) at_ms = entry->expire_at_ms();
  }
  ObjectRef object = ObjectRef::Adopt(new ModuleObject(*type, value));
  StoreKey(command, command.db(), ref,
           ValueInput::FromObject(ValueType::kModule, std::move(object)), at_ms);
  if (type->on_stored == nullptr) return;
  // A TTL that is over may have taken it at once.
  const Entry* stored = command.db().Peek(ref);
  if (stored != nullptr) ModuleHost::OnStored(command.db().index(), *stored);
}

const void* ValueAt(CairnModule* module, uint32_t db, CairnBytes key, CairnType* type) {
  Database& database = module->host->engine().keyspace.db(db);
  const Entry* entry = database.Peek(database.MakeKey(View(key)));
  if (entry == nullptr || entry->type() != ValueType::kModule) return nullptr;
  const auto* object = static_cast<const AnyModuleObject*>(entry->object());
  if (object->type() != type) return nullptr;
  return static_cast<const ModuleObject*>(object)->value();
}

void RunCommand(CairnModule* module, uint32_t db, const CairnBytes* args, size_t count) {
  std::vector<std::string_view> words;
  for (size_t i = 0; i < count; ++i) words.push_back(View(args[i]));
  module->host->RunCommand(db, words);
}

int KeyDelete(CairnContext* ctx, CairnBytes key) {
  CommandContext& command = ctx->command;
  const KeyRef ref = Key(ctx, key);
  if (command.db().LookupWrite(ref) == nullptr) return 0;
  command.db().Remove(ref, /*lazy=*/true);
  command.Changed(ref, NotifyClass::kGeneric, "del");
  return 1;
}

int KeyExists(CairnContext* ctx, CairnBytes key) {
  return ctx->command.db().LookupWrite(Key(ctx, key)) != nullptr ? 1 : 0;
}

// --- effects ---

void Changed(CairnContext* ctx, CairnBytes key, const char* event) {
  ctx->command.Changed(Key(ctx, key), NotifyClass::kModule, event);
}

void PropagateAs(CairnContext* ctx, const CairnBytes* args, size_t count) {
  if (!ctx->command.engine().propagation.enabled()) return;
  std::vector<std::string> owned;
  owned.reserve(count);
  for (size_t i = 0; i < count; ++i) owned.emplace_back(View(args[i]));
  ctx->command.PropagateAs(std::move(owned));
}

int IsPropagated(CairnContext* ctx) { return ctx->command.engine().propagation.enabled() ? 1 : 0; }

bool IsClients(CairnContext* ctx) {
  const SessionKind kind = ctx->command.session().kind;
  return kind == SessionKind::kNormal || kind == SessionKind::kPubsub;
}

int IsLoading(CairnContext* ctx) { return IsClients(ctx) ? 0 : 1; }
int64_t NowMs(CairnContext* ctx) { return ctx->command.now_ms(); }

// --- saving and loading ---

template <typename Emit>
int Save(CairnWriter* writer, Emit emit) {
  if (writer->status.ok()) writer->status = emit(writer->sink);
  return writer->status.ok() ? CAIRN_OK : CAIRN_FAILED;
}

int SaveUnsigned(CairnWriter* writer, uint64_t value) {
  return Save(writer, [&](ValueSink& sink) { return sink.ModuleUnsigned(value); });
}
int SaveSigned(CairnWriter* writer, int64_t value) {
  return Save(writer, [&](ValueSink& sink) { return sink.ModuleSigned(value); });
}
int SaveDouble(CairnWriter* writer, double value) {
  return Save(writer, [&](ValueSink& sink) { return sink.ModuleDouble(value); });
}
int SaveString(CairnWriter* writer, CairnBytes bytes) {
  return Save(writer, [&](ValueSink& sink) { return sink.ModuleString(View(bytes)); });
}

const ModuleEvent* Next(CairnReader* reader, ModuleEvent::Kind kind) {
  if (reader->next >= reader->events.size() || reader->events[reader->next].kind != kind)
    return nullptr;
  return &reader->events[reader->next++];
}

int LoadUnsigned(CairnReader* reader, uint64_t* value) {
  const ModuleEvent* event = Next(reader, ModuleEvent::Kind::kUnsigned);
  if (event == nullptr) return CAIRN_FAILED;
  *value = event->bits;
  return CAIRN_OK;
}
int LoadSigned(CairnReader* reader, int64_t* value) {
  const ModuleEvent* event = Next(reader, ModuleEvent::Kind::kSigned);
  if (event == nullptr) return CAIRN_FAILED;
  *value = static_cast<int64_t>(event->bits);
  return CAIRN_OK;
}
int LoadDouble(CairnReader* reader, double* value) {
  const ModuleEvent* event = Next(reader, ModuleEvent::Kind::kDouble);
  if (event == nullptr) return CAIRN_FAILED;
  *value = std::bit_cast<double>(event->bits);
  return CAIRN_OK;
}
int LoadString(CairnReader* reader, CairnBlob** blob) {
  const ModuleEvent* event = Next(reader, ModuleEvent::Kind::kString);
  if (event == nullptr) return CAIRN_FAILED;
  *blob = Give(event->bytes);
  return CAIRN_OK;
}

// --- blobs ---

CairnBlob* BlobAllocate(CairnModule* module, size_t size) {
  return reinterpret_cast<CairnBlob*>(module->host->engine().arena.Allocate(size));
}
void BlobRetain(CairnBlob* blob) { Of(blob)->Ref(); }
void BlobRelease(CairnBlob* blob) { Of(blob)->Unref(); }
const char* BlobData(const CairnBlob* blob) { return Of(blob)->data(); }
char* BlobMutableData(CairnBlob* blob) {
  CAIRN_CHECK(Of(blob)->IsUnique());
  return Of(blob)->mutable_data();
}
size_t BlobSize(const CairnBlob* blob) { return Of(blob)->size(); }
size_t BlobFootprint(const CairnBlob* blob) { return Of(blob)->footprint(); }

struct WrappedBlob {
  alignas(Blob) unsigned char blob[sizeof(Blob)];
  void (*release)(void* owner);
  void* owner;
};

CairnBlob* BlobWrap(CairnModule*, const char* data, size_t size, void (*release)(void* owner),
                    void* owner) {
  void* room = std::malloc(sizeof(WrappedBlob));
  CAIRN_CHECK(room != nullptr);
  auto* wrapped = new (room) WrappedBlob{{}, release, owner};
  const auto end = [](Blob* self) {
    auto* ended = reinterpret_cast<WrappedBlob*>(self);
    ended->release(ended->owner);
    std::free(ended);
  };
  // Frozen from birth: the bytes are the caller's.
  Blob* blob = new (wrapped->blob) Blob(const_cast<char*>(data), size, sizeof(WrappedBlob), end);
  return reinterpret_cast<CairnBlob*>(blob);
}

// --- files ---

int64_t SettingText(CairnModule* module, const char* name, char* out, size_t capacity) {
  const std::string_view pattern = name;
  const auto found = module->host->engine().config.Get(std::span(&pattern, 1));
  if (found.size() != 1) return -1;
  const std::string& text = found[0].second;
  std::memcpy(out, text.data(), std::min(capacity, text.size()));
  return static_cast<int64_t>(text.size());
}

int GetSaveTarget(CairnWriter* writer, CairnSaveTarget* target) {
  const auto* targeted = dynamic_cast<const TargetedSink*>(&writer->sink);
  const SaveTarget* known = targeted == nullptr ? nullptr : targeted->target();
  if (known == nullptr || known->files.empty() || known->files.size() > 2) return CAIRN_FAILED;
  target->directory = Bytes(known->directory);
  target->number = known->number;
  target->file_count = known->files.size();
  for (size_t i = 0; i < known->files.size(); ++i) target->files[i] = Bytes(known->files[i]);
  return CAIRN_OK;
}

int LogTarget(CairnContext* ctx, CairnSaveTarget* target) {
  Engine& engine = ctx->command.engine();
  if (engine.durability == nullptr || !engine.propagation.only_logged()) return CAIRN_FAILED;
  SaveTarget& known = ctx->host.log_target();
  known = engine.durability->LogTarget();
  if (known.files.empty()) return CAIRN_FAILED;
  *target = {Bytes(known.directory), known.number, {Bytes(known.files[0]), {}}, 1};
  return CAIRN_OK;
}

void WatchLog(CairnModule* module, int (*sync_named)(void*, int),
              void (*named_bytes)(void*, uint64_t*, uint64_t*)) {
  module->sync_named = sync_named;
  module->named_bytes = named_bytes;
}

void FailLoad(CairnContext* ctx, CairnBytes line) {
  if (ctx->command.engine().loading)
    ctx->host.FailLoad("the append-only file cannot be followed: " + std::string(View(line)));
  ReplyError(ctx, line);
}

int LoadIsFile(CairnReader* reader) { return reader->own_file ? 1 : 0; }

void WatchSaves(CairnModule* module, void (*on_saved)(void*, CairnBytes, uint64_t)) {
  module->on_saved = on_saved;
}

// --- surroundings ---

int SettingUnsigned(CairnModule* module, const char* name, uint64_t* value) {
  const Config& config = module->host->engine().config;
  const std::string_view pattern = name;
  const auto found = config.Get(std::span(&pattern, 1));
  return found.size() == 1 && ParseMemory(found[0].second, value) ? CAIRN_OK : CAIRN_FAILED;
}
uint64_t MachineMemory(CairnModule*) { return TotalSystemMemory(); }
uint64_t RandomU64(CairnModule* module) { return module->host->engine().env.RandomU64(); }
int64_t MonotonicUs(CairnModule* module) { return module->host->engine().env.MonotonicMicros(); }
void Log(CairnModule* module, int level, CairnBytes line) {
  const auto clamped = static_cast<LogLevel>(level < 0                   ? 0
                                             : level > CAIRN_LOG_WARNING ? CAIRN_LOG_WARNING
                                                                         : level);
  module->host->engine().log.Log(clamped, "<{}> {}", module->description.name, View(line));
}

void RunAsStartup(CairnModule* module, void (*work)(void*), void* state) {
  const int64_t before = ThreadLiveBytes();
  work(state);
  module->host->AddStartupBytes(ThreadLiveBytes() - before);
}

// --- long work ---

class ModuleJob final : public CommandJob {
 public:
  ModuleJob(ModuleHost& host, const CairnJob& job) : host_(host), job_(job) {}
  ~ModuleJob() override { job_.drop(job_.state); }
  void Work() override { job_.work(job_.state); }
  Status Finish(CommandContext& ctx) override {
    CairnContext run{ctx, host_};
    job_.finish(&run, job_.state);
    return std::move(run.status);
  }

 private:
  ModuleHost& host_;
  const CairnJob job_;
};

int RunLater(CairnContext* ctx, const CairnJob* job) {
  if (!ctx->command.CanRunLater()) return CAIRN_FAILED;
  ctx->command.RunLater(std::make_unique<ModuleJob>(ctx->host, *job));
  return CAIRN_OK;
}

// --- waiting and telling ---

Status RunAgain(CommandContext& ctx, CairnContext::Again again, bool* waits) {
  const auto& command = static_cast<const ModuleCommand&>(ctx.spec());
  CairnContext run{ctx, *command.module->host, {}, again};
  command.run(&run, command.module->data);
  *waits = run.waits;
  return std::move(run.status);
}

Status RetryModuleCommand(CommandContext& ctx, KeyRef, bool* served) {
  bool waits = false;
  Status status = RunAgain(ctx, CairnContext::Again::kKeyChanged, &waits);
  *served = !waits;
  return status;
}

// The line that the run leaves replaces what it replied, as the dispatcher does it elsewhere.
void EndModuleWait(CommandContext& ctx) {
  using Again = CairnContext::Again;
  bool waits = false;
  const BlockedState* parked = ctx.session().blocked.get();
  const bool time_left = parked != nullptr && parked->request.timeout_ms > 0;
  const ReplyBuffer::Mark mark = ctx.session().output.Here();
  const Status status = RunAgain(ctx, time_left ? Again::kLook : Again::kTimedOut, &waits);
  if (status.ok()) return;
  ctx.session().TakeBackReply(mark);
  ctx.engine().stats.CountError(status.message());
  ctx.reply().StatusReply(status);
}

// What is left behind the first look is kept in the parked request (Dispatcher::UnblockDue).
int WaitAndLook(CairnContext* ctx, CairnBytes key, int64_t timeout_ms, int64_t look_ms) {
  using Again = CairnContext::Again;
  const bool may_wait = ctx->command.CanBlock() && IsClients(ctx);
  if (ctx->again == Again::kTimedOut || !may_wait) return CAIRN_FAILED;
  ctx->waits = true;
  if (ctx->again == Again::kKeyChanged) return CAIRN_OK;
  Session& session = ctx->command.session();
  if (ctx->again == Again::kLook) {
    int64_t& left_ms = session.blocked->request.timeout_ms;
    left_ms -= std::clamp<int64_t>(look_ms, 1, left_ms);
    return CAIRN_OK;
  }
  // 0 is for ever, of wait_for_key alone.
  const int64_t first_ms = timeout_ms == 0 ? 0 : std::clamp<int64_t>(look_ms, 1, timeout_ms);
  const std::string_view keys[] = {View(key)};
  const Status parked = ctx->command.Block({.keys = keys,
                                            .timeout_ms = first_ms,
                                            .type = ValueType::kModule,
                                            .also_when_gone = true,
                                            .retry = RetryModuleCommand,
                                            .on_timeout = EndModuleWait});
  if (!parked.ok()) return CAIRN_FAILED;
  session.blocked->request.timeout_ms = timeout_ms - first_ms;
  return CAIRN_OK;
}

int WaitForKey(CairnContext* ctx, CairnBytes key, int64_t timeout_ms) {
  return WaitAndLook(ctx, key, timeout_ms, timeout_ms);
}

void SignalKey(CairnContext* ctx, CairnBytes key) {
  ctx->command.SignalReady(ctx->command.session().db, View(key));
}

void Publish(CairnContext* ctx, CairnBytes channel, CairnBytes message) {
  if (ctx->command.is_loading()) return;
  ctx->command.engine().pubsub.Publish(SubscriptionKind::kChannel, View(channel), View(message));
}

int DurabilityOfEffects(CairnContext* ctx) {
  const Durability* durability = ctx->command.engine().durability;
  if (durability == nullptr || !durability->GatesReplies()) return CAIRN_IN_MEMORY;
  return ctx->command.settings().appendfsync == AppendFsync::kAlways ? CAIRN_SYNCED : CAIRN_LOGGED;
}

constexpr CairnApi kApi = {
    .abi_version = CAIRN_MODULE_ABI_VERSION,
    .struct_size = sizeof(CairnApi),
    .module_describe = ModuleDescribe,
    .register_command = RegisterCommand,
    .register_type = RegisterType,
    .arg_count = ArgCount,
    .arg = Arg,
    .arg_blob = ArgBlob,
    .reply_ok = ReplyOk,
    .reply_integer = ReplyInteger,
    .reply_unsigned = ReplyUnsigned,
    .reply_double = ReplyDouble,
    .reply_bulk = ReplyBulk,
    .reply_blobs = ReplyBlobs,
    .reply_null = ReplyNull,
    .reply_array = ReplyArray,
    .reply_map = ReplyMap,
    .reply_error = ReplyError,
    .value_get = ValueGet,
    .value_set = ValueSet,
    .key_delete = KeyDelete,
    .key_exists = KeyExists,
    .changed = Changed,
    .propagate_as = PropagateAs,
    .is_loading = IsLoading,
    .now_ms = NowMs,
    .save_unsigned = SaveUnsigned,
    .save_signed = SaveSigned,
    .save_double = SaveDouble,
    .save_string = SaveString,
    .load_unsigned = LoadUnsigned,
    .load_signed = LoadSigned,
    .load_double = LoadDouble,
    .load_string = LoadString,
    .blob_allocate = BlobAllocate,
    .blob_retain = BlobRetain,
    .blob_release = BlobRelease,
    .blob_data = BlobData,
    .blob_mutable_data = BlobMutableData,
    .blob_size = BlobSize,
    .blob_footprint = BlobFootprint,
    .setting_unsigned = SettingUnsigned,
    .machine_memory = MachineMemory,
    .random_u64 = RandomU64,
    .monotonic_us = MonotonicUs,
    .log = Log,
    .run_later = RunLater,
    .wait_for_key = WaitForKey,
    .signal_key = SignalKey,
    .publish = Publish,
    .durability = DurabilityOfEffects,
    .blob_wrap = BlobWrap,
    .setting_text = SettingText,
    .save_target = GetSaveTarget,
    .load_is_file = LoadIsFile,
    .watch_saves = WatchSaves,
    .is_propagated = IsPropagated,
    .log_target = LogTarget,
    .watch_log = WatchLog,
    .fail_load = FailLoad,
    .guard_type = GuardType,
    .wait_and_look = WaitAndLook,
    .watch_values = WatchValues,
    .value_at = ValueAt,
    .watch_clock = WatchClock,
    .run_command = RunCommand,
    .run_as_startup = RunAsStartup,
};

}  // namespace

const CairnApi& ModuleApi() { return kApi; }

}  // namespace cairn
