#pragma once

// Keyspace: the databases, the one door to every key, and the clock of snapshots. All lookups go
// through Database::LookupRead / LookupWrite, which expire lazily and touch the access word; all
// changes go through the mutating calls below, which own the segment first (R2), replace what a
// view shares (R3) and retire what a view may still read (R4). Nothing here waits. Thread: executor
// only (asserted in debug builds); Views are read by the walker under the rules of
// docs/snapshot.md.

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "server/data/container.h"
#include "server/data/entry.h"
#include "server/data/frame_pool.h"
#include "server/data/record_slab.h"
#include "server/data/snapshot_gate.h"
#include "server/data/string_bytes.h"
#include "server/keyspace/eviction.h"
#include "server/platform/worker.h"

namespace cairn {

class Keyspace;
class View;
struct EntryPolicy;
template <typename P>
class SegTable;
using EntryTable = SegTable<EntryPolicy>;

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

/// Told of keys that come and go, while somebody waits for keys (engine/blocking).
class KeyObserver {
 public:
  virtual ~KeyObserver() = default;
  /// A value was stored under a name that was free.
  virtual void OnKeyCreated(uint32_t db, std::string_view key, ValueType type) = 0;
  /// A value was removed or replaced by another; emptied and swapped databases are not reported key
  /// by key.
  virtual void OnKeyGone(uint32_t db, std::string_view key, ValueType type) = 0;
};

/// How a lookup behaves; bits.
enum LookupFlags : unsigned {
  kLookupDefault = 0,
  kLookupNoTouch = 1,  ///< do not update the access word (TYPE, TTL, OBJECT, SCAN ..)
  kLookupNoStats = 2,  ///< no keyspace hit or miss
};

class Database {
 public:
  ~Database();
  uint32_t index() const { return index_; }
  uint64_t size() const;
  uint64_t expire_count() const { return expire_count_; }
  /// Estimate from the samples of the active expiry cycle; 0 = no key has a TTL.
  int64_t average_ttl_ms() const { return average_ttl_ms_; }
  uint64_t TableBytes() const;  ///< directories and segments

  KeyRef MakeKey(std::string_view key) const;

  /// The three prefetch passes of a batch, in order: where the table notes the bucket of `hash`,
  /// the bucket, the entry.
  void PrefetchSlot(uint64_t hash) const;
  /// `for_write`: with what a change of the segment reads first.
  void PrefetchBucket(uint64_t hash, bool for_write) const;
  void PrefetchEntry(uint64_t hash) const;
  /// The container under `key` for Container::PrefetchMember, which follows; nullptr when there is
  /// none.
  const Container* PeekContainer(KeyRef key) const;

  /// The live entry or nullptr. Expired keys are removed and reported to the listener first.
  const Entry* LookupRead(KeyRef key, unsigned flags = kLookupDefault);
  /// As LookupRead, without hit and miss statistics: for commands that go on to write.
  const Entry* LookupWrite(KeyRef key);
  /// Raw look-up: neither expiry nor touch nor statistics. For DEBUG, digests, tests.
  const Entry* Peek(KeyRef key) const;

  /// Inserts or replaces, in place where no view shares the record and the new value fits it.
  /// `value` may view bytes of any live entry. Returns the new entry. expire_at_ms = kNoExpiry: no
  /// TTL. The old value is freed or retired; big ones go to the reaper. A key past its TTL counts
  /// as absent: it is expired and reported first. *created tells whether the key is new.
  const Entry* Set(KeyRef key, ValueInput value, int64_t expire_at_ms, bool* created = nullptr);
  /// Replaces the value, keeps the TTL; in place when both are inline, of one size class, and no
  /// view reads the old one. Requires: the key exists. `value` may borrow from the old entry.
  const Entry* Replace(KeyRef key, ValueInput value);
  /// The entry for changing in place, made private (copied when a view shares it), or nullptr when
  /// absent. Valid until the next call on this keyspace.
  Entry* Mutable(KeyRef key);
  /// The container under `key`, for changing: forked when a view reads it (container.h). Requires:
  /// the key exists in form kObject and is a Container. Valid until the next call on this keyspace
  /// that changes the key. Cost: O(1) for containers that share their structure.
  Container* MutableContainer(KeyRef key);
  /// The string under `key` with `size` bytes (or as many as it has, when those are more and it is
  /// in chunks), to be changed in place: for SETRANGE, APPEND, SETBIT. Old bytes are kept; growth
  /// before `zero_until` is zeroed, the rest of it is for the caller to write. Shows as encoding
  /// raw from then on. Requires: key holds a string. Valid until the next call on this keyspace.
  /// Cost: O(growth), and the copy of the whole up to Options::big_string_bytes, above it of a
  /// table of 16 bytes a chunk, when somebody shares the string.
  StringEdit EditString(KeyRef key, size_t size, size_t zero_until = SIZE_MAX);
  /// The same in one piece, which only strings below Options::big_string_bytes are sure to be.
  char* MutableString(KeyRef key, size_t size);
  /// Sets (or with kNoExpiry removes) the TTL. Returns false when the key is absent.
  bool SetExpiry(KeyRef key, int64_t expire_at_ms);
  /// Removes a key. `lazy` hands big values to the reaper (UNLINK); small ones are freed in place.
  bool Remove(KeyRef key, bool lazy);

