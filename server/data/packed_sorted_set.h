#pragma once

// A small sorted set as Redis packs it: a listpack of member, score, member, score.. in order.
// Scores that are whole numbers are integers there, others their %.17g text, so the sign of -0 is
// lost as it is in Redis. Free functions over bytes; pure; any thread.

#include <cstdint>
#include <string>
#include <string_view>

#include "server/base/listpack.h"
#include "server/base/listpack_index.h"
#include "server/base/strings.h"
#include "server/data/score_range.h"

namespace cairn {

/// The score that an element of such a listpack stands for.
double PackedScore(const ListpackValue& value);
/// The same, or false for what is no whole number text (a NaN neither).
bool ReadPackedScore(const ListpackValue& value, double* score);
/// A score as the text an element is made of.
std::string PackedScoreText(double score);

class PackedSortedSetView {
 public:
  explicit PackedSortedSetView(std::string_view listpack) : pack_(listpack) {}
  /// Whether a valid listpack is one of a sorted set: pairs, members all different, scores numbers
  /// and in order. `seed`: as for HashBytes. Cost: O(n).
  static bool Validate(std::string_view listpack, uint64_t seed);

  uint64_t size() const { return pack_.count() / 2; }
  /// Where the member stands; 0 when it is not there. *score, *rank may be null. `index`: of who
  /// looks up many, made for kSkip. Cost: O(n).
  uint32_t Find(std::string_view member, double* score, uint64_t* rank,
                ListpackIndex* index = nullptr) const;
  static constexpr uint32_t kSkip = 1;
  /// The first `most` of the members in the range.
  RankRange Range(const ScoreRange& range, uint64_t most = UINT64_MAX) const;
  /// In a set whose scores differ the answer depends on the side it is asked from, as in Redis.
  RankRange Range(const LexRange& range, bool reverse) const;
  /// visit(std::string_view member, double score) -> bool goes on. Requires: rank < size() or n ==
  /// 0.
  template <typename Visitor>
  void Visit(uint64_t rank, uint64_t n, bool reverse, Visitor&& visit) const {
    if (n == 0 || rank >= size()) return;
    char scratch[kMaxInt64Chars];
    for (uint32_t at = pack_.Seek(static_cast<int64_t>(rank) * 2);;) {
      const uint32_t score_at = pack_.Next(at);
      if (!visit(pack_.Get(at).Text(scratch), PackedScore(pack_.Get(score_at))) || --n == 0) return;
      if (reverse) {
        if (at == pack_.begin()) return;
        at = pack_.Previous(pack_.Previous(at));
      } else {
        at = pack_.Next(score_at);
        if (at == pack_.end()) return;
      }
    }
  }

 private:
  ListpackView pack_;
};

/// Adds a member that is not there. Cost: O(n).
void PackedSortedSetInsert(std::string* listpack, std::string_view member, double score);
/// Removes the pair at `at`, as PackedSortedSetView::Find gave it.
void PackedSortedSetErase(std::string* listpack, uint32_t at);
void PackedSortedSetEraseRange(std::string* listpack, RankRange range);

}  // namespace cairn
