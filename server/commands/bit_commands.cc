// Strings as arrays of bits: SETBIT to BITPOS, BITOP over several keys, and BITFIELD's integers of
// any width. The arithmetic is server/data/bits.h; here are arguments, keys and replies.

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "server/base/strings.h"
#include "server/data/bits.h"
#include "server/engine/key_access.h"

namespace cairn {

namespace {

/// What an integer of 64 bits touches at most when it begins within a byte.
constexpr size_t kFieldBytes = 9;

/// arg(i) as a bit offset. With `field_bits` != 0 the form "#n" is known too: n fields of that
/// width.
Status ArgBitOffset(const CommandContext& ctx, size_t i, unsigned field_bits, uint64_t* out) {
  std::string_view text = ctx.arg(i);
  const bool counted = field_bits != 0 && text.starts_with('#');
  if (counted) text.remove_prefix(1);
  int64_t offset = 0;
  if (!ParseInt64(text, &offset) ||
      (counted && __builtin_mul_overflow(offset, static_cast<int64_t>(field_bits), &offset)) ||
      offset < 0 || (!ctx.obeys() && offset / 8 >= ctx.settings().proto_max_bulk_len)) {
    return RespError(resp_errors::kBitOffset);
  }
  *out = static_cast<uint64_t>(offset);
  return Status::Ok();
}

/// The string of `key` to be changed, long enough for bit `highest`. *grown tells whether the key
/// is new or its string got longer.
Result<StringEdit> EditForBit(CommandContext& ctx, KeyRef key, uint64_t highest, bool* grown) {
  const Entry* entry = ctx.db().LookupWrite(key);
  CAIRN_RETURN_IF_ERROR(ExpectString(entry));
  const size_t old_size = entry != nullptr ? entry->StringSize() : 0;
  const size_t size = std::max<size_t>(old_size, highest / 8 + 1);
  *grown = size != old_size;
  if (entry == nullptr) StoreKey(ctx, ctx.db(), key, ValueInput::RawString({}));
  return ctx.db().EditString(key, size);
}

// --- one bit ---------------------------------------------------------------------------------

Status SetBit(CommandContext& ctx) {
  uint64_t offset = 0;
  CAIRN_RETURN_IF_ERROR(ArgBitOffset(ctx, 2, 0, &offset));
  int64_t bit = 0;
  if (!ParseInt64(ctx.arg(3), &bit) || (bit & ~int64_t{1}) != 0)
    return RespError(resp_errors::kBitValue);

  const KeyRef key = ctx.Key(1);
  bool grown = false;
  Result<StringEdit> edit = EditForBit(ctx, key, offset, &grown);
  if (!edit.ok()) return edit.status();
  char byte = 0;
  edit->Read(offset / 8, 1, &byte);
  const bool before = GetBit({&byte, 1}, offset % 8);
  if (before != (bit == 1)) {
    byte ^= static_cast<char>(1 << (7 - offset % 8));
    edit->Write(offset / 8, {&byte, 1});
  }
  // A bit that was already so is no change, and not worth a line in the log.
  if (grown || before != (bit == 1)) ctx.Changed(key, NotifyClass::kString, "setbit");
  ctx.reply().Integer(before);
  return Status::Ok();
}
constexpr CommandSpec kSetBitSpec{
    .name = "setbit",
    .arity = 4,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclBitmap,
    .keys = {OneKey(1, kKeyRW | kKeyAccess | kKeyUpdate)},
    .group = "bitmap",
    .since = "2.2.0",
    .complexity = "O(1)",
    .summary = "Sets or clears one bit of a string, growing it with zero bytes.",
    .synopsis = "key#0 offset:integer value:integer",
    .handler = SetBit,
};

Status GetBitCommand(CommandContext& ctx) {
  uint64_t offset = 0;
  CAIRN_RETURN_IF_ERROR(ArgBitOffset(ctx, 2, 0, &offset));
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectString(entry));
  ctx.reply().Integer(GetBit(StringBytes(entry).RunAt(offset / 8), offset % 8));
  return Status::Ok();
}
constexpr CommandSpec kGetBitSpec{
    .name = "getbit",
    .arity = 3,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclBitmap,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "bitmap",
    .since = "2.2.0",
    .complexity = "O(1)",
    .summary = "Returns one bit of a string.",
    .synopsis = "key#0 offset:integer",
    .handler = GetBitCommand,
};

// --- many bits -------------------------------------------------------------------------------

/// A range of bits, both ends included; `last` < `first` when empty.
struct BitRange {
  int64_t first = 0;
  int64_t last = -1;
};

/// "BYTE" or "BIT" at arg(i).
Status ArgBitUnit(const CommandContext& ctx, size_t i, bool* by_bit) {
  *by_bit = ctx.ArgIs(i, "bit");
  if (!*by_bit && !ctx.ArgIs(i, "byte")) return RespError(resp_errors::kSyntax);
  return Status::Ok();
}

/// Positions that may count from the end, cut to `size_bytes` and turned into bits.
BitRange ClampRange(int64_t start, int64_t end, size_t size_bytes, bool by_bit) {
  const int64_t total = static_cast<int64_t>(size_bytes) * (by_bit ? 8 : 1);
  if (start < 0) start = std::max<int64_t>(start + total, 0);
  if (end < 0) end = std::max<int64_t>(end + total, 0);
  end = std::min(end, total - 1);
  if (start > end) return {};
  return by_bit ? BitRange{start, end} : BitRange{start * 8, end * 8 + 7};
}

uint64_t CountBitsIn(const StringBytes& bytes, BitRange range) {
  uint64_t count = 0;
  for (uint64_t at = static_cast<uint64_t>(range.first),
                end = static_cast<uint64_t>(range.last) + 1;
       at < end;) {
    const std::string_view run = bytes.RunAt(at / 8);
    const uint64_t base = at / 8 * 8, stop = std::min<uint64_t>(end, base + run.size() * 8);
    count += CountBits(run, at - base, stop - base - 1);
    at = stop;
  }
  return count;
}

std::optional<uint64_t> FindBitIn(const StringBytes& bytes, bool bit, BitRange range) {
  for (uint64_t at = static_cast<uint64_t>(range.first),
                end = static_cast<uint64_t>(range.last) + 1;
       at < end;) {
    const std::string_view run = bytes.RunAt(at / 8);
    const uint64_t base = at / 8 * 8, stop = std::min<uint64_t>(end, base + run.size() * 8);
    if (const auto found = FindBit(run, bit, at - base, stop - base - 1)) return base + *found;
    at = stop;
  }
  return std::nullopt;
}

Status BitCount(CommandContext& ctx) {
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  if (entry == nullptr) {  // as Redis 7.0: without a key the range is not even read
    ctx.reply().Integer(0);
    return Status::Ok();
  }
  CAIRN_RETURN_IF_ERROR(ExpectString(entry));
  const StringBytes bytes(entry);
  if (ctx.argc() == 2) {
    uint64_t count = 0;
    for (size_t at = 0; at < bytes.size();) {
      const std::string_view run = bytes.RunAt(at);
      count += CountBits(run);
      at += run.size();
    }
    ctx.reply().Integer(static_cast<int64_t>(count));
    return Status::Ok();
  }
  if (ctx.argc() != 4 && ctx.argc() != 5) return RespError(resp_errors::kSyntax);
  int64_t start = 0, end = 0;
  bool by_bit = false;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &start));
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(3, &end));
  // Both counted from the end and crossed: empty even where clamping would make them meet, and
  // whatever the unit is called.
  if (start < 0 && end < 0 && start > end) {
    ctx.reply().Integer(0);
    return Status::Ok();
  }
  if (ctx.argc() == 5) CAIRN_RETURN_IF_ERROR(ArgBitUnit(ctx, 4, &by_bit));
  const BitRange range = ClampRange(start, end, bytes.size(), by_bit);
  ctx.reply().Integer(static_cast<int64_t>(CountBitsIn(bytes, range)));
  return Status::Ok();
}
constexpr CommandSpec kBitCountSpec{
    .name = "bitcount",
    .arity = -2,
    .flags = kCmdReadonly,
    .acl = kAclBitmap,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "bitmap",
    .since = "2.6.0",
    .complexity = "O(N) in the number of bytes counted.",
    .summary = "Counts the set bits of a string.",
    .synopsis = "key#0 [index{start:integer end:integer [index_unit(BYTE|BIT)@7.0.0]}]",
    .history = "7.0.0|Added the `BYTE|BIT` option.",
    .handler = BitCount,
};

