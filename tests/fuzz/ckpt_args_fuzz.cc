// Any words as the arguments of any CKPT command: no parser reads behind them, and what one accepts
// keeps the bounds that handlers rely on; accepted declarations are put and read back. Words are
// the input's lines; the first byte chooses the command.

#include <cstdint>
#include <string_view>
#include <vector>

#include "server/base/check.h"
#include "tensor_module/ckpt_args.h"
#include "tests/fuzz/words.h"

namespace {

using namespace cairn;
using namespace cairn::tensor;

class HeapSource final : public BlobSource {
 public:
  Blob* Allocate(size_t size) override { return Blob::Create(size); }
};

constexpr uint64_t kMaxBytesToBuild = 1 << 20;

/// A shard as it was accepted: its grid is whole, and a piece anywhere in it finds its place.
void CheckSpec(const ShardSpec& spec) {
  CAIRN_CHECK(!spec.name.empty() && spec.name.size() <= kMaxNameBytes);
  CAIRN_CHECK(spec.size_bytes <= kMaxTensorBytes && spec.phase < kChunkBytes);
  CAIRN_CHECK(spec.extent.off.size() == spec.shape.size());
  CAIRN_CHECK(spec.extent.len.size() == spec.shape.size());
  for (size_t i = 0; i < spec.shape.size(); ++i) {
    CAIRN_CHECK(spec.extent.off[i] + spec.extent.len[i] <= spec.shape[i]);
  }
  if (spec.size_bytes == 0 || spec.size_bytes > kMaxBytesToBuild) return;
  HeapSource source;
  ChunkPool pool(source);
  ShardData data(spec);
  const size_t size = static_cast<size_t>(spec.size_bytes), half = size / 2;
  for (const auto& [at, length] : {std::pair(half, size - half), std::pair(size_t{0}, half)}) {
    Blob* blob = Blob::Create(length);
    for (size_t i = 0; i < length; ++i) blob->mutable_data()[i] = static_cast<char>((at + i) & 1);
    const BlobSlice piece{BlobRef::Adopt(blob), 0, length};
    const PutPlan plan = PlanPut(spec, at, length);
    std::vector<ChunkRef> chunks;
    if (!plan.whole.empty()) {
      chunks = pool.Intern({piece.blob, plan.head, length - plan.head - plan.tail}, plan.whole,
                           spec.dtype)
                   .value();
    }
    CAIRN_CHECK(data.Put(pool, source, spec, plan, piece, chunks).ok());
  }
  CAIRN_CHECK(data.IsComplete() && data.Holes(spec).empty());
  const StoredShard stored{spec.extent, spec.phase, data.Chunks()};
  uint64_t at = 0;
  for (const BlobSlice& slice : ReadShard(stored, 0, spec.size_bytes)) {
    for (char c : slice.view()) CAIRN_CHECK(c == static_cast<char>(at++ & 1));
  }
  CAIRN_CHECK(at == spec.size_bytes);
}

void CheckNames(const std::vector<std::string_view>& names) {
  for (std::string_view name : names) CAIRN_CHECK(!name.empty() && name.size() <= kMaxNameBytes);
}

void Check(unsigned which, Args args) {
  switch (which) {
    case 0:
      if (const auto config = ParseCreate(args); config.ok()) {
        CAIRN_CHECK(config->max_concurrent >= 1 && config->max_concurrent <= kMaxOpenTransactions);
        CAIRN_CHECK(config->timeout_ms > 0 && config->require.size() <= kMaxRequiredGroups);
      }
      return;
    case 1:
      if (const auto begin = ParseBeginTx(args); begin.ok()) {
        CAIRN_CHECK(begin->request.rank < kMaxWorld && begin->request.world <= kMaxWorld);
        CAIRN_CHECK(begin->request.timeout_ms.value_or(1) > 0);
      }
      return;
    case 2:
      if (const auto declare = ParseDeclare(args); declare.ok()) {
        for (const ShardSpec& spec : declare->specs) CheckSpec(spec);
      }
      return;
    case 3:
      if (const auto put = ParsePut(args); put.ok()) CAIRN_CHECK(put->blob_at < args.size());
      return;
    case 4:
      if (const auto refer = ParseRefer(args); refer.ok()) {
        CAIRN_CHECK(!refer->hashes.empty() && refer->hashes.size() < args.size());
      }
      if (const auto have = ParseHave(args); have.ok()) CAIRN_CHECK(!have.value().empty());
      return;
    case 5:
      if (const auto state = ParseState(args); state.ok())
        CAIRN_CHECK(state->blob_at < args.size());
      if (const auto offset = ParseOffset(args); offset.ok()) CAIRN_CHECK(offset->rank < kMaxWorld);
      return;
    case 6:
      if (const auto commit = ParseCommit(args); commit.ok()) {
        CAIRN_CHECK(commit->wait_ms >= 0 && commit->wait_ms <= kMaxTimeoutMs);
      }
      if (const auto abort = ParseAbort(args); abort.ok()) {
        CAIRN_CHECK(abort->reason.find('\n') == std::string_view::npos);
      }
      return;
    case 7:
      if (const auto save = ParseSave(args); save.ok()) {
        for (const SavedTensor& tensor : save->tensors) {
          CAIRN_CHECK(args[tensor.blob_at].size() == tensor.head.size_bytes);
        }
      }
      return;
    case 8:
      if (const auto load = ParseLoad(args); load.ok()) {
        CheckNames(load->names);
        CAIRN_CHECK(!(load->range && (load->slice || load->as)));
      }
      if (const auto load = ParseMLoad(args); load.ok()) CheckNames(load->names);
      return;
    case 9:
      if (const auto plan = ParsePlan(args); plan.ok()) CAIRN_CHECK(plan->rank < plan->world);
      if (const auto state = ParseStateGet(args); state.ok()) CAIRN_CHECK(state->rank < kMaxWorld);
      return;
    case 11:
      if (const auto limit = ParseLimit(args, 2); limit.ok()) {
        CAIRN_CHECK(args.size() == 4 || (args.size() == 2 && *limit == kMaxListed));
      }
      return;
    case 12:
      // MANIFEST; DIFF has one argument more before it.
      for (const size_t from : {size_t{3}, size_t{4}}) {
        if (args.size() < from) continue;
        const auto pattern = ParseMatch(args, from);
        if (!pattern.ok()) continue;
        CAIRN_CHECK(args.size() == from ? *pattern == "*"
                                        : pattern->data() == args[from + 1].data());
      }
      return;
    case 13:
      for (const char* word : {"to", "from"}) {
        const auto format = ParseFormat(args, 3, word);
        if (!format.ok()) continue;
        CAIRN_CHECK(args.size() == 7);
        CAIRN_CHECK((args[4].size() == 2) == (*format == FileFormat::kPt));
      }
      return;
  }
  if (args.size() >= 4) [[maybe_unused]]
    const auto tag = ParseTag(args);
  if (const auto retain = ParseRetain(args); retain.ok()) CAIRN_CHECK(retain->rule.within_ms >= -1);
  if (const auto wait = ParseWaitFor(args); wait.ok()) CAIRN_CHECK(wait->timeout_ms >= 0);
  if (const auto rank = ParsePrepare(args); rank.ok()) CAIRN_CHECK(rank->rank < kMaxWorld);
  if (const auto rank = ParseResume(args); rank.ok()) CAIRN_CHECK(rank->rank < kMaxWorld);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const cairn::FuzzWords words({reinterpret_cast<const char*>(data) + 1, size - 1});
  const std::vector<std::string_view>& args = words.args();
  // Arity is checked before a parser runs: the least that any command of a group has.
  constexpr size_t kLeast[] = {2, 3, 11, 10, 5, 5, 3, 10, 4, 5, 3, 2, 3, 7};
  const unsigned which = data[0] % 14;
  if (args.size() < kLeast[which]) return 0;
  Check(which, args);
  return 0;
}
