#include "server/engine/transaction.h"

#include <algorithm>
#include <cstring>

#include "server/keyspace/keyspace.h"

namespace cairn {

std::string WatchTable::MakeId(uint32_t db, std::string_view key) {
  std::string id(sizeof db + key.size(), '\0');
  std::memcpy(id.data(), &db, sizeof db);
  if (!key.empty()) std::memcpy(id.data() + sizeof db, key.data(), key.size());
  return id;
}

void WatchTable::Watch(Session& session, uint32_t db, std::string_view key, bool expired_now) {
  for (const WatchedKey& watched : session.transaction.watched) {
    if (watched.db == db && watched.key == key) return;
  }
  session.transaction.watched.push_back({db, std::string(key), expired_now});
  watchers_[MakeId(db, key)].push_back(&session);
}

void WatchTable::UnwatchAll(Session& session) {
  for (const WatchedKey& watched : session.transaction.watched) {
    const auto found = watchers_.find(MakeId(watched.db, watched.key));
    if (found == watchers_.end()) continue;
    std::erase(found->second, &session);
    if (found->second.empty()) watchers_.erase(found);
  }
  session.transaction.watched.clear();
}

void WatchTable::TouchSlow(uint32_t db, std::string_view key) {
  const auto found = watchers_.find(MakeId(db, key));
  if (found == watchers_.end()) return;
  for (Session* session : found->second) {
    for (WatchedKey& watched : session->transaction.watched) {
      if (watched.db != db || watched.key != key) continue;
      // A key that was already past its TTL when watched is gone either way: its removal is no change,
      // a later write to it is.
      if (watched.expired_at_watch) {
        watched.expired_at_watch = false;
      } else {
        session->transaction.dirty_cas = true;
      }
    }
  }
}

void WatchTable::TouchDatabase(Keyspace& keyspace, uint32_t db, uint32_t other) {
  for (auto& [id, sessions] : watchers_) {
    uint32_t watched_db;
    std::memcpy(&watched_db, id.data(), sizeof watched_db);
    if (watched_db != db) continue;
    const std::string_view key = std::string_view(id).substr(sizeof watched_db);
    Database& here = keyspace.db(db);
    Database& there = keyspace.db(other);
    const bool exists_here = here.Peek(here.MakeKey(key)) != nullptr;
    const bool exists_there = there.Peek(there.MakeKey(key)) != nullptr;
    if (!exists_here && !exists_there) continue;
    for (Session* session : sessions) session->transaction.dirty_cas = true;
  }
}

}  // namespace cairn
