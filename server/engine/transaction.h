#pragma once

// WatchTable: which sessions watch which keys, so that a change marks their transaction dirty
// (WATCH, EXEC). MULTI's queue itself is state of the session (session.h) and EXEC runs in the
// dispatcher. Thread: executor.
//
//   W1  Session and table name each other by index: a watcher says which of its session's watched
//       keys it is, and that key says at which place among the watchers it stands. So a change
//       costs as much as there are watchers of the key, and to forget a key costs the same always.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "server/engine/session.h"

namespace cairn {

class Entry;
class Keyspace;

/// Whether a key that may be absent is past its TTL and nothing has removed it yet.
bool IsPastTtl(const Entry* entry, int64_t now_ms);

class WatchTable {
 public:
  /// Begins watching; a key watched twice counts once.
  void Watch(Session& session, uint32_t db, std::string_view key, bool expired_now);
  /// Forgets all keys of `session` (UNWATCH, EXEC, DISCARD, disconnect).
  void UnwatchAll(Session& session);
  /// A change of (db, key): its watchers' next EXEC fails.
  void Touch(uint32_t db, std::string_view key) {
    if (watched_ != 0) [[unlikely]]
      TouchSlow(db, key);
  }
  /// All keys of a database are gone or replaced (FLUSHDB, SWAPDB): watchers of keys that exist in
  /// either state are touched. `other` is the database swapped in, or the same number for a flush.
  /// Cost: the keys of the database that are watched, and their watchers.
  void TouchDatabase(Keyspace& keyspace, uint32_t db, uint32_t other);
  bool empty() const { return watched_ == 0; }

 private:
  struct Watcher {
    Session* session;
    size_t which;  // of transaction.watched
    WatchedKey& key() const { return session->transaction.watched[which]; }
  };
  struct KeyHash {
    using is_transparent = void;
    size_t operator()(std::string_view key) const;
  };
  using Watchers = std::vector<Watcher>;
  using Keys = std::unordered_map<std::string, Watchers, KeyHash, std::equal_to<>>;

  void TouchSlow(uint32_t db, std::string_view key);

  std::vector<Keys> databases_;  // by number, as far as keys were watched
  size_t watched_ = 0;           // keys, each as often as it has watchers
};

}  // namespace cairn
