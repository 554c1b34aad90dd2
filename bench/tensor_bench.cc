// The tensor module's own loops over one payload of 16 MiB that is warm in memory: what decides
// whether a command leaves the loop (module.h, RunLate) is measured here. LibTorch is not.

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstring>
#include <random>

#include "server/base/checksum.h"
#include "tensor_module/chunk_codec.h"
#include "tensor_module/chunk_pool.h"
#include "tensor_module/combine.h"
#include "tensor_module/compute.h"
#include "tensor_module/numeric.h"
#include "tensor_module/slicing.h"
#include "tensor_module/stats.h"

namespace cairn::tensor {
namespace {

constexpr uint64_t kBytes = 16u << 20;

class HeapSource final : public BlobSource {
 public:
  Blob* Allocate(size_t size) override { return Blob::Create(size); }
};

/// Elements 0, 1, 2, 3, 0, 1, ...
Chunks Payload(DType dtype) {
  HeapSource source;
  Blob* blob = source.Allocate(kBytes);
  const size_t size = DTypeSize(dtype);
  for (size_t i = 0; i < kBytes / size; ++i) {
    Scalar value;
    value.real = static_cast<double>(i % 4);
    StoreScalar(dtype, value, blob->mutable_data() + i * size);
  }
  return CutOnGrid(source, {BlobRef::Adopt(blob), 0, kBytes}).value();
}

DType TypeOf(const benchmark::State& state) { return static_cast<DType>(state.range(0)); }

void Report(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(kBytes));
  state.SetLabel(std::string(DTypeName(TypeOf(state))));
}

void BM_Tensor_Stats(benchmark::State& state) {
  const Chunks chunks = Payload(TypeOf(state));
  for (auto _ : state) {
    const Stats stats = ComputeStats(TypeOf(state), chunks);
    if (stats.mean != 1.5 || stats.max != 3) state.SkipWithError("wrong statistics");
  }
  Report(state);
}

void BM_Tensor_IsFinite(benchmark::State& state) {
  const Chunks chunks = Payload(TypeOf(state));
  uint64_t index = 0;
  for (auto _ : state) {
    if (!IsFinite(TypeOf(state), chunks, &index)) state.SkipWithError("all are finite");
  }
  Report(state);
}

void BM_Tensor_IsClose(benchmark::State& state) {
  const DType dtype = TypeOf(state);
  const auto* a = new Tensor(dtype, {kBytes / DTypeSize(dtype)}, Payload(dtype));
  const auto* b = new Tensor(dtype, {kBytes / DTypeSize(dtype)}, Payload(dtype));
  for (auto _ : state) {
    if (!IsClose(*a, *b, 0, 0)) state.SkipWithError("they are equal");
  }
  a->DropReference();
  b->DropReference();
  Report(state);
}

void BM_Tensor_PlainCastToF32(benchmark::State& state) {
  HeapSource source;
  const DType dtype = TypeOf(state);
  const BlobSlice bytes = Join(source, ReadChunks(Payload(dtype), 0, kBytes)).value();
  for (auto _ : state) {
    const Result<BlobSlice> cast = PlainCompute().Cast(source, dtype, bytes, DType::kF32);
    float third = 0;
    std::memcpy(&third, cast->view().data() + 8, sizeof third);
    if (third != 2) state.SkipWithError("wrong element");
  }
  Report(state);
}

/// Two payloads made into one; the bytes are those of one.
void BM_Tensor_Combine(benchmark::State& state) {
  const Chunks chunks = Payload(TypeOf(state));
  std::string out(kChunkBytes, '\0');
  const Recipe recipe{Recipe::Method::kAverage, {1, 3}};
  for (auto _ : state) {
    for (const BlobSlice& chunk : chunks) {
      const std::string_view inputs[] = {chunk.view(), chunk.view()};
      Combine(TypeOf(state), recipe, inputs, out.data());
      if (out != chunk.view()) state.SkipWithError("an average of the same is the same");
    }
  }
  Report(state);
}

void BM_Tensor_Hash(benchmark::State& state) {
  const Chunks chunks = Payload(DType::kU8);
  const Hash128 expected = HashBytes128(ReadChunks(chunks, 0, kBytes)[0].view());
  for (auto _ : state) {
    if (HashChunks(chunks) != expected) state.SkipWithError("wrong hash");
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(kBytes));
}

/// A column of a matrix of 1024 columns: runs of one element.
void BM_Tensor_ReadStridedSlice(benchmark::State& state) {
  HeapSource source;
  const Shape shape = {kBytes / 4 / 1024, 1024};
  const auto* tensor = new Tensor(DType::kF32, shape, Payload(DType::kF32));
  const Box box = ResolveSlice(shape, {{0, INT64_MAX, 1}, {2, 1024, 4}}).value();
  const uint64_t bytes = PayloadBytes(DType::kF32, box.shape()).value();
  for (auto _ : state) {
    const Chunks slice = ReadSlice(source, *tensor, box).value();
    float last = 0;
    std::memcpy(&last, slice.back().view().data() + slice.back().size - 4, sizeof last);
    if (last != 2) state.SkipWithError("wrong element");
  }
  tensor->DropReference();
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes));
}

constexpr int Number(DType dtype) { return static_cast<int>(dtype); }

