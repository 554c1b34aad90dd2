#pragma once

// .pt files, as torch.save writes state_dicts since 1.6: a ZIP archive with data.pkl and one entry
// for each storage. Read by pickle.h, which runs nothing; written so that torch.load reads it. Any
// thread.
//
//   file := zip of <root>/data.pkl, <root>/version ("3\n"), <root>/data/<key> ..
//
// Nested dicts and lists become names with dots ("model.layers.0.weight"). What is no tensor is
// counted, not kept. Values that are shared in the pickle are read at each of their places: what
// that may cost is bounded by the file.

#include "tensor_module/archive.h"
#include "tensor_module/zip.h"

namespace cairn::tensor {

/// Views may repeat what their storage has (torch's expand), so that a few bytes make as many as
/// one likes: all tensors of a file take so many bytes more than so many times the file, and no
/// more.
inline constexpr uint64_t kMaxPtRepeats = 4, kMaxPtRepeatedBytes = 64 << 20;
/// Errors: `size_bytes` of tensors are more than that.
Status CheckPtRepeats(uint64_t size_bytes, uint64_t file_bytes);

struct PtFile {
  std::vector<ArchiveTensor> tensors;  ///< in the order of the pickle
  uint64_t skipped = 0;                ///< values that are no tensors
};

/// Errors: a client's line: no archive, a pickle with something else than a state_dict, a tensor
/// that does not fit its storage, or is a conjugate or negated view of it, names that stand twice
/// or are longer than kMaxNameBytes, a storage whose CRC-32 is wrong.
Result<PtFile> ReadPt(std::string_view file);

/// data.pkl of a flat state_dict: tensor i lies whole in the storage of key keys[i]; several may
/// share one. Errors: a dtype that torch has not, a name that is not UTF-8.
Result<std::string> PtPickle(const std::vector<ArchiveTensor>& tensors,
                             const std::vector<uint64_t>& keys);

}  // namespace cairn::tensor
