#pragma once

// ScoredRecord: one member of a big sorted set with its score, in one allocation from the record
// slab. RecordIndex owns the records, ScoreOrder points to them. Immutable once a view may read it.
// Any thread, under the rules of container.h.

#include <cstdint>
#include <cstring>
#include <string_view>

#include "server/data/record_slab.h"

namespace cairn {

/// One member and its score in one allocation from the slab; whole numbers and floats of 32 bits
/// take 4 bytes.
///
///   u8 header: score form in bits 0-1, member size in bits 2-7 (63: wide)
///   score: i32 | f32 | f64, little-endian      [u32 size] when wide      member bytes
class ScoredRecord {
 public:
  ScoredRecord(const ScoredRecord&) = delete;
  static ScoredRecord* Create(RecordSlab& slab, std::string_view member, double score);
  /// What Create takes from the slab.
  static size_t BytesFor(size_t member_size, double score) {
    return 1 + ScoreBytes(FormOf(score)) + (member_size >= kWideSize ? 4 : 0) + member_size;
  }
  size_t bytes() const { return 1 + ScoreBytes(form()) + (is_wide() ? 4 : 0) + member_size(); }
  std::string_view member() const {
    return {data() + 1 + ScoreBytes(form()) + (is_wide() ? 4 : 0), member_size()};
  }
  double score() const;
  /// Writes the score in place if it takes the same form. Requires: no view reads the record.
  bool TrySetScore(double score);

 private:
  enum Form : uint8_t { kInt32, kFloat32, kDouble };
  static constexpr size_t kWideSize = 63;
  ScoredRecord() = default;
  static Form FormOf(double score);
  static size_t ScoreBytes(Form form) { return form == kDouble ? 8 : 4; }
  void PutScore(Form form, double score);
  Form form() const { return static_cast<Form>(header_ & 3); }
  bool is_wide() const { return header_ >> 2 == kWideSize; }
  size_t member_size() const {
    if (!is_wide()) return header_ >> 2;
    uint32_t size;
    std::memcpy(&size, data() + 1 + ScoreBytes(form()), sizeof size);
    return size;
  }
  const char* data() const { return reinterpret_cast<const char*>(this); }
  char* data() { return reinterpret_cast<char*>(this); }

  uint8_t header_;
};

inline double ScoredRecord::score() const {
  const char* at = data() + 1;
  switch (form()) {
    case kInt32: {
      int32_t whole;
      std::memcpy(&whole, at, sizeof whole);
      return whole;
    }
    case kFloat32: {
      float narrow;
      std::memcpy(&narrow, at, sizeof narrow);
      return static_cast<double>(narrow);
    }
    default: {
      double wide;
      std::memcpy(&wide, at, sizeof wide);
      return wide;
    }
  }
}

/// Where a member stands in the order: by score, then by bytes.
struct ScoreKey {
  double score;
  std::string_view member;
};
/// <0, 0, >0.
int CompareScored(const ScoredRecord& record, const ScoreKey& key);

}  // namespace cairn