BENCHMARK(BM_Tensor_Stats)
    ->ArgName("dtype")
    ->Arg(Number(DType::kF32))
    ->Arg(Number(DType::kBF16))
    ->Arg(Number(DType::kF16))
    ->Arg(Number(DType::kF64))
    ->Arg(Number(DType::kU8));
BENCHMARK(BM_Tensor_IsFinite)
    ->ArgName("dtype")
    ->Arg(Number(DType::kF32))
    ->Arg(Number(DType::kBF16))
    ->Arg(Number(DType::kF8E4M3));
BENCHMARK(BM_Tensor_IsClose)->ArgName("dtype")->Arg(Number(DType::kF32))->Arg(Number(DType::kBF16));
BENCHMARK(BM_Tensor_PlainCastToF32)
    ->ArgName("dtype")
    ->Arg(Number(DType::kF8E4M3))
    ->Arg(Number(DType::kU32));
BENCHMARK(BM_Tensor_Combine)
    ->ArgName("dtype")
    ->Arg(Number(DType::kF64))
    ->Arg(Number(DType::kF32))
    ->Arg(Number(DType::kBF16))
    ->Arg(Number(DType::kF16));
BENCHMARK(BM_Tensor_Hash);
BENCHMARK(BM_Tensor_ReadStridedSlice);

/// A PUT's first half: hash, figures, index; every byte new, or every byte held already.
void BM_ChunkPool_Intern(benchmark::State& state) {
  HeapSource source;
  ChunkPool pool(source);
  const bool held = state.range(0) != 0;
  Blob* blob = source.Allocate(kBytes);
  auto* words = reinterpret_cast<uint32_t*>(blob->mutable_data());
  for (size_t i = 0; i < kBytes / 4; ++i) words[i] = 0x3f000000u | static_cast<uint32_t>(i);
  const BlobSlice piece{BlobRef::Adopt(blob), 0, kBytes};
  const std::vector<size_t> sizes(kBytes / kChunkBytes, kChunkBytes);
  std::vector<ChunkRef> kept;
  if (held) kept = pool.Intern(piece, sizes, DType::kF32).value();
  for (auto _ : state) {
    const std::vector<ChunkRef> chunks = pool.Intern(piece, sizes, DType::kF32).value();
    if (pool.chunk_bytes() != kBytes) state.SkipWithError("wrong number of bytes");
    benchmark::DoNotOptimize(chunks.data());
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(kBytes));
}
BENCHMARK(BM_ChunkPool_Intern)->ArgName("held")->Arg(0)->Arg(1);

/// Weights of a chunk, normal with a deviation of 0.02, in BF16 or F32.
std::string Weights(size_t width, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 0.02f);
  std::string out;
  while (out.size() < kChunkBytes) {
    const float value = normal(random);
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    if (width == 2) bits >>= 16;
    out.append(reinterpret_cast<const char*>(&bits), width);
  }
  return out;
}

enum CodecCase { kNoBase, kOnePercent, kEveryElement, kOther };

/// The next version of a chunk: a hundredth of the elements changed, the low byte of each, all.
std::string NextVersion(std::string bytes, size_t width, CodecCase which) {
  std::mt19937 random(9);
  if (which == kOther) return Weights(width, 8);
  for (size_t at = 0; at < bytes.size(); at += width) {
    if (which == kEveryElement || random() % 100 == 0) {
      bytes[at] = static_cast<char>(bytes[at] ^ (1 + random() % 3));
    }
  }
  return bytes;
}

/// One chunk encoded, as the background does it; the label says how much is left.
void BM_ChunkCodec_Encode(benchmark::State& state) {
  const auto width = static_cast<size_t>(state.range(0));
  const auto which = static_cast<CodecCase>(state.range(1));
  const std::string bytes = Weights(width, 1);
  const std::string base = which == kNoBase ? std::string() : NextVersion(bytes, width, which);
  std::string encoded;
  for (auto _ : state) {
    encoded = EncodeChunk(bytes, width, base);
    benchmark::DoNotOptimize(encoded.data());
  }
  std::string out(bytes.size(), '\0');
  if (!encoded.empty() && (!DecodeChunk(encoded, base, out) || out != bytes)) {
    state.SkipWithError("other bytes");
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(kChunkBytes));
  state.SetLabel(encoded.empty() ? "plain" : std::to_string(encoded.size()) + " bytes");
}
BENCHMARK(BM_ChunkCodec_Encode)
    ->ArgNames({"width", "case"})
    ->ArgsProduct({{2, 4}, {kNoBase, kOnePercent, kEveryElement, kOther}});

void BM_ChunkCodec_Decode(benchmark::State& state) {
  const auto width = static_cast<size_t>(state.range(0));
  const auto which = static_cast<CodecCase>(state.range(1));
  const std::string bytes = Weights(width, 1);
  const std::string base = which == kNoBase ? std::string() : NextVersion(bytes, width, which);
  const std::string encoded = EncodeChunk(bytes, width, base);
  std::string out(bytes.size(), '\0');
  for (auto _ : state) {
    if (!DecodeChunk(encoded, base, out)) state.SkipWithError("it does not decode");
  }
  if (out != bytes) state.SkipWithError("other bytes");
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(kChunkBytes));
}
BENCHMARK(BM_ChunkCodec_Decode)
    ->ArgNames({"width", "case"})
    ->ArgsProduct({{2, 4}, {kNoBase, kOnePercent, kEveryElement}});

}  // namespace
}  // namespace cairn::tensor