Status BitPos(CommandContext& ctx) {
  int64_t bit = 0;
  CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(2, &bit));
  if (bit != 0 && bit != 1) return Status::Client("ERR The bit argument must be 1 or 0.");
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  if (entry == nullptr) {  // an endless row of zeros
    ctx.reply().Integer(bit == 1 ? -1 : 0);
    return Status::Ok();
  }
  CAIRN_RETURN_IF_ERROR(ExpectString(entry));
  if (ctx.argc() > 6) return RespError(resp_errors::kSyntax);
  const StringBytes bytes(entry);
  int64_t start = 0, end = -1;
  bool by_bit = false;
  if (ctx.argc() > 3) CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(3, &start));
  if (ctx.argc() == 6) CAIRN_RETURN_IF_ERROR(ArgBitUnit(ctx, 5, &by_bit));
  if (ctx.argc() > 4) CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(4, &end));

  const BitRange range = ClampRange(start, end, bytes.size(), by_bit);
  int64_t found = -1;
  if (range.first <= range.last) {
    const auto at = FindBitIn(bytes, bit == 1, range);
    // Zeros go on behind the string, unless the caller named the end.
    if (at.has_value()) {
      found = static_cast<int64_t>(*at);
    } else if (bit == 0 && ctx.argc() <= 4) {
      found = range.last + 1;
    }
  }
  ctx.reply().Integer(found);
  return Status::Ok();
}
constexpr CommandSpec kBitPosSpec{
    .name = "bitpos",
    .arity = -3,
    .flags = kCmdReadonly,
    .acl = kAclBitmap,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "bitmap",
    .since = "2.8.7",
    .complexity = "O(N) in the number of bytes looked at.",
    .summary = "Finds the first set or clear bit of a string.",
    .synopsis =
        "key#0 bit:integer [index{start:integer [end_index{end:integer "
        "[index_unit(BYTE|BIT)@7.0.0]}]}]",
    .history = "7.0.0|Added the `BYTE|BIT` option.",
    .handler = BitPos,
};

