#pragma once

// StreamNode: up to a hundred or so entries of a stream in one listpack, in the layout of Redis,
// which is what DUMP and RDB files carry. Names are stored once: a node begins with a master entry
// whose field names the following entries mostly share, and IDs are differences from the node's
// own. Entries are marked as deleted and stay until their node goes. It does not decide when a node
// is full: StreamValue does. Executor; frozen nodes are read by the walker.
//
//   listpack := live deleted master entry*
//   master   := field-count field* 0
//   entry    := flags ms-difference sequence-difference [field-count] (field value | value)*
//   elements flags    := 1 deleted | 2 same fields as the master (then no count and no field names)
//   elements := how many listpack elements the entry has before this one, for walking backwards
//
// Worked example, one entry 5-1 {temp: 20} in a node of that ID, as elements:
//   1 0  1 "temp" 0  2 0 0 20 4

#include <cstdint>
#include <span>
#include <string_view>

#include "persistence/value_sink.h"
#include "server/base/listpack.h"
#include "server/base/status.h"
#include "server/base/strings.h"
#include "server/data/snapshot_gate.h"

namespace cairn {

struct StreamNode;

/// One entry where it stands in its node. Borrows the node.
struct StreamEntry {
  StreamId id;
  bool deleted = false;
  bool same_fields = false;
  uint64_t field_count = 0;
  std::string_view listpack;  ///< of the node
  // Offsets in the listpack.
  uint32_t at = 0;             ///< the entry's flags
  uint32_t body = 0;           ///< the first field or value
  uint32_t end = 0;            ///< behind the entry
  uint32_t master_fields = 0;  ///< the names of the master entry

  /// visit(std::string_view field, std::string_view value), in the order they were added. Integers
  /// are formatted; the views are valid during the call.
  template <typename Visit>
  void ForEachField(Visit&& visit) const {
    const ListpackView view(listpack);
    char name_digits[kMaxInt64Chars], value_digits[kMaxInt64Chars];
    uint32_t names = master_fields, values = body;
    for (uint64_t i = 0; i < field_count; ++i) {
      uint32_t& name_at = same_fields ? names : values;
      const ListpackValue name = view.Get(name_at);
      name_at = view.Next(name_at);
      const ListpackValue value = view.Get(values);
      values = view.Next(values);
      visit(name.Text(name_digits), value.Text(value_digits));
    }
  }
};

/// One allocation: this head, then the listpack. So a node that grows may move: the calls that
/// change one return where it is now, and whoever points to it must take that.
struct StreamNode {
  uint64_t generation;
  StreamId master_id;
  uint32_t capacity;  ///< bytes behind the head that the listpack may use
  uint32_t bytes;     ///< of the listpack
  uint32_t live;      ///< the listpack's first element
  uint32_t deleted;   ///< its second

  /// A node with its first entry. `fields` are names and values in turn.
  static StreamNode* New(StreamId id, std::span<const std::string_view> fields);
  /// A copy of bytes that came from outside. Errors: kCorruption when they are not a node whose
  /// counts, IDs and lengths agree.
  static Result<StreamNode*> FromBytes(StreamId master_id, std::string_view listpack);
  static StreamNode* Copy(const StreamNode& node);
  static void Free(StreamNode* node);
  static void Retire(SnapshotGate& gate, StreamNode* node);

  size_t HeapBytes() const { return sizeof(StreamNode) + capacity; }
  std::string_view listpack() const { return {block(), bytes}; }
  uint64_t entry_count() const { return uint64_t{live} + deleted; }

  /// The first and last entry, deleted or not. Returns false when the node has none.
  bool First(StreamEntry* out) const;
  bool Last(StreamEntry* out) const;
  bool Next(const StreamEntry& from, StreamEntry* out) const;
  bool Previous(const StreamEntry& from, StreamEntry* out) const;
  /// The entry of an ID, deleted or not.
  bool Find(StreamId id, StreamEntry* out) const;

  // Below: the node is owned (container.h, F1). Each returns the node, which may have moved.
  /// Requires: `id` is above every ID in the node.
  [[nodiscard]] StreamNode* Append(StreamId id, std::span<const std::string_view> fields);
  /// Marks a live entry as deleted; *entry goes on to name it.
  [[nodiscard]] StreamNode* Delete(StreamEntry* entry);
  /// Gives back the room kept for growth.
  [[nodiscard]] StreamNode* Trim();

 private:
  char* block() { return reinterpret_cast<char*>(this + 1); }
  const char* block() const { return reinterpret_cast<const char*>(this + 1); }
  uint32_t ReadMaster(StreamEntry* out) const;
  bool Read(uint32_t at, StreamEntry* out) const;
  StreamNode* Reallocate(size_t new_capacity);
  StreamNode* Reserve(size_t more);
  void WriteSize();
  StreamNode* SetCounts(uint32_t new_live, uint32_t new_deleted);
  uint32_t end() const { return bytes - 1; }
};

}  // namespace cairn
