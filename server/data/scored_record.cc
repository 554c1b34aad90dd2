#include "server/data/scored_record.h"

#include <cmath>
#include <new>

#include "server/base/check.h"

namespace cairn {

ScoredRecord::Form ScoredRecord::FormOf(double score) {
  // The sign of zero must survive, so -0 is a float.
  if (score >= INT32_MIN && score <= INT32_MAX &&
      static_cast<double>(static_cast<int32_t>(score)) == score &&
      !(score == 0 && std::signbit(score))) {
    return kInt32;
  }
  constexpr double kMaxFloat = 3.4028234663852886e38;
  if (std::isinf(score)) return kFloat32;
  if (std::fabs(score) > kMaxFloat) return kDouble;
  return static_cast<double>(static_cast<float>(score)) == score ? kFloat32 : kDouble;
}

void ScoredRecord::PutScore(Form form, double score) {
  char* at = data() + 1;
  if (form == kInt32) {
    const auto whole = static_cast<int32_t>(score);
    std::memcpy(at, &whole, sizeof whole);
  } else if (form == kFloat32) {
    const auto narrow = static_cast<float>(score);
    std::memcpy(at, &narrow, sizeof narrow);
  } else {
    std::memcpy(at, &score, sizeof score);
  }
}

ScoredRecord* ScoredRecord::Create(RecordSlab& slab, std::string_view member, double score) {
  CAIRN_CHECK(member.size() <= UINT32_MAX);
  auto* record = new (slab.Allocate(BytesFor(member.size(), score))) ScoredRecord;
  const Form form = FormOf(score);
  const bool wide = member.size() >= kWideSize;
  record->header_ = static_cast<uint8_t>((wide ? kWideSize : member.size()) << 2 | form);
  record->PutScore(form, score);
  char* at = record->data() + 1 + ScoreBytes(form);
  if (wide) {
    const auto size = static_cast<uint32_t>(member.size());
    std::memcpy(at, &size, sizeof size);
    at += sizeof size;
  }
  if (!member.empty()) std::memcpy(at, member.data(), member.size());
  return record;
}

bool ScoredRecord::TrySetScore(double score) {
  const Form wanted = FormOf(score);
  if (wanted != form()) return false;
  PutScore(wanted, score);
  return true;
}

int CompareScored(const ScoredRecord& record, const ScoreKey& key) {
  const double score = record.score();
  if (score < key.score) return -1;
  if (score > key.score) return 1;
  return record.member().compare(key.member);
}

}  // namespace cairn
