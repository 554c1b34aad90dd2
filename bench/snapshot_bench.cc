// The snapshot without a disk: how long the cut takes, how fast a view is walked, and what a write
// costs while one is open. 16-byte keys, 64-byte values. The walk is checked by counting its keys,
// writes by the number of keys that are there at the end.

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>

#include "persistence/rdb_writer.h"
#include "server/keyspace/keyspace.h"
#include "server/keyspace/view.h"

namespace cairn {
namespace {

constexpr int64_t kFewKeys = 100'000, kManyKeys = 1'000'000;
constexpr size_t kValueBytes = 64, kKeysPerStep = 512;

int64_t KeysOf(const benchmark::State& state) {
  return std::getenv("CAIRN_BENCH_SMOKE") ? 2000 : state.range(0);
}

struct Name {
  explicit Name(uint64_t number) {
    std::snprintf(text, sizeof text, "key:%012llu", static_cast<unsigned long long>(number));
  }
  std::string_view view() const { return {text, 16}; }
  char text[32];
};

std::unique_ptr<Keyspace> Filled(int64_t keys) {
  auto keyspace = std::make_unique<Keyspace>(Keyspace::Options{.databases = 16, .hash_seed = 1});
  Database& db = keyspace->db(0);
  std::string value(kValueBytes, 'v');
  uint64_t random = 88172645463325252;
  for (int64_t i = 0; i < keys; ++i) {
    for (char& c : value) {
      random = random * 6364136223846793005ULL + 1442695040888963407ULL;
      c = static_cast<char>(random >> 56);
    }
    const Name name(static_cast<uint64_t>(i));
    db.Set(db.MakeKey(name.view()), ValueInput::String(value), kNoExpiry);
  }
  return keyspace;
}

/// Bytes that go nowhere.
class Nowhere final : public ByteSink {
 public:
  Status Append(std::string_view bytes) override {
    size += bytes.size();
    return Status::Ok();
  }
  uint64_t size = 0;
};

/// Walks a view into an RDB writer; the number of keys, 0 after an error.
uint64_t Walk(View* view, uint64_t* bytes) {
  Nowhere nowhere;
  RdbWriter writer(&nowhere, {});
  if (!writer.Start().ok()) return 0;
  Result<bool> more = true;
  while (more.ok() && *more) more = view->Step(writer, kKeysPerStep);
  if (!more.ok() || !writer.Finish().ok()) return 0;
  *bytes += nowhere.size;
  return writer.key_count();
}

void BM_Snapshot_Cut(benchmark::State& state) {
  const auto keyspace = Filled(KeysOf(state));
  for (auto _ : state) {
    View* view = keyspace->BeginView();
    if (view->key_count() != keyspace->db(0).size()) state.SkipWithError("keys are missing");
    state.PauseTiming();
    keyspace->EndView(view);
    state.ResumeTiming();
  }
}

/// Into an RDB file that nobody stores: the walk, the encoding, the checksum.
void BM_Snapshot_Walk(benchmark::State& state) {
  const int64_t keys = KeysOf(state);
  const auto keyspace = Filled(keys);
  uint64_t bytes = 0;
  for (auto _ : state) {
    View* view = keyspace->BeginView();
    if (Walk(view, &bytes) != static_cast<uint64_t>(keys)) state.SkipWithError("wrong count");
    keyspace->EndView(view);
  }
  state.SetItemsProcessed(state.iterations() * keys);
  state.SetBytesProcessed(static_cast<int64_t>(bytes));
}

/// SET of a random key. Argument 1: 0 = no view, 1 = a view that is walked again and again by a
/// thread of its own.
void BM_Snapshot_Write(benchmark::State& state) {
  const int64_t keys = KeysOf(state);
  const auto keyspace = Filled(keys);
  Database& db = keyspace->db(0);
  const std::string value(kValueBytes, 'w');
  std::atomic<View*> to_walk{nullptr};
  std::atomic<bool> stop{false}, failed{false};
  std::thread walker([&] {
    uint64_t bytes = 0;
    while (!stop.load()) {
      View* view = to_walk.load();
      if (view == nullptr) {
        std::this_thread::yield();
        continue;
      }
      if (Walk(view, &bytes) != static_cast<uint64_t>(keys)) failed.store(true);
      to_walk.store(nullptr);
    }
  });
  uint64_t random = 88172645463325252;
  for (auto _ : state) {
    if (state.range(1) && to_walk.load(std::memory_order_acquire) == nullptr) {
      if (View* done = keyspace->active_view()) keyspace->EndView(done);
      to_walk.store(keyspace->BeginView());
    }
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    const Name name(random % static_cast<uint64_t>(keys));
    db.Set(db.MakeKey(name.view()), ValueInput::String(value), kNoExpiry);
  }
  stop.store(true);
  walker.join();
  if (View* last = keyspace->active_view()) keyspace->EndView(last);
  if (failed.load() || db.size() != static_cast<uint64_t>(keys)) state.SkipWithError("wrong count");
  state.SetItemsProcessed(state.iterations());
}

BENCHMARK(BM_Snapshot_Cut)->ArgName("keys")->Arg(kFewKeys)->Arg(kManyKeys);
BENCHMARK(BM_Snapshot_Walk)
    ->ArgName("keys")
    ->Arg(kFewKeys)
    ->Arg(kManyKeys)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_Snapshot_Write)
    ->ArgNames({"keys", "view"})
    ->Args({kManyKeys, 0})
    ->Args({kManyKeys, 1});

}  // namespace
}  // namespace cairn
