#include "server/engine/transaction.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <set>
#include <utility>

namespace cairn {
namespace {

// Keys of sessions that come and go in any order, beside a plain set of pairs.
TEST(WatchTableTest, FindsTheWatchersOfAKeyWhoeverCameAndWent) {  // W1
  std::mt19937 random(20);
  WatchTable table;
  std::vector<std::unique_ptr<Session>> sessions;
  for (uint64_t id = 0; id < 6; ++id)
    sessions.push_back(std::make_unique<Session>(id, nullptr, SessionKind::kNormal));
  std::set<std::pair<Session*, std::string>> watched;  // db number and key
  for (int step = 0; step < 20000; ++step) {
    Session& session = *sessions[random() % sessions.size()];
    const uint32_t db = random() % 3;
    const std::string key = "key" + std::to_string(random() % 8);
    const std::string id = std::to_string(db) + key;
    const auto action = random() % 10;
    if (action < 6) {
      table.Watch(session, db, key, false);
      watched.insert({&session, id});
    } else if (action == 6) {
      table.UnwatchAll(session);
      session.transaction.dirty_cas = false;
      std::erase_if(watched, [&](const auto& each) { return each.first == &session; });
    } else {
      table.Touch(db, key);
      for (const auto& each : sessions) {
        ASSERT_EQ(each->transaction.dirty_cas, watched.contains({each.get(), id})) << step;
        each->transaction.dirty_cas = false;
      }
    }
    ASSERT_EQ(table.empty(), watched.empty());
    size_t count = 0;
    for (const auto& each : sessions) count += each->transaction.watched.size();
    ASSERT_EQ(count, watched.size()) << step;
  }
}

TEST(WatchTableTest, TheRemovalOfAKeyPastItsTtlIsNoChangeForWhoWatchedItSo) {
  WatchTable table;
  Session early(1, nullptr, SessionKind::kNormal), late(2, nullptr, SessionKind::kNormal);
  table.Watch(early, 0, "k", false);
  table.Watch(late, 0, "k", true);
  table.Touch(0, "k");
  EXPECT_TRUE(early.transaction.dirty_cas);
  EXPECT_FALSE(late.transaction.dirty_cas);
  table.Touch(0, "k");
  EXPECT_TRUE(late.transaction.dirty_cas);
  table.UnwatchAll(early);
  table.UnwatchAll(late);
  EXPECT_TRUE(table.empty());
}

}  // namespace
}  // namespace cairn
