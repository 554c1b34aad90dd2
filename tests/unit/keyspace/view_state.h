#pragma once

// StateOf: everything that decides how a World of the explorer goes on, in a canonical form, so
// that two sequences of commands that lead to the same state need to be continued once.
//
// Canonical means: addresses are numbered in the order in which the structure is met, and a
// generation is told by what the code asks of it, whether it is the current one and which open
// views are younger. Left out are the bytes of values, of which form and size are kept: the code
// never looks at them, only the checks do, and those have found each equal to what it should be
// (World::CheckFrozen, CheckLive) before a state is taken; likewise expiry times, of which only
// "none" or "some" is kept: when time passes it passes all of them. Everything else is in:
// directories and segments slot by slot with their SHARED bits, both ends of each queue, what each
// walk keeps, has visited and has emitted, W, and who must still see off what. That this is enough
// is tested, not believed (ViewExplorerTest.PruningLosesNothing).
//
// It reads private members, through the explicit instantiations that the language allows that: a
// door in the engine's headers would be there for this test alone.

#include <map>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "tests/unit/keyspace/view_world.h"

namespace cairn::explorer {

template <typename Name, auto kMember>
struct Reveal {
  friend constexpr auto MemberOf(Name) { return kMember; }
};

#define CAIRN_REVEAL(Name, member)        \
  struct Name {                           \
    friend constexpr auto MemberOf(Name); \
  };                                      \
  template struct Reveal<Name, &member>

using Queue = RetiredQueue;
CAIRN_REVEAL(LaneQueue, ViewLane::queue_);
CAIRN_REVEAL(LaneOpened, ViewLane::opened_);
CAIRN_REVEAL(QueueHead, Queue::head_);
CAIRN_REVEAL(WalkKept, Walk::kept_);
CAIRN_REVEAL(WalkSuperseded, Walk::superseded_);
CAIRN_REVEAL(WalkQueue, Walk::queue_);
CAIRN_REVEAL(QueuePutOff, PassedPages::later_);
CAIRN_REVEAL(WalkAt, Walk::at_);
CAIRN_REVEAL(WalkCursor, Walk::cursor_);
CAIRN_REVEAL(TableBase, Table::base_);
CAIRN_REVEAL(TableMade, Table::made_generation_);
CAIRN_REVEAL(TableFrozen, Table::frozen_generation_);
#undef CAIRN_REVEAL

class StateWriter {
 public:
  explicit StateWriter(const World& world) : world_(world) {}

  std::string Write() {
    Number(world_.next_cut_index_);
    for (const auto& table : world_.live_) WriteTable(*table);
    Number(world_.detached_.size());
    for (const auto& each : world_.detached_) {
      Number(each.lanes);
      WriteTable(*each.table);
    }
    Number(world_.views_.size());
    for (const auto& view : world_.views_) WriteView(*view);
    return std::move(out_);
  }

 private:
  void Number(uint64_t number) {
    out_.append(reinterpret_cast<const char*>(&number), sizeof number);
  }
  void Text(std::string_view text) {
    Number(text.size());
    out_ += text;
  }
  /// Returns whether it is met for the first time.
  bool Name(const void* object) {
    const auto [at, fresh] = names_.insert({object, names_.size() + 1});
    Number(object == nullptr ? 0 : at->second);
    return fresh;
  }
  void Generation(uint64_t generation) {
    uint64_t bits = generation == world_.gate_.generation();
    for (const auto& view : world_.views_)
      bits = bits << 1 | (view->lane->*MemberOf(LaneOpened{}) > generation);
    Number(bits);
  }

