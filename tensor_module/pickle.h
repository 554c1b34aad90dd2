#pragma once

// The pickles of state_dicts, read without running anything: a machine for the opcodes that they
// are made of, which builds plain nodes and knows a fixed list of globals. What is not on the list,
// an object of any class for one, ends the reading. Pure; any thread.
//
//   globals  := collections.OrderedDict | torch.Size | torch.<X>Storage |
//               torch._utils._rebuild_tensor_v2 | torch._utils._rebuild_parameter
//
//   V1  Every opcode makes at most one node, and the bytes bound the opcodes; nothing is recursive.
//   V2  Nodes are many times their opcodes: they are bounded, and so is what the machine keeps.

#include <cstdint>
#include <deque>
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
  std::deque<PickleNode> nodes;
  uint32_t root = 0;
};

/// About 20 for a tensor, so 200,000 of them; some 0.5 GB with what the machine remembers.
inline constexpr size_t kMaxPickleNodes = size_t{1} << 22;

/// Errors: a client's line that names the opcode or the global, and the byte; more nodes, or more
/// remembered, than `max_nodes`.
Result<Pickle> ReadPickle(std::string_view bytes, size_t max_nodes = kMaxPickleNodes);

/// "FloatStorage" for F32; empty for a type that torch has not.
std::string_view StorageName(DType dtype);

}  // namespace cairn::tensor
