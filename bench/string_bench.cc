// Big strings without a server: a write of one byte while a snapshot reads the value (the longest
// stop that a client sees), appending small pieces, and reading what was written so. Each bench
// checks the bytes it made.

#include <benchmark/benchmark.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "persistence/value_sink.h"
#include "server/keyspace/keyspace.h"
#include "server/keyspace/view.h"

namespace cairn {
namespace {

constexpr size_t kMib = size_t{1} << 20;
constexpr size_t kPieceBytes = 1024;

size_t BytesOf(const benchmark::State& state) {
  return (std::getenv("CAIRN_BENCH_SMOKE") ? 8 : static_cast<size_t>(state.range(0))) * kMib;
}

struct OneString {
  explicit OneString(size_t size)
      : keyspace({.databases = 1, .hash_seed = 1}), key(keyspace.db(0).MakeKey("s")) {
    BlobRef blob = BlobRef::Adopt(Blob::Create(size));
    std::memset(blob->mutable_data(), 'v', size);
    const std::string_view bytes = blob->view();
    keyspace.db(0).Set(key, ValueInput::String(bytes, blob), kNoExpiry);
  }
  void Write(size_t size, size_t at, std::string_view bytes) {
    keyspace.db(0).EditString(key, size, at).Write(at, bytes);
  }
  size_t size() { return keyspace.db(0).Peek(key)->StringSize(); }

  Keyspace keyspace;
  KeyRef key;
};

/// Each iteration is the first write to another place after a cut.
void BM_String_SetRangeUnderView(benchmark::State& state) {
  OneString string(BytesOf(state));
  const size_t size = string.size();
  size_t at = 0;
  for (auto _ : state) {
    View* view = string.keyspace.BeginView();
    const auto begun = std::chrono::steady_clock::now();
    string.Write(size, at, "x");
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begun;
    state.SetIterationTime(taken.count());
    string.keyspace.EndView(view);
    string.keyspace.DrainReaper();
    string.Write(size, 0,
                 "y");  // what writes after a save have to put in order is not the cut's cost
    at = (at + size / 7) % size;
  }
  if (string.size() != size) state.SkipWithError("the length has changed");
}
BENCHMARK(BM_String_SetRangeUnderView)->ArgName("mib")->Arg(1)->Arg(16)->Arg(256)->UseManualTime();

void BM_String_Append(benchmark::State& state) {
  OneString string(BytesOf(state));
  const std::string piece(kPieceBytes, 'p');
  size_t size = string.size();
  const size_t begun = size;
  for (auto _ : state) {
    string.Write(size + piece.size(), size, piece);
    size += piece.size();
  }
  if (string.size() != begun + state.iterations() * piece.size())
    state.SkipWithError("bytes are missing");
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(piece.size()));
}
BENCHMARK(BM_String_Append)->ArgName("mib")->Arg(1)->Arg(256)->Iterations(20000);

}  // namespace
}  // namespace cairn
