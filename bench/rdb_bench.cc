// Keys a second through the RDB writer and reader: 16-byte keys, 64-byte values, in memory, so that
// the format's cost is seen and not the disk's. Every iteration checks what it produced.

#include <benchmark/benchmark.h>

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "persistence/rdb_reader.h"
#include "persistence/rdb_writer.h"

namespace cairn {
namespace {

constexpr int kKeys = 200000;

/// Counts and keeps nothing.
class NullSink final : public DatasetSink, public ValueSink {
 public:
  uint64_t values = 0;
  uint64_t value_bytes = 0;

  Status Aux(std::string_view, std::string_view) override { return Status::Ok(); }
  Status FunctionLibrary(std::string_view) override { return Status::Ok(); }
  Status SelectDatabase(uint32_t, uint64_t, uint64_t) override { return Status::Ok(); }
  Result<ValueSink*> Key(std::string_view, const KeyMeta&) override {
    return static_cast<ValueSink*>(this);
  }
  Status String(std::string_view bytes) override {
    ++values;
    value_bytes += bytes.size();
    return Status::Ok();
  }
  Status Integer(int64_t) override { return Refused("integer"); }
  Status Begin(ValueKind, uint64_t) override { return Refused("container"); }
  Status Item(std::string_view) override { return Refused("container"); }
  Status Field(std::string_view, std::string_view) override { return Refused("container"); }
  Status Scored(std::string_view, double) override { return Refused("container"); }
  Status Packed(uint8_t, std::string_view) override { return Refused("container"); }
  Status BeginModule(uint64_t) override { return Refused("module"); }
  Status ModuleUnsigned(uint64_t) override { return Refused("module"); }
  Status ModuleSigned(int64_t) override { return Refused("module"); }
  Status ModuleDouble(double) override { return Refused("module"); }
  Status ModuleFloat(float) override { return Refused("module"); }
  Status ModuleString(std::string_view) override { return Refused("module"); }
  Status End() override { return Refused("container"); }
};

/// 64 bytes that LZF cannot shrink, different for each key.
std::string ValueOf(uint64_t seed) {
  std::string value(64, '\0');
  for (char& c : value) {
    seed = seed * 6364136223846793005ULL + 1442695040888963407ULL;
    c = static_cast<char>(seed >> 56);
  }
  return value;
}

bool WriteAll(std::string* out, bool compress, const std::vector<std::string>& values) {
  out->clear();
  StringByteSink bytes(out);
  RdbWriteOptions options;
  options.compress = compress;
  RdbWriter writer(&bytes, options);
  bool ok = writer.Start().ok() && writer.SelectDatabase(0, values.size(), 0).ok();
  char key[32];
  for (size_t i = 0; ok && i < values.size(); ++i) {
    const int size = std::snprintf(key, sizeof(key), "key:%012zu", i);
    Result<ValueSink*> value = writer.Key({key, static_cast<size_t>(size)}, KeyMeta());
    ok = value.ok() && (*value)->String(values[i]).ok();
  }
  return ok && writer.Finish().ok() && writer.key_count() == values.size();
}

std::vector<std::string> MakeValues() {
  std::vector<std::string> values;
  for (int i = 0; i < kKeys; ++i) values.push_back(ValueOf(static_cast<uint64_t>(i)));
  return values;
}

/// Argument: rdbcompression.
void BM_RdbSave(benchmark::State& state) {
  const std::vector<std::string> values = MakeValues();
  std::string file;
  for (auto _ : state) {
    if (!WriteAll(&file, state.range(0) != 0, values)) return state.SkipWithError("save failed");
  }
  state.SetItemsProcessed(state.iterations() * kKeys);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(file.size()));
}
BENCHMARK(BM_RdbSave)->Arg(0)->Arg(1)->Unit(benchmark::kMillisecond);

void BM_RdbLoad(benchmark::State& state) {
  std::string file;
  if (!WriteAll(&file, true, MakeValues())) return state.SkipWithError("save failed");
  for (auto _ : state) {
    NullSink sink;
    RdbReader reader(file, "memory", {});
    if (!reader.Load(sink).ok() || sink.values != kKeys ||
        sink.value_bytes != uint64_t{kKeys} * 64 || !reader.counts().checksum_verified) {
      return state.SkipWithError("load failed");
    }
  }
  state.SetItemsProcessed(state.iterations() * kKeys);
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(file.size()));
}
BENCHMARK(BM_RdbLoad)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace cairn
