#pragma once

// StreamValue: a log of entries in ID order, in nodes of a CowTree, with the consumer groups that
// read it. What a command means is the commands' affair; here are the entries, the counters that
// Redis keeps beside them, and the rules for full nodes and trimming, which decide the bytes that
// DUMP shows. A Container (container.h): a running view reads the old header while a fork goes on.
// Executor; Emit on the walker while frozen. Cost of a fork: O(groups and consumers).

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "server/base/listpack.h"
#include "server/data/cow_tree.h"
#include "server/data/stream_group.h"
#include "server/data/stream_node.h"

namespace cairn {

/// When a node is full (stream-node-max-bytes, stream-node-max-entries; 0: no limit).
struct StreamNodeLimits {
  uint64_t max_bytes = 4096;
  uint64_t max_entries = 100;
};

/// What XADD and XTRIM cut off.
struct StreamTrim {
  enum class Kind : uint8_t { kNone, kMaxLength, kMinId } kind = Kind::kNone;
  bool approximate = false;  ///< whole nodes only
  uint64_t max_length = 0;
  StreamId min_id;
  uint64_t limit = 0;  ///< entries to remove at most, 0: no limit; only when approximate
};

class StreamValue final : public Container {
 public:
  explicit StreamValue(const ValueHome& home) : Container(home) {}
  ~StreamValue() override;

  // --- counters: set by the commands that Redis lets set them (XSETID, loading) ---
  StreamId last_id;         ///< greatest ID ever added
  StreamId max_deleted_id;  ///< greatest ID that XDEL removed
  uint64_t entries_added = 0;

  uint64_t length() const { return length_; }
  StreamId first_id() const { return first_id_; }  ///< 0-0 when empty
  uint64_t node_count() const { return nodes_.leaf_count(); }
  /// Nodes that the radix tree of Redis would have over the same listpacks, for XINFO.
  uint64_t radix_nodes() const { return radix_nodes_; }

  /// Largest sum of an entry's bytes; more is refused by XADD.
  static constexpr uint64_t kMaxEntryBytes = kListpackMaxBytes;

  /// Adds an entry. Requires: id > last_id; the bytes of `fields` (names and values in turn) are
  /// within kMaxEntryBytes.
  void Append(StreamId id, std::span<const std::string_view> fields,
              const StreamNodeLimits& limits);
  /// Deletes an entry. Returns false when there is none of the ID. Keeps first_id and, when asked
  /// through NoteDeleted, max_deleted_id.
  bool Erase(StreamId id);
  /// Raises max_deleted_id: XDEL leaves a gap that trimming does not.
  void NoteDeleted(StreamId id) {
    if (id > max_deleted_id) max_deleted_id = id;
  }
  /// Returns how many entries went.
  uint64_t Trim(const StreamTrim& trim);
  /// Whether an entry of the ID is there.
  bool Contains(StreamId id) const;
  /// The first or last entry's ID, 0-0 when empty.
  StreamId EdgeId(bool first) const;
  /// The ID of the first entry kept, perhaps marked as deleted; the greatest ID when none is.
  StreamId FirstKeptId() const;

  /// Logical number of `id` counted from the first entry ever added, or
  /// StreamGroup::kEntriesReadUnknown.
  int64_t EstimateEntriesUpTo(StreamId id) const;
  /// Whether XDEL removed an entry at or behind `from`.
  bool HasGapFrom(StreamId from) const;
  /// Entries that `group` has not read; nullopt when that cannot be told.
  std::optional<int64_t> LagOf(const StreamGroup& group) const;

  // --- groups, in the order of names ---
  size_t group_count() const { return groups_.size(); }
  StreamGroup* FindGroup(std::string_view name) const;
  /// nullptr when the name is taken.
  StreamGroup* AddGroup(std::string_view name, StreamId last_id, int64_t entries_read);
  void RemoveGroup(StreamGroup* group);
  template <typename Visit>
  void ForEachGroup(Visit&& visit) const {
    for (const auto& [name, group] : groups_) visit(*group);
  }