  /// Visits from `cursor` (0 = start) at bucket grain until at least `min_buckets` buckets were
  /// seen; returns the next cursor, 0 at the end. Each key present throughout is seen exactly once
  /// over a full scan. Cursors fit in 52 bits. `visit` must not change the database.
  uint64_t Scan(uint64_t cursor, size_t min_buckets,
                const std::function<void(const Entry&)>& visit) const;
  /// Every entry, in hash order at segment grain, until `visit` returns false. It must not change
  /// the database.
  void ForEach(const std::function<bool(const Entry&)>& visit) const;
  /// A fair random entry, or nullptr when empty.
  const Entry* Random(uint64_t random) const;
  /// Visits up to `keys` entries that may be evicted, from a random place on, only those with a TTL
  /// if `volatile_only`. Goes through at most `max_segments` segments, so with few TTLs it may find
  /// fewer. Segments without any TTL cost one compare.
  void Sample(uint64_t random, size_t keys, bool volatile_only, size_t max_segments,
              const std::function<void(const Entry&)>& visit);
  /// Presizes an empty database for `keys` (loading); a hint, capped at 16,384 segments. Ignored
  /// later: growth is never more than a split at a time.
  void Reserve(uint64_t keys);

  /// Walks every invariant of the table (V8, counts, slot bits); stops the process on damage. Cost:
  /// O(n).
  void CheckInvariants() const;

 private:
  friend class Keyspace;
  Database(Keyspace* owner, uint32_t index);
  /// Removes an expired key and reports it. `key` must not live in the entry.
  void Expire(KeyRef key);
  /// EditString of a string that is in chunks.
  StringEdit EditChunks(KeyRef key, size_t size, size_t zero_until);
  /// Puts another form of the value where `owned` points, with TTL and access word as they are.
  template <typename Place>
  Entry* Reform(const Place& owned, KeyRef key, ValueInput value);
  void CountExpiry(const Entry* added, const Entry* removed);
  /// Frees or, when a view may read it, retires an entry that left the table.
  void Dispose(Entry* entry, bool shared, uint64_t hash, bool lazy);
  uint64_t ExpireSegmentAt(uint64_t hash, int64_t now_ms, uint64_t* seen);
  void EstimateTtl(uint64_t random, int64_t now_ms);
  /// Removes a key for want of memory and reports it. Returns the bytes it took. `key` must not
  /// live in the entry.
  uint64_t Evict(KeyRef key, bool lazy);

  Keyspace* const owner_;
  const uint32_t index_;
  std::unique_ptr<EntryTable> table_;
  uint64_t expire_count_ = 0;
  int64_t average_ttl_ms_ = 0;
  uint64_t expire_cursor_ = 0;  // hash at which the next round of active expiry goes on
};

struct KeyspaceFigures {
  uint64_t hits = 0, misses = 0;
  uint64_t expired_keys = 0, expire_cycle_time_limit_hits = 0;
  double expired_stale_percent = 0;  ///< due among those with a TTL that the cycle looks at, a mean
  int64_t expire_cycle_us = 0;       ///< spent in ActiveExpire
  uint64_t evicted_keys = 0;
  uint64_t lazyfree_pending_objects = 0, lazyfreed_objects = 0;
};

class Keyspace {
 public:
  struct Options {
    uint32_t databases = 16;
    uint64_t hash_seed = 0;
    KeyspaceListener* listener = nullptr;
    /// From how many bytes on strings are changed and grown by chunks, and the size of those:
    /// smaller in tests. More than kMaxInlineValueBytes, and a power of two.
    size_t big_string_bytes = kBigStringBytes;
    size_t string_chunk_bytes = kStringChunkBytes;
  };
  explicit Keyspace(const Options& options);
  ~Keyspace();

