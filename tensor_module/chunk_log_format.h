#pragma once

// The format of one segment file of the chunk log (chunk_log.h): bytes in, records out. Pure; any
// thread.
//
//   segment := header record*
//   header  := "CKVSEG01" | salt u64 | number u64 | zeros | check u64            64 bytes
//   record  := head payload zeros                      begins at a multiple of 64, zeros up to one
//   head    := "CREC" | kind u8 | codec u8 | dtype u8 | 0 | raw length u32 | stored length u32 |
//              hash low u64 | hash high u64 | synced u64 | figures (count u64, not finite u64,
//              min f64, max f64, sum f64, squares f64) | offset u64 | zeros | check u64   128 bytes
//
// All little-endian. A record of kind 1 is a chunk: `hash` is the XXH3-128 of its raw bytes, which
// codec 0 stores as they are; other codecs are refused. Kind 2 is a mark: no payload. `synced` says
// that fdatasync had returned well for everything in front of that offset when the record was
// written; `offset` is where the record itself begins. Checks are XXH3-64 of what is in front of
// them, seeded with salt (for the header with 0): the salt is random and never leaves the
// directory, so that a payload cannot be mistaken for a record, whatever a client has put into it.
//
// Example: a segment with one chunk of 3 bytes is 64 + 128 + 64 = 256 bytes long; a mark behind it
// begins at 256 and has synced = 256.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor_module/stats.h"

namespace cairn::tensor {

inline constexpr size_t kSegmentHeaderBytes = 64;
inline constexpr size_t kRecordHeadBytes = 128;
inline constexpr size_t kRecordAlignment = 64;

enum class ChunkCodec : uint8_t { kRaw = 0 };

struct ChunkRecord {
  enum class Kind : uint8_t { kChunk = 1, kMark = 2 };
  Kind kind = Kind::kChunk;
  ChunkCodec codec = ChunkCodec::kRaw;
  DType dtype = DType::kF32;  ///< that the figures were taken as
  uint32_t raw_bytes = 0;
  uint32_t stored_bytes = 0;
  Hash128 hash;
  uint64_t synced = 0;  ///< offset
  ChunkFigures figures;
  uint64_t offset = 0;

  uint64_t payload_offset() const { return offset + kRecordHeadBytes; }
  /// Where the next record begins.
  uint64_t end() const {
    return payload_offset() +
           (stored_bytes + kRecordAlignment - 1) / kRecordAlignment * kRecordAlignment;
  }
};

std::string EncodeSegmentHeader(uint64_t salt, uint64_t number);
/// False unless `segment` begins with a header whose check fits.
bool ParseSegmentHeader(std::string_view segment, uint64_t* salt, uint64_t* number);

std::string EncodeRecordHead(const ChunkRecord& record, uint64_t salt);
/// False unless a record with a fitting check begins at `offset`, makes sense, and lies within the
/// segment with its payload. Looks at no payload.
bool ParseRecord(std::string_view segment, uint64_t offset, uint64_t salt, ChunkRecord* record);

struct SegmentScan {
  bool valid = false;       ///< the header
  bool unreadable = false;  ///< the disk refused some of it: it may have more than is told here
  uint64_t number = 0;
  uint64_t salt = 0;
  std::vector<ChunkRecord> chunks;  ///< ascending by offset
  uint64_t synced = 0;  ///< what lies in front was on disk; payloads behind it may be anything
  uint64_t end = 0;     ///< of the last record
  uint64_t skipped_bytes = 0;  ///< without a record: damage, or a torn tail
};
/// All records of a segment. Goes on behind what is damaged. Cost: one page read a record.
SegmentScan ScanSegment(std::string_view segment);

}  // namespace cairn::tensor
