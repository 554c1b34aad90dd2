#pragma once

// WatchTable: which sessions watch which keys, so that a change marks their transaction dirty (WATCH, EXEC).
// MULTI's queue itself is state of the session (session.h) and EXEC runs in the dispatcher. Thread: executor.

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "server/engine/session.h"

namespace cairn {

class Keyspace;

class WatchTable {
 public:
  /// Begins watching; a key watched twice counts once.
  void Watch(Session& session, uint32_t db, std::string_view key, bool expired_now);
  /// Forgets all keys of `session` (UNWATCH, EXEC, DISCARD, disconnect).
  void UnwatchAll(Session& session);
  /// A change of (db, key): its watchers' next EXEC fails.
  void Touch(uint32_t db, std::string_view key) {
    if (!watchers_.empty()) [[unlikely]] TouchSlow(db, key);
  }
  /// All keys of a database are gone or replaced (FLUSHDB, SWAPDB): watchers of keys that exist in either
  /// state are touched. `other` is the database swapped in, or the same number for a flush.
  void TouchDatabase(Keyspace& keyspace, uint32_t db, uint32_t other);
  bool empty() const { return watchers_.empty(); }

 private:
  void TouchSlow(uint32_t db, std::string_view key);
  static std::string MakeId(uint32_t db, std::string_view key);
  std::unordered_map<std::string, std::vector<Session*>> watchers_;  // by db number and key
};

}  // namespace cairn
