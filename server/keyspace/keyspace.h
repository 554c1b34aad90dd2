#pragma once

// Keyspace: the databases, the one door to every key, and the clock of snapshots. All lookups go through
// Database::LookupRead / LookupWrite, which expire lazily and touch the access word; all changes go through
// the mutating calls below, which own the segment first (R2), replace what a view shares (R3) and retire
// what a view may still read (R4). Nothing here waits. Thread: executor only (asserted in debug builds);
// Views are read by the walker under the rules of docs/snapshot.md.

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "server/data/entry.h"

namespace cairn {

class Keyspace;
class View;

/// A key with its table hash, computed once per command.
struct KeyRef {
  std::string_view key;
  uint64_t hash;
};

/// What the keyspace tells its owner (engine: propagation, notifications, WATCH, statistics).
class KeyspaceListener {
 public:
  virtual ~KeyspaceListener() = default;
  /// The key has passed its TTL and was just removed (lazily or by the active cycle).
  virtual void OnExpired(uint32_t db, std::string_view key) = 0;
  virtual void OnEvicted(uint32_t db, std::string_view key) = 0;
};

/// How a lookup behaves; bits.
enum LookupFlags : unsigned {
  kLookupDefault = 0,
  kLookupNoTouch = 1,   ///< do not update the access word (TYPE, TTL, OBJECT, SCAN ..)
  kLookupNoStats = 2,   ///< no keyspace hit or miss
};

class Database {
 public:
  uint32_t index() const;
  uint64_t size() const;
  uint64_t expire_count() const;
  int64_t average_ttl_ms() const;  ///< estimate kept by the active expiry cycle
  uint64_t TableBytes() const;     ///< directories and segments

  KeyRef MakeKey(std::string_view key) const;

  /// First of the prefetch passes of a batch: the bucket of `hash`; second: the entry it leads to.
  void PrefetchBucket(uint64_t hash) const;
  void PrefetchEntry(uint64_t hash) const;

  /// The live entry or nullptr. Expired keys are removed and reported to the listener first.
  const Entry* LookupRead(KeyRef key, unsigned flags = kLookupDefault);
  /// As LookupRead, without hit and miss statistics: for commands that go on to write.
  const Entry* LookupWrite(KeyRef key);
  /// Raw look-up: neither expiry nor touch nor statistics. For DEBUG, digests, tests.
  const Entry* Peek(KeyRef key) const;

  /// Inserts or replaces. Returns the new entry. expire_at_ms = kNoExpiry: no TTL. The old value is freed
  /// or retired; big ones go to the reaper.
  const Entry* Set(KeyRef key, ValueInput value, int64_t expire_at_ms);
  /// Replaces the value, keeps the TTL. Requires: the key exists.
  const Entry* Replace(KeyRef key, ValueInput value);
  /// The entry for changing in place, made private (copied when a view shares it), or nullptr when absent.
  /// Valid until the next call on this keyspace.
  Entry* Mutable(KeyRef key);
  /// A private string blob with `size` bytes, old bytes kept and growth zeroed, as form kBlob/kInlineRaw;
  /// for SETRANGE, APPEND, SETBIT: returns where to write. Requires: key holds a string.
  char* MutableString(KeyRef key, size_t size);
  /// Sets (or with kNoExpiry removes) the TTL. Returns false when the key is absent.
  bool SetExpiry(KeyRef key, int64_t expire_at_ms);
  /// Removes a key. `lazy` hands big values to the reaper (UNLINK); small ones are freed in place.
  bool Remove(KeyRef key, bool lazy);

  /// Visits from `cursor` (0 = start) at bucket grain until at least `min_buckets` buckets were seen; returns
  /// the next cursor, 0 at the end. Each key present throughout is seen exactly once over a full scan.
  /// Cursors fit in 52 bits. `visit` must not change the database.
  uint64_t Scan(uint64_t cursor, size_t min_buckets, const std::function<void(const Entry&)>& visit) const;
  /// Every entry, in hash order.
  void ForEach(const std::function<bool(const Entry&)>& visit) const;
  /// A fair random entry, or nullptr when empty.
  const Entry* Random(uint64_t random) const;
  /// Presizes for `keys` more keys (loading).
  void Reserve(uint64_t keys);

  /// Walks every invariant of the table (V8, counts, slot bits); stops the process on damage. Cost: O(n).
  void CheckInvariants() const;

 private:
  friend class Keyspace;
  Database() = default;
};

struct KeyspaceFigures {
  uint64_t hits = 0, misses = 0;
  uint64_t expired_keys = 0, expired_stale_permille = 0, expire_cycle_time_limit_hits = 0;
  uint64_t lazyfree_pending_objects = 0, lazyfreed_objects = 0;
};

class Keyspace {
 public:
  struct Options {
    uint32_t databases = 16;
    uint64_t hash_seed = 0;
    KeyspaceListener* listener = nullptr;
  };
  explicit Keyspace(const Options& options);
  ~Keyspace();

  uint32_t database_count() const;
  Database& db(uint32_t index);

  /// Cached clock of the running command or batch. Expiry is judged by it.
  void set_now_ms(int64_t now_ms);
  int64_t now_ms() const;
  /// While off (loading an append-only file, DEBUG SET-ACTIVE-EXPIRE for the cycle) look-ups show expired keys.
  void set_lazy_expiry(bool on);
  /// LFU or LRU access words (maxmemory-policy), with lfu-log-factor and lfu-decay-time.
  void set_access_mode(bool lfu, int log_factor, int decay_minutes);
  uint32_t IdleSeconds(const Entry& entry) const;
  uint8_t FrequencyOf(const Entry& entry) const;
  /// Gives an entry the idle time or frequency a file or RESTORE recorded; -1 = not recorded. The one that
  /// does not fit the access mode is ignored.
  void RestoreAccess(const Entry& entry, int64_t idle_s, int frequency);

  void Swap(uint32_t a, uint32_t b);
  /// Empties one database (or all): O(1) on the executor, the reaper frees; with `lazy` false it returns only when
  /// freed. Returns the number of keys removed.
  uint64_t Flush(uint32_t index, bool lazy);
  uint64_t FlushAll(bool lazy);

  /// One round of active expiry: visits due segments for at most budget_us. Returns keys expired.
  uint64_t ActiveExpire(int64_t budget_us, int effort);

  /// The cut: freezes the structure of every database as of now (2-4 us; no allocation proportional to data).
  /// At most one view at a time for now (nullptr when one is running).
  View* BeginView();
  /// Ends it: W := end, queue drained, memory balance restored. Requires: the walker has stopped.
  void EndView(View* view);
  View* active_view() const;
  /// Bytes held only for the running view (retired objects and superseded segments).
  uint64_t retained_bytes() const;

  const KeyspaceFigures& figures() const;
  void ResetFigures();
  /// Bytes of tables, slabs and entries as accounted here (for INFO overhead fields and MEMORY STATS).
  uint64_t OverheadBytes() const;
  /// Order-independent digest of all data as DEBUG DIGEST computes it is a sink's work; this visits all keys.
  void ForEachDatabase(const std::function<void(Database&)>& visit);
};

}  // namespace cairn
