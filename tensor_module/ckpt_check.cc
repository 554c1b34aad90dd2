#include "tensor_module/ckpt_check.h"

namespace cairn::tensor {

namespace {

bool IsConsistent(const Version& version) {
  for (size_t i = 0; i < version.tensors.size(); ++i) {
    const LogicalTensor& tensor = *version.tensors[i];
    if (i > 0 && version.tensors[i - 1]->name >= tensor.name) return false;
    if (tensor.alias_of.empty()) continue;
    const LogicalTensor* target = version.Find(tensor.alias_of);
    if (target == nullptr || !target->alias_of.empty() || target->shape != tensor.shape ||
        target->dtype != tensor.dtype) {
      return false;
    }
  }
  return true;
}

}  // namespace

bool IsConsistent(const CkptRun& run) {
  for (size_t i = 0; i < run.versions.size(); ++i) {
    if (!run.versions[i].version || !IsConsistent(*run.versions[i].version)) return false;
    if (i > 0 && run.versions[i - 1].version->step >= run.versions[i].version->step) return false;
  }
  for (size_t i = 0; i < run.tags.size(); ++i) {
    if (i > 0 && run.tags[i - 1].name >= run.tags[i].name) return false;
    if (run.FindStep(run.tags[i].step) == nullptr) return false;
  }
  return run.transactions.size() <= kMaxOpenTransactions && run.tags.size() <= kMaxTags &&
         run.ended->size() <= kMaxEnded && run.log->size() <= kMaxLogLines;
}

}  // namespace cairn::tensor
