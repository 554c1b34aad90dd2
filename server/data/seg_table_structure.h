#pragma once

// The half of SegTable that changes structure: ownership (R2), splits, doubling, partitioning,
// merges. Included by seg_table.h only. Everything here runs on the executor; what a view may still
// read is queued through the gate, never freed (R4).

#include "server/data/seg_table.h"

namespace cairn {

template <typename P>
typename SegTable<P>::Seg* SegTable<P>::CopySegment(Seg* old, unsigned readers) {
  Directory* directory = OwnDirectory(old->prefix);
  Seg* copy = static_cast<Seg*>(frames_->Take());
  std::memcpy(static_cast<void*>(copy), old, sizeof(Seg));
  copy->generation = gate_->generation();
  for (Bucket& bucket : copy->buckets) {
    // Empty slots get the bit too: their fingerprint is 0, so nobody reads them, and Place
    // overwrites them.
    for (uint64_t& word : bucket.slots) word |= kSlotShared;
  }
  SetSlots(directory, copy);
  gate_->RetireTo(readers, Retired::Kind::kSegment, old, Position(old->prefix), sizeof(Seg));
  return copy;
}

template <typename P>
Root* SegTable<P>::OwnRoot() {
  if (root_->generation == gate_->generation()) return root_;
  if (gate_->Readers(root_->generation, base_ + (uint64_t{1} << kPositionHashBits)) == 0) {
    root_->generation = gate_->generation();
    return root_;
  }
  Root* copy = NewRoot(root_->bits);
  std::memcpy(copy->partitions, root_->partitions, sizeof(Directory*) << root_->bits);
  ReplaceRoot(copy);
  return copy;
}

template <typename P>
void SegTable<P>::ReplaceRoot(Root* fresh) {
  Root* old = std::exchange(root_, fresh);
  const size_t bytes = Root::Bytes(old->bits);
  structure_bytes_ -= bytes;
  if (gate_->Readers(old->generation, kWatermarkEnd) == 0) {
    std::free(old);
  } else {
    gate_->Retire(Retired::Kind::kRoot, old, 0, bytes);
  }
}

template <typename P>
Directory* SegTable<P>::OwnDirectory(uint64_t hash) {
  Directory* old = root_->partitions[root_->PartitionOf(hash)];
  if (old->generation == gate_->generation()) return old;
  Directory* copy = NewDirectory(old->depth);
  copy->deepest = old->deepest;
  std::memcpy(copy->slots, old->slots, sizeof(uint64_t) << old->depth);
  ReplaceDirectory(hash, copy);
  return copy;
}

template <typename P>
void SegTable<P>::ReplaceDirectory(uint64_t hash, Directory* fresh) {
  Root* root = OwnRoot();
  const size_t partition = root->PartitionOf(hash);
  Directory* old = std::exchange(root->partitions[partition], fresh);
  const uint64_t width = uint64_t{1} << (kPositionHashBits - root->bits);
  DropDirectory(old, base_ + (partition + 1) * width);
}

template <typename P>
void SegTable<P>::DropDirectory(Directory* old, uint64_t end) {
  const size_t bytes = Directory::Bytes(old->depth);
  structure_bytes_ -= bytes;
  if (gate_->Readers(old->generation, end) == 0) {
    std::free(old);
  } else {
    gate_->Retire(Retired::Kind::kDirectory, old, end, bytes);
  }
}

template <typename P>
void SegTable<P>::SetSlots(Directory* directory, const Seg* segment) {
  const int spare = static_cast<int>(root_->bits + directory->depth) - segment->depth;
  CAIRN_CHECK(spare >= 0);
  uint64_t* first =
      &directory->slots[segment->prefix << root_->bits >> 1 >> (63 - directory->depth)];
  std::fill_n(first, size_t{1} << spare, SegmentRef::Make(segment));
}

template <typename P>
void SegTable<P>::Collect(const Seg* segment, std::vector<Item>* items) const {
  // The bits a child needs are known without the record when they lie in the slot's window and
  // every bit before them is the prefix; fingerprint gives the low 8. Else the record is hashed
  // again.
  const bool from_slot = segment->depth >= kSlotHashFirstBit &&
                         segment->depth + 1 + P::kBucketBits <= kSlotHashFirstBit + kSlotHashBits;
  if (!from_slot) {
    for (const Bucket& bucket : segment->buckets) {
      for (uint32_t used = bucket.Occupied(); used; used &= used - 1) {
        __builtin_prefetch(
            reinterpret_cast<const void*>(bucket.slots[__builtin_ctz(used)] & kSlotPointerMask));
      }
    }
  }
  const uint64_t above_window = segment->prefix >> (64 - kSlotHashFirstBit)
                                                       << (64 - kSlotHashFirstBit);
  for (const Bucket& bucket : segment->buckets) {
    for (uint32_t used = bucket.Occupied(); used; used &= used - 1) {
      const int slot = __builtin_ctz(used);
      const uint64_t word = bucket.slots[slot];
      const uint64_t hash = from_slot ? above_window | word >> 48 << (48 - kSlotHashFirstBit) |
                                            bucket.fingerprints[slot]
                                      : RecordHash(word);
      items->push_back({hash, word});
    }
  }
}

template <typename P>
bool SegTable<P>::Fill(Seg* segment, const std::vector<Item>& items) const {
  for (const Item& item : items) {
    if (!segment->Place(item.hash, item.word)) return false;
  }
  return true;
}

// Builds the segments under `prefix` that hold `items`; deeper than asked for only when they crowd
// in few buckets.
template <typename P>
void SegTable<P>::Build(uint64_t prefix, int depth, std::vector<Item>& items, int64_t earliest_ms,
                        std::vector<Seg*>* out) {
  Seg* segment = NewSegment(prefix, depth);
  segment->earliest_expiry_ms = earliest_ms;
  if (Fill(segment, items)) {
    out->push_back(segment);
    return;
  }
  FreeSegment(segment);
  CAIRN_CHECK(depth < kMaxDepth);
  for (Item& item : items)
    item.hash = RecordHash(item.word);  // shortened hashes end where the slot's window ends
  const uint64_t bit = uint64_t{1} << (63 - depth);
  auto middle = std::partition(items.begin(), items.end(),
                               [bit](const Item& item) { return !(item.hash & bit); });
  std::vector<Item> upper(middle, items.end());
  items.erase(middle, items.end());
  Build(prefix, depth + 1, items, earliest_ms, out);
  Build(prefix | bit, depth + 1, upper, earliest_ms, out);
}

template <typename P>
void SegTable<P>::Split(Seg* segment) {
  CAIRN_CHECK(segment->depth < kMaxDepth);
  const uint64_t bit = uint64_t{1} << (63 - segment->depth);
  scratch_.clear();
  Collect(segment, &scratch_);
  auto middle = std::partition(scratch_.begin(), scratch_.end(),
                               [bit](const Item& item) { return !(item.hash & bit); });
  std::vector<Item> upper(middle, scratch_.end());
  scratch_.erase(middle, scratch_.end());
  std::vector<Seg*> fresh;
  Build(segment->prefix, segment->depth + 1, scratch_, segment->earliest_expiry_ms, &fresh);
  Build(segment->prefix | bit, segment->depth + 1, upper, segment->earliest_expiry_ms, &fresh);
  int deepest = 0;
  for (const Seg* each : fresh) {
    deepest = std::max(deepest, static_cast<int>(each->depth));
  }
  Deepen(segment->prefix, deepest);
  Directory* directory = OwnDirectory(segment->prefix);
  for (Seg* each : fresh) {
    each->log_position = segment->log_position;
    SetSlots(directory, each);
    directory->deepest += each->depth == root_->bits + directory->depth;
  }
  FreeSegment(segment);
}

// Makes the directory of `hash` fit for segments of `depth` bits.
template <typename P>
void SegTable<P>::Deepen(uint64_t hash, int depth) {
  while (static_cast<int>(root_->bits + root_->partitions[root_->PartitionOf(hash)]->depth) <
         depth) {
    const Directory* old = root_->partitions[root_->PartitionOf(hash)];
    if (root_->bits == 0 && old->depth >= P::kRootBits && Partition()) continue;
    Directory* doubled = NewDirectory(old->depth + 1);
    for (size_t i = 0; i < size_t{1} << old->depth; ++i)
      doubled->slots[2 * i] = doubled->slots[2 * i + 1] = old->slots[i];
    ReplaceDirectory(hash, doubled);
  }
}

// A small table has one directory; grown past 2^kRootBits slots it becomes as many partitions.
// Puts that off (returns false) while a segment still spans partitions: splitting those here
// would stall the insert.
template <typename P>
bool SegTable<P>::Partition() {
  Directory* old = root_->partitions[0];
  for (size_t i = 0; i < size_t{1} << old->depth; ++i) {
    if (SegmentRef::Depth(old->slots[i]) < P::kRootBits) return false;
  }
  Root* root = NewRoot(P::kRootBits);
  const uint32_t depth = old->depth - P::kRootBits;
  for (size_t i = 0; i < size_t{1} << P::kRootBits; ++i) {
    Directory* directory = root->partitions[i] = NewDirectory(depth);
    for (size_t j = 0; j < size_t{1} << depth; ++j) {
      directory->slots[j] = old->slots[(i << depth) + j];
      directory->deepest += SegmentRef::Depth(directory->slots[j]) == static_cast<int>(old->depth);
    }
  }
  ReplaceRoot(root);
  DropDirectory(old, base_ + (uint64_t{1} << kPositionHashBits));
  return true;
}

// The inverse, once no partition has more than its one segment and half as many keys are left as
// would fit: a table of that size as it grows has one directory still.
template <typename P>
bool SegTable<P>::Unpartition() {
  constexpr uint64_t kPartitions = uint64_t{1} << P::kRootBits;
  if (size_ > kPartitions * kMergedAtMost / 2) return false;
  Root* old = root_;
  for (size_t i = 0; i < kPartitions; ++i) {
    if (old->partitions[i]->depth != 0) return false;
  }
  Directory* whole = NewDirectory(P::kRootBits);
  whole->deepest = kPartitions;
  std::vector<Directory*> directories(old->partitions, old->partitions + kPartitions);
  for (size_t i = 0; i < kPartitions; ++i) whole->slots[i] = directories[i]->slots[0];
  Root* root = NewRoot(0);
  root->partitions[0] = whole;
  ReplaceRoot(root);
  for (size_t i = 0; i < kPartitions; ++i) {
    DropDirectory(directories[i], base_ + (uint64_t{i + 1} << (kPositionHashBits - P::kRootBits)));
  }
  return true;
}

template <typename P>
void SegTable<P>::TryMerge(Seg* segment) {
  while ((segment = MergeWithBuddy(segment)) != nullptr) {
  }
}

// Returns what they became; nullptr: they stay two.
template <typename P>
typename SegTable<P>::Seg* SegTable<P>::MergeWithBuddy(Seg* segment) {
  if (segment->depth == 0) return nullptr;
  const uint64_t bit = uint64_t{1} << (64 - segment->depth);
  Seg* buddy = SegmentOf(segment->prefix ^ bit);
  if (buddy->depth != segment->depth || buddy->count + segment->count > kMergedAtMost)
    return nullptr;
  if (segment->depth <= root_->bits && !Unpartition()) return nullptr;
  segment = OwnSegment(segment);
  buddy = OwnSegment(buddy);
  scratch_.clear();
  Collect(segment, &scratch_);
  Collect(buddy, &scratch_);
  // Collect may shorten hashes to the bits a split needs; a merged segment needs one bit less,
  // which the prefix gives.
  Seg* merged = NewSegment(segment->prefix & ~bit, segment->depth - 1);
  if (!Fill(merged, scratch_)) {
    FreeSegment(merged);
    return nullptr;
  }
  merged->earliest_expiry_ms = std::min(segment->earliest_expiry_ms, buddy->earliest_expiry_ms);
  merged->log_position = std::max(segment->log_position, buddy->log_position);
  Directory* directory = OwnDirectory(merged->prefix);
  const uint32_t total = root_->bits + directory->depth;
  if (segment->depth == total) directory->deepest -= 2;
  directory->deepest += merged->depth == total;
  SetSlots(directory, merged);
  FreeSegment(segment);
  FreeSegment(buddy);
  Halve(merged->prefix);
  return merged;
}

template <typename P>
void SegTable<P>::Halve(uint64_t hash) {
  for (;;) {
    const Directory* old = root_->partitions[root_->PartitionOf(hash)];
    if (old->depth == 0 || old->deepest != 0) return;
    Directory* halved = NewDirectory(old->depth - 1);
    const size_t slots = size_t{1} << halved->depth;
    for (size_t i = 0; i < slots; ++i) {
      halved->slots[i] = old->slots[2 * i];
      halved->deepest +=
          SegmentRef::Depth(halved->slots[i]) == static_cast<int>(root_->bits + halved->depth);
    }
    ReplaceDirectory(hash, halved);
  }
}

template <typename P>
void SegTable<P>::Reserve(uint64_t keys) {
  if (root_ != nullptr || keys <= Seg::kCapacity / 2) return;
  int depth = 0;
  while (depth < kMaxReservedDepth && (uint64_t{Seg::kCapacity} * 3 / 4 << depth) < keys) ++depth;
  const uint32_t bits = depth > P::kRootBits ? P::kRootBits : 0;
  made_generation_ = gate_->generation();
  root_ = NewRoot(bits);
  for (size_t i = 0; i < size_t{1} << bits; ++i) {
    root_->partitions[i] = NewDirectory(static_cast<uint32_t>(depth) - bits);
    root_->partitions[i]->deepest = 1u << (depth - static_cast<int>(bits));
  }
  for (uint64_t i = 0; i < uint64_t{1} << depth; ++i) {
    const Seg* segment = NewSegment(depth ? i << (64 - depth) : 0, depth);
    SetSlots(root_->partitions[root_->PartitionOf(segment->prefix)], segment);
  }
}

template <typename P>
template <typename FreeSegmentFn>
void SegTable<P>::DestroyStructure(FreeSegmentFn&& free_segment) {
  if (root_ == nullptr) return;
  uint64_t hash = 0;
  do {
    Seg* segment = SegmentOf(hash);
    hash = HashAfter(segment);
    free_segment(segment);
  } while (hash != 0);
  for (size_t i = 0; i < size_t{1} << root_->bits; ++i) std::free(root_->partitions[i]);
  std::free(root_);
  root_ = nullptr;
  structure_bytes_ = segment_count_ = size_ = 0;
}

}  // namespace cairn
