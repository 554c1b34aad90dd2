#pragma once

// Entry: one key with its value and expiry in one allocation, the record that keyspace tables point
// to.
//
//   word0 u32 atomic   access:24 (LRU seconds or LFU word) | type:3 | form:3 | has_expiry:1 |
//   wide_key:1 word1 u16 key_size (0 when wide) | u16 value_size (inline forms) [i64 expire_at_ms]
//   when has_expiry [u64 key_size]          when wide_key (keys of 65,536 bytes and more) [value:
//   i64 (form kInt) | Blob* (kBlob) | Object* (kObject)]  absent in the inline forms key bytes,
//   then for inline forms the value bytes
//
// A small hash, set, sorted set or list has no object: its packed bytes (a listpack; an intset for
// sets of integers) stand where a string's would, inline up to kMaxInlinePackedBytes and in a Blob
// above. What grows further is an Object.
//
// Only the access bits may change in an entry that a snapshot can see (rule R1); everything else is
// replaced, never edited, unless the table says the slot is private. Entries are looked up, never
// stored across commands. Memory comes from RecordSlab.

#include <atomic>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "server/base/bytes.h"
#include "server/data/object.h"

namespace cairn {

class ChunkedString;
class RecordSlab;

enum class ValueType : uint8_t { kString, kList, kSet, kSortedSet, kHash, kStream, kModule };

/// Where and how the value bytes stand. Strings and packed containers use the inline forms and
/// kBlob.
enum class ValueForm : uint8_t {
  kInline,     ///< string bytes inside the entry; OBJECT ENCODING embstr up to 44 bytes, else raw
  kInlineRaw,  ///< the same, but made by APPEND, SETRANGE..: OBJECT ENCODING raw at any length;
               ///< a packed container that shows as Redis's big encoding
  kInt,        ///< 64-bit integer; OBJECT ENCODING int
  kBlob,       ///< string in a counted Blob; OBJECT ENCODING raw
  kObject,     ///< counted Object; of a string a ChunkedString, OBJECT ENCODING raw
};

/// Strings up to this many bytes live inside their entry.
inline constexpr size_t kMaxInlineValueBytes = 4096;
/// Packed containers up to this many bytes live inside their entry: with the key they still fit
/// the record allocator's classes, and copying them costs less than the walk to find what to
/// change.
inline constexpr size_t kMaxInlinePackedBytes = 960;
/// Longest string Redis encodes as embstr.
inline constexpr size_t kEmbstrMaxBytes = 44;
inline constexpr int64_t kNoExpiry = -1;

/// A value on its way into an entry. Borrowed bytes must outlive the call that stores it.
struct ValueInput {
  ValueType type = ValueType::kString;
  ValueForm form = ValueForm::kInline;
  std::string_view bytes;  ///< inline forms
  int64_t integer = 0;     ///< kInt
  BlobRef blob;            ///< kBlob
  ObjectRef object;        ///< kObject

  /// What SET stores: int if `bytes` is a canonical int64, inline when short, else a Blob. `blob`,
  /// when not empty, holds exactly `bytes` and is adopted instead of copying when the value is
  /// long.
  static ValueInput String(std::string_view bytes, BlobRef blob = {});
  /// A string that stays encoding raw (APPEND, SETRANGE, SETBIT).
  static ValueInput RawString(std::string_view bytes, BlobRef blob = {});
  static ValueInput Integer(int64_t value);
  static ValueInput FromObject(ValueType type, ObjectRef object);
  /// A small container in its packed bytes: an intset for kSet, else a listpack. Borrows `bytes`
  /// when they are short enough to go inline, copies them into a Blob when not. `converted`: Redis
  /// would have moved on to its big encoding, which OBJECT ENCODING, DUMP and files then show; the
  /// bytes are a listpack for kSet too, and go inline (requires: at most kMaxInlinePackedBytes).
  static ValueInput Packed(ValueType type, std::string_view bytes, bool converted = false);
};

class Entry {
 public:
  Entry(const Entry&) = delete;

  /// Allocates from `slab`. expire_at_ms = kNoExpiry leaves the field out. Cost: one copy of key
  /// and value.
  static Entry* Create(RecordSlab& slab, std::string_view key, ValueInput value,
                       int64_t expire_at_ms, uint32_t access);
  /// Drops references and returns the memory. Thread: executor (the slab is not shared).
  static void Destroy(RecordSlab& slab, Entry* entry);
  /// As Destroy, from any thread: the memory goes back through the slab's remote list.
  static void DestroyRemote(RecordSlab& slab, Entry* entry);

  std::string_view key() const;
  ValueType type() const;
  ValueForm form() const;
  bool has_expiry() const;
  int64_t expire_at_ms() const;  ///< kNoExpiry when none
  /// It has a TTL, and that is over.
  bool IsPast(int64_t now_ms) const { return has_expiry() && expire_at_ms() < now_ms; }
  uint32_t access() const;  ///< 24 bits, relaxed
  void set_access(uint32_t access) const;

