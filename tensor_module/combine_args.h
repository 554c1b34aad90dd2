#pragma once

// The arguments of the commands that make one tensor, or one version, of several: TENSOR.LERP, AVG,
// CAT and CKPT.MERGE. As args.h: views borrow the arguments. Pure; any thread.

#include <optional>
#include <string_view>
#include <vector>

#include "tensor_module/args.h"
#include "tensor_module/combine.h"

namespace cairn::tensor {

struct AverageArgs {
  std::vector<std::string_view> keys;
  Recipe recipe;
};
struct CatArgs {
  int64_t dim = 0;  ///< negative ones count from the end
  std::vector<std::string_view> keys;
};
struct MergeArgs {
  uint64_t step = 0;
  std::vector<std::string_view> versions;
  Recipe recipe;
  std::string_view tx;           ///< TX id: what a log says
  std::optional<int64_t> at_ms;  ///< AT ms: the same
  /// LOGGED n item.. BLOB bytes: the same of what was made (ckpt_merge_commands.cc).
  std::optional<std::vector<std::string_view>> made;
  std::string_view blob;
};

// Each errors with a client's line. `args` is the whole command, its arity checked.

/// LERP destination source weight
Result<Recipe> ParseLerp(Args args);
/// AVG destination n key.. [WEIGHTS n weight..]
Result<AverageArgs> ParseAverage(Args args);
/// CAT destination DIM d n key..
Result<CatArgs> ParseCat(Args args);
/// MERGE run step n (version weight).. [METHOD avg|lerp|ema] [TX id] [AT ms]
/// [LOGGED n item.. BLOB bytes]
Result<MergeArgs> ParseMerge(Args args);

}  // namespace cairn::tensor
