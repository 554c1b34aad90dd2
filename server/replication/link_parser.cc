#include "server/replication/link_parser.h"

#include <algorithm>
#include <limits>

#include "server/base/check.h"
#include "server/base/strings.h"

namespace cairn {

namespace {

/// The text in front of the first space; *rest is what follows it.
std::string_view FirstWord(std::string_view text, std::string_view* rest) {
  const size_t space = text.find(' ');
  *rest = space == std::string_view::npos ? std::string_view() : text.substr(space + 1);
  return text.substr(0, space);
}

bool ParseOffset(std::string_view text, uint64_t* out) {
  return ParseUint64(text, out) &&
         *out <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
}

}  // namespace

PsyncAnswer ParsePsyncAnswer(std::string_view line) {
  using Kind = PsyncAnswer::Kind;
  if (line.empty()) return {.kind = Kind::kWait};
  if (line.starts_with("-NOMASTERLINK") || line.starts_with("-LOADING"))
    return {.kind = Kind::kTryLater};
  if (line.starts_with('-')) return {.kind = Kind::kRefused};
  std::string_view rest;
  const std::string_view word = FirstWord(line, &rest);
  if (word == "+FULLRESYNC") {
    std::string_view offset_text;
    PsyncAnswer answer{.kind = Kind::kFullResync, .id = FirstWord(rest, &offset_text)};
    if (answer.id.size() != kReplicationIdBytes || !ParseOffset(offset_text, &answer.offset))
      return {};
    return answer;
  }
  if (word == "+CONTINUE") {
    if (!rest.empty() &&
        (rest.size() != kReplicationIdBytes || rest.find(' ') != std::string_view::npos))
      return {};
    return {.kind = Kind::kContinue, .id = rest};
  }
  return {};
}

CopyHeader ParseCopyHeader(std::string_view line) {
  using Kind = CopyHeader::Kind;
  constexpr std::string_view kMarked = "$EOF:";
  if (line.empty()) return {.kind = Kind::kWait};
  if (line.starts_with('-')) return {.kind = Kind::kError};
  if (line.starts_with(kMarked)) {
    const std::string_view mark = line.substr(kMarked.size());
    if (mark.size() != kReplicationIdBytes) return {};
    return {.kind = Kind::kMark, .mark = mark};
  }
  CopyHeader header{.kind = Kind::kLength};
  if (!line.starts_with('$') || !ParseOffset(line.substr(1), &header.length)) return {};
  return header;
}

CopyReader::CopyReader(std::string_view mark) : mark_(mark) {
  CAIRN_CHECK(mark.size() == kReplicationIdBytes);
}

size_t CopyReader::Take(std::string_view bytes, std::string* file) {
  if (!by_mark()) {
    const size_t taken = std::min<uint64_t>(bytes.size(), left_);
    file->append(bytes.substr(0, taken));
    left_ -= taken;
    done_ = left_ == 0;
    return taken;
  }
  // The last bytes so far stay back: they may be the mark, or its beginning.
  if (bytes.size() >= mark_.size()) {
    file->append(tail_);
    file->append(bytes.substr(0, bytes.size() - mark_.size()));
    tail_.assign(bytes.substr(bytes.size() - mark_.size()));
  } else {
    tail_.append(bytes);
    const size_t surplus = tail_.size() - std::min(tail_.size(), mark_.size());
    file->append(tail_, 0, surplus);
    tail_.erase(0, surplus);
  }
  done_ = tail_ == mark_;
  return bytes.size();
}

}  // namespace cairn
