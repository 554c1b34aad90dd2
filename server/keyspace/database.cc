// Database: the mutating calls, each of which owns the segment first (R2), replaces what is shared
// (R3) and retires what a view may still read (R4).

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include "server/keyspace/entry_policy.h"
#include "server/keyspace/keyspace.h"

namespace cairn {
namespace {

// Elements, or units of 64 KiB, above which a value is freed by the reaper.
constexpr size_t kLazyFreeEffort = 64;
constexpr size_t kLazyBlobBytes = 64 * 1024;
// Records that other threads freed, taken back with each store: keeps the list short without a
// pause.
constexpr size_t kDrainPerStore = 2;
// Room left for the next APPEND: as much again, but never more than this.
constexpr size_t kMaxSpareBytes = 1024 * 1024;

// DEL frees in place, as Redis does by default, what the loop can free in far less than 1 ms: so
// many elements or nodes, so many bytes to unmap.
constexpr size_t kMustReapEffort = 512;
constexpr size_t kMustReapBlobBytes = 8 << 20;

bool MustReap(const Entry& entry) {
  if (entry.form() == ValueForm::kBlob)
    return entry.blob_unchecked()->footprint() > kMustReapBlobBytes;
  return entry.form() == ValueForm::kObject && entry.FreeEffort() > kMustReapEffort;
}

const Container* ContainerOf(const Entry& entry) {
  return entry.form() == ValueForm::kObject ? entry.object()->AsContainer() : nullptr;
}

// A container that was forked in this generation shares nodes with the header a view reads; the
// last one to hold them must wait for the walker although its own slot is private (F3).
bool HoldsFrozenNodes(const Entry& entry) {
  const Container* container = ContainerOf(entry);
  return container != nullptr && container->IsFrozen() && container->IsUnique();
}

bool WorthReaping(const Entry& entry) {
  if (entry.form() == ValueForm::kBlob) return entry.blob_unchecked()->footprint() > kLazyBlobBytes;
  return entry.form() == ValueForm::kObject && entry.FreeEffort() > kLazyFreeEffort;
}

}  // namespace

Database::Database(Keyspace* owner, uint32_t index)
    : owner_(owner), index_(index), table_(owner->NewTable()) {}
Database::~Database() = default;

uint64_t Database::size() const { return table_->size(); }
uint64_t Database::TableBytes() const { return table_->structure_bytes(); }
KeyRef Database::MakeKey(std::string_view key) const { return {key, table_->HashOf(key)}; }
void Database::PrefetchSlot(uint64_t hash) const { table_->PrefetchSlot(hash); }
void Database::PrefetchBucket(uint64_t hash, bool for_write) const {
  table_->PrefetchBucket(hash, for_write);
}
void Database::PrefetchEntry(uint64_t hash) const { table_->PrefetchRecord(hash); }

const Entry* Database::Peek(KeyRef key) const {
  const auto place = table_->Find(key.hash, key.key);
  return place ? place.record() : nullptr;
}

const Container* Database::PeekContainer(KeyRef key) const {
  const Entry* entry = Peek(key);
  return entry != nullptr ? ContainerOf(*entry) : nullptr;
}

const Entry* Database::LookupRead(KeyRef key, unsigned flags) {
  const auto place = table_->Find(key.hash, key.key);
  const Entry* entry = place ? place.record() : nullptr;
  if (entry != nullptr && owner_->IsExpired(*entry)) [[unlikely]] {
    if (!owner_->hide_expired_) Expire(key);
    entry = nullptr;
  }
  if (!(flags & kLookupNoStats)) ++(entry ? owner_->figures_.hits : owner_->figures_.misses);
  if (entry != nullptr && !(flags & kLookupNoTouch)) owner_->Touch(*entry);
  return entry;
}

const Entry* Database::LookupWrite(KeyRef key) { return LookupRead(key, kLookupNoStats); }

void Database::CountExpiry(const Entry* added, const Entry* removed) {
  if (added != nullptr && added->has_expiry()) ++expire_count_;
  if (removed != nullptr && removed->has_expiry()) --expire_count_;
}

void Database::Dispose(Entry* entry, bool shared, uint64_t hash, bool lazy) {
  if (shared || HoldsFrozenNodes(*entry)) {
    // Nodes of a container may be read through the header of another key as well (RENAME).
    const uint64_t place = ContainerOf(*entry) ? kAnyPlace : table_->Position(hash);
    owner_->gate_.Retire(Retired::Kind::kRecord, entry, place, entry->OwnedBytes());
    return;
  }
  // Only the last reference goes to the reaper: of a value that another entry holds (RENAME), it
  // would be a second holder that nobody knows of, and F3 counts on there being none.
  const bool reap = (lazy ? WorthReaping(*entry) : MustReap(*entry)) && entry->IsLastHolder();
  if (!reap) return Entry::Destroy(owner_->slab_, entry);
  ValueInput value = entry->ShareValue();
  // The record itself is small and stays here. It goes first: were the reaper quicker, the record
  // would be the last to hold the value, and the loop would free all of it.
  Entry::Destroy(owner_->slab_, entry);
  owner_->Reap([value = std::move(value)]() mutable { value = ValueInput(); }, lazy ? 1 : 0);
}

const Entry* Database::Set(KeyRef key, ValueInput value, int64_t expire_at_ms, bool* created) {
  owner_->slab_.DrainRemote(kDrainPerStore);
  auto place = table_->Find(key.hash, key.key);
  bool found = static_cast<bool>(place);
  if (found && owner_->IsExpired(*place.record())) [[unlikely]] {
    Expire(key);
    found = false;
  }
  if (created != nullptr) *created = !found;
  uint32_t access = owner_->FreshAccess();
  if (!found) {
    Entry* fresh = Entry::Create(owner_->slab_, key.key, std::move(value), expire_at_ms, access);
    table_->Insert(key.hash, fresh);
    CountExpiry(fresh, nullptr);
    if (owner_->observer_ != nullptr) [[unlikely]]
      owner_->observer_->OnKeyCreated(index_, key.key, fresh->type());
    return fresh;
  }
  table_->Own(&place);
  Entry* old = place.record();
  // How often a key is used does not depend on its value.
  if (owner_->lfu_) access = old->access();
  if (table_->IsPrivate(place, key.hash) && old->TryOverwrite(value, expire_at_ms, access)) {
    if (expire_at_ms != kNoExpiry) table_->NoteExpiry(place, expire_at_ms);
    if (owner_->observer_ != nullptr) [[unlikely]]
      owner_->observer_->OnKeyGone(index_, key.key, old->type());
    return old;
  }
  Entry* fresh = Entry::Create(owner_->slab_, key.key, std::move(value), expire_at_ms, access);
  const auto removed = table_->Exchange(place, key.hash, fresh);
  CountExpiry(fresh, removed.record);
  if (owner_->observer_ != nullptr) [[unlikely]]
    owner_->observer_->OnKeyGone(index_, key.key, removed.record->type());
  Dispose(removed.record, removed.shared, key.hash, false);
  return fresh;
}

const Entry* Database::Replace(KeyRef key, ValueInput value) {
  auto place = table_->Find(key.hash, key.key);
  CAIRN_CHECK(place);
  const int64_t expire_at_ms = place.record()->expire_at_ms();
  if (!owner_->IsExpired(*place.record())) {
    table_->Own(&place);
    Entry* old = place.record();
    const uint32_t access = owner_->lfu_ ? old->access() : owner_->FreshAccess();
    if (table_->IsPrivate(place, key.hash) && old->TryOverwrite(value, expire_at_ms, access))
      return old;
  }
  return Set(key, std::move(value), expire_at_ms);
}

Entry* Database::Mutable(KeyRef key) {
  auto place = table_->Find(key.hash, key.key);
  if (!place) return nullptr;
  table_->Own(&place);
  Entry* entry = place.record();
  if (table_->IsPrivate(place, key.hash)) return entry;
  Entry* fresh = Entry::Create(owner_->slab_, entry->key(), entry->ShareValue(),
                               entry->expire_at_ms(), entry->access());
  const auto removed = table_->Exchange(place, key.hash, fresh);
  Dispose(removed.record, removed.shared, key.hash, false);
  return fresh;
}

Container* Database::MutableContainer(KeyRef key) {
  auto place = table_->Find(key.hash, key.key);
  CAIRN_CHECK(place);
  table_->Own(&place);
  Entry* entry = place.record();
  // Entries hand out their object for reading; this is the one place that makes it writable.
  auto* container = const_cast<Container*>(entry->object()->AsContainer());
  CAIRN_CHECK(container != nullptr);
  const bool is_private = table_->IsPrivate(place, key.hash);
  const bool is_unique = container->IsUnique();
  if (is_private && is_unique) {
    container->Thaw();
    return container;
  }
  // When another entry holds it too (RENAME, EXPIRE), that one's place in the walk is not known.
  const uint64_t frozen_until = is_unique ? table_->Position(key.hash) + 1 : kWatermarkEnd;
  Container* fork = container->Fork(frozen_until);
  Entry* fresh = Entry::Create(owner_->slab_, entry->key(),
                               ValueInput::FromObject(entry->type(), ObjectRef::Adopt(fork)),
                               entry->expire_at_ms(), entry->access());
  const auto removed = table_->Exchange(place, key.hash, fresh);
  Dispose(removed.record, removed.shared, key.hash, false);
  return fork;
}

template <typename Place>
Entry* Database::Reform(const Place& owned, KeyRef key, ValueInput value) {
  const Entry* entry = owned.record();
  Entry* fresh = Entry::Create(owner_->slab_, key.key, std::move(value), entry->expire_at_ms(),
                               entry->access());
  const auto removed = table_->Exchange(owned, key.hash, fresh);
  Dispose(removed.record, removed.shared, key.hash, true);
  return fresh;
}

StringEdit Database::EditChunks(KeyRef key, size_t size, size_t zero_until) {
  auto* chunks = static_cast<ChunkedString*>(MutableContainer(key));
  chunks->PutOneBack();
  if (size <= chunks->size()) {
    ValueInput whole;
    whole.form = ValueForm::kBlob;
    whole.blob = chunks->WholeBlock();
    if (!whole.blob) return StringEdit(chunks);
    auto place = table_->Find(key.hash, key.key);
    table_->Own(&place);
    const Entry* entry = Reform(place, key, std::move(whole));
    return {entry->blob_unchecked()->mutable_data(), entry->StringSize()};
  }
  chunks->Grow(size, zero_until);
  return StringEdit(chunks);
}

StringEdit Database::EditString(KeyRef key, size_t size, size_t zero_until) {
  auto place = table_->Find(key.hash, key.key);
  CAIRN_CHECK(place && place.record()->is_string());
  if (place.record()->form() == ValueForm::kObject) [[unlikely]]
    return EditChunks(key, size, zero_until);
  table_->Own(&place);
  Entry* entry = place.record();
  char scratch[32];
  const std::string_view old = entry->StringView(scratch);
  const size_t zero_end = std::min(size, zero_until);
  if (table_->IsPrivate(place, key.hash)) {
    if (entry->form() == ValueForm::kInlineRaw && old.size() == size)
      return {entry->mutable_inline(), size};
    if (entry->form() == ValueForm::kBlob && size > kMaxInlineValueBytes &&
        entry->blob_unchecked()->IsUnique()) {
      Blob* blob = entry->blob_unchecked();
      const size_t old_size = blob->size();
      if (size <= old_size) {
        blob->Truncate(size);
        return {blob->mutable_data(), size};
      }
      if (blob->TryGrow(size)) {
        if (old_size < zero_end)
          std::memset(blob->mutable_data() + old_size, 0, zero_end - old_size);
        return {blob->mutable_data(), size};
      }
    }
  }
  if (entry->form() == ValueForm::kBlob && old.size() >= owner_->big_string_bytes_ &&
      size >= old.size()) {
    auto* chunks =
        new ChunkedString(owner_->home_, entry->BlobValue(), owner_->string_chunk_bytes_);
    Reform(place, key, ValueInput::FromObject(ValueType::kString, ObjectRef::Adopt(chunks)));
    return EditChunks(key, size, zero_until);
  }
  const size_t kept = std::min(old.size(), size);
  ValueInput value;
  std::string bytes;
  if (size <= kMaxInlineValueBytes) {
    bytes.assign(old.substr(0, kept));
    bytes.resize(size);
    value = ValueInput::RawString(bytes);
  } else {
    const bool growing = !old.empty() && size > old.size();
    BlobRef blob =
        BlobRef::Adopt(Blob::Create(growing ? size + std::min(size, kMaxSpareBytes) : size));
    blob->Truncate(size);
    if (kept != 0) std::memcpy(blob->mutable_data(), old.data(), kept);
    if (kept < zero_end) std::memset(blob->mutable_data() + kept, 0, zero_end - kept);
    value.form = ValueForm::kBlob;
    value.blob = std::move(blob);
  }
  Entry* fresh = Reform(place, key, std::move(value));
  return {fresh->form() == ValueForm::kBlob ? fresh->blob_unchecked()->mutable_data()
                                            : fresh->mutable_inline(),
          size};
}

char* Database::MutableString(KeyRef key, size_t size) {
  char* bytes = EditString(key, size).flat();
  CAIRN_CHECK(bytes != nullptr);
  return bytes;
}

bool Database::SetExpiry(KeyRef key, int64_t expire_at_ms) {
  auto place = table_->Find(key.hash, key.key);
  if (!place) return false;
  const Entry* seen = place.record();
  if (seen->expire_at_ms() == expire_at_ms) return true;
  table_->Own(&place);
  Entry* entry = place.record();
  if (entry->has_expiry() && expire_at_ms != kNoExpiry && table_->IsPrivate(place, key.hash)) {
    entry->set_expire_at_ms(expire_at_ms);
    table_->NoteExpiry(place, expire_at_ms);
    return true;
  }
  Entry* fresh = Entry::Create(owner_->slab_, entry->key(), entry->ShareValue(), expire_at_ms,
                               entry->access());
  const auto removed = table_->Exchange(place, key.hash, fresh);
  CountExpiry(fresh, removed.record);
  Dispose(removed.record, removed.shared, key.hash, false);
  return true;
}

bool Database::Remove(KeyRef key, bool lazy) {
  auto place = table_->Find(key.hash, key.key);
  if (!place) return false;
  table_->Own(&place);
  const auto removed = table_->Erase(place, key.hash);
  CountExpiry(nullptr, removed.record);
  if (owner_->observer_ != nullptr) [[unlikely]]
    owner_->observer_->OnKeyGone(index_, key.key, removed.record->type());
  Dispose(removed.record, removed.shared, key.hash, lazy);
  return true;
}

uint64_t Database::Scan(uint64_t cursor, size_t min_buckets,
                        const std::function<void(const Entry&)>& visit) const {
  return table_->Scan(cursor, min_buckets, visit);
}

void Database::ForEach(const std::function<bool(const Entry&)>& visit) const {
  table_->ForEach([&visit](const Entry& entry) { return visit(entry); });
}

const Entry* Database::Random(uint64_t random) const { return table_->Random(random); }
void Database::Reserve(uint64_t keys) { table_->Reserve(keys); }

void Database::CheckInvariants() const {
  table_->CheckInvariants();
  uint64_t expires = 0;
  table_->ForEach([&expires](const Entry& entry) {
    expires += entry.has_expiry();
    return true;
  });
  CAIRN_CHECK(expires == expire_count_);
}

}  // namespace cairn
