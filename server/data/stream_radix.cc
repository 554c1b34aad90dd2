// How many nodes Redis's radix tree would have over a stream's listpacks, which XINFO STREAM tells.
// Counted as nodes come and go: XINFO is O(1) in Redis.
//
// That tree has a node for each key's end, one for each point where keys part, and one for each run
// of bytes without such a point between two of them (and before the first). Keys are the 16 bytes
// of the IDs, big-endian.

#include <algorithm>
#include <bit>

#include "server/data/stream_value.h"

namespace cairn {

namespace {

constexpr int kKeyBytes = 16;

/// Bytes that both keys begin with.
int CommonBytes(StreamId a, StreamId b) {
  if (a.ms != b.ms) return std::countl_zero(a.ms ^ b.ms) / 8;
  if (a.sequence != b.sequence) return 8 + std::countl_zero(a.sequence ^ b.sequence) / 8;
  return kKeyBytes;
}

/// The bytes of a key behind its first `bytes`, all of whose bits are set.
StreamId RestBehind(int bytes) {
  if (bytes >= 8) return {0, bytes == kKeyBytes ? 0 : UINT64_MAX >> (8 * (bytes - 8))};
  return {UINT64_MAX >> (8 * bytes), UINT64_MAX};
}

}  // namespace

uint64_t StreamValue::RadixNodesBy(StreamId key) const {
  if (nodes_.empty()) return 1;  // the root became a run
  const auto last_upto = [this](StreamId bound) {
    const Cursor at = nodes_.FindLast([bound](StreamId first) { return first <= bound; });
    return at.leaf()->master_id <= bound ? at : Cursor();
  };
  const auto behind = [this](Cursor at) {
    if (!at) return nodes_.First();
    at.Next();
    return at;
  };
  const auto common_with = [](StreamId id, const Cursor& at) {
    return at ? CommonBytes(id, at.leaf()->master_id) : -1;
  };
  const Cursor before = last_upto(key);
  const int parts_at = std::max(common_with(key, before), common_with(key, behind(before)));

  // The keys that begin like it up to there, and the points next above and below.
  const StreamId rest = RestBehind(parts_at);
  const StreamId low{key.ms & ~rest.ms, key.sequence & ~rest.sequence};
  const StreamId high{key.ms | rest.ms, key.sequence | rest.sequence};
  const Cursor above = low == kMinStreamId ? Cursor() : last_upto(*PreviousStreamId(low));
  const Cursor last = last_upto(high);
  const StreamId first_key = behind(above).leaf()->master_id, last_key = last.leaf()->master_id;
  const int below = CommonBytes(first_key, last_key);
  const int begin =
      std::max(common_with(first_key, above), common_with(last_key, behind(last))) + 1;

  const auto run = [](int from, int to) { return static_cast<uint64_t>(to > from); };
  const uint64_t end = 1 + run(parts_at + 1, kKeyBytes);
  if (below == parts_at) return end;
  return end + 1 + run(begin, parts_at) + run(parts_at + 1, below) - run(begin, below);
}

}  // namespace cairn
