#pragma once

// StreamGroup: one consumer group of a stream: how far it has read, what it has delivered and not
// seen acknowledged, and its consumers, each with its share of that. Part of a StreamValue, which
// is the owner that changing calls name (container.h, F1). A fork copies the group's and consumers'
// heads and shares the nodes of their trees. Executor; the walker reads a frozen one.
//
//   G1  Every record of `pending` names a consumer of the group, whose own tree has the ID.
//   G2  A consumer's tree has no other IDs.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/data/pending_tree.h"

namespace cairn {

struct StreamConsumer {
  std::string name;
  uint32_t index = 0;      ///< in its group, as PendingDelivery::consumer names it
  int64_t seen_at_ms = 0;  ///< wall clock of the last command that named it
  PendingTree<PendingId> pending;
};

class StreamGroup {
 public:
  /// entries_read of a group that cannot tell how many entries lie before its last ID.
  static constexpr int64_t kEntriesReadUnknown = -1;

  StreamGroup(std::string name, StreamId last, int64_t read)
      : last_id(last), entries_read(read), name_(std::move(name)) {}
  StreamGroup(const StreamGroup&) = delete;

  StreamId last_id;      ///< of the entries delivered by ">"
  int64_t entries_read;  ///< the logical count of entries up to last_id, or unknown

  const std::string& name() const { return name_; }
  const PendingTree<PendingDelivery>& pending() const { return pending_; }
  size_t consumer_count() const { return by_name_.size(); }

  /// nullptr when there is none of the name.
  StreamConsumer* FindConsumer(std::string_view name) const;
  const StreamConsumer& consumer(uint32_t index) const { return *consumers_[index]; }
  /// Requires: there is none of the name.
  StreamConsumer* AddConsumer(std::string_view name, int64_t seen_at_ms);
  /// Removes it with all its pending entries. Returns how many those were.
  uint64_t RemoveConsumer(StreamConsumer* consumer, const Container& owner);
  /// visit(StreamConsumer&) in the order of names.
  template <typename Visit>
  void ForEachConsumer(Visit&& visit) const {
    for (const auto& [name, index] : by_name_) visit(*consumers_[index]);
  }

  /// Records that an entry was delivered, taking it from another consumer if it was pending there.
  /// Returns the record.
  PendingDelivery Deliver(StreamId id, StreamConsumer* consumer, int64_t now_ms,
                          uint64_t delivery_count, const Container& owner);
  /// The record of a pending entry, for its time and count; nullptr when it is not pending.
  PendingDelivery* MutablePending(StreamId id, const Container& owner) {
    return pending_.Mutable(id, owner);
  }
  /// Forgets a pending entry. Returns false when it was not pending.
  bool Acknowledge(StreamId id, const Container& owner);

  /// Loading only: a pending entry whose consumer comes later (AssignPending). Returns false for a
  /// second record of an ID.
  bool AddUnassigned(const PendingDelivery& delivery, const Container& owner) {
    return pending_.Insert(delivery, owner);
  }
  /// Loading only. Returns false when the entry is not pending or has an owner already.
  bool AssignPending(StreamId id, StreamConsumer* consumer, const Container& owner);
  /// Loading only: whether every pending entry was assigned (G1).
  bool AllAssigned() const;
  static constexpr uint32_t kUnassigned = UINT32_MAX;

  std::unique_ptr<StreamGroup> ForkHead() const;
  std::unique_ptr<StreamGroup> Clone(const Container& owner) const;
  /// Frees or retires every node: the group is destroyed.
  void Discard(const Container& owner);
  /// Frees every node; any thread. Requires: no view reads them.
  void FreeNodes();

  size_t MemoryUsage() const;
  uint64_t node_count() const;
  void CheckInvariants() const;

 private:
  std::unique_ptr<StreamGroup> CopyHead() const;

  std::string name_;
  PendingTree<PendingDelivery> pending_;
  std::vector<std::unique_ptr<StreamConsumer>> consumers_;  // by index; empty places are reused
  uint32_t first_empty_ = 0;                                // all places before it are taken
  std::map<std::string, uint32_t, std::less<>> by_name_;
};

}  // namespace cairn
