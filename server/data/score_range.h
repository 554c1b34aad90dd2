#pragma once

// The two kinds of range a sorted set is asked for, by score and by member bytes, each as a pair of
// predicates that hold for a prefix of the order; and how many scores format and round. Plain
// values; any thread.

#include <cstdint>
#include <string_view>

namespace cairn {

struct ScoreRange {
  double min = 0, max = 0;
  bool min_exclusive = false, max_exclusive = false;

  bool IsBelow(double score) const { return min_exclusive ? score <= min : score < min; }
  bool IsNotPast(double score) const { return max_exclusive ? score < max : score <= max; }
  bool IsEmpty() const { return min > max || (min == max && (min_exclusive || max_exclusive)); }
  /// "5", "(5", "-inf": as C's strtod reads it; the empty text is 0, as in Redis. Returns false on
  /// NaN and on trailing bytes.
  static bool Parse(std::string_view min_text, std::string_view max_text, ScoreRange* out);
};

struct LexBound {
  enum class Kind : uint8_t { kLowest, kInclusive, kExclusive, kHighest };
  Kind kind = Kind::kLowest;
  std::string_view member;  ///< borrows the argument
};

struct LexRange {
  LexBound min, max;

  bool IsBelow(std::string_view member) const;
  bool IsNotPast(std::string_view member) const;
  bool IsEmpty() const;
  /// "-", "+", "[member", "(member". Returns false on anything else.
  static bool Parse(std::string_view min_text, std::string_view max_text, LexRange* out);
};

/// Ranks [from, from + count).
struct RankRange {
  uint64_t from = 0;
  uint64_t count = 0;
};

}  // namespace cairn
