#include "tensor_module/ckpt_promise.h"

#include <algorithm>

#include "tensor_module/ckpt_model.h"

namespace cairn::tensor {

namespace {

bool IsBefore(const Kept<ShardSpec>& a, const Kept<ShardSpec>& b) {
  return LessExtent()(&a->extent, &b->extent);
}

}  // namespace

Promise::Wide Promise::Awaited(const Name& name, const Version* latest) {
  const LogicalTensor* old = latest == nullptr ? nullptr : latest->Find(name.text());
  const Wide shared = old == nullptr ? 0 : latest->Storage(*old).size_bytes();
  return name.missing_bytes - std::min(name.missing_bytes, shared);
}

void Promise::AddBoxes(Name* name, Specs specs) {
  std::sort(specs.begin(), specs.end(), IsBefore);
  std::vector<Box> all;
  all.reserve(name->boxes.size() + specs.size());
  size_t taken = 0;
  for (Kept<ShardSpec>& spec : specs) {
    while (taken < name->boxes.size() && IsBefore(name->boxes[taken].spec, spec)) {
      all.push_back(name->boxes[taken++]);
    }
    const bool known =
        taken < name->boxes.size() && name->boxes[taken].spec->extent == spec->extent;
    if (known || (!all.empty() && all.back().spec->extent == spec->extent)) continue;
    const uint64_t size_bytes = spec->size_bytes;
    name->missing_bytes += size_bytes;
    all.push_back({std::move(spec), size_bytes});
  }
  while (taken < name->boxes.size()) all.push_back(name->boxes[taken++]);
  name->boxes = SharedList<Box>(std::move(all));
}

void Promise::Add(const Specs& specs, const Version* latest) {
  std::vector<Kept<Name>> names;
  names.reserve(names_.size() + specs.size());
  size_t taken = 0;
  for (size_t i = 0; i < specs.size();) {
    const std::string& text = specs[i]->name;
    Specs of_name;
    for (; i < specs.size() && specs[i]->name == text; ++i) {
      // Aliases and empty tensors await nothing.
      if (specs[i]->size_bytes > 0) of_name.push_back(specs[i]);
    }
    if (of_name.empty()) continue;
    while (taken < names_.size() && names_[taken]->text() < text) names.push_back(names_[taken++]);
    Name name;
    if (taken < names_.size() && names_[taken]->text() == text) {
      name = *names_[taken++];
      bytes_ -= Awaited(name, latest);
    }
    AddBoxes(&name, std::move(of_name));
    bytes_ += Awaited(name, latest);
    names.push_back(Kept<Name>::Make(std::move(name)));
  }
  while (taken < names_.size()) names.push_back(names_[taken++]);
  names_ = SharedList<Kept<Name>>(std::move(names));
}

void Promise::Receive(const ShardSpec& spec, uint64_t missing_bytes, const Version* latest) {
  if (spec.size_bytes == 0) return;
  const size_t at =
      LowerBound(names_, [&](const Kept<Name>& other) { return other->text() < spec.name; });
  CAIRN_CHECK(at < names_.size() && names_[at]->text() == spec.name);
  const size_t box = LowerBound(names_[at]->boxes, [&](const Box& other) {
    return LessExtent()(&other.spec->extent, &spec.extent);
  });
  CAIRN_CHECK(box < names_[at]->boxes.size());
  const uint64_t before = names_[at]->boxes[box].missing_bytes;
  if (missing_bytes >= before) return;
  Name& name = names_.Own(at).Own();
  bytes_ -= Awaited(name, latest);
  name.boxes.Own(box).missing_bytes = missing_bytes;
  name.missing_bytes -= before - missing_bytes;
  bytes_ += Awaited(name, latest);
}

void Promise::Recount(const Version* latest) {
  bytes_ = 0;
  for (const auto& name : names_) bytes_ += Awaited(*name, latest);
}

uint64_t AwaitedBytes(const CkptRun& run) {
  uint64_t all = 0;
  for (const auto& transaction : run.transactions) {
    // What an import holds is there already, and what it had yet to log when it ended never comes.
    if (!transaction->live() || IsImport(transaction->id)) continue;
    all = SaturatingSum(all, transaction->promise.bytes());
  }
  return all;
}

void CountPromises(CkptRun* run) {
  const Version* latest = run->Latest();
  for (auto& transaction : run->transactions) {
    if (!transaction->live()) continue;
    Promise& promise = transaction.Own().promise;
    for (const auto& part : transaction->ranks) {
      promise.Add({part->specs.begin(), part->specs.end()}, latest);
      for (size_t i = 0; i < part->specs.size(); ++i) {
        const uint64_t received = part->data[i]->received_bytes();
        const ShardSpec& spec = *part->specs[i];
        if (received > 0) promise.Receive(spec, spec.size_bytes - received, latest);
      }
    }
  }
}

void RecountPromises(CkptRun* run, const Version* latest_before) {
  const Version* latest = run->Latest();
  if (latest == latest_before) return;
  for (auto& transaction : run->transactions) {
    if (transaction->live()) transaction.Own().promise.Recount(latest);
  }
}

}  // namespace cairn::tensor
