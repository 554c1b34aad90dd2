// RunWatch against a plain model: which runs the clock has to do with, and when.

#include "tensor_module/run_watch.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace cairn::tensor {
namespace {

CkptRun RunDueAt(int64_t due_ms) {
  CkptRun run;
  if (due_ms == INT64_MAX) return run;
  Transaction transaction;
  transaction.id = "tx";
  transaction.deadline_ms = due_ms;
  run.transactions.push_back(Kept<Transaction>::Make(std::move(transaction)));
  return run;
}

TEST(RunWatch, TheNextOfAllTransactionsCounts) {
  CkptRun run = RunDueAt(50);
  EXPECT_EQ(NextDueMs(run), 50);
  Transaction over;
  over.state = TxState::kExpired;
  over.deadline_ms = 1;
  over.free_at_ms = 40;
  run.transactions.push_back(Kept<Transaction>::Make(over));
  EXPECT_EQ(NextDueMs(run), 40) << "of one that is over, when it is forgotten";
  EXPECT_EQ(NextDueMs(CkptRun()), INT64_MAX);
}

TEST(RunWatch, EachRunComesUpInItsTimeWhereverItIsThen) {
  std::mt19937 random(3);
  RunWatch watch;
  std::map<std::pair<uint32_t, std::string>, int64_t> model;
  int64_t now_ms = 1000;
  for (int step = 0; step < 20000; ++step) {
    const auto db = static_cast<uint32_t>(random() % 3);
    const std::string key(1, static_cast<char>('a' + random() % 8));
    switch (random() % 8) {
      case 0: {
        const uint32_t other = static_cast<uint32_t>(random() % 3);
        if (other == db) break;
        watch.OnSwapped(db, other);
        decltype(model) swapped;
        for (const auto& [place, due] : model) {
          const uint32_t now_in = place.first == db      ? other
                                  : place.first == other ? db
                                                         : place.first;
          swapped[{now_in, place.second}] = due;
        }
        model = std::move(swapped);
        break;
      }
      case 1:
        watch.Drop({db, key});
        model.erase({db, key});
        break;
      case 2:
        watch.Visit([&](uint32_t in, std::string_view name) { return in != db || name != key; });
        model.erase({db, key});
        break;
      case 3: {
        now_ms += static_cast<int64_t>(random() % 200);
        std::vector<std::pair<uint32_t, std::string>> due, taken;
        for (auto& [place, at] : model) {
          if (at > now_ms) continue;
          due.push_back(place);
          at = now_ms + RunWatch::kRetryMs;
        }
        while (const auto place = watch.TakeDue(now_ms)) taken.emplace_back(place->db, place->key);
        std::sort(taken.begin(), taken.end());
        ASSERT_EQ(taken, due) << "step " << step;
        break;
      }
      default: {
        const int64_t due =
            random() % 4 == 0 ? INT64_MAX : now_ms + static_cast<int64_t>(random() % 3000);
        watch.OnStored(db, key, RunDueAt(due));
        if (due == INT64_MAX) {
          model.erase({db, key});
        } else {
          model[{db, key}] = due;
        }
      }
    }
    ASSERT_EQ(watch.size(), model.size());
  }
}

}  // namespace
}  // namespace cairn::tensor
