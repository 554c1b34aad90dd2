#pragma once

// The pickles of state_dicts, read without running anything: a machine for the opcodes that they
// are made of, which builds plain nodes and knows a fixed list of globals. What is not on the list,
// an object of any class for one, ends the reading. Pure; any thread.
//
//   globals  := collections.OrderedDict | torch.Size | torch.<X>Storage |
//               torch._utils._rebuild_tensor_v2 | torch._utils._rebuild_parameter
//
//   V1  Every opcode makes at most one node, and the bytes bound the opcodes; nothing is recursive.

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/base/status.h"
#include "tensor_module/dtype.h"

namespace cairn::tensor {

/// One value of a pickle; others refer to it by its place in Pickle::nodes.
struct PickleNode {
  enum class Kind : uint8_t {
    kNone,
    kBool,
    kInteger,
    kFloat,
    kString,
    kSequence,  ///< list, tuple or torch.Size: items
    kDict,      ///< items: key, value, key, value ..
    kGlobal,    ///< text: "module.name"
    kStorage,   ///< text: key; dtype, integer: elements
    kTensor     ///< items: storage, then sizes as a sequence, then strides; what is said of it
                ///< beside (_rebuild_tensor_v2's metadata), if anything; integer: first element
  };
  Kind kind = Kind::kNone;
  DType dtype = DType::kF32;
  int64_t integer = 0;
  double real = 0;
  std::string text;
  std::vector<uint32_t> items;
};

struct Pickle {
  std::vector<PickleNode> nodes;
  uint32_t root = 0;
};

/// Errors: a client's line that names the opcode or the global, and the byte.
Result<Pickle> ReadPickle(std::string_view bytes);

/// "FloatStorage" for F32; empty for a type that torch has not.
std::string_view StorageName(DType dtype);

}  // namespace cairn::tensor
