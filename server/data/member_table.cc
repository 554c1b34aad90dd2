#include "server/data/member_table.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

#include "server/base/check.h"
#include "server/base/hash.h"

namespace cairn {
namespace {

// A page is made smaller, or one with its neighbour, only well below what would grow it again.
constexpr size_t kMergeBelowBytes = kMaxPageBytes / 4;
constexpr size_t kMergedAtMostBytes = kMaxPageBytes / 2;
// Records take a byte at least, and three beside it.
constexpr size_t kMaxPageRecords = kMaxPageBytes / 4;

}  // namespace

MemberTable::MemberTable(Container& owner, bool has_values)
    : owner_(owner), has_values_(has_values), id_(owner.gate().NewTableId()) {}

MemberTable::MemberTable(Container& owner, const MemberTable& old)
    : owner_(owner),
      has_values_(old.has_values_),
      id_(old.id_),
      root_(old.root_),
      size_(old.size_),
      bytes_(old.bytes_),
      pages_(old.pages_),
      externals_(old.externals_) {}

// --- blocks ----------------------------------------------------------------------------------

MemberPage* MemberTable::NewPage(size_t bytes, int depth) {
  const size_t allocated = MemberPage::BlockFor(bytes);
  void* memory = std::malloc(allocated);
  CAIRN_CHECK(memory != nullptr);
  auto* page = new (memory) MemberPage;
  page->generation = owner_.generation();
  page->count = 0;
  page->allocated = page->heap_at = static_cast<uint16_t>(allocated);
  page->depth = static_cast<uint8_t>(depth);
  page->unused = 0;
  bytes_ += allocated;
  ++pages_;
  return page;
}

void MemberTable::FreePage(MemberPage* page, uint64_t hash) {
  bytes_ -= page->allocated;
  --pages_;
  owner_.Discard(page, page->generation, page->allocated, Retired::Kind::kMemberPage, hash);
}

MemberTable::Directory* MemberTable::NewDirectory(int depth, int bits) {
  void* memory = std::malloc(Directory::Bytes(bits));
  CAIRN_CHECK(memory != nullptr);
  auto* directory = static_cast<Directory*>(memory);
  directory->generation = owner_.generation();
  directory->depth = static_cast<uint8_t>(depth);
  directory->bits = static_cast<uint8_t>(bits);
  bytes_ += Directory::Bytes(bits);
  return directory;
}

void MemberTable::FreeDirectory(Directory* directory) {
  const size_t bytes = Directory::Bytes(directory->bits);
  bytes_ -= bytes;
  owner_.Discard(directory, directory->generation, bytes);
}

void MemberTable::Destroy() {
  if (root_ != nullptr) DestroyIn(root_);
  root_ = nullptr;
  size_ = bytes_ = pages_ = externals_ = 0;
}

void MemberTable::DestroyIn(Directory* directory) {
  for (size_t i = 0; i < directory->slot_count();) {
    const uint64_t slot = directory->slots[i];
    if (IsDirectory(slot)) {
      DestroyIn(AsDirectory(slot));
      ++i;
      continue;
    }
    MemberPage* page = AsPage(slot);
    i += size_t{1} << (directory->end_depth() - page->depth);
    for (size_t record = 0; externals_ != 0 && record < page->count; ++record) {
      if (member_record::IsExternal(page->record(record)))
        member_record::ExternalBlob(page->record(record))->Unref();
    }
    std::free(page);
  }
  std::free(directory);
}

// --- the way down ----------------------------------------------------------------------------

MemberTable::Path MemberTable::Descend(uint64_t hash) const {
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

const MemberPage* MemberTable::PageOf(uint64_t hash) const {
  const Directory* directory = root_;
  for (;;) {
    const uint64_t slot = directory->slots[directory->SlotOf(hash)];
    if (!IsDirectory(slot)) return AsPage(slot);
    directory = AsDirectory(slot);
  }
}

bool MemberTable::Find(std::string_view text, Member* out) const {
  if (root_ == nullptr) return false;
  const MemberKey key(text, seed());
  const MemberPage* page = PageOf(key.hash);
  const int at = page->Find(key);
  if (at < 0) return false;
  if (out != nullptr)
    *out = member_record::Read(page->record(static_cast<size_t>(at)), has_values_);
  return true;
}

void MemberTable::Prefetch(std::string_view text, int pass) const {
  if (root_ == nullptr) return;
  const MemberKey key(text, seed());
  const MemberPage* page = PageOf(key.hash);
  if (pass == 0) {
    page->PrefetchFront();
  } else {
    page->PrefetchMatches(key);
  }
}

// --- copying on the way ----------------------------------------------------------------------

void MemberTable::PutDirectory(Path* path, int level, uint64_t hash, Directory* fresh) {
  if (level == 0) {
    root_ = fresh;
  } else {
    Directory* parent = path->directories[level - 1];
    parent->slots[parent->SlotOf(hash)] = Slot(fresh);
  }
  path->directories[level] = fresh;
}

void MemberTable::OwnPath(Path* path, uint64_t hash) {
  for (int level = 0; level < path->levels; ++level) {
    Directory* old = path->directories[level];
    if (owner_.MayWrite(old->generation)) {
      old->generation = owner_.generation();
      continue;
    }
    Directory* copy = NewDirectory(old->depth, old->bits);
    std::memcpy(copy->slots, old->slots, sizeof(uint64_t) << old->bits);
    PutDirectory(path, level, hash, copy);
    FreeDirectory(old);
  }
}

// T1. Requires: the last directory is writable.
void MemberTable::PutPage(Path* path, uint64_t hash, MemberPage* fresh) {
  Directory* directory = path->last();
  const size_t span = size_t{1} << (directory->end_depth() - fresh->depth);
  const size_t first = directory->SlotOf(hash) & ~(span - 1);
  std::fill_n(&directory->slots[first], span, Slot(fresh));
  path->page = fresh;
}

void MemberTable::CopyPage(Path* path, uint64_t hash, size_t bytes) {
  MemberPage* old = path->page;
  MemberPage* copy = NewPage(bytes, old->depth);
  const size_t front = MemberPage::FrontBytes(old->count) - MemberPage::kHeaderBytes;
  copy->count = old->count;
  copy->heap_at = static_cast<uint16_t>(copy->allocated - old->record_bytes());
  std::memcpy(copy->fingerprints(), old->fingerprints(), front);
  std::memcpy(reinterpret_cast<char*>(copy) + copy->heap_at,
              reinterpret_cast<const char*>(old) + old->heap_at, old->record_bytes());
  const uint16_t moved = static_cast<uint16_t>(copy->allocated - old->allocated);
  uint16_t* offsets = copy->offsets();
  for (size_t i = 0; i < copy->count; ++i) offsets[i] = static_cast<uint16_t>(offsets[i] + moved);
  OwnPath(path, hash);
  PutPage(path, hash, copy);
  FreePage(old, hash);
}

void MemberTable::CopyRecord(const MemberPage& from, size_t i, MemberPage* to) const {
  const char* record = from.record(i);
  const size_t bytes = member_record::Bytes(record, has_values_);
  std::memcpy(to->Append(from.fingerprints()[i], bytes), record, bytes);
}

// --- splitting -------------------------------------------------------------------------------

void MemberTable::SplitInto(const MemberPage& page, MemberPage** halves) {
  uint8_t half_of[kMaxPageRecords];
  size_t counts[2] = {0, 0}, bytes[2] = {0, 0};
  for (size_t i = 0; i < page.count; ++i) {
    const char* record = page.record(i);
    const uint64_t hash = member_record::Hash(record, seed());
    const uint8_t half = hash >> (63 - page.depth) & 1;
    half_of[i] = half;
    ++counts[half];
    bytes[half] += member_record::Bytes(record, has_values_);
  }
  for (int half = 0; half < 2; ++half)
    halves[half] = NewPage(MemberPage::FrontBytes(counts[half]) + bytes[half], page.depth + 1);
  for (size_t i = 0; i < page.count; ++i) CopyRecord(page, i, halves[half_of[i]]);
}

void MemberTable::Split(Path* path, uint64_t hash) {
  MemberPage* page = path->page;
  CAIRN_CHECK(page->depth < kMaxDepth);
  OwnPath(path, hash);
  Directory* directory = path->last();
  if (page->depth == directory->end_depth()) {
    if (directory->bits < kMaxDirectoryBits) {
      // No directory stands in this one yet (they come at full size only), so T2 holds.
      Directory* doubled = NewDirectory(directory->depth, directory->bits + 1);
      for (size_t i = 0; i < directory->slot_count(); ++i)
        doubled->slots[2 * i] = doubled->slots[2 * i + 1] = directory->slots[i];
      PutDirectory(path, path->levels - 1, hash, doubled);
      FreeDirectory(directory);
    } else {
      Directory* below = NewDirectory(directory->end_depth(), 1);
      ++path->levels;
      PutDirectory(path, path->levels - 1, hash, below);
    }
  }
  MemberPage* halves[2];
  SplitInto(*page, halves);
  const uint64_t bit = uint64_t{1} << (63 - page->depth);
  PutPage(path, hash & ~bit, halves[0]);
  PutPage(path, hash | bit, halves[1]);
  FreePage(page, hash);
}

// --- adding ----------------------------------------------------------------------------------

bool MemberTable::Set(std::string_view text, std::string_view value) {
  const MemberKey key(text, seed());
  Record record{key, value, MemberElement(value), 0, false};
  record.bytes = key.element.bytes() + (has_values_ ? record.value_element.bytes() : 0);
  record.external = record.bytes > kMaxPageRecordBytes;
  if (record.external) record.bytes = kExternalRecordBytes;
  if (root_ == nullptr) {
    root_ = NewDirectory(0, 0);
    root_->slots[0] = Slot(NewPage(MemberPage::FrontBytes(1) + record.bytes, 0));
  }
  Path path = Descend(key.hash);
  const int at = path.page->Find(key);
  if (at < 0) {
    Add(record);
    return true;
  }
  if (has_values_ && !Overwrite(&path, static_cast<size_t>(at), record)) {
    if (!owner_.MayWrite(path.page->generation)) CopyPage(&path, key.hash, path.page->BytesUsed());
    DropRecord(path.page, static_cast<size_t>(at));
    Add(record);
  }
  return false;
}

// Puts a value of the same size in place.
bool MemberTable::Overwrite(Path* path, size_t i, const Record& record) {
  MemberPage* page = path->page;
  char* at = page->record(i);
  if (record.external || member_record::IsExternal(at) || !owner_.MayWrite(page->generation) ||
      member_record::Bytes(at, has_values_) != record.bytes)
    return false;
  page->generation = owner_.generation();
  record.value_element.Write(at + record.key.element.bytes());
  return true;
}

// Requires: the key is absent.
void MemberTable::Add(const Record& record) {
  const uint64_t hash = record.key.hash;
  for (;;) {
    Path path = Descend(hash);
    const size_t needed = path.page->BytesWith(record.bytes);
    if (needed > kMaxPageBytes) {
      Split(&path, hash);
      continue;
    }
    if (needed > path.page->allocated || !owner_.MayWrite(path.page->generation))
      CopyPage(&path, hash, needed);
    path.page->generation = owner_.generation();
    char* out = path.page->Append(record.key.fingerprint(), record.bytes);
    if (record.external) {
      Blob* blob = member_record::NewExternal(record.key.text, record.value, owner_.generation());
      member_record::WriteExternal(out, blob);
      bytes_ += blob->footprint();
      ++externals_;
    } else {
      record.key.element.Write(out);
      if (has_values_) record.value_element.Write(out + record.key.element.bytes());
    }
    ++size_;
    return;
  }
}

// --- removing --------------------------------------------------------------------------------

// Requires: the page is writable.
void MemberTable::DropRecord(MemberPage* page, size_t i) {
  page->generation = owner_.generation();
  const char* record = page->record(i);
  if (member_record::IsExternal(record)) {
    Blob* blob = member_record::ExternalBlob(record);
    bytes_ -= blob->footprint();
    --externals_;
    owner_.DiscardMemberBlob(blob, member_record::ExternalGeneration(*blob), id_);
  }
  page->Erase(i, member_record::Bytes(record, has_values_));
  --size_;
}

bool MemberTable::Erase(std::string_view text) {
  if (root_ == nullptr) return false;
  const MemberKey key(text, seed());
  Path path = Descend(key.hash);
  const int at = path.page->Find(key);
  if (at < 0) return false;
  if (!owner_.MayWrite(path.page->generation)) CopyPage(&path, key.hash, path.page->BytesUsed());
  DropRecord(path.page, static_cast<size_t>(at));
  Shrink(&path, key.hash);
  return true;
}

void MemberTable::Shrink(Path* path, uint64_t hash) {
  while (path->page->BytesUsed() < kMergeBelowBytes && Merge(path, hash)) {
  }
  if (MemberPage::BlockFor(path->page->BytesUsed()) * 2 <= path->page->allocated)
    CopyPage(path, hash, path->page->BytesUsed());
}

// Joins the page with its buddy, or takes the place of a directory that it fills alone.
bool MemberTable::Merge(Path* path, uint64_t hash) {
  MemberPage* page = path->page;
  Directory* directory = path->last();
  if (page->depth == directory->depth) {
    if (path->levels == 1) return false;
    OwnPath(path, hash);
    directory = path->last();
    --path->levels;
    path->last()->slots[path->last()->SlotOf(hash)] = Slot(page);
    FreeDirectory(directory);
    return true;
  }
  const uint64_t bit = uint64_t{1} << (64 - page->depth);
  const uint64_t slot = directory->slots[directory->SlotOf(hash ^ bit)];
  if (IsDirectory(slot)) return false;
  MemberPage* buddy = AsPage(slot);
  const size_t bytes = MemberPage::FrontBytes(size_t{page->count} + buddy->count) +
                       page->record_bytes() + buddy->record_bytes();
  if (buddy->depth != page->depth || bytes > kMergedAtMostBytes) return false;
  MemberPage* merged = NewPage(bytes, page->depth - 1);
  for (size_t i = 0; i < page->count; ++i) CopyRecord(*page, i, merged);
  for (size_t i = 0; i < buddy->count; ++i) CopyRecord(*buddy, i, merged);
  OwnPath(path, hash);
  PutPage(path, hash, merged);
  FreePage(page, hash);
  FreePage(buddy, hash ^ bit);
  return true;
}

// --- looking ---------------------------------------------------------------------------------

// Hashes are uniform, so a random hash finds a page about in proportion to its share of the
// members; accepting by the page's density evens out the rest.
Member MemberTable::Random(uint64_t random) const {
  CAIRN_CHECK(size_ > 0);
  constexpr int kTries = 128;
  // Densest page assumed: twice the mean. Above it a member is a little too rare.
  const double scale = 2.0 * static_cast<double>(size_);
  const MemberPage* page = nullptr;
  for (int i = 0; i < kTries; ++i) {
    page = PageOf(NextRandom(&random));
    const double density =
        static_cast<double>(page->count) * static_cast<double>(uint64_t{1} << page->depth);
    if (static_cast<double>(NextRandom(&random) >> 11) * 0x1p-53 * scale < density) break;
  }
  for (uint64_t hash = NextRandom(&random); page->count == 0;) {
    page = PageOf(hash);
    hash += page->depth == 0 ? 0 : uint64_t{1} << (64 - page->depth);
  }
  const size_t i = NextRandom(&random) % page->count;
  return member_record::Read(page->record(i), has_values_);
}

void MemberTable::CheckPage(const MemberPage& page, uint64_t prefix, Tally* found) const {
  CAIRN_CHECK(page.allocated == MemberPage::BlockFor(page.allocated));
  CAIRN_CHECK(MemberPage::FrontBytes(page.count) <= page.heap_at && page.heap_at <= page.allocated);
  size_t bytes = 0;
  for (size_t i = 0; i < page.count; ++i) {
    CAIRN_CHECK(page.offsets()[i] >= page.heap_at && page.offsets()[i] < page.allocated);
    const Member member = member_record::Read(page.record(i), has_values_);
    bytes += member_record::Bytes(page.record(i), has_values_);
    if (member.blob != nullptr) {
      found->bytes += member.blob->footprint();
      ++found->externals;
    }
    char scratch[24];
    const MemberKey key(member.key.Text(scratch), seed());
    CAIRN_CHECK(page.fingerprints()[i] == key.fingerprint());
    CAIRN_CHECK(key.hash == member_record::Hash(page.record(i), seed()));
    CAIRN_CHECK(page.depth == 0 || (key.hash ^ prefix) >> (64 - page.depth) == 0);
    CAIRN_CHECK(page.Find(key) == static_cast<int>(i));
  }
  CAIRN_CHECK(bytes == page.record_bytes());
  found->size += page.count;
  found->bytes += page.allocated;
  ++found->pages;
}

void MemberTable::CheckDirectory(const Directory& directory, uint64_t prefix, Tally* found) const {
  CAIRN_CHECK(directory.bits <= kMaxDirectoryBits && directory.end_depth() <= kMaxDepth + 8);
  found->bytes += Directory::Bytes(directory.bits);
  for (size_t i = 0; i < directory.slot_count();) {
    const uint64_t slot = directory.slots[i];
    const uint64_t below =
        prefix | (directory.end_depth() == 0 ? 0 : uint64_t{i} << (64 - directory.end_depth()));
    if (IsDirectory(slot)) {
      CAIRN_CHECK(directory.bits == kMaxDirectoryBits &&
                  AsDirectory(slot)->depth == directory.end_depth());
      CheckDirectory(*AsDirectory(slot), below, found);
      ++i;
      continue;
    }
    const MemberPage& page = *AsPage(slot);
    CAIRN_CHECK(page.depth >= directory.depth && page.depth <= directory.end_depth());
    const size_t span = size_t{1} << (directory.end_depth() - page.depth);
    CAIRN_CHECK(i % span == 0);
    for (size_t j = 0; j < span; ++j) CAIRN_CHECK(directory.slots[i + j] == slot);
    CheckPage(page, below, found);
    i += span;
  }
}

void MemberTable::CheckInvariants() const {
  Tally found;
  if (root_ != nullptr) CheckDirectory(*root_, 0, &found);
  CAIRN_CHECK(found.size == size_ && found.bytes == bytes_);
  CAIRN_CHECK(found.pages == pages_ && found.externals == externals_);
}

}  // namespace cairn
