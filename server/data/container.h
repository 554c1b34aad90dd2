#pragma once

// Container: an Object that changes in place and whose structure is shared, copy-on-write, with the
// snapshot that runs. It is the header: kept counters and the root of nodes. A view that reads the
// value keeps the old header; the executor goes on with a fork of it over the same nodes and copies
// a node only when it first writes to it.
//
//   F1  A node carries the generation it was made in. It may be written in place iff every view
//       opened since has passed `frozen_until` of the header (then it is stamped). Else it is
//       copied, and the old one retired (Discard).
//   F2  Fork leaves the old header without its nodes: destroying it frees the header alone. All
//       nodes that both reach belong to the new one, the replaced ones to the retire queue.
//   F3  Whoever holds the last reference to a header that IsFrozen must retire it, not free it.
//       Database::Dispose does; what stands in a flushed table is kept until the views end.
//   F4  The queue is FIFO (R6): the segment that held the entry was superseded, and so queued,
//       before any node was. The walker therefore has encoded the value before it frees one, but
//       for members, which it frees behind itself (P1 in passed_pages.h). The entry itself waits
//       in the queue as well (kAnyPlace).
//   F5  Nodes and records are freed by calls that any thread may make: the destructor runs on the
//       executor, the walker or the reaper.
//
// Thread: executor; Emit on the walker while frozen. Only entries hold references (object.h), in a
// table or retired, and the reaper those that were the last or stood in a flushed table:
// MutableContainer and F3 judge by the count.

#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "server/data/object.h"
#include "server/data/record_slab.h"
#include "server/data/snapshot_gate.h"

namespace cairn {

/// What all containers of one keyspace share. Owned by Keyspace, outlives every value.
struct ValueHome {
  SnapshotGate* gate;
  RecordSlab* slab;
  uint64_t hash_seed;
};

class MemberTable;

/// Told by a value that a view emits how far it has come.
class FrozenPass {
 public:
  /// The page of `table` that begins at `hash` is the next; those before it are not read again.
  virtual void AtPage(const MemberTable& table, uint64_t hash) = 0;
  /// Nothing of the value is read again.
  virtual void AtEnd() = 0;

 protected:
  ~FrozenPass() = default;
};

class Container : public Object {
 public:
  const Container* AsContainer() const final { return this; }

  /// Emit for a view. Thread: walker.
  virtual Status EmitFrozen(ValueSink& sink, [[maybe_unused]] FrozenPass& pass) const {
    return Emit(sink);
  }

  /// A header with the same content, to be changed while views read this one until the walk passes
  /// `frozen_until`. This header gives up its nodes (F2). Cost: O(1). Returns one reference.
  virtual Container* Fork(uint64_t frozen_until) = 0;
  /// A copy that shares nothing. Cost: O(n). Returns one reference.
  virtual Container* Clone() const = 0;
  /// Stops the process on damage. Cost: O(n).
  virtual void CheckInvariants() const = 0;
  /// Two passes over the members that a batch will look up, `pass` 0 and 1: each asks for memory
  /// that a look-up reads and that depends on what the pass before asked for.
  virtual void PrefetchMember([[maybe_unused]] std::string_view member,
                              [[maybe_unused]] int pass) const {}

  /// False after Fork: the destructor must leave the nodes alone, MemoryUsage must not count them.
  bool owns_nodes() const { return owns_nodes_; }

  const ValueHome& home() const { return home_; }
  SnapshotGate& gate() const { return *home_.gate; }
  /// The generation that new nodes are made in.
  uint64_t generation() const { return home_.gate->generation(); }

  /// Whether a view may still read nodes that this header reaches, through an older header.
  bool IsFrozen() const { return !home_.gate->PassedByThoseOf(generation_, frozen_until_); }
  /// False: no view may read nodes of this header through an older one. True says nothing: whoever
  /// has no gate to ask (IsFrozen) takes it for frozen. Thread: whoever may free the header.
  bool MayBeFrozen() const { return frozen_until_ != 0; }
  /// F1 for a node made in `node_generation`. Requires: the header is writable (thawed or forked).
  bool MayWrite(uint64_t node_generation) const {
    return node_generation == home_.gate->generation() ||
           home_.gate->Readers(node_generation, frozen_until_) == 0;
  }
  /// Says that no view reads this header: Database::MutableContainer alone knows. What was frozen
  /// for views that have ended is free.
  void Thaw() {
    if (generation_ == home_.gate->generation()) return;
    if (!IsFrozen()) frozen_until_ = 0;
    generation_ = home_.gate->generation();
  }

  /// Gives up a node of `size_bytes` from malloc that this header no longer reaches. `kind` and
  /// `position` as Retired has them.
  void Discard(void* node, uint64_t node_generation, size_t size_bytes,
               Retired::Kind kind = Retired::Kind::kBlock, uint64_t position = 0) {
    if (MayWrite(node_generation)) {
      std::free(node);
    } else {
      home_.gate->Retire(kind, node, position, size_bytes);
    }
  }
  /// The same for a record from the slab. `record_generation`: that of the node that refers to it.
  void DiscardRecord(void* record, uint64_t record_generation, size_t size_bytes) {
    if (MayWrite(record_generation)) {
      home_.slab->Free(record, size_bytes);
    } else {
      home_.gate->Retire(Retired::Kind::kMemberRecord, record, size_bytes,
                         RecordSlab::RoundUp(size_bytes));
    }
  }
  /// The same for a reference to the blob of a long record of the table with this id.
  void DiscardMemberBlob(Blob* blob, uint64_t blob_generation, uint64_t table_id) {
    if (MayWrite(blob_generation)) {
      blob->Unref();
    } else {
      home_.gate->Retire(Retired::Kind::kMemberBlob, blob, table_id,
                         blob->IsUnique() ? blob->footprint() : 0);
    }
  }

 protected:
  /// A container that no view has seen.
  explicit Container(const ValueHome& home)
      : home_(home), generation_(home.gate->generation()), frozen_until_(0) {}
  /// For Fork: takes over the nodes of `old`.
  Container(Container& old, uint64_t frozen_until)
      : home_(old.home_), generation_(old.home_.gate->generation()), frozen_until_(frozen_until) {
    CAIRN_CHECK(old.owns_nodes_);
    // A fork of a fork: what the first one waits for may lie further on.
    if (old.IsFrozen() && old.frozen_until_ > frozen_until_) frozen_until_ = old.frozen_until_;
    old.owns_nodes_ = false;
  }

 private:
  const ValueHome home_;
  uint64_t generation_;
  uint64_t frozen_until_;
  bool owns_nodes_ = true;
};

}  // namespace cairn
