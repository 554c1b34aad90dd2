// How tensors and uploads stand in RDB files and DUMP payloads: the items of a module value
// (docs/rdb.md), in order.
//
//   tensor "cairntens" v2 := dtype u | ndim u | dim u * ndim | size u | piece s *
//   upload "cairntnup" v2 := dtype u | ndim u | dim u * ndim | ranges u | (begin u, end u) * |
//                            size u | piece s *
//
// u is an unsigned item, s a string item. Pieces concatenated are the payload of `size` bytes; each
// but the last is kPieceBytes long. So equal values are written alike, however their bytes came and
// whatever was asked of them: DUMP and DEBUG DIGEST of a replica are its primary's. A piece is a
// multiple of the grid, so that it is cut there without a copy. Bytes that an upload has not
// received are written as zeros. Example, an F32 scalar 1.0: u 1, u 0, u 4, s 00 00 80 3f.
//
// Version 1, which is read, had a tensor's hash behind its dimensions (hash-known u | [low u, high
// u]), and pieces of any multiple of 256 KiB.

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

#include "tensor_module/module.h"

namespace cairn::tensor {

namespace {

constexpr int kEncodingVersion = 2;
constexpr int kVersionWithHash = 1;
constexpr uint64_t kPieceBytes = 4u << 20;
static_assert(kPieceBytes % kChunkBytes == 0);

struct Saver {
  const CairnApi& api;
  CairnWriter* writer;
  bool failed = false;
  void Unsigned(uint64_t value) { failed = failed || api.save_unsigned(writer, value) != CAIRN_OK; }
  void String(std::string_view bytes) {
    failed = failed || api.save_string(writer, {bytes.data(), bytes.size()}) != CAIRN_OK;
  }
};

void SaveHead(Saver& saver, DType dtype, const Shape& shape) {
  saver.Unsigned(static_cast<uint64_t>(dtype));
  saver.Unsigned(shape.size());
  for (uint64_t dim : shape) saver.Unsigned(dim);
}

void SavePayload(Saver& saver, const Chunks& chunks) {
  const uint64_t size = TotalBytes(chunks);
  saver.Unsigned(size);
  std::string gathered;  // of a piece that does not lie together in memory
  for (uint64_t at = 0; at < size && !saver.failed; at += kPieceBytes) {
    const Chunks runs = ReadChunks(chunks, at, std::min(kPieceBytes, size - at));
    if (runs.size() == 1) {
      saver.String(runs[0].view());
      continue;
    }
    gathered.clear();
    for (const BlobSlice& run : runs) gathered.append(run.view());
    saver.String(gathered);
  }
}

struct Loader {
  Module& module;
  CairnReader* reader;
  int version;
  bool failed = false;
  uint64_t Unsigned() {
    uint64_t value = 0;
    failed = failed || module.api.load_unsigned(reader, &value) != CAIRN_OK;
    return value;
  }
};

bool LoadHead(Loader& loader, TensorHead* head) {
  if (loader.version != kEncodingVersion && loader.version != kVersionWithHash) return false;
  const uint64_t dtype = loader.Unsigned(), dimensions = loader.Unsigned();
  if (loader.failed || dtype >= kDTypeCount || dimensions > kMaxDimensions) return false;
  head->dtype = static_cast<DType>(dtype);
  for (uint64_t i = 0; i < dimensions; ++i) head->shape.push_back(loader.Unsigned());
  const Result<uint64_t> bytes = PayloadBytes(head->dtype, head->shape);
  if (loader.failed || !bytes.ok()) return false;
  head->size_bytes = bytes.value();
  return true;
}

bool LoadPayload(Loader& loader, const TensorHead& head, Chunks* chunks) {
  if (loader.Unsigned() != head.size_bytes || loader.failed) return false;
  uint64_t done = 0;
  while (done < head.size_bytes) {
    CairnBlob* blob = nullptr;
    // A piece off the grid would misplace all that follow it.
    if (done % kChunkBytes != 0 || loader.module.api.load_string(loader.reader, &blob) != CAIRN_OK)
      return false;
    BlobRef piece = loader.module.memory.Wrap(blob);
    const size_t size = piece->size();
    const uint64_t left = head.size_bytes - done;
    const bool fits = loader.version == kVersionWithHash ? size > 0 && size <= left
                                                         : size == std::min(kPieceBytes, left);
    if (!fits) return false;
    Result<Chunks> cut = CutOnGrid(loader.module.memory, {std::move(piece), 0, size});
    if (!cut.ok()) return false;
    chunks->insert(chunks->end(), cut->begin(), cut->end());
    done += size;
  }
  return true;
}

// --- tensors ---

int SaveTensor(const void* value, CairnWriter* writer, void* module) {
  const auto& tensor = *static_cast<const Tensor*>(value);
  Saver saver{static_cast<Module*>(module)->api, writer};
  SaveHead(saver, tensor.dtype(), tensor.shape());
  SavePayload(saver, tensor.chunks());
  return saver.failed ? CAIRN_FAILED : CAIRN_OK;
}

void* LoadTensor(CairnReader* reader, int version, void* module) {
  Loader loader{*static_cast<Module*>(module), reader, version};
  TensorHead head;
  if (!LoadHead(loader, &head)) return nullptr;
  Hash128 hash;
  const uint64_t hash_known = version == kVersionWithHash ? loader.Unsigned() : 0;
  if (hash_known > 1) return nullptr;
  if (hash_known == 1) {
    hash.low = loader.Unsigned();
    hash.high = loader.Unsigned();
  }
  Chunks chunks;
  if (!LoadPayload(loader, head, &chunks)) return nullptr;
  uint64_t index = 0;
  if (head.dtype == DType::kBool && !IsCleanBool(chunks, &index)) return nullptr;
  // A payload that was sealed must open with the same seal.
  if (hash_known == 1 && HashChunks(chunks) != hash) return nullptr;
  auto* tensor = new Tensor(head.dtype, std::move(head.shape), std::move(chunks));
  if (hash_known == 1) tensor->set_known_hash(hash);
  return tensor;
}

// --- uploads ---

int SaveUpload(const void* value, CairnWriter* writer, void* module) {
  const auto& upload = *static_cast<const Upload*>(value);
  Saver saver{static_cast<Module*>(module)->api, writer};
  SaveHead(saver, upload.dtype(), upload.shape());
  saver.Unsigned(upload.received().size());
  for (const ByteRange& range : upload.received()) {
    saver.Unsigned(range.begin);
    saver.Unsigned(range.end);
  }
  SavePayload(saver, upload.chunks());
  return saver.failed ? CAIRN_FAILED : CAIRN_OK;
}

void* LoadUpload(CairnReader* reader, int version, void* module) {
  Loader loader{*static_cast<Module*>(module), reader, version};
  TensorHead head;
  if (!LoadHead(loader, &head)) return nullptr;
  std::vector<ByteRange> received;
  const uint64_t ranges = loader.Unsigned();
  for (uint64_t i = 0; i < ranges && !loader.failed; ++i) {
    const uint64_t begin = loader.Unsigned(), end = loader.Unsigned();
    received.push_back({begin, end});
  }
  // BOOL bytes are judged when the upload ends.
  Chunks chunks;
  if (loader.failed || !IsValidReceived(received, head.size_bytes)) return nullptr;
  if (!LoadPayload(loader, head, &chunks)) return nullptr;
  return new Upload(head.dtype, std::move(head.shape), std::move(chunks), std::move(received));
}

template <typename Value>
void Free(void* value) {
  static_cast<Value*>(value)->DropReference();
}
template <typename Value>
size_t MemoryUsage(const void* value) {
  return static_cast<const Value*>(value)->MemoryUsage();
}
template <typename Value>
size_t FreeEffort(const void* value) {
  return 1 + static_cast<const Value*>(value)->chunks().size();
}

}  // namespace

CairnType* RegisterTensorType(Module& module) {
  const CairnTypeSpec spec = {
      .name = "cairntens",
      .encoding_version = kEncodingVersion,
      .type_name = "tensor",
      .save = SaveTensor,
      .load = LoadTensor,
      .free = Free<Tensor>,
      .memory_usage = MemoryUsage<Tensor>,
      .free_effort = FreeEffort<Tensor>,
  };
  return module.api.register_type(module.self, &spec);
}

CairnType* RegisterUploadType(Module& module) {
  const CairnTypeSpec spec = {
      .name = "cairntnup",
      .encoding_version = kEncodingVersion,
      .type_name = "tensorupload",
      .save = SaveUpload,
      .load = LoadUpload,
      .free = Free<Upload>,
      .memory_usage = MemoryUsage<Upload>,
      .free_effort = FreeEffort<Upload>,
  };
  return module.api.register_type(module.self, &spec);
}

}  // namespace cairn::tensor
