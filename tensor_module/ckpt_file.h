#pragma once

// RunValue: a CkptRun as the frozen value behind a key, and how it stands in RDB files and DUMP
// payloads. Any thread may read one.

#include <atomic>

#include "server/engine/module_api.h"
#include "tensor_module/ckpt_model.h"
#include "tensor_module/counted.h"

namespace cairn::tensor {

class Module;

class RunValue final : public Counted<RunValue> {
 public:
  explicit RunValue(CkptRun run) : run_(std::move(run)) {}
  const CkptRun& run() const { return run_; }
  /// Bytes as they are held, each chunk once, bases included. Cost: O(chunks) when chunks have
  /// changed their form since the last call.
  size_t MemoryUsage() const;
  /// About the number of chunk references; O(tensors).
  size_t FreeEffort() const;
  /// Not what somebody is uploading or may resume from: each version is the one of a tag or next to
  /// be.
  bool MayEvict() const;

 private:
  const CkptRun run_;
  mutable std::atomic<size_t> memory_{0};
  mutable std::atomic<uint64_t> memory_epoch_{0};  // one more than the pool's then
};

/// Files carry it as "cairnckpt". nullptr when the name is taken.
CairnType* RegisterRunType(Module& module);

}  // namespace cairn::tensor
