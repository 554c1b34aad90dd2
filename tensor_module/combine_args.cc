#include "tensor_module/combine_args.h"

#include <string>

#include "tensor_module/arg_cursor.h"
#include "tensor_module/ckpt_model.h"

namespace cairn::tensor {

namespace {

Status NextWeight(Cursor& cursor, double* out) {
  std::string_view text;
  CAIRN_RETURN_IF_ERROR(cursor.Next(&text));
  return ParseDouble(text, out) ? Status::Ok() : Status::Client("ERR value is not a valid float");
}

/// A count of 1 to kMaxCombined, `each` arguments behind it for every one.
Status NextCount(Cursor& cursor, size_t each, uint64_t* out) {
  CAIRN_RETURN_IF_ERROR(NextBounded(cursor, 1, kMaxCombined, out));
  return *out <= cursor.left() / each ? Status::Ok() : SyntaxError();
}

Status ReadKeys(Cursor& cursor, std::vector<std::string_view>* out) {
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(NextCount(cursor, 1, &count));
  for (uint64_t i = 0; i < count; ++i) CAIRN_RETURN_IF_ERROR(cursor.Next(&out->emplace_back()));
  return Status::Ok();
}

/// "n item.. BLOB bytes"
Status ReadMade(Cursor& cursor, MergeArgs* out) {
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(NextBounded(cursor, 0, cursor.left(), &count));
  out->made.emplace();
  for (uint64_t i = 0; i < count; ++i) {
    CAIRN_RETURN_IF_ERROR(cursor.Next(&out->made->emplace_back()));
  }
  CAIRN_RETURN_IF_ERROR(cursor.Expect("blob"));
  return cursor.Next(&out->blob);
}

/// The recipe of METHOD `lerp` and `ema`, from the weights as they were given.
Status Fold(Recipe* recipe, bool lerp) {
  std::vector<double>& weights = recipe->weights;
  recipe->method = Recipe::Method::kFold;
  if (!lerp) {
    if (weights[0] == 1) return Status::Ok();
    return Status::Client("ERR METHOD ema begins with its first version whole: its weight is 1");
  }
  if (weights.size() != 2) return Status::Client("ERR METHOD lerp takes two versions");
  const Recipe as_average{Recipe::Method::kAverage, weights};
  CAIRN_RETURN_IF_ERROR(CheckRecipe(as_average));
  weights = {1, weights[1] / (weights[0] + weights[1])};
  return Status::Ok();
}

}  // namespace

Result<Recipe> ParseLerp(Args args) {
  Cursor cursor(args, 3);
  Recipe recipe{Recipe::Method::kFold, {1, 0}};
  CAIRN_RETURN_IF_ERROR(NextWeight(cursor, &recipe.weights[1]));
  CAIRN_RETURN_IF_ERROR(CheckRecipe(recipe));
  return recipe;
}

Result<AverageArgs> ParseAverage(Args args) {
  AverageArgs out;
  Cursor cursor(args, 2);
  CAIRN_RETURN_IF_ERROR(ReadKeys(cursor, &out.keys));
  out.recipe.weights.assign(out.keys.size(), 1);
  if (cursor.Take("weights")) {
    uint64_t count = 0;
    CAIRN_RETURN_IF_ERROR(NextCount(cursor, 1, &count));
    if (count != out.keys.size()) {
      return Status::Client("ERR WEIGHTS has " + std::to_string(count) + " numbers for " +
                            std::to_string(out.keys.size()) + " tensors");
    }
    for (double& weight : out.recipe.weights) CAIRN_RETURN_IF_ERROR(NextWeight(cursor, &weight));
  }
  if (cursor.more()) return SyntaxError();
  CAIRN_RETURN_IF_ERROR(CheckRecipe(out.recipe));
  return out;
}

Result<CatArgs> ParseCat(Args args) {
  CatArgs out;
  Cursor cursor(args, 2);
  CAIRN_RETURN_IF_ERROR(cursor.Expect("dim"));
  CAIRN_RETURN_IF_ERROR(cursor.NextSigned(&out.dim));
  CAIRN_RETURN_IF_ERROR(ReadKeys(cursor, &out.keys));
  if (cursor.more()) return SyntaxError();
  return out;
}

Result<MergeArgs> ParseMerge(Args args) {
  MergeArgs out;
  Cursor cursor(args, 2);
  CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&out.step));
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(NextCount(cursor, 2, &count));
  for (uint64_t i = 0; i < count; ++i) {
    CAIRN_RETURN_IF_ERROR(cursor.Next(&out.versions.emplace_back()));
    CAIRN_RETURN_IF_ERROR(NextWeight(cursor, &out.recipe.weights.emplace_back()));
  }
  bool method_seen = false;
  while (cursor.more()) {
    if (!method_seen && cursor.Take("method")) {
      method_seen = true;
      if (cursor.Take("avg")) continue;
      const bool lerp = cursor.Take("lerp");
      if (!lerp) CAIRN_RETURN_IF_ERROR(cursor.Expect("ema"));
      CAIRN_RETURN_IF_ERROR(Fold(&out.recipe, lerp));
    } else if (out.tx.empty() && cursor.Take("tx")) {
      CAIRN_RETURN_IF_ERROR(NextName(cursor, &out.tx));
    } else if (cursor.Take("at")) {
      CAIRN_RETURN_IF_ERROR(ReadAt(cursor, &out.at_ms));
    } else if (!out.made && cursor.Take("logged")) {
      CAIRN_RETURN_IF_ERROR(ReadMade(cursor, &out));
    } else {
      return SyntaxError();
    }
  }
  CAIRN_RETURN_IF_ERROR(CheckRecipe(out.recipe));
  return out;
}

}  // namespace cairn::tensor
