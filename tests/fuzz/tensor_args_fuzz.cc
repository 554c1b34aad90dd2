// Any words as the arguments of any TENSOR command: no parser reads behind them, and what one
// accepts keeps the bounds that handlers rely on. Accepted slices are resolved and read against the
// shape they came with. Words are the input's lines; the first byte chooses the command.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "server/base/check.h"
#include "tensor_module/args.h"
#include "tensor_module/slicing.h"
#include "tensor_module/stats.h"
#include "tests/fuzz/words.h"

namespace {

using namespace cairn;
using namespace cairn::tensor;

constexpr uint64_t kMaxBytesToBuild = 1 << 16;

class HeapSource final : public BlobSource {
 public:
  Blob* Allocate(size_t size) override { return Blob::Create(size); }
};

void CheckHead(const TensorHead& head) {
  CAIRN_CHECK(head.shape.size() <= kMaxDimensions);
  CAIRN_CHECK(head.size_bytes <= kMaxTensorBytes);
  CAIRN_CHECK(head.size_bytes % DTypeSize(head.dtype) == 0);
  __extension__ unsigned __int128 product = DTypeSize(head.dtype);
  for (uint64_t dim : head.shape) product = std::min<decltype(product)>(product * dim, UINT64_MAX);
  CAIRN_CHECK(head.size_bytes == static_cast<uint64_t>(product) || head.size_bytes == 0);
}

/// Reads `words` as a slice of a small tensor, and writes it back to where it came from.
void CheckSlice(const std::vector<SliceWords>& words) {
  HeapSource source;
  const Shape shape = {3, 4, 5};
  const Result<Box> box = ResolveSlice(shape, words);
  if (!box.ok()) return;
  Blob* blob = source.Allocate(120);
  for (int i = 0; i < 120; ++i) blob->mutable_data()[i] = static_cast<char>(i);
  const auto* tensor =
      new Tensor(DType::kI16, shape, CutOnGrid(source, {BlobRef::Adopt(blob), 0, 120}).value());
  const BlobSlice part = Join(source, ReadSlice(source, *tensor, *box).value()).value();
  CAIRN_CHECK(part.size == PayloadBytes(DType::kI16, box->shape()).value());
  const Chunks same = WriteSlice(source, *tensor, *box, part).value();
  CAIRN_CHECK(HashChunks(same) == HashChunks(tensor->chunks()));
  tensor->DropReference();
}

void CheckSet(Args args) {
  const Result<SetArgs> set = ParseSet(args);
  if (!set.ok()) return;
  CheckHead(set->head);
  CAIRN_CHECK(!(set->nx && set->xx));
  CAIRN_CHECK(!set->ttl_ms || (*set->ttl_ms > 0 && set->ttl_at + 1 < args.size()));
  CAIRN_CHECK(set->payload != SetArgs::Payload::kNone);
  if (set->payload == SetArgs::Payload::kBlob) CAIRN_CHECK(set->payload_at < args.size());
  if (set->payload != SetArgs::Payload::kValues || set->head.size_bytes > kMaxBytesToBuild) return;
  const uint64_t count = set->head.numel() * ScalarsPerElement(set->head.dtype);
  CAIRN_CHECK(count <= args.size() - set->payload_at);
  std::vector<char> out(set->head.size_bytes);
  [[maybe_unused]] const Status parsed =
      ParseValues(set->head, args.subspan(set->payload_at, count), out.data());
}

void Check(unsigned which, Args args) {
  switch (which % 9) {
    case 0:
      return CheckSet(args);
    case 1:
      if (const auto get = ParseGet(args); get.ok()) {
        CAIRN_CHECK(!(get->range && get->slice));
        if (get->range) CAIRN_CHECK(get->range->begin <= get->range->end);
        if (get->slice) CheckSlice(*get->slice);
      }
      return;
    case 2:
      if (const auto tensors = ParseMSet(args); tensors.ok()) {
        for (const KeyedTensor& each : *tensors) {
          CheckHead(each.head);
          CAIRN_CHECK(each.key_at < each.blob_at && each.blob_at < args.size());
          CAIRN_CHECK(args[each.blob_at].size() == each.head.size_bytes);
        }
      }
      return;
    case 3:
      if (const auto mget = ParseMGet(args); mget.ok()) CAIRN_CHECK(!mget->keys.empty());
      return;
    case 4:
      if (const auto slice = ParseSetSlice(args); slice.ok()) {
        CAIRN_CHECK(slice->blob_at < args.size());
        CheckSlice(slice->slice);
      }
      return;
    case 5:
      if (const auto begin = ParseBegin(args); begin.ok()) CheckHead(begin->head);
      return;
    case 6:
      if (const auto write = ParseWrite(args); write.ok())
        CAIRN_CHECK(write->blob_at < args.size());
      return;
    case 7:
      if (const auto stats = ParseStats(args); stats.ok())
        CAIRN_CHECK(stats.value() <= kMaxHistogramBins);
      if (const auto end = ParseEnd(args); end.ok())
        CAIRN_CHECK(end.value().has_value() == (args.size() > 3));
      return;
    default:
      if (const auto equal = ParseEqual(args); equal.ok())
        CAIRN_CHECK(equal->rtol >= 0 && equal->atol >= 0);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const cairn::FuzzWords words({reinterpret_cast<const char*>(data) + 1, size - 1});
  const std::vector<std::string_view>& args = words.args();
  // Arity is checked before a parser runs: the least of each command.
  constexpr size_t kLeast[] = {6, 2, 8, 3, 6, 5, 6, 3, 3};
  if (args.size() < kLeast[data[0] % 9]) return 0;
  Check(data[0], args);
  return 0;
}
