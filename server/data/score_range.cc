#include "server/data/score_range.h"

#include <cmath>
#include <cstdlib>
#include <string>

namespace cairn {
namespace {

bool ParseScore(std::string_view text, double* value, bool* exclusive) {
  *exclusive = !text.empty() && text[0] == '(';
  const std::string terminated(text.substr(*exclusive ? 1 : 0));
  char* end = nullptr;
  *value = std::strtod(terminated.c_str(), &end);
  return *end == '\0' && !std::isnan(*value);
}

bool ParseBound(std::string_view text, LexBound* out) {
  if (text.empty()) return false;
  const bool alone = text.size() == 1 || text[1] == '\0';
  switch (text[0]) {
    case '+':
      *out = {LexBound::Kind::kHighest, {}};
      return alone;
    case '-':
      *out = {LexBound::Kind::kLowest, {}};
      return alone;
    case '(':
      *out = {LexBound::Kind::kExclusive, text.substr(1)};
      return true;
    case '[':
      *out = {LexBound::Kind::kInclusive, text.substr(1)};
      return true;
    default:
      return false;
  }
}

}  // namespace

bool ScoreRange::Parse(std::string_view min_text, std::string_view max_text, ScoreRange* out) {
  return ParseScore(min_text, &out->min, &out->min_exclusive) &&
         ParseScore(max_text, &out->max, &out->max_exclusive);
}

bool LexRange::Parse(std::string_view min_text, std::string_view max_text, LexRange* out) {
  return ParseBound(min_text, &out->min) && ParseBound(max_text, &out->max);
}

bool LexRange::IsBelow(std::string_view member) const {
  switch (min.kind) {
    case LexBound::Kind::kLowest:
      return false;
    case LexBound::Kind::kHighest:
      return true;
    case LexBound::Kind::kInclusive:
      return member < min.member;
    case LexBound::Kind::kExclusive:
      return member <= min.member;
  }
  return false;
}

bool LexRange::IsNotPast(std::string_view member) const {
  switch (max.kind) {
    case LexBound::Kind::kLowest:
      return false;
    case LexBound::Kind::kHighest:
      return true;
    case LexBound::Kind::kInclusive:
      return member <= max.member;
    case LexBound::Kind::kExclusive:
      return member < max.member;
  }
  return false;
}

bool LexRange::IsEmpty() const {
  using Kind = LexBound::Kind;
  if (min.kind == Kind::kHighest || max.kind == Kind::kLowest) return true;
  if (min.kind == Kind::kLowest || max.kind == Kind::kHighest) return false;
  if (min.member != max.member) return min.member > max.member;
  return min.kind == Kind::kExclusive || max.kind == Kind::kExclusive;
}

}  // namespace cairn
