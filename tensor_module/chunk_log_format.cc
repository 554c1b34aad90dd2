#include "tensor_module/chunk_log_format.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "server/base/hash.h"
#include "server/base/mapped_bytes.h"

namespace cairn::tensor {

namespace {

constexpr std::string_view kSegmentMagic = "CKVSEG01";
constexpr std::string_view kRecordMagic = "CREC";

constexpr size_t kSegmentCheckAt = kSegmentHeaderBytes - 8;
constexpr size_t kRecordCheckAt = kRecordHeadBytes - 8;

// Places in a record's head.
constexpr size_t kKindAt = 4, kCodecAt = 5, kDTypeAt = 6;
constexpr size_t kRawAt = 8, kStoredAt = 12, kHashAt = 16, kSyncedAt = 32;
constexpr size_t kFiguresAt = 40, kOffsetAt = 88;

template <typename T>
void Write(std::string* out, size_t at, T value) {
  std::memcpy(out->data() + at, &value, sizeof value);
}
template <typename T>
T Read(std::string_view bytes, size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

bool MakesSense(const ChunkRecord& record, uint64_t offset, uint64_t size) {
  if (record.offset != offset || record.synced > offset || record.codec != ChunkCodec::kRaw) {
    return false;
  }
  if (record.end() > size) return false;
  if (record.kind == ChunkRecord::Kind::kMark) {
    return record.raw_bytes == 0 && record.stored_bytes == 0;
  }
  return record.kind == ChunkRecord::Kind::kChunk && record.raw_bytes > 0 &&
         record.raw_bytes <= kChunkBytes && record.stored_bytes == record.raw_bytes &&
         static_cast<size_t>(record.dtype) < kDTypeCount &&
         record.raw_bytes % DTypeSize(record.dtype) == 0;
}

/// The heads of a segment's records, on their way from the disk. The chunks of a tensor are of one
/// size: from two heads follows where the next ones are, and several come in the time of one.
class Heads {
 public:
  explicit Heads(std::string_view segment) : segment_(segment) {}
  /// Whether the one at `at` may be looked at. Cost: a system call a page.
  bool CanRead(uint64_t at) {
    const uint64_t end = std::min<uint64_t>(at + kRecordHeadBytes, segment_.size());
    if (end <= readable_) return true;
    const auto from = static_cast<size_t>(at);
    if (!cairn::CanRead(segment_.substr(from, static_cast<size_t>(end) - from))) return false;
    readable_ =
        std::min<uint64_t>((end + kPageBytes - 1) / kPageBytes * kPageBytes, segment_.size());
    return true;
  }
  void After(const ChunkRecord& record) {
    const uint64_t stride = record.end() - record.offset;
    if (stride != std::exchange(stride_, stride)) asked_ = record.end();
    const uint64_t until = record.end() + kHeads * stride;
    for (; asked_ < until && asked_ < segment_.size(); asked_ += stride) {
      WillRead(segment_.substr(static_cast<size_t>(asked_), kRecordHeadBytes));
    }
  }

 private:
  static constexpr uint64_t kHeads = 32;
  const std::string_view segment_;
  uint64_t readable_ = 0;  // from where the scan is
  uint64_t stride_ = 0;
  uint64_t asked_ = 0;
};

}  // namespace

std::string EncodeSegmentHeader(uint64_t salt, uint64_t number) {
  std::string out(kSegmentHeaderBytes, '\0');
  std::memcpy(out.data(), kSegmentMagic.data(), kSegmentMagic.size());
  Write(&out, 8, salt);
  Write(&out, 16, number);
  Write(&out, kSegmentCheckAt, HashBytes(std::string_view(out).substr(0, kSegmentCheckAt), 0));
  return out;
}

bool ParseSegmentHeader(std::string_view segment, uint64_t* salt, uint64_t* number) {
  if (segment.size() < kSegmentHeaderBytes || !segment.starts_with(kSegmentMagic)) return false;
  if (Read<uint64_t>(segment, kSegmentCheckAt) != HashBytes(segment.substr(0, kSegmentCheckAt), 0))
    return false;
  *salt = Read<uint64_t>(segment, 8);
  *number = Read<uint64_t>(segment, 16);
  return true;
}

std::string EncodeRecordHead(const ChunkRecord& record, uint64_t salt) {
  std::string out(kRecordHeadBytes, '\0');
  std::memcpy(out.data(), kRecordMagic.data(), kRecordMagic.size());
  Write(&out, kKindAt, record.kind);
  Write(&out, kCodecAt, record.codec);
  Write(&out, kDTypeAt, record.dtype);
  Write(&out, kRawAt, record.raw_bytes);
  Write(&out, kStoredAt, record.stored_bytes);
  Write(&out, kHashAt, record.hash.low);
  Write(&out, kHashAt + 8, record.hash.high);
  Write(&out, kSyncedAt, record.synced);
  Write(&out, kFiguresAt, record.figures.count);
  Write(&out, kFiguresAt + 8, record.figures.not_finite);
  Write(&out, kFiguresAt + 16, record.figures.min);
  Write(&out, kFiguresAt + 24, record.figures.max);
  Write(&out, kFiguresAt + 32, record.figures.sum);
  Write(&out, kFiguresAt + 40, record.figures.squares);
  Write(&out, kOffsetAt, record.offset);
  Write(&out, kRecordCheckAt, HashBytes(std::string_view(out).substr(0, kRecordCheckAt), salt));
  return out;
}

bool ParseRecord(std::string_view segment, uint64_t offset, uint64_t salt, ChunkRecord* record) {
  if (offset > segment.size() || segment.size() - offset < kRecordHeadBytes) return false;
  const std::string_view head = segment.substr(static_cast<size_t>(offset), kRecordHeadBytes);
  if (!head.starts_with(kRecordMagic)) return false;
  if (Read<uint64_t>(head, kRecordCheckAt) != HashBytes(head.substr(0, kRecordCheckAt), salt)) {
    return false;
  }
  record->kind = Read<ChunkRecord::Kind>(head, kKindAt);
  record->codec = Read<ChunkCodec>(head, kCodecAt);
  record->dtype = Read<DType>(head, kDTypeAt);
  record->raw_bytes = Read<uint32_t>(head, kRawAt);
  record->stored_bytes = Read<uint32_t>(head, kStoredAt);
  record->hash = {Read<uint64_t>(head, kHashAt), Read<uint64_t>(head, kHashAt + 8)};
  record->synced = Read<uint64_t>(head, kSyncedAt);
  record->figures.count = Read<uint64_t>(head, kFiguresAt);
  record->figures.not_finite = Read<uint64_t>(head, kFiguresAt + 8);
  record->figures.min = Read<double>(head, kFiguresAt + 16);
  record->figures.max = Read<double>(head, kFiguresAt + 24);
  record->figures.sum = Read<double>(head, kFiguresAt + 32);
  record->figures.squares = Read<double>(head, kFiguresAt + 40);
  record->offset = Read<uint64_t>(head, kOffsetAt);
  return MakesSense(*record, offset, segment.size());
}

SegmentScan ScanSegment(std::string_view segment) {
  SegmentScan scan;
  scan.unreadable = !CanRead(segment.substr(0, kSegmentHeaderBytes));
  if (scan.unreadable) return scan;
  scan.valid = ParseSegmentHeader(segment, &scan.salt, &scan.number);
  if (!scan.valid) return scan;
  scan.end = kSegmentHeaderBytes;
  uint64_t at = kSegmentHeaderBytes;
  Heads heads(segment);
  while (at < segment.size()) {
    // Each look at a page that the disk refuses may take it seconds: on to the next one.
    const bool readable = heads.CanRead(at);
    scan.unreadable |= !readable;
    ChunkRecord record;
    if (!readable || !ParseRecord(segment, at, scan.salt, &record)) {
      const uint64_t wanted = readable ? kRecordAlignment : kPageBytes - at % kPageBytes;
      const uint64_t step = std::min(wanted, segment.size() - at);
      scan.skipped_bytes += step;
      at += step;
      continue;
    }
    scan.synced = std::max(scan.synced, record.synced);
    if (record.kind == ChunkRecord::Kind::kChunk) scan.chunks.push_back(record);
    at = scan.end = record.end();
    heads.After(record);
  }
  return scan;
}

}  // namespace cairn::tensor
