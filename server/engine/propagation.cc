#include "server/engine/propagation.h"

#include <algorithm>
#include <cstring>

#include "server/base/strings.h"
#include "server/protocol/resp_header.h"

namespace cairn {

namespace {

constexpr std::string_view kMulti = "*1\r\n$5\r\nMULTI\r\n";
constexpr std::string_view kExec = "*1\r\n$4\r\nEXEC\r\n";

// No buffer of the last turn, however long, makes the next one begin with more.
constexpr size_t kMostReservedBytes = 1024 * 1024;

// Commands above this are appended piece by piece: room that is made first is cleared, too, which
// takes a big value as long as its copy.
constexpr size_t kBigCommandBytes = 16 * 1024;

char* WriteCount(char* to, char type, size_t count) {
  return to + FormatRespHeader(to, type, static_cast<int64_t>(count));
}

char* WriteBulk(char* to, std::string_view bytes) {
  to = WriteCount(to, '$', bytes.size());
  if (!bytes.empty()) std::memcpy(to, bytes.data(), bytes.size());
  to += bytes.size();
  *to++ = '\r';
  *to++ = '\n';
  return to;
}

void AppendPieces(const auto& args, std::string* out) {
  char header[kRespHeaderBytes];
  out->append(header, WriteCount(header, '*', args.size()));
  for (std::string_view arg : args)
    out->append(header, WriteCount(header, '$', arg.size())).append(arg).append("\r\n");
}

}  // namespace

void Propagation::AppendCommand(const auto& args) {
  size_t most = kRespHeaderBytes;
  for (std::string_view arg : args) most += arg.size() + kRespHeaderBytes + 2;
  const size_t before = buffer_.size();
  if (buffer_.capacity() - before < most)
    buffer_.reserve(std::max(2 * before + most, std::min(last_taken_, kMostReservedBytes)));
  if (most > kBigCommandBytes) {
    AppendPieces(args, &buffer_);
    return;
  }
  buffer_.resize(before + most);
  char* to = WriteCount(buffer_.data() + before, '*', args.size());
  for (std::string_view arg : args) to = WriteBulk(to, arg);
  buffer_.resize(static_cast<size_t>(to - buffer_.data()));
}

void Propagation::AppendHeader(uint32_t db) {
  // MULTI is put in front of the first effect when a second one comes: a lone effect, the usual
  // case, costs no wrapper. The SELECT of the first effect stands before the MULTI, as Redis has
  // it.
  if (group_effects_ == 1) {
    buffer_.insert(group_start_, kMulti);
    for (size_t i = group_asides_; i < asides_.size(); ++i) asides_[i].at += kMulti.size();
  }
  if (selected_db_ != static_cast<int64_t>(db)) {
    char number[kMaxInt64Chars];
    const std::string_view select[] = {"SELECT", {number, FormatInt64(db, number)}};
    AppendCommand(std::span(select));
    selected_db_ = db;
  }
  if (group_depth_ == 0) return;
  if (group_effects_ == 0) {
    group_start_ = buffer_.size();
    group_asides_ = asides_.size();
  }
  ++group_effects_;
}

void Propagation::AppendEffect(uint32_t db, const auto& args, EffectReader reader) {
  if (!enabled_ || (reader == EffectReader::kLog && !logged_) ||
      (reader == EffectReader::kReplicas && !fed_))
    return;
  AppendHeader(db);
  const size_t at = buffer_.size();
  AppendCommand(args);
  if (reader == EffectReader::kBoth || !(logged_ && fed_)) [[likely]]
    return;
  const size_t size = buffer_.size() - at;
  if (reader == EffectReader::kLog) {
    asides_.push_back({at, size, {}});
    aside_bytes_ -= size;
  } else {
    asides_.push_back({at, 0, buffer_.substr(at)});
    aside_bytes_ += size;
    buffer_.resize(at);
  }
}

void Propagation::Append(uint32_t db, std::span<const std::string_view> args, EffectReader reader) {
  AppendEffect(db, args, reader);
}

void Propagation::Append(uint32_t db, std::span<const std::string> args, EffectReader reader) {
  AppendEffect(db, args, reader);
}

std::string Propagation::ForReplicas() const {
  std::string all;
  all.reserve(waiting_for_replicas());
  size_t at = 0;
  for (const Aside& aside : asides_) {
    all.append(buffer_, at, aside.at - at).append(aside.bytes);
    at = aside.at + aside.length;
  }
  return all.append(buffer_, at);
}

void Propagation::CloseGroup() {
  if (group_effects_ > 1) buffer_.append(kExec);
  group_effects_ = 0;
}

void Propagation::AbandonGroup() {
  enabled_ = false;
  if (group_effects_ == 0) return;
  buffer_.resize(group_start_);
  for (; asides_.size() > group_asides_; asides_.pop_back())
    aside_bytes_ -= asides_.back().bytes.size() - asides_.back().length;
  group_effects_ = 0;
}

Propagation::Taken Propagation::Take() {
  CAIRN_CHECK(CanTake());
  Taken taken;
  taken.database_before = db_at_buffer_start_;
  db_at_buffer_start_ = selected_db_;
  handed_over_ += buffer_.size();
  last_taken_ = buffer_.size();
  if (!asides_.empty()) [[unlikely]] {
    taken.same = false;
    taken.replicas = ForReplicas();
    asides_.clear();
    aside_bytes_ = 0;
  }
  taken.log.swap(buffer_);
  return taken;
}

}  // namespace cairn
