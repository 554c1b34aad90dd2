#pragma once

// Backlog: the end of the replication stream, kept in memory so that a replica that was away for a
// moment goes on where it stopped, and one that receives a full copy finds what came meanwhile. All
// replicas read from it; none has a copy of its own. It knows bytes and offsets, no replicas.
//
//   offset 0 ... begin() ............................ end()
//                  |<- blocks, oldest first, whole ones ->|
//
// Invariants (CheckInvariants):
//   L1  Blocks follow each other without gap, from begin() to end().
//   L2  No block is empty but a last one.
//   L3  Whatever Trim was told to keep is there: end() - begin() >= min(keep, bytes since the
//   start).
//
// Thread: executor.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace cairn {

class ReplyBuffer;

class Backlog {
 public:
  /// Bytes a block has room for; trimming goes by blocks.
  static constexpr size_t kMaxBlockBytes = 64 * 1024;
  static constexpr size_t kMinBlockBytes = 4 * 1024;
  /// Blocks that a backlog of the wanted size has at least.
  static constexpr size_t kBlocksWanted = 16;

  /// An empty backlog at `offset`; `keep_bytes` as Trim's.
  Backlog(uint64_t offset, uint64_t keep_bytes) : begin_(offset), end_(offset) {
    set_keep_bytes(keep_bytes);
  }

  void Append(std::string_view bytes);
  /// Offset before the oldest byte held.
  uint64_t begin() const { return begin_; }
  /// Offset behind the newest.
  uint64_t end() const { return end_; }
  uint64_t size() const { return end_ - begin_; }
  bool Holds(uint64_t offset) const { return offset >= begin_ && offset <= end_; }
  /// Copies bytes behind `offset`, at most to the end of one block and at most `most`. Returns how
  /// many. Requires: Holds(offset). Cost: O(log blocks) and the copy.
  size_t Read(uint64_t offset, size_t most, ReplyBuffer* out) const;

  void set_keep_bytes(uint64_t keep_bytes);
  uint64_t keep_bytes() const { return keep_bytes_; }
  /// Takes out whole blocks that lie before `pinned` (an offset somebody still reads from) and are
  /// not among the newest keep_bytes: what it returns is the caller's to free, here or, when it is
  /// much, elsewhere. Cost: O(blocks taken).
  std::vector<std::string> Trim(uint64_t pinned);
  /// Blocks that hold bytes behind `offset`. Cost: O(log blocks).
  size_t BlocksFrom(uint64_t offset) const;
  /// Memory held, in bytes.
  uint64_t memory_bytes() const { return memory_bytes_; }

  /// Stops the process when L1 or L2 do not hold. Cost: O(blocks).
  void CheckInvariants() const;

 private:
  struct Block {
    uint64_t offset;  // of its first byte
    std::string bytes;
  };

  std::deque<Block> blocks_;
  uint64_t begin_;
  uint64_t end_;
  uint64_t keep_bytes_ = 0;
  size_t block_bytes_ = kMaxBlockBytes;
  uint64_t memory_bytes_ = 0;
};

}  // namespace cairn
