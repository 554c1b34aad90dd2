#include "tensor_module/ckpt_promise.h"

#include <algorithm>

#include "tensor_module/ckpt_model.h"

namespace cairn::tensor {

namespace {

/// A rank's shards of a name that are put among those there are, one by one.
constexpr size_t kFewBoxes = 16;

bool IsBefore(const Kept<ShardSpec>& a, const Kept<ShardSpec>& b) {
  return LessExtent()(&a->extent, &b->extent);
}

}  // namespace

Promise::Wide Promise::Awaited(const Name& name, const Version* latest) {
  const LogicalTensor* old = latest == nullptr ? nullptr : latest->Find(name.text());
  const Wide shared = old == nullptr ? 0 : latest->Storage(*old).size_bytes();
  return name.missing_bytes - std::min(name.missing_bytes, shared);
}

void Promise::AddBoxes(Name* name, const Specs& specs) {
  for (const Kept<ShardSpec>& spec : specs) {
    const auto is_before = [&](const Box& box) { return IsBefore(box.spec, spec); };
    const Box* const found = name->boxes.Find(is_before);
    if (found != nullptr && found->spec->extent == spec->extent) continue;
    name->missing_bytes += spec->size_bytes;
    name->boxes.Insert({spec, spec->size_bytes}, is_before);
  }
}

void Promise::MergeBoxes(Name* name, Specs specs) {
  std::sort(specs.begin(), specs.end(), IsBefore);
  std::vector<Box> all;
  all.reserve(name->boxes.size() + specs.size());
  auto spec = specs.begin();
  const auto take = [&] {
    if (all.empty() || all.back().spec->extent != (*spec)->extent) {
      name->missing_bytes += (*spec)->size_bytes;
      all.push_back({*spec, (*spec)->size_bytes});
    }
    ++spec;
  };
  name->boxes.ForEach([&](const Box& box) {
    while (spec != specs.end() && IsBefore(*spec, box.spec)) take();
    while (spec != specs.end() && (*spec)->extent == box.spec->extent) ++spec;
    all.push_back(box);
  });
  while (spec != specs.end()) take();
  name->boxes = SharedSorted<Box>(std::move(all));
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
    if (of_name.size() <= kFewBoxes) {
      AddBoxes(&name, of_name);
    } else {
      MergeBoxes(&name, std::move(of_name));
    }
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
  const auto is_before = [&](const Box& box) {
    return LessExtent()(&box.spec->extent, &spec.extent);
  };
  const Box* const box = names_[at]->boxes.Find(is_before);
  CAIRN_CHECK(box != nullptr);
  const uint64_t before = box->missing_bytes;
  if (missing_bytes >= before) return;
  Name& name = names_.Own(at).Own();
  bytes_ -= Awaited(name, latest);
  name.boxes.Own(is_before).missing_bytes = missing_bytes;
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
