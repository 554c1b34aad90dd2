#include "server/data/packed_sorted_set.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace cairn {
namespace {

// Whole numbers of at most half the 64-bit range are kept as integers (Redis 7.0, double2ll).
constexpr double kMaxWhole = static_cast<double>(std::numeric_limits<int64_t>::max() / 2);

}  // namespace

double PackedScore(const ListpackValue& value) {
  // Redis cuts longer texts, which no score has, at this length too.
  constexpr size_t kMaxScoreText = 128;
  double score = 0;
  if (value.bytes.size() <= kMaxScoreText && ReadPackedScore(value, &score)) return score;
  char text[kMaxScoreText + 1];
  const size_t size = std::min(value.bytes.size(), kMaxScoreText);
  value.bytes.copy(text, size);
  text[size] = '\0';
  return std::strtod(text, nullptr);
}

bool ReadPackedScore(const ListpackValue& value, double* score) {
  if (!value.is_integer) return ParseDouble(value.bytes, score);
  *score = static_cast<double>(value.integer);
  return true;
}

std::string PackedScoreText(double score) {
  if (score >= -kMaxWhole && score <= kMaxWhole) {
    const auto whole = static_cast<int64_t>(score);
    if (static_cast<double>(whole) == score) {
      char digits[kMaxInt64Chars];
      return std::string(digits, FormatInt64(whole, digits));
    }
  }
  return FormatDouble(score);
}

bool PackedSortedSetView::Validate(std::string_view listpack, uint64_t seed) {
  const ListpackView pack(listpack);
  if (pack.count() == 0 || pack.count() % 2 != 0) return false;
  std::string_view last_member;
  double last_score = -std::numeric_limits<double>::infinity();
  char scratch[2][kMaxInt64Chars];
  int turn = 0;  // of the two, so that the member before stays readable
  for (uint32_t at = pack.begin(); at != pack.end(); turn ^= 1) {
    const std::string_view member = pack.Get(at).Text(scratch[turn]);
    const bool is_first = at == pack.begin();
    at = pack.Next(at);
    double score = 0;
    if (!ReadPackedScore(pack.Get(at), &score) || score < last_score) return false;
    if (!is_first && score == last_score && member <= last_member) return false;
    at = pack.Next(at);
    last_score = score;
    last_member = member;
  }
  return !ListpackIndex::HoldsTwice(pack, kSkip, seed);
}

uint32_t PackedSortedSetView::Find(std::string_view member, double* score, uint64_t* rank,
                                   ListpackIndex* index) const {
  const uint32_t found =
      index != nullptr ? index->Find(pack_, member) : pack_.Find(member, pack_.begin(), kSkip);
  if (found == pack_.end()) return 0;
  if (score != nullptr) *score = PackedScore(pack_.Get(pack_.Next(found)));
  if (rank != nullptr) {
    *rank = 0;
    for (uint32_t at = pack_.begin(); at != found; at = pack_.Next(pack_.Next(at))) ++*rank;
  }
  return found;
}

RankRange PackedSortedSetView::Range(const ScoreRange& range, uint64_t most) const {
  if (range.IsEmpty()) return {};
  // Scores are texts: what no score can fail at is not asked for each.
  const bool from_first = !range.IsBelow(-std::numeric_limits<double>::infinity());
  const bool to_last = range.IsNotPast(std::numeric_limits<double>::infinity());
  const auto score_of = [this](uint32_t at) { return PackedScore(pack_.Get(pack_.Next(at))); };
  RankRange ranks;
  uint32_t at = pack_.begin();
  for (; !from_first && at != pack_.end() && range.IsBelow(score_of(at)); ++ranks.from)
    at = pack_.Next(pack_.Next(at));
  if (to_last) return {ranks.from, std::min(most, size() - ranks.from)};
  for (; ranks.count < most && at != pack_.end() && range.IsNotPast(score_of(at)); ++ranks.count)
    at = pack_.Next(pack_.Next(at));
  return ranks;
}

RankRange PackedSortedSetView::Range(const LexRange& range, bool reverse) const {
  if (range.IsEmpty() || size() == 0) return {};
  uint64_t index = 0, from = size(), to = size();
  bool last_is_below = false, first_is_past = false;
  uint64_t last_not_past = 0;  // one past the index
  char scratch[kMaxInt64Chars];
  for (uint32_t at = pack_.begin(); at != pack_.end(); at = pack_.Next(pack_.Next(at)), ++index) {
    const std::string_view member = pack_.Get(at).Text(scratch);
    const bool below = range.IsBelow(member), not_past = range.IsNotPast(member);
    if (index == 0) first_is_past = !not_past;
    last_is_below = below;
    if (!below && from == size()) from = index;
    if (index >= from && !not_past && to == size()) to = index;
    if (not_past) last_not_past = index + 1;
  }
  if (first_is_past || last_is_below) return {};
  if (!reverse) return {from, to - from};
  // From the last that is not past the maximum back to the first that is below the minimum.
  if (last_not_past == 0) return {};
  uint64_t begin = 0;
  index = 0;
  for (uint32_t at = pack_.begin(); index < last_not_past;
       at = pack_.Next(pack_.Next(at)), ++index) {
    if (range.IsBelow(pack_.Get(at).Text(scratch))) begin = index + 1;
  }
  return {begin, last_not_past - begin};
}

void PackedSortedSetInsert(std::string* listpack, std::string_view member, double score) {
  const ListpackView pack(*listpack);
  char scratch[kMaxInt64Chars];
  uint32_t at = pack.begin();
  while (at != pack.end()) {
    const uint32_t score_at = pack.Next(at);
    const double each = PackedScore(pack.Get(score_at));
    if (each > score || (each == score && pack.Get(at).Text(scratch) > member)) break;
    at = pack.Next(score_at);
  }
  ListpackInsert(listpack, at, PackedScoreText(score));
  ListpackInsert(listpack, at, member);
}

void PackedSortedSetErase(std::string* listpack, uint32_t at) { ListpackErase(listpack, at, 2); }

void PackedSortedSetEraseRange(std::string* listpack, RankRange range) {
  if (range.count == 0) return;
  ListpackErase(listpack, ListpackView(*listpack).Seek(static_cast<int64_t>(range.from) * 2),
                static_cast<uint32_t>(range.count * 2));
}

}  // namespace cairn
