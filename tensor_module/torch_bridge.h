#pragma once

// The door to LibTorch: everything of it stays behind this function, exceptions included. Thread:
// any; one thread inside each call (at::set_num_threads(1)), as more would fight with the server's
// for its cores.

#include "tensor_module/compute.h"

namespace cairn::tensor {

/// Casts and slices by ATen over views of the given bytes; what LibTorch 1.13 has no type for goes
/// to PlainCompute.
const Compute& TorchCompute();
/// Sets LibTorch up. Called once, when the module is loaded.
void StartTorch();

}  // namespace cairn::tensor
