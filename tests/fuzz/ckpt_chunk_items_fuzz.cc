// Chunk lists of checkpoint files. First byte even: the rest is a list as a reader gives it, of
// numbers and strings of any kind (ckpt_chunk_items.h); what is taken has the hash that was
// claimed, and chains within their limit. Odd: the rest is what a pool is asked to do with the
// forms of its chunks (chunk_pool.h, P6 to P8), against a plain model.

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/check.h"
#include "tensor_module/chunk_codec.h"
#include "tensor_module/ckpt_chunk_items.h"
#include "tensor_module/compute.h"
#include "tensor_module/module.h"

namespace cairn::tensor {
namespace {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}
  bool empty() const { return rest_.empty(); }
  uint8_t Byte() {
    if (rest_.empty()) return 0;
    const auto byte = static_cast<uint8_t>(rest_[0]);
    rest_.remove_prefix(1);
    return byte;
  }
  std::string_view Bytes(size_t size) {
    const std::string_view out = rest_.substr(0, size);
    rest_.remove_prefix(out.size());
    return out;
  }
  uint64_t Number() {
    uint64_t number = 0;
    const std::string_view bytes = Bytes(8);
    std::memcpy(&number, bytes.data(), bytes.size());
    return number;
  }

 private:
  std::string_view rest_;
};

class HeapMemory final : public BlobSource {
 public:
  Blob* Allocate(size_t size) override { return Blob::Create(size); }
};

BlobSlice SliceOf(std::string_view bytes) { return {BlobRef::Copy(bytes), 0, bytes.size()}; }

unsigned LinksOf(const Chunk& chunk) {
  unsigned links = 0;
  for (ChunkRef at = chunk.encoded().base; at; at = at->encoded().base) ++links;
  return links;
}

// --- a list ---

/// What the module's reader gives: kind and size of a string are the input's.
struct Reader {
  Input input;
};
Reader& Of(CairnReader* reader) { return *reinterpret_cast<Reader*>(reader); }
/// A server blob here is a blob.
Blob* Of(const CairnBlob* blob) { return const_cast<Blob*>(reinterpret_cast<const Blob*>(blob)); }

CairnApi FakeApi() {
  CairnApi api{};
  api.abi_version = CAIRN_MODULE_ABI_VERSION;
  api.struct_size = sizeof api;
  api.load_unsigned = [](CairnReader* reader, uint64_t* value) {
    Input& input = Of(reader).input;
    const uint8_t kind = input.Byte();
    if (kind == 255) return static_cast<int>(CAIRN_FAILED);
    *value = kind >= 250 ? input.Number() : kind;
    return static_cast<int>(CAIRN_OK);
  };
  api.load_string = [](CairnReader* reader, CairnBlob** blob) {
    Input& input = Of(reader).input;
    const size_t size = input.Byte() | size_t{input.Byte()} << 8;
    const std::string_view bytes = input.Bytes(size);
    *blob = reinterpret_cast<CairnBlob*>(BlobRef::Copy(bytes).Release());
    return static_cast<int>(CAIRN_OK);
  };
  api.load_is_file = [](CairnReader*) { return 0; };
  api.blob_allocate = [](CairnModule*, size_t size) {
    return reinterpret_cast<CairnBlob*>(Blob::Create(size));
  };
  api.blob_release = [](CairnBlob* blob) { Of(blob)->Unref(); };
  api.blob_data = [](const CairnBlob* blob) { return Of(blob)->data(); };
  api.blob_size = [](const CairnBlob* blob) { return Of(blob)->size(); };
  api.blob_footprint = [](const CairnBlob* blob) { return Of(blob)->footprint(); };
  api.machine_memory = [](CairnModule*) { return uint64_t{1} << 40; };
  api.monotonic_us = [](CairnModule*) { return int64_t{0}; };
  api.log = [](CairnModule*, int, CairnBytes) {};
  return api;
}

void ReadList(Input input) {
  static const CairnApi api = FakeApi();
  static const PlainCompute compute;
  Module module(api, nullptr, compute);
  Reader reader{input};
  std::vector<ChunkRef> chunks;
  const int version = 1 + reader.input.Byte() % 3;
  while (!reader.input.empty() && chunks.size() < 64) {
    ChunkRef chunk =
        LoadChunkItem(module, reinterpret_cast<CairnReader*>(&reader), version, chunks);
    if (!chunk) break;
    CAIRN_CHECK(HashBytes128(chunk->bytes().view()) == chunk->hash());
    CAIRN_CHECK(LinksOf(*chunk) <= ChunkPool::kMaxChain);
    chunks.push_back(std::move(chunk));
  }
}

// --- a pool ---

void AskPool(Input input) {
  HeapMemory memory;
  ChunkPool pool(memory);
  struct Known {
    ChunkRef chunk;
    std::string bytes;
  };
  std::vector<Known> known;
  const auto pick = [&]() -> Known* {
    const uint8_t byte = input.Byte();
    return known.empty() ? nullptr : &known[byte % known.size()];
  };
  for (int ops = 0; !input.empty() && ops < 64; ++ops) {
    switch (input.Byte() % 6) {
      case 0: {  // a new one, or a neighbour of another
        const Known* like = pick();
        std::string bytes = like != nullptr ? like->bytes : std::string(ChunkPool::kSlabBytes, 'a');
        const std::string_view change = input.Bytes(input.Byte() % 16);
        const size_t at = input.Byte() * size_t{250};
        for (size_t i = 0; i < change.size(); ++i) bytes[at + i] = change[i];
        known.push_back({pool.InternOne(SliceOf(bytes), DType::kU8).value(), bytes});
        break;
      }
      case 1: {
        const Known *one = pick(), *base = pick();
        if (one != nullptr) pool.Encode(*one->chunk, base->chunk.get(), kFastestLevel);
        break;
      }
      case 2:
        if (const Known* one = pick()) pool.Restore(*one->chunk);
        break;
      case 3:
        if (Known* one = pick()) {
          std::swap(*one, known.back());
          known.pop_back();
        }
        break;
      case 4:
        if (const Known* one = pick()) CAIRN_CHECK(one->chunk->bytes().view() == one->bytes);
        break;
      default: {  // from a file
        const Known* base = pick();
        const std::string encoded(input.Bytes(input.Byte()));
        std::string out(ChunkPool::kSlabBytes, '\0');
        const bool fits = DecodeChunk(
            encoded, base == nullptr ? std::string_view() : std::string_view(base->bytes), out);
        Result<ChunkRef> made =
            pool.InternEncoded({SliceOf(encoded), base == nullptr ? ChunkRef() : base->chunk},
                               HashBytes128(out), out.size(), DType::kU8);
        CAIRN_CHECK(fits || !made.ok());
        if (made.ok()) known.push_back({std::move(*made), out});
        break;
      }
    }
    for (const Known& one : known) CAIRN_CHECK(LinksOf(*one.chunk) <= ChunkPool::kMaxChain);
  }
  for (const Known& one : known) CAIRN_CHECK(one.chunk->bytes().view() == one.bytes);
  known.clear();
  const PoolFigures figures = pool.figures();
  CAIRN_CHECK(figures.chunks == 0 && figures.stored_bytes == 0 && figures.encoded_chunks == 0 &&
              figures.delta_chunks == 0 && figures.expanded_bytes == 0);
}

}  // namespace
}  // namespace cairn::tensor

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const cairn::tensor::Input rest(data + 1, size - 1);
  if (data[0] % 2 == 0) {
    cairn::tensor::ReadList(rest);
  } else {
    cairn::tensor::AskPool(rest);
  }
  return 0;
}
