#include "tensor_module/ckpt_promise.h"

#include <algorithm>
#include <tuple>

namespace cairn::tensor {

namespace {

/// What of a tensor of that name may be shared with `latest` (nullptr: no version).
uint64_t SharedBytes(const Version* latest, const std::string& name) {
  const LogicalTensor* old = latest == nullptr ? nullptr : latest->Find(name);
  return old == nullptr ? 0 : latest->Storage(*old).size_bytes();
}

struct Row {
  const ShardSpec* spec;
  uint64_t missing_bytes;
};

bool Before(const Row& a, const Row& b) {
  if (const int order = a.spec->name.compare(b.spec->name); order != 0) return order < 0;
  return std::tie(a.spec->extent.off, a.spec->extent.len, a.missing_bytes) <
         std::tie(b.spec->extent.off, b.spec->extent.len, b.missing_bytes);
}

uint64_t AwaitedBytes(std::vector<Row> rows, const Version* latest) {
  std::sort(rows.begin(), rows.end(), Before);
  uint64_t all = 0;
  for (size_t i = 0; i < rows.size();) {
    const std::string& name = rows[i].spec->name;
    uint64_t missing = 0;
    const Extent* extent = nullptr;
    for (; i < rows.size() && rows[i].spec->name == name; ++i) {
      if (extent == nullptr || *extent != rows[i].spec->extent) {
        missing = SaturatingSum(missing, rows[i].missing_bytes);
      }
      extent = &rows[i].spec->extent;
    }
    all = SaturatingSum(all, missing - std::min(missing, SharedBytes(latest, name)));
  }
  return all;
}

uint64_t AwaitedBytes(const Transaction& transaction, const Version* latest) {
  std::vector<Row> rows;
  for (const auto& part : transaction.ranks) {
    for (size_t i = 0; i < part->specs.size(); ++i) {
      const ShardSpec& spec = *part->specs[i];
      rows.push_back({&spec, spec.size_bytes - part->data[i]->received_bytes()});
    }
  }
  return AwaitedBytes(std::move(rows), latest);
}

}  // namespace

uint64_t AwaitedBytes(const CkptRun& run, const std::vector<ShardSpec>& specs) {
  std::vector<Row> rows;
  for (const ShardSpec& spec : specs) rows.push_back({&spec, spec.size_bytes});
  return AwaitedBytes(std::move(rows), run.Latest());
}

uint64_t AwaitedBytesAtMost(const CkptRun& run) {
  uint64_t all = 0;
  for (const auto& transaction : run.transactions) {
    if (!transaction->live()) continue;
    for (const auto& part : transaction->ranks) all = SaturatingSum(all, part->awaited_bytes);
  }
  return all;
}

uint64_t AwaitedBytes(const CkptRun& run) {
  uint64_t all = 0;
  for (const auto& transaction : run.transactions) {
    if (transaction->live()) all = SaturatingSum(all, AwaitedBytes(*transaction, run.Latest()));
  }
  return all;
}

}  // namespace cairn::tensor
