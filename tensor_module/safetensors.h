#pragma once

// safetensors files: the header, read and written. Payloads stay where they are: a reader gets
// offsets, a writer appends the bytes itself. Pure; any thread.
//
//   file   := size u64 little-endian | header | data
//   header := JSON object of `size` bytes, beginning with '{', spaces behind it:
//             {"__metadata__": {text: text, ..},
//              name: {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ..}
//
// Offsets count from the data's first byte. Example: one F32 scalar "w" of 1.0,
//   39 00 .. | {"w":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}    | 00 00 80 3f
//
//   S1  A header has at most 100,000,000 bytes, begins with '{', and no name stands in it twice.
//   S2  The ranges of the tensors cover the data without hole or overlap, and each has the size
//   that
//       its dtype and shape make, in arithmetic that does not overflow.

#include <utility>

#include "tensor_module/archive.h"

namespace cairn::tensor {

inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;

struct SafetensorsFile {
  std::vector<ArchiveTensor> tensors;  ///< in the order of their bytes
  std::vector<std::pair<std::string, std::string>> metadata;
};

/// Errors: a client's line that says what of S1 and S2 does not hold, or where the JSON breaks.
Result<SafetensorsFile> ReadSafetensors(std::string_view file);

/// The size and header of a file whose tensors follow each other in the order given; padded so that
/// the data begins at a multiple of 64. `offset` and `strides` of the tensors are not looked at.
/// Errors: a name that is not UTF-8, or "__metadata__", which is no tensor's.
Result<std::string> SafetensorsHeader(const std::vector<ArchiveTensor>& tensors);

}  // namespace cairn::tensor