  /// What containers of this keyspace are made with.
  const ValueHome* value_home() const { return &home_; }
  uint32_t database_count() const { return static_cast<uint32_t>(databases_.size()); }
  Database& db(uint32_t index) { return *databases_[index]; }

  /// Cached clock of the running command or batch. Expiry is judged by it.
  void set_now_ms(int64_t now_ms) { now_ms_ = now_ms; }
  int64_t now_ms() const { return now_ms_; }
  /// While off (loading an append-only file, DEBUG SET-ACTIVE-EXPIRE for the cycle) look-ups show
  /// expired keys.
  void set_lazy_expiry(bool on) { lazy_expiry_ = on; }
  /// While on (a replica, whose primary decides; a server whose clients are paused): keys past
  /// their TTL are not seen by look-ups, but stay until they are removed by command. lazy_expiry
  /// off shows them, as the primary's own commands must.
  void set_hide_expired(bool on) { hide_expired_ = on; }
  bool hides_expired() const { return hide_expired_; }
  /// nullptr: nobody, which costs a test per stored key.
  void set_observer(KeyObserver* observer) { observer_ = observer; }
  KeyObserver* observer() const { return observer_; }
  /// LFU or LRU access words (maxmemory-policy), with lfu-log-factor and lfu-decay-time.
  void set_access_mode(bool lfu, int log_factor, int decay_minutes);
  /// Whether views emit the idle time or frequency of each key (Redis does so under an LRU or LFU
  /// policy only).
  void set_save_access(bool on) { save_access_ = on; }
  uint32_t IdleSeconds(const Entry& entry) const;
  uint8_t FrequencyOf(const Entry& entry) const;
  /// Gives an entry the idle time or frequency a file or RESTORE recorded; -1 = not recorded. The
  /// one that does not fit the access mode is ignored.
  void RestoreAccess(const Entry& entry, int64_t idle_s, int frequency);

  void Swap(uint32_t a, uint32_t b);
  /// Empties one database (or all): O(1) on the executor, the reaper frees; with `lazy` false it
  /// returns only when freed, except that what a running view reads is kept until the view ends. Of
  /// that some 0.1 ms of counting is done here (CountFlushed).
  /// Returns the number of keys removed.
  uint64_t Flush(uint32_t index, bool lazy);
  uint64_t FlushAll(bool lazy);

  /// One round of active expiry: visits due segments for at most budget_us, and at most 1,024
  /// segments times `effort` (1..10) a database. Returns keys expired.
  uint64_t ActiveExpire(int64_t budget_us, int effort);

  /// Takes back records that other threads freed, for 0.5 ms at most, and brings the warm frames to
  /// what is kept, without touching memory here. To be called at every turn of the timers.
  void TakeBackFreed();

  /// Removes the key that `rules` would have go first, as far as samples tell; the listener hears
  /// of it. Returns the bytes it took, 0 when no key qualifies. What a view still needs of it is
  /// retained, not freed: retained_bytes() must not count against a memory limit.
  uint64_t EvictOne(const EvictionRules& rules);

  /// The cut: freezes the structure of every database as of now (2-4 us; no allocation proportional
  /// to data). Views are independent of each other; nullptr when SnapshotGate::kMaxViews are open,
  /// or unless the tables that were frozen since no view was open are fewer than kMaxFrozenTables:
  /// the end of the last place would wrap.
  View* BeginView();
  static constexpr uint32_t kMaxFrozenTables = 1u << (64 - kPositionHashBits);
  /// Ends it: W := end, queue drained, memory balance restored. Requires: the walker has stopped.
  void EndView(View* view);
  /// The one begun last, or nullptr.
  View* active_view() const { return views_.empty() ? nullptr : views_.back().get(); }
  size_t view_count() const { return views_.size(); }
  /// Bytes held only for the running views (retired values and superseded structure) that the
  /// walker frees as it goes. Thread: any.
  uint64_t retained_bytes() const { return gate_.retained_bytes(); }
  /// The old values among them: what back-pressure is judged by. Thread: any.
  uint64_t retained_value_bytes() const { return gate_.retained_record_bytes(); }
  /// Keys of databases that were flushed while views read them: freed when those end, so no writer
  /// should wait for them.
  uint64_t detached_keys() const;