  // --- loading ---
  /// Adds a node behind all others. Errors: kCorruption.
  Status AppendNode(StreamId master_id, std::string_view listpack);
  /// Sets length and first_id as a file states them, after the nodes. Errors: kCorruption when the
  /// length is not that of the nodes.
  Status FinishNodes(uint64_t length, StreamId first_id, bool first_id_stated);

  // Container
  StreamValue* Fork(uint64_t frozen_until) override;
  StreamValue* Clone() const override;
  void CheckInvariants() const override;
  Status Emit(ValueSink& sink) const override;
  size_t MemoryUsage() const override;
  size_t FreeEffort() const override;
  const char* EncodingName() const override { return "stream"; }
  const char* TypeName() const override { return "stream"; }

 private:
  friend class StreamIterator;
  friend class StreamFinder;
  struct NodePolicy {
    using Leaf = StreamNode;
    using Key = StreamId;
    static constexpr uint32_t kFanout = 15;  ///< inner nodes of 496 bytes
    // Deleted entries count: a node may consist of them alone.
    static uint64_t Weight(const StreamNode& node) { return node.entry_count(); }
    static StreamId FirstKey(const StreamNode& node) { return node.master_id; }
    static StreamNode* Copy(const StreamNode& node) { return StreamNode::Copy(node); }
    static void Free(StreamNode* node) { StreamNode::Free(node); }
    static void Retire(SnapshotGate& gate, StreamNode* node) { StreamNode::Retire(gate, node); }
  };
  using Tree = CowTree<NodePolicy>;
  using Cursor = Tree::Cursor;

  StreamValue(StreamValue& old, uint64_t frozen_until);
  void AddNode(StreamNode* node);
  void RemoveNode(Cursor* cursor);
  /// Nodes that `key` adds to radix_nodes(). Requires: no node of ours has it. Cost: O(log n).
  uint64_t RadixNodesBy(StreamId key) const;
  bool MustBeginNode(const StreamNode& last, uint64_t more, const StreamNodeLimits& limits) const;
  uint64_t TrimInside(Cursor* cursor, const StreamTrim& trim);
  bool WholeNodeGoes(const StreamNode& node, const StreamTrim& trim) const;
  Status EmitGroup(ValueSink& sink, const StreamGroup& group) const;

  Tree nodes_;
  uint64_t length_ = 0;
  StreamId first_id_;
  uint64_t radix_nodes_ = 1;
  size_t node_bytes_ = 0;
  std::map<std::string, std::unique_ptr<StreamGroup>, std::less<>> groups_;
};

/// Live entries between two IDs, both included, from either end. Borrows the stream, which must not
/// change meanwhile.
class StreamIterator {
 public:
  StreamIterator(const StreamValue& stream, StreamId from, StreamId to, bool reverse);
  /// Steps to the next entry; false at the end.
  bool Next();
  const StreamEntry& entry() const { return entry_; }

 private:
  bool Step();
  bool EnterNode();

  const StreamId from_, to_;
  const bool reverse_;
  StreamValue::Cursor cursor_;
  StreamEntry entry_;
  bool begun_ = false;
};

/// Looks live entries up, each from where the one before stood. Borrows the stream, which must not
/// change meanwhile but for its groups.
class StreamFinder {
 public:
  explicit StreamFinder(const StreamValue& stream) : stream_(stream) {}
  /// The entry of an ID, until the next call; nullptr when it is not there. Requires: not below the
  /// ID of the call before. Cost: a step to the entry behind; O(log n + entries of a node) to
  /// others.
  const StreamEntry* Find(StreamId id);

 private:
  const StreamValue& stream_;
  StreamValue::Cursor cursor_;
  StreamEntry entry_;  // while cursor_ stands in a node with entries
};

}  // namespace cairn