// --- BITOP -----------------------------------------------------------------------------------

/// The strings of the source keys, in order; a missing key is an empty one.
Status ReadSources(CommandContext& ctx, std::vector<std::string>* small,
                   std::vector<std::string_view>* out) {
  small->reserve(ctx.argc());
  for (size_t i = 3; i < ctx.argc(); ++i) {
    const Entry* entry = ReadKey(ctx, ctx.Key(i));
    CAIRN_RETURN_IF_ERROR(ExpectString(entry));
    if (entry == nullptr) {
      out->emplace_back();
    } else {
      // Bytes in the record are copied: a later look-up may expire a key and free its record. Those
      // in chunks are brought together.
      const StringBytes bytes(entry);
      if (entry->form() == ValueForm::kBlob) {
        out->push_back(bytes.RunAt(0));
        continue;
      }
      std::string& copy = small->emplace_back();
      const std::string_view whole = bytes.Whole(&copy);
      if (copy.empty()) copy = whole;
      out->push_back(copy);
    }
  }
  return Status::Ok();
}

/// Combines all sources, as if padded with zeros to the longest of them.
BlobRef Combine(BitOperation operation, std::span<const std::string_view> sources, size_t size) {
  BlobRef blob = BlobRef::Adopt(Blob::Create(size));
  char* out = blob->mutable_data();
  if (!sources[0].empty()) std::memcpy(out, sources[0].data(), sources[0].size());
  std::memset(out + sources[0].size(), 0, size - sources[0].size());
  // A piece of all sources after the other: the target's is in the cache until it is done.
  constexpr size_t kPieceBytes = size_t{32} << 10;
  for (size_t from = 0; from < size; from += kPieceBytes) {
    const size_t piece = std::min(kPieceBytes, size - from);
    for (std::string_view source : sources.subspan(1)) {
      const std::string_view here = source.substr(std::min(from, source.size()), piece);
      CombineBits(operation, out + from, here.data(), here.size());
      if (operation == BitOperation::kAnd)
        std::memset(out + from + here.size(), 0, piece - here.size());
    }
  }
  return blob;
}

