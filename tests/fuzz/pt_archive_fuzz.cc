// Any bytes as a .pt file, or, with a first byte of 1, as a pickle, or, with 2, as a pickle in an
// archive with one storage: nothing is read behind the end, and a tensor that is accepted lies
// within the file.

#include <cstdint>
#include <cstring>

#include "server/base/check.h"
#include "tensor_module/pickle.h"
#include "tensor_module/pt_archive.h"

namespace {

using namespace cairn;
using namespace cairn::tensor;

template <typename T>
void Add(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}

/// An archive of stored entries, made by hand so that no file is written.
std::string Archive(std::initializer_list<std::pair<std::string, std::string_view>> entries) {
  std::string out, directory;
  for (const auto& [name, bytes] : entries) {
    const auto local = static_cast<uint32_t>(out.size());
    std::string common;
    for (uint16_t word : {20, 0, 0, 0, 0}) Add<uint16_t>(&common, word);
    Add<uint32_t>(&common, Crc32(0, bytes));
    Add<uint32_t>(&common, static_cast<uint32_t>(bytes.size()));
    Add<uint32_t>(&common, static_cast<uint32_t>(bytes.size()));
    Add<uint16_t>(&common, static_cast<uint16_t>(name.size()));
    Add<uint16_t>(&common, 0);
    Add<uint32_t>(&out, 0x04034b50);
    out += common + name;
    out += bytes;
    Add<uint32_t>(&directory, 0x02014b50);
    Add<uint16_t>(&directory, 20);
    directory += common;
    for (int i = 0; i < 3; ++i) Add<uint16_t>(&directory, 0);
    Add<uint32_t>(&directory, 0);
    Add<uint32_t>(&directory, local);
    directory += name;
  }
  const auto offset = static_cast<uint32_t>(out.size());
  out += directory;
  Add<uint32_t>(&out, 0x06054b50);
  Add<uint32_t>(&out, 0);
  Add<uint16_t>(&out, static_cast<uint16_t>(entries.size()));
  Add<uint16_t>(&out, static_cast<uint16_t>(entries.size()));
  Add<uint32_t>(&out, static_cast<uint32_t>(directory.size()));
  Add<uint32_t>(&out, offset);
  Add<uint16_t>(&out, 0);
  return out;
}

void CheckPt(std::string_view file) {
  const Result<PtFile> read = ReadPt(file);
  if (!read.ok()) return;
  for (const ArchiveTensor& tensor : read->tensors) {
    CAIRN_CHECK(!tensor.name.empty());
    CAIRN_CHECK(tensor.size_bytes == PayloadBytes(tensor.dtype, tensor.shape).value());
    if (tensor.size_bytes == 0) continue;
    const size_t element = DTypeSize(tensor.dtype);
    uint64_t last = tensor.offset + (tensor.strides.empty() ? tensor.size_bytes : element);
    for (size_t i = 0; i < tensor.strides.size(); ++i) {
      last += (tensor.shape[i] - 1) * tensor.strides[i] * element;
    }
    CAIRN_CHECK(last <= file.size());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (data[0] == 1) {
    const Result<Pickle> read = ReadPickle(bytes);
    if (read.ok()) CAIRN_CHECK(read->root < read->nodes.size());
  } else if (data[0] == 2) {
    CheckPt(
        Archive({{"a/data.pkl", bytes}, {"a/data/0", std::string_view("0123456789abcdef", 16)}}));
  } else {
    CheckPt(bytes);
  }
  return 0;
}
