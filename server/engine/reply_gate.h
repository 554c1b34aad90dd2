#pragma once

// ReplyGate: which part of a session's output may leave while the append-only file is behind. Each
// reply depends on the propagation stream up to where it stood when the reply was written; replies
// leave in order, as far as the log has come. Nothing is held by time: only offsets count.
// Thread: executor.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace cairn {

class ReplyGate {
 public:
  /// Depends on what is not in the stream yet: held until Hold is called again in the same turn.
  static constexpr uint64_t kOffsetToCome = UINT64_MAX;

  /// The output up to `position` (bytes ever written to the session) depends on the stream up to
  /// `offset`. `handed_over`: what the log has been given; only whole hand-overs become durable, so
  /// replies of one turn share an entry. Cost: at most one entry a turn.
  void Hold(uint64_t position, uint64_t offset, uint64_t handed_over) {
    if (first_ < entries_.size() && entries_.back().offset > handed_over) {
      entries_.back() = {position, offset};
    } else {
      entries_.push_back({position, offset});
    }
  }

  /// Returns up to which position bytes may leave when the log has come to `offset`; UINT64_MAX
  /// when nothing is held any more.
  uint64_t Released(uint64_t offset) {
    while (first_ < entries_.size() && entries_[first_].offset <= offset) {
      released_ = entries_[first_++].position;
    }
    if (first_ < entries_.size()) {
      // Half of it is passed: move the rest down, so that a client that never pauses costs no more.
      if (first_ > kCompactFrom && first_ * 2 > entries_.size()) {
        entries_.erase(entries_.begin(), entries_.begin() + static_cast<ptrdiff_t>(first_));
        first_ = 0;
      }
      return released_;
    }
    entries_.clear();
    first_ = 0;
    return UINT64_MAX;
  }

  bool empty() const { return first_ == entries_.size(); }

 private:
  struct Entry {
    uint64_t position;
    uint64_t offset;
  };
  static constexpr size_t kCompactFrom = 16;

  std::vector<Entry> entries_;
  size_t first_ = 0;       // entries before it are released
  uint64_t released_ = 0;  // position of the last released entry
};

}  // namespace cairn