  bool is_string() const { return type() == ValueType::kString; }
  int64_t integer() const;       ///< form kInt
  BlobRef BlobValue() const;     ///< form kBlob, adds a reference
  const Object* object() const;  ///< form kObject
  bool MayEvict() const { return form() != ValueForm::kObject || object()->MayEvict(); }
  /// Whether the bytes of value stand in the entry or a blob as such: strings that are no integer,
  /// packed containers.
  bool has_bytes() const { return is_inline() || form() == ValueForm::kBlob; }
  /// Those bytes. Requires: has_bytes(). Borrows: the entry.
  std::string_view Bytes() const;
  /// A container that is still packed.
  bool is_packed() const { return !is_string() && has_bytes(); }
  ObjectRef ShareObject() const;
  /// Requires: a string in form kObject.
  const ChunkedString* chunks() const;
  /// Size of the string in its text form. Requires is_string().
  size_t StringSize() const;
  /// The string's bytes; integers are formatted into `scratch` (at least 24 bytes). Borrows: the
  /// entry. Requires: not in chunks (string_bytes.h reads those too).
  std::string_view StringView(char* scratch) const;
  /// The value as an input that shares blobs and objects: for RENAME, MOVE, re-keying.
  ValueInput ShareValue() const;
  /// As ShareValue, but a container that can change in place is copied: for COPY, where both live
  /// on. Cost: O(elements) for those.
  ValueInput CloneValue() const;

  /// Private entries only (table slot not shared with a view).
  void set_integer(int64_t value);
  void set_expire_at_ms(int64_t at_ms);  ///< requires has_expiry()
  char* mutable_inline();                ///< inline forms; size fixed
  /// Puts value, expiry and access word into this record when they fit it as it is: the same
  /// layout, the same size class, the same type. False: nothing was changed. `value` may view this
  /// entry's own bytes.
  bool TryOverwrite(const ValueInput& value, int64_t expire_at_ms, uint32_t access);
  Blob* blob_unchecked() const;  ///< form kBlob, no reference added

  /// Bytes of the record alone.
  size_t RecordBytes() const;
  /// Elements and 64 KiB units a free has to visit; 1 for what lives in the record.
  size_t FreeEffort() const;
  /// Bytes allocated for the entry itself and what it refers to (blob, object).
  size_t MemoryUsage() const;
  /// Whether nobody else holds the value: freeing the entry frees it.
  bool IsLastHolder() const;
  /// Bytes that freeing the entry gives back: what others hold is not freed with it.
  size_t OwnedBytes() const;
  Status Emit(ValueSink& sink) const;
  const char* TypeName() const;
  const char* EncodingName() const;

 private:
  static constexpr uint32_t kAccessMask = 0xffffff;
  static constexpr int kTypeShift = 24, kFormShift = 27, kExpiryShift = 30, kWideShift = 31;

  Entry() = default;
  static void DropReferences(Entry* entry);
  bool wide_key() const { return word0_.load(std::memory_order_relaxed) >> kWideShift; }
  size_t expiry_bytes() const { return has_expiry() ? 8 : 0; }
  size_t key_size() const;
  bool is_inline() const { return form() <= ValueForm::kInlineRaw; }
  const char* bytes() const { return reinterpret_cast<const char*>(this); }
  char* bytes() { return reinterpret_cast<char*>(this); }
  size_t wide_offset() const { return sizeof(Entry) + expiry_bytes(); }
  size_t value_offset() const { return wide_offset() + (wide_key() ? 8 : 0); }
  size_t key_offset() const { return value_offset() + (is_inline() ? 0 : 8); }
  uint64_t value_word() const;

  mutable std::atomic<uint32_t> word0_;
  uint16_t key_size_;
  uint16_t value_size_;
};

inline ValueType Entry::type() const {
  return static_cast<ValueType>(word0_.load(std::memory_order_relaxed) >> kTypeShift & 7);
}
inline ValueForm Entry::form() const {
  return static_cast<ValueForm>(word0_.load(std::memory_order_relaxed) >> kFormShift & 7);
}
inline bool Entry::has_expiry() const {
  return word0_.load(std::memory_order_relaxed) >> kExpiryShift & 1;
}
inline int64_t Entry::expire_at_ms() const {
  if (!has_expiry()) return kNoExpiry;
  int64_t at_ms;
  std::memcpy(&at_ms, bytes() + sizeof(Entry), sizeof at_ms);
  return at_ms;
}
inline uint32_t Entry::access() const {
  return word0_.load(std::memory_order_relaxed) & kAccessMask;
}
inline void Entry::set_access(uint32_t access) const {
  // A plain load and store: the executor is the only writer, the walker only reads.
  const uint32_t word = word0_.load(std::memory_order_relaxed);
  word0_.store((word & ~kAccessMask) | (access & kAccessMask), std::memory_order_relaxed);
}
inline size_t Entry::key_size() const {
  if (!wide_key()) [[likely]]
    return key_size_;
  uint64_t size;
  std::memcpy(&size, bytes() + wide_offset(), sizeof size);
  return size;
}
inline std::string_view Entry::key() const { return {bytes() + key_offset(), key_size()}; }
inline uint64_t Entry::value_word() const {
  uint64_t word;
  std::memcpy(&word, bytes() + value_offset(), sizeof word);
  return word;
}
inline int64_t Entry::integer() const { return static_cast<int64_t>(value_word()); }

}  // namespace cairn
