#include "server/data/record_index.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "server/base/check.h"
#include "server/base/hash.h"
#include "server/base/prefetch.h"

namespace cairn {

// --- blocks ------------------------------------------------------------------------------------

uint64_t RecordIndex::HashOf(std::string_view member) const {
  return HashBytes(member, owner_.home().hash_seed);
}

RecordIndex::Page* RecordIndex::NewPage(int depth) {
  void* memory = std::malloc(sizeof(Page));
  CAIRN_CHECK(memory != nullptr);
  Page* page = new (memory) Page;
  page->generation = owner_.generation();
  page->count = 0;
  page->depth = static_cast<uint8_t>(depth);
  ++pages_;
  return page;
}

RecordIndex::Directory* RecordIndex::NewDirectory(int depth, int bits) {
  void* memory = std::malloc(Directory::Bytes(bits));
  CAIRN_CHECK(memory != nullptr);
  auto* directory = static_cast<Directory*>(memory);
  directory->generation = owner_.generation();
  directory->depth = static_cast<uint8_t>(depth);
  directory->bits = static_cast<uint8_t>(bits);
  directory_bytes_ += Directory::Bytes(bits);
  return directory;
}

void RecordIndex::Discard(void* block, uint64_t generation, size_t bytes) const {
  if (owner_.MayWrite(generation)) return std::free(block);
  owner_.gate().Retire(Retired::Kind::kBlock, block, 0, bytes);
}

// R4 for a record that has left its page: `i` was its place there.
void RecordIndex::DiscardRecord(const Page& page, int i) {
  const ScoredRecord* record = page.record(i);
  const size_t bytes = record->bytes();
  record_bytes_ -= RecordSlab::RoundUp(bytes);
  void* memory = const_cast<ScoredRecord*>(record);
  constexpr uint64_t kNoGeneration = 0;  // writable only where the walk has passed
  if (!page.is_shared(i) || owner_.MayWrite(kNoGeneration))
    return owner_.home().slab->Free(memory, bytes);
  owner_.gate().Retire(Retired::Kind::kMemberRecord, memory, bytes, RecordSlab::RoundUp(bytes));
}

// --- looking -----------------------------------------------------------------------------------

RecordIndex::Path RecordIndex::Descend(uint64_t hash) const {
  Path path;
  Directory* directory = root_;
  for (;;) {
    path.directories[path.levels++] = directory;
    const uint64_t slot = directory->slots[directory->SlotOf(hash)];
    if (!IsDirectory(slot)) {
      path.page = AsPage(slot);
      return path;
    }
    directory = AsDirectory(slot);
  }
}

int RecordIndex::FindIn(const Page& page, uint64_t hash, std::string_view member) {
  const uint8_t fingerprint = Fingerprint(hash);
  const uint8_t* at = page.fingerprints;
  const uint8_t* const end = at + page.count;
  while ((at = static_cast<const uint8_t*>(
              std::memchr(at, fingerprint, static_cast<size_t>(end - at)))) != nullptr) {
    const int i = static_cast<int>(at - page.fingerprints);
    if (page.record(i)->member() == member) return i;
    ++at;
  }
  return -1;
}

const ScoredRecord* RecordIndex::Find(std::string_view member) const {
  if (root_ == nullptr) return nullptr;
  const uint64_t hash = HashOf(member);
  const Page& page = *Descend(hash).page;
  const int i = FindIn(page, hash, member);
  return i < 0 ? nullptr : page.record(i);
}

void RecordIndex::Prefetch(std::string_view member, int pass) const {
  if (root_ == nullptr) return;
  const uint64_t hash = HashOf(member);
  const Page& page = *Descend(hash).page;
  if (pass == 0) {
    PrefetchLine(&page);
    PrefetchLine(reinterpret_cast<const char*>(&page) + 64);  // the rest of the fingerprints
    return;
  }
  const void* match = std::memchr(page.fingerprints, Fingerprint(hash), page.count);
  if (match != nullptr)
    PrefetchLine(
        page.record(static_cast<int>(static_cast<const uint8_t*>(match) - page.fingerprints)));
}

// --- owning ------------------------------------------------------------------------------------

void RecordIndex::PutPage(Directory* directory, uint64_t hash, Page* page) {
  const size_t span = size_t{1} << (directory->end_depth() - page->depth);
  const size_t first = directory->SlotOf(hash) & ~(span - 1);
  std::fill_n(directory->slots + first, span, SlotFor(page));
}

// Puts `fresh` in the place of the directory at `level`, whose parent is owned.
void RecordIndex::ReplaceDirectory(Path* path, int level, uint64_t hash, Directory* fresh) {
  Directory* old = path->directories[level];
  if (level == 0) {
    root_ = fresh;
  } else {
    Directory* parent = path->directories[level - 1];
    parent->slots[parent->SlotOf(hash)] = SlotFor(fresh);
  }
  path->directories[level] = fresh;
  directory_bytes_ -= Directory::Bytes(old->bits);
  Discard(old, old->generation, Directory::Bytes(old->bits));
}

// F1 for the page of `hash` and the way to it.
RecordIndex::Path RecordIndex::OwnedPath(uint64_t hash) {
  Path path = Descend(hash);
  const uint64_t generation = owner_.generation();
  for (int level = 0; level < path.levels; ++level) {
    Directory* old = path.directories[level];
    if (old->generation == generation) continue;
    if (owner_.MayWrite(old->generation)) {
      old->generation = generation;
      continue;
    }
    Directory* copy = NewDirectory(old->depth, old->bits);
    std::copy_n(old->slots, old->slot_count(), copy->slots);
    ReplaceDirectory(&path, level, hash, copy);
  }
  Page* page = path.page;
  if (page->generation == generation) return path;
  if (owner_.MayWrite(page->generation)) {
    page->generation = generation;
    return path;
  }
  path.page = NewPage(page->depth);
  std::memcpy(path.page, page, sizeof(Page));
  path.page->generation = generation;
  std::memset(path.page->shared, 0xff, sizeof page->shared);
  PutPage(path.last(), hash, path.page);
  --pages_;
  Discard(page, page->generation, sizeof(Page));
  return path;
}

// --- changing ----------------------------------------------------------------------------------

// Splits the page of the path, which is owned, and leads the path to the half that `hash` is in.
void RecordIndex::Split(Path* path, uint64_t hash) {
  Page* page = path->page;
  CAIRN_CHECK(page->depth < kMaxDepth);
  if (page->depth == path->last()->end_depth()) {
    const Directory* full = path->last();
    if (full->bits < kMaxDirectoryBits) {
      Directory* doubled = NewDirectory(full->depth, full->bits + 1);
      for (size_t i = 0; i < full->slot_count(); ++i)
        doubled->slots[2 * i] = doubled->slots[2 * i + 1] = full->slots[i];
      // Directories stand only below one of the full width, so none is doubled here (I2).
      ReplaceDirectory(path, path->levels - 1, hash, doubled);
    }
    if (page->depth == path->last()->end_depth()) {
      Directory* below = NewDirectory(page->depth, 1);
      below->slots[0] = below->slots[1] = SlotFor(page);
      Directory* parent = path->last();
      parent->slots[parent->SlotOf(hash)] = SlotFor(below);
      path->directories[path->levels++] = below;
    }
  }
  Page* halves[2] = {NewPage(page->depth + 1), NewPage(page->depth + 1)};
  const int shift = 63 - page->depth;
  for (int i = 0; i < page->count; ++i) {
    const ScoredRecord* record = page->record(i);
    halves[HashOf(record) >> shift & 1]->Append(record, page->fingerprints[i], page->is_shared(i));
  }
  const uint64_t bit = uint64_t{1} << shift;
  PutPage(path->last(), hash & ~bit, halves[0]);
  PutPage(path->last(), hash | bit, halves[1]);
  path->page = halves[hash >> shift & 1];
  --pages_;
  Discard(page, page->generation, sizeof(Page));
}

void RecordIndex::Insert(const ScoredRecord* record) {
  const uint64_t hash = HashOf(record);
  if (root_ == nullptr) {
    root_ = NewDirectory(0, 0);
    root_->slots[0] = SlotFor(NewPage(0));
  }
  Path path = OwnedPath(hash);
  while (path.page->count == kPageRecords) Split(&path, hash);
  path.page->Append(record, Fingerprint(hash), /*is_shared_record=*/false);
  ++size_;
  record_bytes_ += RecordSlab::RoundUp(record->bytes());
}

const ScoredRecord* RecordIndex::SetScore(std::string_view member, double score) {
  const uint64_t hash = HashOf(member);
  const Path path = OwnedPath(hash);
  Page& page = *path.page;
  const int i = FindIn(page, hash, member);
  CAIRN_CHECK(i >= 0);
  auto* record = const_cast<ScoredRecord*>(page.record(i));
  constexpr uint64_t kNoGeneration = 0;
  const bool is_private = !page.is_shared(i) || owner_.MayWrite(kNoGeneration);
  if (is_private && record->TrySetScore(score)) return record;
  ScoredRecord* fresh = ScoredRecord::Create(*owner_.home().slab, member, score);
  DiscardRecord(page, i);
  page.set_record(i, fresh);
  page.set_shared(i, false);
  record_bytes_ += RecordSlab::RoundUp(fresh->bytes());
  return fresh;
}

void RecordIndex::Erase(const ScoredRecord* record) {
  const uint64_t hash = HashOf(record);
  Path path = OwnedPath(hash);
  Page& page = *path.page;
  const int i = FindIn(page, hash, record->member());
  CAIRN_CHECK(i >= 0 && page.record(i) == record);
  DiscardRecord(page, i);
  const int last = --page.count;
  page.fingerprints[i] = page.fingerprints[last];
  page.set_record(i, page.record(last));
  page.set_shared(i, page.is_shared(last));
  --size_;
  if (page.count < kJoinBelow) Join(&path, hash);
}

// Joins a page that has become small with its buddy when both stand in one directory and fit well.
void RecordIndex::Join(Path* path, uint64_t hash) {
  Page* page = path->page;
  Directory* directory = path->last();
  if (page->depth == directory->depth) return;
  const uint64_t bit = uint64_t{1} << (64 - page->depth);
  const uint64_t slot = directory->slots[directory->SlotOf(hash ^ bit)];
  if (IsDirectory(slot)) return;
  Page* buddy = AsPage(slot);
  if (buddy->depth != page->depth || buddy->count + page->count > kPageRecords / 2) return;
  // The buddy's records are a view's too while it has not been copied.
  const bool buddy_is_frozen = !owner_.MayWrite(buddy->generation);
  for (int i = 0; i < buddy->count; ++i)
    page->Append(buddy->record(i), buddy->fingerprints[i], buddy_is_frozen || buddy->is_shared(i));
  --page->depth;
  PutPage(directory, hash, page);
  --pages_;
  Discard(buddy, buddy->generation, sizeof(Page));
}

// --- the whole ---------------------------------------------------------------------------------

void RecordIndex::ForkFrom(const RecordIndex& old) {
  CAIRN_CHECK(root_ == nullptr);
  root_ = old.root_;
  size_ = old.size_;
  pages_ = old.pages_;
  directory_bytes_ = old.directory_bytes_;
  record_bytes_ = old.record_bytes_;
}

void RecordIndex::DestroyIn(Directory* directory) {
  for (size_t i = 0; i < directory->slot_count();) {
    if (IsDirectory(directory->slots[i])) {
      DestroyIn(AsDirectory(directory->slots[i++]));
      continue;
    }
    Page* page = AsPage(directory->slots[i]);
    i += size_t{1} << (directory->end_depth() - page->depth);
    for (int at = 0; at < page->count; ++at) PrefetchLine(page->record(at));
    for (int at = 0; at < page->count; ++at) {
      auto* record = const_cast<ScoredRecord*>(page->record(at));
      owner_.home().slab->FreeRemote(record, record->bytes());
    }
    std::free(page);
  }
  std::free(directory);
}

void RecordIndex::Destroy() {
  if (root_ != nullptr) DestroyIn(root_);
  root_ = nullptr;
  size_ = pages_ = directory_bytes_ = record_bytes_ = 0;
}

void RecordIndex::CheckDirectory(const Directory& directory, uint64_t prefix, Tally* found) const {
  found->directory_bytes += Directory::Bytes(directory.bits);
  for (size_t i = 0; i < directory.slot_count();) {
    const uint64_t slot = directory.slots[i];
    const uint64_t here =
        prefix | (directory.end_depth() == 0 ? 0 : uint64_t{i} << (64 - directory.end_depth()));
    if (IsDirectory(slot)) {
      CAIRN_CHECK(AsDirectory(slot)->depth == directory.end_depth());  // I2
      CheckDirectory(*AsDirectory(slot), here, found);
      ++i;
      continue;
    }
    const Page& page = *AsPage(slot);
    CAIRN_CHECK(page.depth >= directory.depth && page.depth <= directory.end_depth());
    const size_t span = size_t{1} << (directory.end_depth() - page.depth);
    CAIRN_CHECK(i % span == 0);
    for (size_t s = 0; s < span; ++s) CAIRN_CHECK(directory.slots[i + s] == slot);  // I1
    for (int at = 0; at < page.count; ++at) {
      const uint64_t hash = HashOf(page.record(at));
      CAIRN_CHECK(Fingerprint(hash) == page.fingerprints[at]);
      CAIRN_CHECK(page.depth == 0 || (hash ^ here) >> (64 - page.depth) == 0);  // I1
      found->record_bytes += RecordSlab::RoundUp(page.record(at)->bytes());
    }
    found->size += page.count;
    ++found->pages;
    i += span;
  }
}

void RecordIndex::CheckInvariants() const {
  Tally found;
  if (root_ != nullptr) CheckDirectory(*root_, 0, &found);
  CAIRN_CHECK(found.size == size_ && found.pages == pages_);  // I3
  CAIRN_CHECK(found.directory_bytes == directory_bytes_ && found.record_bytes == record_bytes_);
}

}  // namespace cairn
