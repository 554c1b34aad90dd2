#include "server/engine/propagation.h"

#include <string>
#include <vector>

#include "server/base/check.h"
#include "server/base/strings.h"

namespace cairn {

namespace {

constexpr std::string_view kMulti = "*1\r\n$5\r\nMULTI\r\n";
constexpr std::string_view kExec = "*1\r\n$4\r\nEXEC\r\n";

void AppendCount(std::string& out, char type, size_t count) {
  char digits[24];
  out.push_back(type);
  out.append(digits, FormatInt64(static_cast<int64_t>(count), digits));
  out.append("\r\n");
}

}  // namespace

void Propagation::AppendBulk(std::string_view bytes) {
  AppendCount(buffer_, '$', bytes.size());
  buffer_.append(bytes);
  buffer_.append("\r\n");
}

void Propagation::AppendHeader(uint32_t db) {
  // MULTI goes in front of the first effect and is taken back when no second one follows
  // (EndGroup), so that a lone effect costs no wrapper and no look-ahead.
  if (group_depth_ > 0 && group_effects_ == 0) {
    group_start_ = buffer_.size();
    buffer_.append(kMulti);
  }
  ++group_effects_;
  if (selected_db_ != static_cast<int64_t>(db)) {
    AppendCount(buffer_, '*', 2);
    AppendBulk("SELECT");
    AppendBulk(std::to_string(db));
    selected_db_ = db;
  }
}

void Propagation::Append(uint32_t db, std::span<const std::string_view> args) {
  if (!enabled_) return;
  AppendHeader(db);
  AppendCount(buffer_, '*', args.size());
  for (std::string_view arg : args) AppendBulk(arg);
}

void Propagation::Append(uint32_t db, std::span<const std::string> args) {
  if (!enabled_) return;
  AppendHeader(db);
  AppendCount(buffer_, '*', args.size());
  for (const std::string& arg : args) AppendBulk(arg);
}

void Propagation::CloseGroup() {
  if (group_effects_ == 1) {
    buffer_.erase(group_start_, kMulti.size());
  } else {
    buffer_.append(kExec);
  }
  group_effects_ = 0;
}

std::string Propagation::TakeBuffer(int64_t* database_before) {
  CAIRN_CHECK(CanTake());
  *database_before = db_at_buffer_start_;
  db_at_buffer_start_ = selected_db_;
  handed_over_ += buffer_.size();
  std::string taken;
  taken.swap(buffer_);
  return taken;
}

}  // namespace cairn
