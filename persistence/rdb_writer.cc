#include "persistence/rdb_writer.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "persistence/rdb_format.h"
#include "server/base/checksum.h"
#include "server/base/lzf.h"
#include "server/base/strings.h"

namespace cairn {
namespace {

/// Strings from here on go to the sink uncopied, and are compressed only when a sample says it
/// pays.
constexpr size_t kBigBytes = 64 * 1024;
constexpr size_t kPieceBytes = size_t{1} << 20;
constexpr size_t kSampleBytes = 4 * 1024;
constexpr size_t kSmallestBuffer = 256;
/// After so many strings of a size in a row that did not shrink only each so manieth is tried,
/// until one does: finding out is half of the work of saving a short value.
constexpr uint32_t kManyInVain = 256, kPassedOver = 16;
/// Longest run of primitives that is written after one Reserve.
constexpr size_t kPrimitiveBytes = 16;
/// A compressed string must save this much, as in Redis.
constexpr size_t kMinSavedBytes = 4;

/// Copies kSampleBytes bytes from `at` on. Requires: they are there.
void CopySample(std::span<const std::string_view> pieces, size_t at, char* out) {
  size_t wanted = kSampleBytes;
  for (std::string_view piece : pieces) {
    if (at >= piece.size()) {
      at -= piece.size();
      continue;
    }
    const std::string_view part = piece.substr(at, wanted);
    std::memcpy(out, part.data(), part.size());
    out += part.size();
    wanted -= part.size();
    at = 0;
    if (wanted == 0) return;
  }
}

/// Writes the shortest form of a length to `out`; returns its size (at most kMaxLengthBytes).
size_t EncodeLength(uint64_t length, char* out) {
  if (length < 64) {
    out[0] = static_cast<char>(length);
    return 1;
  }
  if (length < 16384) {
    out[0] = static_cast<char>(rdb::kLength14Bit | length >> 8);
    out[1] = static_cast<char>(length);
    return 2;
  }
  const bool wide = length > std::numeric_limits<uint32_t>::max();
  const size_t size = wide ? 8 : 4;
  out[0] = static_cast<char>(wide ? rdb::kLength64Bit : rdb::kLength32Bit);
  for (size_t i = 0; i < size; ++i) out[1 + i] = static_cast<char>(length >> 8 * (size - 1 - i));
  return 1 + size;
}

/// Writes the integer encoding of `value` to `out`; returns its size, or 0 when 32 bits do not hold
/// it.
size_t EncodeInteger(int64_t value, char* out) {
  uint8_t encoding = rdb::kInt32;
  if (value == static_cast<int8_t>(value)) {
    encoding = rdb::kInt8;
  } else if (value == static_cast<int16_t>(value)) {
    encoding = rdb::kInt16;
  } else if (value != static_cast<int32_t>(value)) {
    return 0;
  }
  const size_t size = size_t{1} << encoding;
  out[0] = static_cast<char>(rdb::kEncodedString | encoding);
  for (size_t i = 0; i < size; ++i) out[1 + i] = static_cast<char>(value >> 8 * i);
  return 1 + size;
}

bool LooksLikeInteger(std::string_view bytes) {
  return !bytes.empty() && bytes.size() <= rdb::kMaxIntegerText &&
         ((bytes[0] >= '0' && bytes[0] <= '9') || bytes[0] == '-');
}

Status Misuse(std::string_view what) {
  return {StatusCode::kUnsupported, "RDB version 10 cannot hold " + std::string(what)};
}

}  // namespace

RdbEncoder::RdbEncoder(ByteSink* sink, bool compress, bool checksum, size_t buffer_bytes)
    : sink_(sink),
      compress_(compress),
      checksum_(checksum),
      capacity_(std::max(buffer_bytes, kSmallestBuffer)),
      buffer_(std::make_unique_for_overwrite<char[]>(capacity_)) {}

Status RdbEncoder::Flush() {
  if (used_ == 0) return Status::Ok();
  const std::string_view bytes(buffer_.get(), used_);
  if (checksum_) crc_ = Crc64(crc_, bytes);
  flushed_ += used_;
  used_ = 0;
  return sink_->Append(bytes);
}

Status RdbEncoder::PassThrough(std::string_view bytes) {
  CAIRN_RETURN_IF_ERROR(Flush());
  while (!bytes.empty()) {
    // In pieces, so that the write finds in the cache what the checksum just read.
    const std::string_view piece = bytes.substr(0, kPieceBytes);
    if (checksum_) crc_ = Crc64(crc_, piece);
    flushed_ += piece.size();
    CAIRN_RETURN_IF_ERROR(sink_->Append(piece));
    bytes.remove_prefix(piece.size());
  }
  return Status::Ok();
}

Status RdbEncoder::PutRaw(std::string_view bytes) {
  if (bytes.size() >= kBigBytes || bytes.size() > capacity_) return PassThrough(bytes);
  CAIRN_RETURN_IF_ERROR(Reserve(bytes.size()));
  if (!bytes.empty()) std::memcpy(buffer_.get() + used_, bytes.data(), bytes.size());
  used_ += bytes.size();
  return Status::Ok();
}

Status RdbEncoder::PutByte(uint8_t byte) {
  CAIRN_RETURN_IF_ERROR(Reserve(kPrimitiveBytes));
  buffer_[used_++] = static_cast<char>(byte);
  return Status::Ok();
}

Status RdbEncoder::PutLength(uint64_t length) {
  CAIRN_RETURN_IF_ERROR(Reserve(kPrimitiveBytes));
  used_ += EncodeLength(length, buffer_.get() + used_);
  return Status::Ok();
}

Status RdbEncoder::PutFixed(uint64_t value, int bytes) {
  CAIRN_RETURN_IF_ERROR(Reserve(kPrimitiveBytes));
  for (int i = 0; i < bytes; ++i) buffer_[used_++] = static_cast<char>(value >> 8 * i);
  return Status::Ok();
}

Status RdbEncoder::PutIntegerString(int64_t value) {
  CAIRN_RETURN_IF_ERROR(Reserve(kPrimitiveBytes));
  const size_t size = EncodeInteger(value, buffer_.get() + used_);
  used_ += size;
  if (size > 0) return Status::Ok();
  char text[kMaxInt64Chars];
  const size_t text_size = FormatInt64(value, text);
  CAIRN_RETURN_IF_ERROR(PutLength(text_size));
  return PutRaw({text, text_size});
}

bool RdbEncoder::WorthCompressing(std::span<const std::string_view> pieces, size_t size) {
  if (size < kBigBytes) return true;
  // Weights and media do not shrink, and finding that out costs seconds a GiB: ask three samples
  // first.
  size_t packed = 0;
  scratch_.resize(std::max(scratch_.size(), kSampleBytes));
  char sample[kSampleBytes];
  for (const size_t at : {size_t{0}, size / 2, size - kSampleBytes}) {
    CopySample(pieces, at, sample);
    const size_t taken = LzfCompress({sample, kSampleBytes}, scratch_.data(), kSampleBytes);
    packed += taken == 0 ? kSampleBytes : taken;
  }
  return packed < 3 * kSampleBytes * 31 / 32;
}

size_t RdbEncoder::Compress(std::string_view bytes) {
  if (!compress_ || bytes.size() < rdb::kMinCompressedBytes ||
      bytes.size() > max_compressed_bytes_ || !WorthCompressing({&bytes, 1}, bytes.size())) {
    return 0;
  }
  SizeClass* const like = bytes.size() < kBigBytes
                              ? &classes_[static_cast<size_t>(std::bit_width(bytes.size()))]
                              : nullptr;
  if (passes_over_ && like != nullptr && like->in_vain >= kManyInVain &&
      ++like->passed_over % kPassedOver != 0) {
    return 0;
  }
  const size_t room = bytes.size() - kMinSavedBytes;
  if (scratch_.size() < room + 1) {
    // First: growth would keep the old one meanwhile, and take room to spare.
    scratch_ = std::vector<char>();
    scratch_.resize(room + 1);
  }
  const size_t packed = LzfCompress(bytes, scratch_.data(), room);
  if (like != nullptr) like->in_vain = packed > 0 ? 0 : like->in_vain + 1;
  return packed;
}

Status RdbEncoder::PutString(std::string_view bytes) {
  if (int64_t value = 0; LooksLikeInteger(bytes) && ParseInt64(bytes, &value) &&
                         value == static_cast<int32_t>(value)) {
    return PutIntegerString(value);
  }
  if (const size_t packed = Compress(bytes); packed > 0) {
    CAIRN_RETURN_IF_ERROR(PutByte(rdb::kEncodedString | rdb::kLzf));
    CAIRN_RETURN_IF_ERROR(PutLength(packed));
    CAIRN_RETURN_IF_ERROR(PutLength(bytes.size()));
    return PutRaw({scratch_.data(), packed});
  }
  CAIRN_RETURN_IF_ERROR(PutLength(bytes.size()));
  return PutRaw(bytes);
}

Status RdbEncoder::PutType(uint8_t type) {
  CAIRN_RETURN_IF_ERROR(PutByte(type));
  if (!has_key_) return Status::Ok();
  has_key_ = false;
  return PutString(key_);
}

Status RdbEncoder::String(std::string_view bytes) {
  CAIRN_RETURN_IF_ERROR(PutType(rdb::kString));
  return PutString(bytes);
}

Status RdbEncoder::StringPieces(std::span<const std::string_view> pieces) {
  size_t size = 0;
  for (std::string_view piece : pieces) size += piece.size();
  if (size < kBigBytes ||
      (compress_ && size <= max_compressed_bytes_ && WorthCompressing(pieces, size))) {
    return ValueSink::StringPieces(pieces);
  }
  CAIRN_RETURN_IF_ERROR(PutType(rdb::kString));
  CAIRN_RETURN_IF_ERROR(PutLength(size));
  for (std::string_view piece : pieces) CAIRN_RETURN_IF_ERROR(PutRaw(piece));
  return Status::Ok();
}

Status RdbEncoder::Integer(int64_t value) {
  CAIRN_RETURN_IF_ERROR(PutType(rdb::kString));
  return PutIntegerString(value);
}

Status RdbEncoder::Begin(ValueKind kind, uint64_t count) {
  CAIRN_CHECK(open_ == Open::kNone);
  open_ = Open::kOther;
  switch (kind) {
    case ValueKind::kList:
      open_ = Open::kListPending;
      list_count_ = count;
      return Status::Ok();
    case ValueKind::kSet:
      CAIRN_RETURN_IF_ERROR(PutType(rdb::kSet));
      break;
    case ValueKind::kSortedSet:
      CAIRN_RETURN_IF_ERROR(PutType(rdb::kSortedSet2));
      break;
    case ValueKind::kHash:
      CAIRN_RETURN_IF_ERROR(PutType(rdb::kHash));
      break;
    case ValueKind::kStream:
      CAIRN_RETURN_IF_ERROR(PutType(rdb::kStreamListpacks2));
      break;
    case ValueKind::kString:
    case ValueKind::kModule:
      CAIRN_CHECK(false && "strings and modules have begin calls of their own");
  }
  return PutLength(count);
}

Status RdbEncoder::ListChild(Open wanted, uint8_t type) {
  if (open_ == wanted) return Status::Ok();
  if (open_ != Open::kListPending) return Misuse("a list of mixed nodes");
  open_ = wanted;
  CAIRN_RETURN_IF_ERROR(PutType(type));
  return PutLength(list_count_);
}

Status RdbEncoder::Item(std::string_view element) {
  if (open_ != Open::kOther) CAIRN_RETURN_IF_ERROR(ListChild(Open::kList, rdb::kList));
  return PutString(element);
}

Status RdbEncoder::Field(std::string_view field, std::string_view value) {
  CAIRN_RETURN_IF_ERROR(PutString(field));
  return PutString(value);
}

Status RdbEncoder::Scored(std::string_view member, double score) {
  CAIRN_RETURN_IF_ERROR(PutString(member));
  return PutFixed(std::bit_cast<uint64_t>(score), 8);
}

Status RdbEncoder::PutNode(uint8_t rdb_type, std::string_view blob) {
  if (rdb_type == rdb::kListZiplist) {
    CAIRN_RETURN_IF_ERROR(ListChild(Open::kZiplistNodes, rdb::kListQuicklist));
    return PutString(blob);
  }
  if (rdb_type != rdb::kString && rdb_type != rdb::kListQuicklist2) return Misuse("this list node");
  CAIRN_RETURN_IF_ERROR(ListChild(Open::kNodes, rdb::kListQuicklist2));
  CAIRN_RETURN_IF_ERROR(PutLength(rdb_type == rdb::kString ? rdb::kNodePlain : rdb::kNodePacked));
  return PutString(blob);
}

Status RdbEncoder::Packed(uint8_t rdb_type, std::string_view blob) {
  if (open_ != Open::kNone) return PutNode(rdb_type, blob);
  switch (rdb_type) {
    case rdb::kHashZipmap:
    case rdb::kListZiplist:
    case rdb::kSetIntset:
    case rdb::kSortedSetZiplist:
    case rdb::kHashZiplist:
    case rdb::kHashListpack:
    case rdb::kSortedSetListpack:
      CAIRN_RETURN_IF_ERROR(PutType(rdb_type));
      return PutString(blob);
    default:
      return Misuse("packed type " + std::to_string(rdb_type));
  }
}

Status RdbEncoder::PutStreamId(StreamId id) {
  CAIRN_RETURN_IF_ERROR(PutLength(id.ms));
  return PutLength(id.sequence);
}

Status RdbEncoder::StreamState(const StreamStateRecord& state) {
  CAIRN_RETURN_IF_ERROR(PutLength(state.length));
  CAIRN_RETURN_IF_ERROR(PutStreamId(state.last_id));
  CAIRN_RETURN_IF_ERROR(PutStreamId(state.first_id));
  CAIRN_RETURN_IF_ERROR(PutStreamId(state.max_deleted_id));
  CAIRN_RETURN_IF_ERROR(PutLength(state.entries_added));
  return PutLength(state.group_count);
}

Status RdbEncoder::StreamGroup(const StreamGroupRecord& group) {
  CAIRN_RETURN_IF_ERROR(PutString(group.name));
  CAIRN_RETURN_IF_ERROR(PutStreamId(group.last_id));
  CAIRN_RETURN_IF_ERROR(PutLength(static_cast<uint64_t>(group.entries_read)));
  return PutLength(group.pending_count);
}

Status RdbEncoder::StreamPending(const StreamPendingRecord& pending) {
  CAIRN_RETURN_IF_ERROR(StreamConsumerPending(pending.id));
  CAIRN_RETURN_IF_ERROR(PutFixed(static_cast<uint64_t>(pending.delivered_at_ms), 8));
  return PutLength(pending.delivery_count);
}

Status RdbEncoder::StreamConsumers(uint64_t count) { return PutLength(count); }

Status RdbEncoder::StreamConsumer(const StreamConsumerRecord& consumer) {
  CAIRN_RETURN_IF_ERROR(PutString(consumer.name));
  CAIRN_RETURN_IF_ERROR(PutFixed(static_cast<uint64_t>(consumer.seen_at_ms), 8));
  return PutLength(consumer.pending_count);
}

Status RdbEncoder::StreamConsumerPending(StreamId id) {
  // Pending ids are radix tree keys in Redis, hence big-endian.
  CAIRN_RETURN_IF_ERROR(PutFixed(__builtin_bswap64(id.ms), 8));
  return PutFixed(__builtin_bswap64(id.sequence), 8);
}

Status RdbEncoder::BeginModule(uint64_t type_id) {
  CAIRN_CHECK(open_ == Open::kNone);
  open_ = Open::kModule;
  CAIRN_RETURN_IF_ERROR(PutType(rdb::kModule2));
  return PutLength(type_id);
}

Status RdbEncoder::ModuleUnsigned(uint64_t value) {
  CAIRN_RETURN_IF_ERROR(PutByte(rdb::kModuleUnsigned));
  return PutLength(value);
}

Status RdbEncoder::ModuleSigned(int64_t value) {
  CAIRN_RETURN_IF_ERROR(PutByte(rdb::kModuleSigned));
  return PutLength(static_cast<uint64_t>(value));
}

Status RdbEncoder::ModuleDouble(double value) {
  CAIRN_RETURN_IF_ERROR(PutByte(rdb::kModuleDouble));
  return PutFixed(std::bit_cast<uint64_t>(value), 8);
}

Status RdbEncoder::ModuleFloat(float value) {
  CAIRN_RETURN_IF_ERROR(PutByte(rdb::kModuleFloat));
  return PutFixed(std::bit_cast<uint32_t>(value), 4);
}

Status RdbEncoder::ModuleString(std::string_view bytes) {
  CAIRN_RETURN_IF_ERROR(PutByte(rdb::kModuleString));
  return PutString(bytes);
}

Status RdbEncoder::End() {
  if (open_ == Open::kListPending) CAIRN_RETURN_IF_ERROR(ListChild(Open::kList, rdb::kList));
  const bool module = open_ == Open::kModule;
  open_ = Open::kNone;
  return module ? PutByte(rdb::kModuleEof) : Status::Ok();
}

RdbWriter::RdbWriter(ByteSink* sink, const RdbWriteOptions& options)
    : options_(options), encoder_(sink, options.compress, options.checksum, options.buffer_bytes) {
  encoder_.CompressAsASave();
  if (!options_.target.directory.empty()) encoder_.SetTarget(&options_.target);
}

Status RdbWriter::Start() {
  CAIRN_RETURN_IF_ERROR(encoder_.PutRaw("REDIS0010"));
  CAIRN_RETURN_IF_ERROR(Aux("redis-ver", "7.0.15"));
  CAIRN_RETURN_IF_ERROR(Aux("redis-bits", "64"));
  CAIRN_RETURN_IF_ERROR(Aux("ctime", std::to_string(options_.now_s)));
  CAIRN_RETURN_IF_ERROR(Aux("used-mem", std::to_string(options_.used_memory_bytes)));
  for (const auto& [name, value] : options_.fields) CAIRN_RETURN_IF_ERROR(Aux(name, value));
  return Aux("aof-base", options_.aof_base ? "1" : "0");
}

Status RdbWriter::Aux(std::string_view name, std::string_view value) {
  CAIRN_RETURN_IF_ERROR(encoder_.PutByte(rdb::kAux));
  CAIRN_RETURN_IF_ERROR(encoder_.PutString(name));
  return encoder_.PutString(value);
}

Status RdbWriter::FunctionLibrary(std::string_view code) {
  CAIRN_RETURN_IF_ERROR(encoder_.PutByte(rdb::kFunction2));
  return encoder_.PutString(code);
}

Status RdbWriter::SelectDatabase(uint32_t index, uint64_t key_count, uint64_t expire_count) {
  CAIRN_RETURN_IF_ERROR(encoder_.PutByte(rdb::kSelectDb));
  CAIRN_RETURN_IF_ERROR(encoder_.PutLength(index));
  CAIRN_RETURN_IF_ERROR(encoder_.PutByte(rdb::kResizeDb));
  CAIRN_RETURN_IF_ERROR(encoder_.PutLength(key_count));
  return encoder_.PutLength(expire_count);
}

Result<ValueSink*> RdbWriter::Key(std::string_view key, const KeyMeta& meta) {
  ++keys_;
  if (meta.expire_at_ms >= 0) {
    ++expires_;
    CAIRN_RETURN_IF_ERROR(encoder_.PutByte(rdb::kExpireTimeMs));
    CAIRN_RETURN_IF_ERROR(encoder_.PutFixed(static_cast<uint64_t>(meta.expire_at_ms), 8));
  }
  if (meta.lru_idle_s >= 0) {
    CAIRN_RETURN_IF_ERROR(encoder_.PutByte(rdb::kIdle));
    CAIRN_RETURN_IF_ERROR(encoder_.PutLength(static_cast<uint64_t>(meta.lru_idle_s)));
  }
  if (meta.lfu_frequency >= 0) {
    CAIRN_RETURN_IF_ERROR(encoder_.PutByte(rdb::kFrequency));
    CAIRN_RETURN_IF_ERROR(encoder_.PutByte(static_cast<uint8_t>(meta.lfu_frequency)));
  }
  encoder_.SetKey(key);
  return static_cast<ValueSink*>(&encoder_);
}

Result<ValueSink*> RdbWriter::ModuleAux(uint64_t type_id, uint64_t when) {
  CAIRN_RETURN_IF_ERROR(encoder_.PutByte(rdb::kModuleAux));
  CAIRN_RETURN_IF_ERROR(encoder_.PutLength(type_id));
  CAIRN_RETURN_IF_ERROR(encoder_.ModuleUnsigned(when));
  encoder_.open_ = RdbEncoder::Open::kModule;
  return static_cast<ValueSink*>(&encoder_);
}

Status RdbWriter::Finish() {
  CAIRN_RETURN_IF_ERROR(encoder_.PutByte(rdb::kEof));
  CAIRN_RETURN_IF_ERROR(encoder_.Flush());
  checksum_ = options_.checksum ? encoder_.crc() : 0;
  CAIRN_RETURN_IF_ERROR(encoder_.PutFixed(checksum_, rdb::kChecksumBytes));
  return encoder_.Flush();
}

DumpWriter::DumpWriter(bool compress)
    : bytes_(&out_), encoder_(&bytes_, compress, /*checksum=*/true, kSmallestBuffer) {}

Status DumpWriter::FunctionLibrary(std::string_view source) {
  CAIRN_RETURN_IF_ERROR(encoder_.PutByte(rdb::kFunction2));
  return encoder_.PutString(source);
}

Result<std::string> DumpWriter::Finish() {
  CAIRN_RETURN_IF_ERROR(encoder_.PutFixed(rdb::kWrittenVersion, 2));
  CAIRN_RETURN_IF_ERROR(encoder_.Flush());
  CAIRN_RETURN_IF_ERROR(encoder_.PutFixed(encoder_.crc(), rdb::kChecksumBytes));
  CAIRN_RETURN_IF_ERROR(encoder_.Flush());
  return std::move(out_);
}

}  // namespace cairn