  const KeyspaceFigures& figures() const;
  void ResetFigures();
  /// Bytes of live records.
  uint64_t RecordBytes() const { return slab_.used_bytes(); }
  /// Bytes of the slab's pages that hold no record: ready for the next ones.
  uint64_t SlabFreeBytes() const;
  /// Memory that no eviction of keys would bring down: what is held for the running view, and warm
  /// frames. What flushed databases hold for a view is extrapolated from what of them was counted.
  uint64_t BytesNotEvictable() const;
  /// Counts on what flushed databases hold for views, for 0.1 ms at most: to be called before the
  /// figure decides about something. Nothing to do without such databases.
  void CountFlushed();
  /// Runs a job on the reaper, the thread that frees what nothing refers to any more; INFO counts
  /// `objects` as pending until then, and as freed. Requires: the job touches nothing that others
  /// can reach.
  void Reap(std::function<void()> job, uint64_t objects);
  /// Blocks until the reaper has freed all it was given. For tests, DEBUG and shutdown.
  void DrainReaper();
  /// Bytes of tables and warm frames (for INFO overhead fields and MEMORY STATS).
  uint64_t OverheadBytes() const;
  /// Order-independent digest of all data as DEBUG DIGEST computes it is a sink's work; this visits
  /// all keys.
  void ForEachDatabase(const std::function<void(Database&)>& visit);

 private:
  friend class Database;
  void Touch(const Entry& entry);
  uint64_t NextRandom();
  uint64_t ScoreOf(const Entry& entry, EvictionRules::Order order) const;
  uint32_t FreshAccess() const;
  uint8_t DecayedFrequency(uint32_t access) const;
  bool IsExpired(const Entry& entry) const;
  std::unique_ptr<EntryTable> NewTable();
  uint64_t Replace(uint32_t index, bool lazy);
  void FreeTable(std::unique_ptr<EntryTable> table, bool lazy);
  void ReapTable(std::unique_ptr<EntryTable> table, bool lazy);
  std::shared_ptr<std::vector<Entry*>> EntriesToKeep();
  void FreeUnread(unsigned lane);
  bool PlaceTables();

  KeyspaceListener* const listener_;
  KeyObserver* observer_ = nullptr;
  const uint64_t hash_seed_;
  const size_t big_string_bytes_;
  const size_t string_chunk_bytes_;
  int64_t now_ms_ = 0;
  bool lazy_expiry_ = true;
  bool hide_expired_ = false;
  bool lfu_ = false;
  bool save_access_ = false;
  int lfu_log_factor_ = 10;
  int lfu_decay_minutes_ = 1;
  uint64_t random_;
  mutable KeyspaceFigures figures_;
  std::atomic<uint64_t> reaper_pending_{0};
  std::atomic<uint64_t> reaped_{0};
  uint32_t expire_database_ = 0;
  uint32_t evict_database_ = 0;
  EvictionRules eviction_rules_;
  EvictionPool eviction_pool_;

  // Databases go before what they are built on, the reaper before both.
  RecordSlab slab_;
  FramePool frames_;
  SnapshotGate gate_;
  const ValueHome home_{&gate_, &slab_, hash_seed_};
  std::vector<std::unique_ptr<Database>> databases_;
  std::vector<std::unique_ptr<View>> views_;  // in the order of their cuts
  /// Flushed while views (lanes of the gate, bits) read it.
  struct Detached {
    std::unique_ptr<EntryTable> table;
    unsigned lanes = 0;
    // Of what was counted so far, in hash order: a fair sample of the rest.
    uint64_t counted_bytes = 0, counted_keys = 0;
    uint64_t next_hash = 0;
    bool all_counted = false;

    void CountSegment();
    uint64_t SizeBytes() const;
  };
  std::vector<Detached> detached_;
  /// What other tables had that were flushed while views (bits) were open and that may stand on
  /// nodes which those read (F3). The reaper alone touches the entries.
  struct Kept {
    std::shared_ptr<std::vector<Entry*>> entries;
    unsigned lanes = 0;
  };
  std::vector<Kept> kept_;
  uint32_t next_cut_index_ = 0;
  std::unique_ptr<WorkerThread> reaper_;  // started by the first job
};

}  // namespace cairn
