#include "server/engine/transaction.h"

#include <algorithm>

#include "server/base/hash.h"
#include "server/keyspace/keyspace.h"

namespace cairn {

bool IsPastTtl(const Entry* entry, int64_t now_ms) {
  return entry != nullptr && entry->IsPast(now_ms);
}

size_t WatchTable::KeyHash::operator()(std::string_view key) const { return HashBytes(key, 0); }

void WatchTable::Watch(Session& session, uint32_t db, std::string_view key, bool expired_now) {
  if (databases_.size() <= db) databases_.resize(db + 1);
  Keys& keys = databases_[db];
  auto found = keys.find(key);
  if (found == keys.end()) found = keys.try_emplace(std::string(key)).first;
  Watchers& watchers = found->second;
  std::vector<WatchedKey>& watched = session.transaction.watched;
  // Whichever list is shorter tells whether it is watched already.
  const bool known =
      watchers.size() < watched.size()
          ? std::any_of(watchers.begin(), watchers.end(),
                        [&](const Watcher& each) { return each.session == &session; })
          : std::any_of(watched.begin(), watched.end(),
                        [&](const WatchedKey& each) { return each.db == db && each.key == key; });
  if (known) return;
  watchers.push_back({&session, watched.size()});
  watched.push_back({db, std::string(key), expired_now, watchers.size() - 1});
  ++watched_;
}

void WatchTable::UnwatchAll(Session& session) {
  for (const WatchedKey& watched : session.transaction.watched) {
    Keys& keys = databases_[watched.db];
    const auto found = keys.find(watched.key);
    Watchers& watchers = found->second;
    watchers[watched.place] = watchers.back();
    watchers[watched.place].key().place = watched.place;
    watchers.pop_back();
    if (watchers.empty()) keys.erase(found);
    --watched_;
  }
  session.transaction.watched.clear();
}

void WatchTable::TouchSlow(uint32_t db, std::string_view key) {
  if (databases_.size() <= db) return;
  const auto found = databases_[db].find(key);
  if (found == databases_[db].end()) return;
  for (const Watcher& watcher : found->second) {
    if (watcher.session->transaction.dirty_cas) continue;
    // A key that was already past its TTL when watched is gone either way: its removal is no
    // change, a later write to it is.
    if (WatchedKey& watched = watcher.key(); watched.expired_at_watch) {
      watched.expired_at_watch = false;
    } else {
      watcher.session->transaction.dirty_cas = true;
    }
  }
}

void WatchTable::TouchDatabase(Keyspace& keyspace, uint32_t db, uint32_t other) {
  if (databases_.size() <= db) return;
  Database& here = keyspace.db(db);
  Database& there = keyspace.db(other);
  for (const auto& [key, watchers] : databases_[db]) {
    const Entry* const before = here.Peek(here.MakeKey(key));
    const Entry* const after = db == other ? nullptr : there.Peek(there.MakeKey(key));
    if (before == nullptr && after == nullptr) continue;
    const bool expired = IsPastTtl(after, keyspace.now_ms());
    for (const Watcher& watcher : watchers) {
      WatchedKey& watched = watcher.key();
      // As for one key; past its TTL here and there is no change either.
      if (watched.expired_at_watch && (after == nullptr || expired)) {
        watched.expired_at_watch = expired;
      } else if (before == nullptr && expired) {
        watched.expired_at_watch = true;
      } else {
        watcher.session->transaction.dirty_cas = true;
      }
    }
  }
}

}  // namespace cairn
