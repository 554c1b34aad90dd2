#pragma once

// ZIP archives as torch.save makes them: stored entries only, found by the central directory, ZIP64
// where sizes ask for it. Reads from memory; writes to a FileWriter. Any thread.
//
//   Z1  An entry is stored (method 0), not encrypted, lies within the file before the central
//       directory, has the same name in its local header, and overlaps no other; no name stands
//       twice.
//   Z2  The central directory is its entries and nothing else; the two records of its end, where
//       there are two, say the same.

#include <map>
#include <string>
#include <string_view>

#include "tensor_module/archive.h"

namespace cairn::tensor {

struct ZipEntry {
  uint64_t offset = 0;  ///< of its bytes in the file
  uint64_t size_bytes = 0;
  uint32_t crc = 0;
};
using ZipEntries = std::map<std::string, ZipEntry, std::less<>>;

/// Errors: a client's line that says what is wrong (Z1). The bytes' CRC is not looked at.
Result<ZipEntries> ReadZip(std::string_view file);

/// CRC-32 of ZIP, continued from `crc` (0 to begin). Cost: about 1 GB/s.
uint32_t Crc32(uint32_t crc, std::string_view bytes);

class ZipWriter {
 public:
  /// Borrows.
  explicit ZipWriter(FileWriter& file) : file_(file) {}
  /// The caller appends `size_bytes` bytes of this CRC to the file next; they begin at a multiple
  /// of 64.
  void BeginEntry(const std::string& name, uint64_t size_bytes, uint32_t crc);
  void Add(const std::string& name, std::string_view bytes);
  void Finish();

 private:
  FileWriter& file_;
  std::string directory_;
  uint64_t count_ = 0;
};

}  // namespace cairn::tensor