BlobRef Invert(std::string_view source) {
  BlobRef blob = BlobRef::Adopt(Blob::Create(source.size()));
  InvertBits(blob->mutable_data(), source.data(), source.size());
  return blob;
}

Status BitOp(CommandContext& ctx) {
  const bool invert = ctx.ArgIs(1, "not");
  BitOperation operation = BitOperation::kAnd;
  if (ctx.ArgIs(1, "or")) {
    operation = BitOperation::kOr;
  } else if (ctx.ArgIs(1, "xor")) {
    operation = BitOperation::kXor;
  } else if (!invert && !ctx.ArgIs(1, "and")) {
    return RespError(resp_errors::kSyntax);
  }
  if (invert && ctx.argc() != 4)
    return Status::Client("ERR BITOP NOT must be called with a single source key.");

  std::vector<std::string> small;
  std::vector<std::string_view> sources;
  CAIRN_RETURN_IF_ERROR(ReadSources(ctx, &small, &sources));
  size_t size = 0;
  for (std::string_view source : sources) size = std::max(size, source.size());

  const KeyRef target = ctx.Key(2);
  if (size != 0) {
    BlobRef result = invert ? Invert(sources[0]) : Combine(operation, sources, size);
    const std::string_view bytes = result->view();
    SetKey(ctx, ctx.db(), target, ValueInput::RawString(bytes, result));
    ctx.Changed(target, NotifyClass::kString, "set");
  } else {
    RemoveTarget(ctx, target, /*lazy=*/false);
  }
  ctx.reply().Integer(static_cast<int64_t>(size));
  return Status::Ok();
}
constexpr CommandSpec kBitOpSpec{
    .name = "bitop",
    .arity = -4,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclBitmap,
    .keys = {OneKey(2, kKeyOW | kKeyUpdate), KeyRange(3, -1, 1, kKeyRO | kKeyAccess)},
    .group = "bitmap",
    .since = "2.6.0",
    .complexity = "O(N) in the bytes of all source strings.",
    .summary = "Combines strings bit by bit and stores the result.",
    .synopsis = "operation destkey#0 key#1...",
    .handler = BitOp,
};

// --- BITFIELD --------------------------------------------------------------------------------

struct FieldOperation {
  enum class Kind : uint8_t { kGet, kSet, kIncrBy } kind = Kind::kGet;
  BitFieldType type;
  uint64_t offset = 0;
  int64_t argument = 0;
  BitOverflow overflow = BitOverflow::kWrap;
};

struct FieldProgram {
  std::vector<FieldOperation> operations;
  bool writes = false;
  uint64_t highest_bit = 0;  ///< of all writing operations
};

Status ParseOverflow(const CommandContext& ctx, size_t i, BitOverflow* out) {
  if (ctx.ArgIs(i, "wrap")) {
    *out = BitOverflow::kWrap;
  } else if (ctx.ArgIs(i, "sat")) {
    *out = BitOverflow::kSaturate;
  } else if (ctx.ArgIs(i, "fail")) {
    *out = BitOverflow::kFail;
  } else {
    return Status::Client("ERR Invalid OVERFLOW type specified");
  }
  return Status::Ok();
}

