#pragma once

// The arguments of the TENSOR commands, read and checked as far as that goes without a key: words,
// numbers, shapes, sizes, overflow. Knows neither replies nor memory. Positions are indices into
// the arguments as sent, arg 0 being the command's name. Pure; any thread.

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "tensor_module/chunk_store.h"
#include "tensor_module/slicing.h"
#include "tensor_module/tensor.h"

namespace cairn::tensor {

using Args = std::span<const std::string_view>;

/// "dtype SHAPE n d1..dn", the product checked.
struct TensorHead {
  DType dtype = DType::kF32;
  Shape shape;
  uint64_t size_bytes = 0;
  uint64_t numel() const { return size_bytes / DTypeSize(dtype); }
};

struct SetArgs {
  enum class Payload : uint8_t { kNone, kBlob, kValues, kZeros };
  TensorHead head;
  Payload payload = Payload::kNone;
  size_t payload_at = 0;  ///< kBlob: the bytes; kValues: the first number
  bool nx = false, xx = false, keep_ttl = false, guard_finite = false;
  std::optional<int64_t> ttl_ms;        ///< EX, PX
  std::optional<int64_t> expire_at_ms;  ///< PXAT
  size_t ttl_at = 0;                    ///< position of EX or PX
  std::optional<Hash128> hash;
};

struct GetArgs {
  bool meta = false, blob = false, values = false;
  std::optional<DType> as;
  std::optional<std::vector<SliceWords>> slice;
  std::optional<ByteRange> range;  ///< begin and end as asked; end may pass the payload
};

/// One of TENSOR.MSET's.
struct KeyedTensor {
  size_t key_at = 0;
  TensorHead head;
  size_t blob_at = 0;
};

struct MGetArgs {
  std::vector<std::string_view> keys;
  std::optional<DType> as;
};

struct SetSliceArgs {
  std::vector<SliceWords> slice;
  size_t blob_at = 0;
};

struct BeginArgs {
  TensorHead head;
  std::string_view upload;              ///< UPLOAD id, empty when not given
  std::optional<int64_t> expire_at_ms;  ///< PXAT
};

struct WriteArgs {
  uint64_t offset = 0;
  size_t blob_at = 0;
  std::optional<Hash128> hash;
};

struct EqualArgs {
  bool tolerant = false;  ///< RTOL or ATOL was given
  double rtol = 0, atol = 0;
};

// Each errors with a client's line. `args` is the whole command, its arity checked.
Result<SetArgs> ParseSet(Args args);
Result<GetArgs> ParseGet(Args args);
Result<std::vector<KeyedTensor>> ParseMSet(Args args);
Result<MGetArgs> ParseMGet(Args args);
Result<SetSliceArgs> ParseSetSlice(Args args);
Result<BeginArgs> ParseBegin(Args args);
Result<WriteArgs> ParseWrite(Args args);
/// ENDSET key upload [XXH3 hex32].
Result<std::optional<Hash128>> ParseEnd(Args args);
/// STATS key [HIST bins]: 0 when not asked for.
Result<uint64_t> ParseStats(Args args);
Result<EqualArgs> ParseEqual(Args args);
Result<DType> ParseDTypeArg(std::string_view name);

/// The payload of VALUES, written to `out` (head.size_bytes bytes).
Status ParseValues(const TensorHead& head, Args values, char* out);
/// A payload of `size` bytes for `head`. Errors: they do not match.
Status CheckPayloadSize(const TensorHead& head, uint64_t size);

}  // namespace cairn::tensor
