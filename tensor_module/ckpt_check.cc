#include "tensor_module/ckpt_check.h"

#include <string_view>
#include <unordered_map>

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

/// All ranks mean the same tensor by a name, whose shards a rank numbers from 0.
bool IsConsistent(const Transaction& transaction) {
  std::unordered_map<std::string_view, const ShardSpec*> heads;
  for (const auto& part : transaction.ranks) {
    const ShardSpec* last = nullptr;
    for (const auto& spec : part->specs) {
      const bool again = last != nullptr && last->name == spec->name;
      if (spec->index != (again ? last->index + 1 : 0)) return false;
      if (!IsSameTensor(*spec, *heads.try_emplace(spec->name, spec.get()).first->second)) {
        return false;
      }
      last = spec.get();
    }
  }
  return true;
}

}  // namespace

bool IsConsistent(const CkptRun& run) {
  for (const auto& transaction : run.transactions) {
    if (!transaction || !IsConsistent(*transaction)) return false;
  }
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
