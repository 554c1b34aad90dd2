// Any words as the arguments of TENSOR.LERP, AVG, CAT and CKPT.MERGE: no parser reads behind them,
// and whatever recipe one accepts makes elements of every type, with one NaN only. Words are the
// input's lines; the first byte chooses the command.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/check.h"
#include "tensor_module/ckpt_model.h"
#include "tensor_module/combine_args.h"
#include "tensor_module/numeric.h"
#include "tests/fuzz/words.h"

namespace {

using namespace cairn;
using namespace cairn::tensor;

/// 1025 numbers of each type out of what stands in the words.
void CheckRecipeMakes(const Recipe& recipe, Args args) {
  CAIRN_CHECK(!recipe.weights.empty() && recipe.weights.size() <= kMaxCombined);
  CAIRN_CHECK(CheckRecipe(recipe).ok());
  if (recipe.weights.size() > 4) return;
  for (DType dtype : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    const size_t size = 1025 * DTypeSize(dtype);
    std::vector<std::string> bytes(recipe.weights.size());
    for (size_t i = 0; i < bytes.size(); ++i) {
      while (bytes[i].size() < size) bytes[i] += std::string(args[i % args.size()]) + "7";
      bytes[i].resize(size);
    }
    const std::vector<std::string_view> inputs(bytes.begin(), bytes.end());
    std::vector<char> out(size);
    Combine(dtype, recipe, inputs, out.data());
    std::string nan(DTypeSize(dtype), '\0');
    for (size_t at = 0; at < size; at += nan.size()) {
      if (!std::isnan(LoadScalar(dtype, out.data() + at).AsDouble())) continue;
      if (nan[nan.size() - 1] == '\0') std::memcpy(nan.data(), out.data() + at, nan.size());
      CAIRN_CHECK(std::memcmp(nan.data(), out.data() + at, nan.size()) == 0);
    }
  }
}

void Check(unsigned which, Args args) {
  switch (which) {
    case 0:
      if (const auto lerp = ParseLerp(args); lerp.ok()) CheckRecipeMakes(*lerp, args);
      return;
    case 1:
      if (const auto average = ParseAverage(args); average.ok()) {
        CAIRN_CHECK(average->keys.size() == average->recipe.weights.size());
        CheckRecipeMakes(average->recipe, args);
      }
      return;
    case 2:
      if (const auto cat = ParseCat(args); cat.ok()) {
        CAIRN_CHECK(!cat->keys.empty() && cat->keys.size() < args.size());
      }
      return;
    default:
      if (const auto merge = ParseMerge(args); merge.ok()) {
        CAIRN_CHECK(merge->versions.size() == merge->recipe.weights.size());
        CAIRN_CHECK(merge->tx.size() <= kMaxNameBytes && merge->at_ms.value_or(0) >= 0);
        CheckRecipeMakes(merge->recipe, args);
      }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const cairn::FuzzWords words({reinterpret_cast<const char*>(data) + 1, size - 1});
  const std::vector<std::string_view>& args = words.args();
  // Arity is checked before a parser runs: the least of each command; LERP has no more.
  constexpr size_t kLeast[] = {4, 4, 6, 6};
  const unsigned which = data[0] % 4;
  if (args.size() < kLeast[which] || (which == 0 && args.size() > 4)) return 0;
  Check(which, args);
  return 0;
}
