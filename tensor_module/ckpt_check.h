#pragma once

// Whether a run that a file or a payload brought hangs together: what its parts must be to each
// other, beyond what each is by itself (ckpt_file.cc checks that). Pure.

#include "tensor_module/ckpt_model.h"

namespace cairn::tensor {

/// Names and steps ascend, the ranks of a transaction mean the same by a name, aliases and tags
/// have targets that fit, and no list is longer than it may be.
bool IsConsistent(const CkptRun& run);

}  // namespace cairn::tensor