/// The operation at arg(i); *next is behind it. OVERFLOW only sets *overflow.
Status ParseFieldOperation(const CommandContext& ctx, size_t i, BitOverflow* overflow,
                           FieldProgram* program, size_t* next) {
  using Kind = FieldOperation::Kind;
  const size_t left = ctx.argc() - i - 1;
  if (ctx.ArgIs(i, "overflow") && left >= 1) {
    *next = i + 2;
    return ParseOverflow(ctx, i + 1, overflow);
  }
  FieldOperation operation;
  operation.overflow = *overflow;
  if (ctx.ArgIs(i, "get") && left >= 2) {
    operation.kind = Kind::kGet;
  } else if (ctx.ArgIs(i, "set") && left >= 3) {
    operation.kind = Kind::kSet;
  } else if (ctx.ArgIs(i, "incrby") && left >= 3) {
    operation.kind = Kind::kIncrBy;
  } else {
    return RespError(resp_errors::kSyntax);
  }
  const auto type = ParseBitFieldType(UpToNul(ctx.arg(i + 1)));
  if (!type.has_value()) {
    return Status::Client(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but "
        "i64 is.");
  }
  operation.type = *type;
  CAIRN_RETURN_IF_ERROR(ArgBitOffset(ctx, i + 2, type->bits, &operation.offset));
  *next = i + 3;
  if (operation.kind != Kind::kGet) {
    CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(i + 3, &operation.argument));
    program->writes = true;
    program->highest_bit = std::max(program->highest_bit, operation.offset + type->bits - 1);
    ++*next;
  }
  program->operations.push_back(operation);
  return Status::Ok();
}

Status ParseFieldProgram(const CommandContext& ctx, FieldProgram* program) {
  BitOverflow overflow = BitOverflow::kWrap;
  for (size_t i = 2; i < ctx.argc();)
    CAIRN_RETURN_IF_ERROR(ParseFieldOperation(ctx, i, &overflow, program, &i));
  return Status::Ok();
}

/// The bytes that an operation's number touches, as far as the string goes.
struct FieldWindow {
  FieldWindow(const StringEdit& edit, const FieldOperation& operation)
      : at(operation.offset / 8), first_bit(operation.offset % 8) {
    if (at >= edit.size()) return;
    size = std::min({kFieldBytes, edit.size() - at, (first_bit + operation.type.bits + 7) / 8});
    edit.Read(at, size, bytes);
  }
  std::string_view view() const { return {bytes, size}; }

  size_t at;
  uint64_t first_bit;
  size_t size = 0;
  char bytes[kFieldBytes];
};

/// Runs one writing operation and replies. Returns whether the stored number changed.
bool RunFieldWrite(CommandContext& ctx, const FieldOperation& operation, StringEdit& edit) {
  const bool set = operation.kind == FieldOperation::Kind::kSet;
  FieldWindow window(edit, operation);
  const int64_t before = ReadBitField(window.view(), window.first_bit, operation.type);
  const auto after = AddBitField(operation.type, set ? operation.argument : before,
                                 set ? 0 : operation.argument, operation.overflow);
  if (!after.has_value()) {
    ctx.reply().Null();
    return false;
  }
  ctx.reply().Integer(set ? before : *after);
  if (*after == before) return false;
  WriteBitField(window.bytes, window.size, window.first_bit, operation.type, *after);
  edit.Write(window.at, window.view());
  return true;
}

Status RunReadingProgram(CommandContext& ctx, const FieldProgram& program) {
  const Entry* entry = ReadKey(ctx, ctx.Key(1));
  CAIRN_RETURN_IF_ERROR(ExpectString(entry));
  const StringBytes bytes(entry);
  ctx.reply().ArrayHeader(program.operations.size());
  for (const FieldOperation& operation : program.operations) {
    char copy[kFieldBytes];
    const std::string_view window = bytes.Window(operation.offset / 8, kFieldBytes, copy);
    ctx.reply().Integer(ReadBitField(window, operation.offset % 8, operation.type));
  }
  return Status::Ok();
}