  void WriteTable(const Table& table) {
    Number(table.*MemberOf(TableBase{}));
    // The cut raises the generation right after it freezes.
    Generation(table.*MemberOf(TableFrozen{}) + 1);
    Generation(table.*MemberOf(TableMade{}));
    Number(table.size());
    const Root* root = table.root();
    if (!Name(root) || root == nullptr) return;
    Generation(root->generation);
    Number(root->bits);
    for (size_t i = 0; i < size_t{1} << root->bits; ++i) WriteDirectory(root->partitions[i]);
  }
  void WriteDirectory(const Directory* directory) {
    if (!Name(directory)) return;
    Generation(directory->generation);
    Number(directory->depth);
    Number(directory->deepest);
    for (size_t i = 0; i < size_t{1} << directory->depth; ++i) WriteReference(directory->slots[i]);
  }
  void WriteReference(uint64_t ref) {
    Number(static_cast<uint64_t>(SegmentRef::Depth(ref)));
    WriteSegment(SegmentRef::Get<TinyPolicy>(ref));
  }
  void WriteSegment(const Segment<TinyPolicy>* segment) {
    Name(segment);
    if (!written_.insert(segment).second) return;
    Generation(segment->generation);
    Number(segment->prefix);
    Number(segment->earliest_expiry_ms != INT64_MAX);
    Number(segment->count);
    Number(segment->stash_count);
    Number(segment->depth);
    for (const Bucket& bucket : segment->buckets) {
      Number(bucket.link);
      Number(bucket.Occupied());
      for (uint32_t used = bucket.Occupied(); used; used &= used - 1) {
        const int slot = __builtin_ctz(used);
        const uint64_t word = bucket.slots[slot];
        Number(bucket.fingerprints[slot]);
        Number(word & ~kSlotPointerMask);
        const auto* entry = reinterpret_cast<const Entry*>(word & kSlotPointerMask);
        Name(entry);
        if (!written_.insert(entry).second) continue;
        Text(entry->key());
        Number(entry->has_expiry());
        Number(static_cast<uint64_t>(entry->form()));
        Number(entry->RecordBytes());
      }
    }
  }

  void WriteView(const World::Observed& view) {
    const Walk& walk = *view.walk;
    Number(world_.gate_.BitOf(*view.lane));
    Generation(view.lane->*MemberOf(LaneOpened{}));
    Number(view.lane->watermark());
    Number(walk.*MemberOf(WalkAt{}));
    Number(walk.*MemberOf(WalkCursor{}));
    const auto& superseded = walk.*MemberOf(WalkSuperseded{});
    Number(superseded.size());
    for (const auto& [begin, each] : std::map(superseded.begin(), superseded.end())) {
      Number(begin);
      Number(each.visited);
      Number(each.records.size());
      for (const auto& waiting : each.records) {
        Name(waiting.record);
        Number(waiting.readers_left == nullptr ? 0 : waiting.readers_left->load());
      }
    }
    for (const FrozenTable& table : walk.tables()) {
      Number(table.cut_index);
      Number(table.database);
    }
    // What is behind W, or was visited early, may be freed: of that only the depth is read any
    // more, and where the others begin tells it.
    World::ForEachFrozen(view, [&](const FrozenTable&, const Segment<TinyPolicy>* segment) {
      Number(segment->depth);
      WriteSegment(segment);
    });
    Number(view.repeated != 0);
    for (const Model& model : view.emitted) {
      Number(model.size());
      for (const auto& [key, datum] : model) Text(key);
    }
    Number((walk.*MemberOf(WalkKept{})).size());
    for (const Retired& item : walk.*MemberOf(WalkKept{})) WriteRetired(item);
    const auto& put_off = walk.*MemberOf(WalkQueue{}).*MemberOf(QueuePutOff{});
    Number(put_off.size());
    for (const Retired& item : put_off) WriteRetired(item);
    WriteQueue(view.lane->*MemberOf(LaneQueue{}));
  }
  void WriteQueue(const Queue& queue) {
    Number(queue.size());
    for (auto* chunk = queue.*MemberOf(QueueHead{}); chunk != nullptr; chunk = chunk->next) {
      for (size_t i = chunk->taken; i < chunk->filled; ++i)
        WriteRetired(*std::launder(reinterpret_cast<const Retired*>(chunk->slot(i))));
    }
  }
  void WriteRetired(const Retired& item) {
    Name(item.object);
    Number(static_cast<uint64_t>(item.kind));
    Number(item.position);
    Number(item.readers_left == nullptr ? 0 : item.readers_left->load());
  }

  const World& world_;
  std::string out_;
  std::unordered_map<const void*, size_t> names_;
  std::unordered_set<const void*> written_;
};

/// 128 bits of it: among the millions of states of a search no two share them.
struct StateSum {
  uint64_t low, high;
  bool operator==(const StateSum&) const = default;
  auto operator<=>(const StateSum&) const = default;
  struct Hash {
    size_t operator()(const StateSum& sum) const { return sum.low; }
  };
};
inline StateSum StateOf(const World& world) {
  const std::string state = StateWriter(world).Write();
  return {HashBytes(state, 1), HashBytes(state, 2)};
}

}  // namespace cairn::explorer
