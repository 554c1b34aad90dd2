// LCS: the longest common subsequence of two strings, by the classic table of O(N*M) cells of 4
// bytes.

#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <new>

#include "server/base/strings.h"
#include "server/engine/key_access.h"

namespace cairn {

namespace {

struct LcsOptions {
  bool only_length = false;
  bool ranges = false;  ///< IDX
  bool with_length = false;
  int64_t min_length = 0;
};

Status ParseLcsOptions(const CommandContext& ctx, LcsOptions* out) {
  for (size_t i = 3; i < ctx.argc(); ++i) {
    if (ctx.ArgIs(i, "idx")) {
      out->ranges = true;
    } else if (ctx.ArgIs(i, "len")) {
      out->only_length = true;
    } else if (ctx.ArgIs(i, "withmatchlen")) {
      out->with_length = true;
    } else if (ctx.ArgIs(i, "minmatchlen") && i + 1 < ctx.argc()) {
      CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(++i, &out->min_length));
    } else {
      return RespError(resp_errors::kSyntax);
    }
  }
  if (out->ranges && out->only_length) {
    return Status::Client("ERR If you want both the length and indexes, please just use IDX.");
  }
  return Status::Ok();
}

/// Lengths of the common subsequences of all pairs of prefixes.
class LcsTable {
 public:
  /// `most_bytes`: what the table may take. Errors: it would take more, or there is no memory.
  Status Compute(std::string_view a, std::string_view b, uint64_t most_bytes) {
    width_ = b.size() + 1;
    uint64_t cells = 0;
    if (__builtin_mul_overflow(a.size() + 1, width_, &cells) ||
        cells > most_bytes / sizeof(uint32_t)) {
      return Status::Client(
          "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len");
    }
    cells_.reset(new (std::nothrow) uint32_t[cells]);
    if (cells_ == nullptr) {
      return Status::Client("ERR Insufficient memory, failed allocating transient memory for LCS");
    }
    for (size_t j = 0; j <= b.size(); ++j) cells_[j] = 0;
    for (size_t i = 1; i <= a.size(); ++i) {
      uint32_t* row = &cells_[i * width_];
      const uint32_t* above = row - width_;
      row[0] = 0;
      for (size_t j = 1; j <= b.size(); ++j) {
        row[j] = a[i - 1] == b[j - 1] ? above[j - 1] + 1 : std::max(above[j], row[j - 1]);
      }
    }
    return Status::Ok();
  }
  uint32_t At(size_t i, size_t j) const { return cells_[i * width_ + j]; }

 private:
  size_t width_ = 0;
  std::unique_ptr<uint32_t[]> cells_;
};

/// A run of equal bytes: a[a_start, a_start + length) and b alike.
struct Run {
  size_t a_start;
  size_t b_start;
  size_t length;
};

/// Walks the table back from its corner. `common` receives the subsequence when not null; runs come
/// last first.
std::vector<Run> TraceBack(const LcsTable& table, std::string_view a, std::string_view b,
                           std::string* common) {
  std::vector<Run> runs;
  size_t i = a.size(), j = b.size();
  size_t left = table.At(i, j);
  if (common != nullptr) common->resize(left);
  bool in_run = false;
  while (i > 0 && j > 0) {
    if (a[i - 1] == b[j - 1]) {
      --i, --j, --left;
      if (common != nullptr) (*common)[left] = a[i];
      if (in_run) {
        runs.back() = {i, j, runs.back().length + 1};
      } else {
        runs.push_back({i, j, 1});
      }
      in_run = true;
    } else {
      // Ties go to the left, which decides which of several equally long answers is given.
      table.At(i - 1, j) > table.At(i, j - 1) ? --i : --j;
      in_run = false;
    }
  }
  return runs;
}

void ReplyRange(RespWriter& reply, size_t start, size_t length) {
  reply.ArrayHeader(2);
  reply.Integer(static_cast<int64_t>(start));
  reply.Integer(static_cast<int64_t>(start + length - 1));
}

void ReplyRuns(RespWriter& reply, const std::vector<Run>& runs, const LcsOptions& options,
               uint32_t total) {
  reply.MapHeader(2);
  reply.Bulk("matches");
  const ReplyBuffer::Mark mark = reply.BeginDeferred();
  size_t shown = 0;
  for (const Run& run : runs) {
    if (static_cast<int64_t>(run.length) < options.min_length) continue;
    reply.ArrayHeader(options.with_length ? 3 : 2);
    ReplyRange(reply, run.a_start, run.length);
    ReplyRange(reply, run.b_start, run.length);
    if (options.with_length) reply.Integer(static_cast<int64_t>(run.length));
    ++shown;
  }
  reply.EndDeferredArray(mark, shown);
  reply.Bulk("len");
  reply.Integer(total);
}

Status Lcs(CommandContext& ctx) {
  // The second look-up may remove an expired key, but never the entry of the first.
  const Entry* entry_a = ReadKey(ctx, ctx.Key(1));
  const Entry* entry_b = ReadKey(ctx, ctx.Key(2));
  if (!ExpectString(entry_a).ok() || !ExpectString(entry_b).ok()) {
    return Status::Client("ERR The specified keys must contain string values");
  }
  LcsOptions options;
  CAIRN_RETURN_IF_ERROR(ParseLcsOptions(ctx, &options));
  const StringBytes bytes_a(entry_a), bytes_b(entry_b);
  std::string copy_a, copy_b;
  const std::string_view a = bytes_a.Whole(&copy_a), b = bytes_b.Whole(&copy_b);
  constexpr size_t kTooLong = std::numeric_limits<uint32_t>::max() - 1;
  if (a.size() >= kTooLong || b.size() >= kTooLong)
    return Status::Client("ERR String too long for LCS");

  LcsTable table;
  const auto most_bytes = static_cast<uint64_t>(ctx.settings().proto_max_bulk_len);
  CAIRN_RETURN_IF_ERROR(table.Compute(a, b, most_bytes));
  const uint32_t total = table.At(a.size(), b.size());
  if (options.only_length) {
    ctx.reply().Integer(total);
  } else if (options.ranges) {
    ReplyRuns(ctx.reply(), TraceBack(table, a, b, nullptr), options, total);
  } else {
    std::string common;
    TraceBack(table, a, b, &common);
    ctx.reply().Bulk(common);
  }
  return Status::Ok();
}
constexpr CommandSpec kLcsSpec{
    .name = "lcs",
    .arity = -3,
    .flags = kCmdReadonly,
    .acl = kAclString,
    .keys = {KeyRange(1, 1, 1, kKeyRO | kKeyAccess)},
    .group = "string",
    .since = "7.0.0",
    .complexity = "O(N*M) in the lengths of the two strings.",
    .summary = "Finds the longest subsequence that two strings share.",
    .synopsis = "key1#0 key2#0 [LEN] [IDX] [MINMATCHLEN=len:integer] [WITHMATCHLEN]",
    .handler = Lcs,
};

constexpr std::array kStringLcsSpecs = {
    kLcsSpec,
};
static_assert(ValidSpecs(kStringLcsSpecs));

}  // namespace

CommandFamily StringLcsCommands() { return kStringLcsSpecs; }

}  // namespace cairn
