// The keyspace's table through its one door, Database: 16-byte keys and 16-byte values in random
// order, so that with many keys each look-up misses the caches as it would in a server. Every bench
// checks what it found or left behind.

#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "server/keyspace/keyspace.h"

namespace cairn {
namespace {

constexpr int64_t kFewKeys = 100'000, kManyKeys = 1'000'000;
constexpr std::string_view kValue = "value-of-16bytes", kOther = "other-value-16-b";

/// A name without an allocation: key:%012d.
struct Name {
  explicit Name(uint64_t number) {
    std::snprintf(text, sizeof text, "key:%012llu", static_cast<unsigned long long>(number));
  }
  std::string_view view() const { return {text, 16}; }
  char text[32];
};

class Random {
 public:
  uint64_t Below(uint64_t bound) {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ % bound;
  }

 private:
  uint64_t state_ = 88172645463325252;
};

/// CI runs each bench for a moment only: then the many are as few as the few.
int64_t KeysOf(const benchmark::State& state) {
  return std::getenv("CAIRN_BENCH_SMOKE") ? 1000 : state.range(0);
}

std::unique_ptr<Keyspace> Filled(int64_t keys) {
  auto keyspace = std::make_unique<Keyspace>(Keyspace::Options{.databases = 1, .hash_seed = 1});
  Database& db = keyspace->db(0);
  for (int64_t i = 0; i < keys; ++i) {
    const Name name(static_cast<uint64_t>(i));
    db.Set(db.MakeKey(name.view()), ValueInput::String(kValue), kNoExpiry);
  }
  return keyspace;
}

void Find(benchmark::State& state, bool hit) {
  const int64_t keys = KeysOf(state);
  const auto keyspace = Filled(keys);
  Database& db = keyspace->db(0);
  Random random;
  uint64_t found = 0;
  for (auto _ : state) {
    const Name name(random.Below(static_cast<uint64_t>(keys)) +
                    (hit ? 0 : static_cast<uint64_t>(keys)));
    found += db.LookupRead(db.MakeKey(name.view())) != nullptr;
  }
  const uint64_t asked = static_cast<uint64_t>(state.iterations());
  if (found != (hit ? asked : 0)) state.SkipWithError("wrong answer");
  state.SetItemsProcessed(state.iterations());
}
void BM_SegTable_FindHit(benchmark::State& state) { Find(state, true); }
void BM_SegTable_FindMiss(benchmark::State& state) { Find(state, false); }

/// As the dispatcher does it: 32 keys hashed, their buckets prefetched, then their entries.
void BM_SegTable_FindHitPrefetched(benchmark::State& state) {
  const int64_t keys = KeysOf(state);
  const auto keyspace = Filled(keys);
  Database& db = keyspace->db(0);
  Random random;
  constexpr int kBatch = 32;
  uint64_t found = 0;
  for (auto _ : state) {
    std::vector<Name> names;
    std::vector<KeyRef> refs;
    names.reserve(kBatch);
    for (int i = 0; i < kBatch; ++i) {
      names.emplace_back(random.Below(static_cast<uint64_t>(keys)));
      refs.push_back(db.MakeKey(names.back().view()));
      db.PrefetchBucket(refs.back().hash, /*for_write=*/false);
    }
    for (const KeyRef& ref : refs) db.PrefetchEntry(ref.hash);
    for (const KeyRef& ref : refs) found += db.LookupRead(ref) != nullptr;
  }
  if (found != static_cast<uint64_t>(state.iterations()) * kBatch)
    state.SkipWithError("wrong answer");
  state.SetItemsProcessed(state.iterations() * kBatch);
}

void BM_SegTable_Insert(benchmark::State& state) {
  const int64_t keys = KeysOf(state);
  for (auto _ : state) {
    const auto keyspace = Filled(keys);
    if (keyspace->db(0).size() != static_cast<uint64_t>(keys))
      state.SkipWithError("keys are missing");
    state.PauseTiming();  // what follows is the destructor
    keyspace->FlushAll(false);
    state.ResumeTiming();
  }
  state.SetItemsProcessed(state.iterations() * keys);
}

/// Argument 1: 0 = a value of the same size class, written in place; 1 = now this class, now
/// another.
void BM_SegTable_Overwrite(benchmark::State& state) {
  const int64_t keys = KeysOf(state);
  const auto keyspace = Filled(keys);
  Database& db = keyspace->db(0);
  Random random;
  uint64_t turn = 0;
  for (auto _ : state) {
    const Name name(random.Below(static_cast<uint64_t>(keys)));
    const std::string_view value = state.range(1) && ++turn % 2
                                       ? std::string_view("a value of thirty-two bytes, say")
                                       : kOther;
    db.Set(db.MakeKey(name.view()), ValueInput::String(value), kNoExpiry);
  }
  if (db.size() != static_cast<uint64_t>(keys)) state.SkipWithError("keys are missing");
  state.SetItemsProcessed(state.iterations());
}

void BM_SegTable_Erase(benchmark::State& state) {
  const int64_t keys = KeysOf(state);
  for (auto _ : state) {
    state.PauseTiming();
    auto keyspace = Filled(keys);
    state.ResumeTiming();
    Database& db = keyspace->db(0);
    for (int64_t i = 0; i < keys; ++i) {
      const Name name(static_cast<uint64_t>(i));
      if (!db.Remove(db.MakeKey(name.view()), false)) state.SkipWithError("a key was not there");
    }
    if (db.size() != 0) state.SkipWithError("keys are left");
  }
  state.SetItemsProcessed(state.iterations() * keys);
}

/// A whole SCAN, ten buckets a call.
void BM_SegTable_Scan(benchmark::State& state) {
  const int64_t keys = KeysOf(state);
  const auto keyspace = Filled(keys);
  Database& db = keyspace->db(0);
  for (auto _ : state) {
    uint64_t cursor = 0, seen = 0;
    do {
      cursor =
          db.Scan(cursor, 10, [&seen](const Entry& entry) { seen += entry.key().size() == 16; });
    } while (cursor != 0);
    if (seen != static_cast<uint64_t>(keys)) state.SkipWithError("SCAN missed or repeated a key");
  }
  state.SetItemsProcessed(state.iterations() * keys);
}

BENCHMARK(BM_SegTable_FindHit)->ArgName("keys")->Arg(kFewKeys)->Arg(kManyKeys);
BENCHMARK(BM_SegTable_FindMiss)->ArgName("keys")->Arg(kFewKeys)->Arg(kManyKeys);
BENCHMARK(BM_SegTable_FindHitPrefetched)->ArgName("keys")->Arg(kFewKeys)->Arg(kManyKeys);
BENCHMARK(BM_SegTable_Insert)
    ->ArgName("keys")
    ->Arg(kFewKeys)
    ->Arg(kManyKeys)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_SegTable_Overwrite)
    ->ArgNames({"keys", "resize"})
    ->ArgsProduct({{kFewKeys, kManyKeys}, {0, 1}});
BENCHMARK(BM_SegTable_Erase)
    ->ArgName("keys")
    ->Arg(kFewKeys)
    ->Arg(kManyKeys)
    ->Unit(benchmark::kMillisecond);
BENCHMARK(BM_SegTable_Scan)
    ->ArgName("keys")
    ->Arg(kFewKeys)
    ->Arg(kManyKeys)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace cairn
