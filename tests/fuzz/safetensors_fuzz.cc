// Any bytes as a safetensors file: what is accepted keeps S1 and S2, and its header written anew is
// read as the same tensors.

#include <cstdint>
#include <set>

#include "server/base/check.h"
#include "tensor_module/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cairn;
  using namespace cairn::tensor;
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  Result<SafetensorsFile> read = ReadSafetensors(file);
  if (!read.ok()) return 0;
  uint64_t at = 0, total = 0;
  std::set<std::string> names;
  for (const ArchiveTensor& tensor : read->tensors) {
    CAIRN_CHECK(names.insert(tensor.name).second);
    CAIRN_CHECK(tensor.size_bytes == PayloadBytes(tensor.dtype, tensor.shape).value());
    CAIRN_CHECK(at == 0 || tensor.offset == at);
    at = tensor.offset + tensor.size_bytes;
    total += tensor.size_bytes;
    CAIRN_CHECK(at <= size);
  }
  CAIRN_CHECK(at == 0 || at == size);
  if (total > size) return 0;
  const Result<std::string> header = SafetensorsHeader(read->tensors);
  if (!header.ok()) return 0;  // a name that is not UTF-8
  const std::string again = *header + std::string(total, 'x');
  Result<SafetensorsFile> second = ReadSafetensors(again);
  CAIRN_CHECK(second.ok() && second->tensors.size() == read->tensors.size());
  for (size_t i = 0; i < read->tensors.size(); ++i) {
    CAIRN_CHECK(second->tensors[i].size_bytes == read->tensors[i].size_bytes);
  }
  return 0;
}
