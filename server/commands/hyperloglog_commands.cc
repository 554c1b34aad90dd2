// HyperLogLogs: PFADD, PFCOUNT, PFMERGE and the two commands that look inside. The values are
// strings; their layout and arithmetic are server/data/hyperloglog.h's.

#include <array>

#include "server/data/hyperloglog.h"
#include "server/engine/key_access.h"

namespace cairn {

namespace {

Status CorruptHyperLogLog() { return Status::Client("INVALIDOBJ Corrupted HLL object detected"); }

/// The bytes of an entry that holds a HyperLogLog. An integer is too short to be one, what is in
/// chunks (keyspace.h) a hundred times too long.
Status HyperLogLogBytes(const Entry& entry, std::string_view* out) {
  CAIRN_RETURN_IF_ERROR(ExpectString(&entry));
  if (entry.form() == ValueForm::kObject) {
    // With the right first bytes it is a broken one.
    if (hyperloglog::HasValidHeader(StringBytes(&entry).RunAt(0))) return CorruptHyperLogLog();
  } else if (entry.form() != ValueForm::kInt) {
    *out = entry.StringView(nullptr);
    if (hyperloglog::HasValidHeader(*out)) return Status::Ok();
  }
  return Status::Client("WRONGTYPE Key is not a valid HyperLogLog string value.");
}

/// The same for a command that may change it: as in Redis its encoding is raw from then on.
Status HyperLogLogForWrite(CommandContext& ctx, KeyRef key, const Entry& entry,
                           std::string_view* out) {
  CAIRN_RETURN_IF_ERROR(HyperLogLogBytes(entry, out));
  if (entry.form() == ValueForm::kInline)
    *out = {ctx.db().MutableString(key, out->size()), out->size()};
  return Status::Ok();
}

bool IsDense(std::string_view bytes) {
  return hyperloglog::EncodingOf(bytes) == hyperloglog::Encoding::kDense;
}

size_t SparseLimit(const CommandContext& ctx) {
  return static_cast<size_t>(ctx.settings().hll_sparse_max_bytes);
}

// --- PFADD -----------------------------------------------------------------------------------

/// Adds to a dense value where it stands. Returns how many registers rose.
uint64_t AddToDense(CommandContext& ctx, KeyRef key, std::string_view bytes) {
  char* writable = nullptr;  // asked for with the first change only: it may copy
  uint64_t raised = 0;
  for (size_t i = 2; i < ctx.argc(); ++i) {
    const hyperloglog::Observation seen = hyperloglog::Observe(ctx.arg(i));
    if (hyperloglog::DenseRegister(bytes, seen.index) >= seen.value) continue;
    if (writable == nullptr) {
      writable = ctx.db().MutableString(key, hyperloglog::kDenseBytes);
      bytes = {writable, hyperloglog::kDenseBytes};
    }
    raised += hyperloglog::RaiseDense(writable, seen);
  }
  if (raised != 0) hyperloglog::ForgetEstimate(writable);
  return raised;
}

/// Adds to a sparse value by way of a copy, which replaces it when it differs.
Status AddToSparse(CommandContext& ctx, KeyRef key, std::string bytes, uint64_t* raised) {
  for (size_t i = 2; i < ctx.argc(); ++i) {
    Result<bool> changed =
        hyperloglog::Raise(&bytes, hyperloglog::Observe(ctx.arg(i)), SparseLimit(ctx));
    if (!changed.ok()) return CorruptHyperLogLog();
    *raised += *changed;
  }
  if (*raised == 0) return Status::Ok();
  hyperloglog::ForgetEstimate(bytes.data());
  ctx.db().Replace(key, ValueInput::RawString(bytes));
  return Status::Ok();
}

Status PfAdd(CommandContext& ctx) {
  const KeyRef key = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(key);
  uint64_t changes = 0;
  std::string_view bytes;
  std::string fresh;
  if (entry == nullptr) {
    fresh = hyperloglog::Empty();
    bytes = fresh;
    StoreKey(ctx, ctx.db(), key, ValueInput::RawString(fresh));
    changes = 1;
  } else {
    CAIRN_RETURN_IF_ERROR(HyperLogLogForWrite(ctx, key, *entry, &bytes));
  }
  if (IsDense(bytes)) {
    changes += AddToDense(ctx, key, bytes);
  } else {
    CAIRN_RETURN_IF_ERROR(AddToSparse(ctx, key, std::string(bytes), &changes));
  }
  if (changes != 0) {
    ctx.Changed(key, NotifyClass::kString, "pfadd");
    ctx.AddDirty(changes - 1);
  }
  ctx.reply().Integer(changes != 0);
  return Status::Ok();
}
constexpr CommandSpec kPfAddSpec{
    .name = "pfadd",
    .arity = -2,
    .flags = kCmdWrite | kCmdDenyOom | kCmdFast,
    .acl = kAclHyperLogLog,
    .keys = {OneKey(1, kKeyRW | kKeyInsert)},
    .group = "hyperloglog",
    .since = "2.8.9",
    .complexity = "O(1) to add every element.",
    .summary = "Counts elements into a HyperLogLog.",
    .synopsis = "key#0 [element...]",
    .handler = PfAdd,
};

// --- PFCOUNT ---------------------------------------------------------------------------------

/// Merges the keys from argument `first` on. *any_dense (may be null) tells of their encodings.
Status MergeKeys(CommandContext& ctx, size_t first, hyperloglog::Registers* max, bool* any_dense) {
  for (size_t i = first; i < ctx.argc(); ++i) {
    const Entry* entry = ReadKey(ctx, ctx.Key(i));
    if (entry == nullptr) continue;
    std::string_view bytes;
    CAIRN_RETURN_IF_ERROR(HyperLogLogBytes(*entry, &bytes));
    if (any_dense != nullptr) *any_dense |= IsDense(bytes);
    if (!hyperloglog::MergeInto(bytes, max).ok()) return CorruptHyperLogLog();
  }
  return Status::Ok();
}

Status PfCount(CommandContext& ctx) {
  if (ctx.argc() > 2) {
    hyperloglog::Registers max{};
    CAIRN_RETURN_IF_ERROR(MergeKeys(ctx, 1, &max, nullptr));
    ctx.reply().Integer(static_cast<int64_t>(hyperloglog::Estimate(max)));
    return Status::Ok();
  }
  const KeyRef key = ctx.Key(1);
  const Entry* entry = ReadKey(ctx, key);
  if (entry == nullptr) {
    ctx.reply().Integer(0);
    return Status::Ok();
  }
  std::string_view bytes;
  CAIRN_RETURN_IF_ERROR(HyperLogLogForWrite(ctx, key, *entry, &bytes));
  if (const auto cached = hyperloglog::CachedEstimate(bytes)) {
    ctx.reply().Integer(static_cast<int64_t>(*cached));
    return Status::Ok();
  }
  const Result<uint64_t> estimate = hyperloglog::Estimate(bytes);
  if (!estimate.ok()) return CorruptHyperLogLog();
  // The estimate is kept in the value, so a read has changed it: watchers and replicas are told.
  hyperloglog::StoreEstimate(ctx.db().MutableString(key, bytes.size()), *estimate);
  ctx.TouchWatchers(ctx.db().index(), key.key);
  ctx.AddDirty(1);
  ctx.reply().Integer(static_cast<int64_t>(*estimate));
  return Status::Ok();
}
constexpr CommandSpec kPfCountSpec{
    .name = "pfcount",
    .arity = -2,
    .flags = kCmdReadonly | kCmdMayReplicate,
    .acl = kAclHyperLogLog,
    .keys = {{KeySpec::Begin::kIndex,
              kKeyRW | kKeyAccess,
              1,
              {},
              KeySpec::Find::kRange,
              -1,
              1,
              0,
              "RW because it may change the internal representation of the key, and propagate to "
              "replicas"}},
    .group = "hyperloglog",
    .since = "2.8.9",
    .complexity =
        "O(1) with a very small average constant time when called with a single key. "
        "O(N) with N being the number of keys, and much bigger constant times, when "
        "called with multiple keys.",
    .summary = "Estimates how many different elements HyperLogLogs have seen.",
    .synopsis = "key#0...",
    .handler = PfCount,
};

// --- PFMERGE ---------------------------------------------------------------------------------

Status PfMerge(CommandContext& ctx) {
  hyperloglog::Registers max{};
  bool dense = false;
  CAIRN_RETURN_IF_ERROR(MergeKeys(ctx, 1, &max, &dense));
  const KeyRef target = ctx.Key(1);
  const Entry* entry = ctx.db().LookupWrite(target);
  std::string bytes = hyperloglog::Empty();
  if (entry != nullptr) bytes = entry->StringView(nullptr);
  if (dense && !hyperloglog::MakeDense(&bytes).ok()) return CorruptHyperLogLog();
  for (uint32_t i = 0; !dense && i < hyperloglog::kRegisters; ++i) {
    if (max[i] == 0) continue;
    if (!hyperloglog::Raise(&bytes, {i, max[i]}, SparseLimit(ctx)).ok())
      return CorruptHyperLogLog();
    if (IsDense(bytes)) break;
  }
  // The target's own registers are among those of `max`.
  if (IsDense(bytes)) hyperloglog::StoreDense(max, bytes.data());
  hyperloglog::ForgetEstimate(bytes.data());
  if (entry == nullptr) {
    StoreKey(ctx, ctx.db(), target, ValueInput::RawString(bytes));
  } else {
    ctx.db().Replace(target, ValueInput::RawString(bytes));
  }
  ctx.Changed(target, NotifyClass::kString, "pfadd");
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kPfMergeSpec{
    .name = "pfmerge",
    .arity = -2,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclHyperLogLog,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyInsert), KeyRange(2, -1, 1, kKeyRO | kKeyAccess)},
    .group = "hyperloglog",
    .since = "2.8.9",
    .complexity = "O(N) to merge N HyperLogLogs, but with high constant times.",
    .summary = "Joins HyperLogLogs into one.",
    .synopsis = "destkey#0 sourcekey#1...",
    .handler = PfMerge,
};

// --- looking inside --------------------------------------------------------------------------

/// GETREG and TODENSE turn a sparse value into a dense one. *changed tells whether it was.
Status StoreDense(CommandContext& ctx, KeyRef key, std::string* bytes, bool* changed) {
  *changed = !IsDense(*bytes);
  if (!*changed) return Status::Ok();
  if (!hyperloglog::MakeDense(bytes).ok()) return CorruptHyperLogLog();
  ctx.db().Replace(key, ValueInput::RawString(*bytes));
  ctx.AddDirty(1);
  return Status::Ok();
}

Status PfDebug(CommandContext& ctx) {
  const KeyRef key = ctx.Key(2);
  const Entry* entry = ctx.db().LookupWrite(key);
  if (entry == nullptr) return Status::Client("ERR The specified key does not exist");
  std::string_view view;
  CAIRN_RETURN_IF_ERROR(HyperLogLogForWrite(ctx, key, *entry, &view));
  std::string bytes(view);
  bool changed = false;
  if (ctx.ArgIs(1, "getreg")) {
    CAIRN_RETURN_IF_ERROR(StoreDense(ctx, key, &bytes, &changed));
    ctx.reply().ArrayHeader(hyperloglog::kRegisters);
    for (size_t i = 0; i < hyperloglog::kRegisters; ++i)
      ctx.reply().Integer(hyperloglog::DenseRegister(bytes, i));
  } else if (ctx.ArgIs(1, "decode")) {
    if (IsDense(bytes)) return Status::Client("ERR HLL encoding is not sparse");
    ctx.reply().Bulk(hyperloglog::Describe(bytes));
  } else if (ctx.ArgIs(1, "encoding")) {
    ctx.reply().SimpleString(IsDense(bytes) ? "dense" : "sparse");
  } else if (ctx.ArgIs(1, "todense")) {
    CAIRN_RETURN_IF_ERROR(StoreDense(ctx, key, &bytes, &changed));
    ctx.reply().Integer(changed);
  } else {
    return QuotingError({"ERR Unknown PFDEBUG subcommand '", ctx.arg(1), "'"});
  }
  return Status::Ok();
}
constexpr CommandSpec kPfDebugSpec{
    .name = "pfdebug",
    .arity = 3,
    .flags = kCmdWrite | kCmdDenyOom | kCmdAdmin | kCmdSystem,
    .acl = kAclHyperLogLog,
    .keys = {OneKey(2, kKeyRW | kKeyAccess)},
    .group = "hyperloglog",
    .since = "2.8.9",
    .complexity = "N/A",
    .summary = "Shows the registers, runs or encoding of a HyperLogLog.",
    .synopsis = "subcommand key#0",
    .handler = PfDebug,
};

/// Registers written next to each other must not disturb each other, and the estimate of a known
/// number of elements must be near it: what a port to another machine could get wrong.
Status PfSelfTest(CommandContext& ctx) {
  std::string bytes = hyperloglog::Empty();
  if (!hyperloglog::MakeDense(&bytes).ok()) return CorruptHyperLogLog();
  constexpr uint32_t kStride = 37;  // coprime to the number of registers: visits each once
  const auto value_of = [](uint32_t index) { return static_cast<uint8_t>(index % 51 + 1); };
  for (uint32_t i = 0; i < hyperloglog::kRegisters; ++i) {
    const uint32_t index = i * kStride % hyperloglog::kRegisters;
    hyperloglog::RaiseDense(bytes.data(), {index, value_of(index)});
  }
  for (uint32_t i = 0; i < hyperloglog::kRegisters; ++i) {
    if (hyperloglog::DenseRegister(bytes, i) != value_of(i))
      return Status::Client("ERR TESTFAILED Register " + std::to_string(i) + " was disturbed");
  }
  constexpr uint64_t kElements = 100000;
  constexpr double kTolerance = 0.05;  // six times the standard error of 1.04 / sqrt(16384)
  std::string sketch = hyperloglog::Empty();
  for (uint64_t i = 0; i < kElements; ++i) {
    if (!hyperloglog::Raise(&sketch, hyperloglog::Observe(IntegerText(static_cast<int64_t>(i))),
                            SparseLimit(ctx))
             .ok())
      return CorruptHyperLogLog();
  }
  const Result<uint64_t> estimate = hyperloglog::Estimate(sketch);
  if (!estimate.ok()) return CorruptHyperLogLog();
  const double ratio = static_cast<double>(*estimate) / static_cast<double>(kElements);
  if (ratio < 1 - kTolerance || ratio > 1 + kTolerance)
    return Status::Client("ERR TESTFAILED Too big error");
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kPfSelfTestSpec{
    .name = "pfselftest",
    .arity = 1,
    .flags = kCmdAdmin | kCmdSystem,
    .acl = kAclHyperLogLog,
    .group = "hyperloglog",
    .since = "2.8.9",
    .complexity = "N/A",
    .summary = "Tests registers and estimates on values of its own.",
    .handler = PfSelfTest,
};

constexpr std::array kHyperLogLogSpecs = {
    kPfAddSpec, kPfCountSpec, kPfMergeSpec, kPfDebugSpec, kPfSelfTestSpec,
};
static_assert(ValidSpecs(kHyperLogLogSpecs));

}  // namespace

CommandFamily HyperLogLogCommands() { return kHyperLogLogSpecs; }

}  // namespace cairn