Status BitField(CommandContext& ctx) {
  FieldProgram program;
  CAIRN_RETURN_IF_ERROR(ParseFieldProgram(ctx, &program));
  if (!program.writes) return RunReadingProgram(ctx, program);

  const KeyRef key = ctx.Key(1);
  bool grown = false;
  Result<StringEdit> edit = EditForBit(ctx, key, program.highest_bit, &grown);
  if (!edit.ok()) return edit.status();
  ctx.reply().ArrayHeader(program.operations.size());
  uint64_t changes = 0;
  for (const FieldOperation& operation : program.operations) {
    if (operation.kind == FieldOperation::Kind::kGet) {
      const FieldWindow window(*edit, operation);
      ctx.reply().Integer(ReadBitField(window.view(), window.first_bit, operation.type));
    } else if (RunFieldWrite(ctx, operation, *edit)) {
      ++changes;
    }
  }
  // A string that only grew has changed too, and must reach the log.
  if (changes == 0 && !grown) return Status::Ok();
  ctx.Changed(key, NotifyClass::kString, "setbit");
  ctx.AddDirty(changes > 1 ? changes - 1 : 0);
  return Status::Ok();
}
/// Reading alone asks for less; what makes no sense might write.
Status FindBitFieldKeys(const CommandSpec&, std::span<const std::string_view> args,
                        std::vector<KeyPosition>* out) {
  bool reads = true;
  for (size_t i = 2; i < args.size() && reads; ++i) {
    const size_t left = args.size() - i - 1;
    if (EqualsIgnoreCase(args[i], "get") && left >= 2) {
      i += 2;
    } else if (EqualsIgnoreCase(args[i], "overflow") && left >= 1) {
      i += 1;
    } else {
      reads = false;
    }
  }
  out->push_back({1, reads ? kKeyRO | kKeyAccess : kKeyRW | kKeyAccess | kKeyUpdate});
  return Status::Ok();
}
constexpr CommandSpec kBitFieldSpec{
    .name = "bitfield",
    .arity = -2,
    .flags = kCmdWrite | kCmdDenyOom,
    .acl = kAclBitmap,
    .keys = {{KeySpec::Begin::kIndex,
              kKeyRW | kKeyUpdate | kKeyAccess | kKeyVariableFlags,
              1,
              {},
              KeySpec::Find::kRange,
              0,
              1,
              0,
              "This command allows both access and modification of the key"}},
    .find_keys = FindBitFieldKeys,
    .group = "bitmap",
    .since = "3.2.0",
    .complexity = "O(1) for each subcommand specified",
    .summary = "Reads, sets and counts up integers of any width inside a string.",
    .synopsis =
        "key#0 [operation(GET=encoding_offset{encoding offset:integer}|"
        "write{[OVERFLOW=wrap_sat_fail(WRAP|SAT|FAIL)] "
        "write_operation(SET=encoding_offset_value{encoding offset:integer value:integer}|"
        "INCRBY=encoding_offset_increment{encoding offset:integer increment:integer})})...]",
    .handler = BitField,
};

Status BitFieldRo(CommandContext& ctx) {
  FieldProgram program;
  CAIRN_RETURN_IF_ERROR(ParseFieldProgram(ctx, &program));
  if (program.writes) return Status::Client("ERR BITFIELD_RO only supports the GET subcommand");
  return RunReadingProgram(ctx, program);
}
constexpr CommandSpec kBitFieldRoSpec{
    .name = "bitfield_ro",
    .arity = -2,
    .flags = kCmdReadonly | kCmdFast,
    .acl = kAclBitmap,
    .keys = {OneKey(1, kKeyRO | kKeyAccess)},
    .group = "bitmap",
    .since = "6.0.0",
    .complexity = "O(1) for each subcommand specified",
    .summary = "Reads integers of any width inside a string.",
    .synopsis = "key#0 [GET=encoding_offset{encoding offset:integer}+...]",
    .handler = BitFieldRo,
};

constexpr std::array kBitSpecs = {
    kSetBitSpec, kGetBitSpec,   kBitCountSpec,   kBitPosSpec,
    kBitOpSpec,  kBitFieldSpec, kBitFieldRoSpec,
};
static_assert(ValidSpecs(kBitSpecs));

}  // namespace

CommandFamily BitCommands() { return kBitSpecs; }

}  // namespace cairn
