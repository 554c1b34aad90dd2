#include "tensor_module/ckpt_ballot.h"

#include <algorithm>

namespace cairn::tensor {

namespace {

/// Handles are copied so far behind the request for their count's cache line.
constexpr size_t kStoredAhead = 16;

Cut CutOf(const ShardSpec& spec) {
  Cut cut{0, 0, Cut::kWhole};
  for (size_t i = 0; i < spec.shape.size(); ++i) {
    const uint64_t off = spec.extent.off[i], len = spec.extent.len[i];
    if (spec.shape[i] == 0 || len == 0) return {};
    if (len == spec.shape[i]) continue;
    if (cut.axis != Cut::kWhole) return {};
    cut = {off, off + len, static_cast<uint32_t>(i)};
  }
  return cut;
}

/// The number of a name, which is mostly the one behind the last.
uint32_t NumberOf(const NameTable& known, std::string_view name, uint32_t guess) {
  if (guess < known.heads.size() && known.heads[guess]->name == name) return guess;
  const auto found = known.ids.find(name);
  return found == known.ids.end() ? UINT32_MAX : found->second;
}

}  // namespace

Kept<Ballot> MakeBallot(Transaction* transaction, const RankPart& part) {
  Ballot ballot;
  std::optional<NameTable> grown;
  uint32_t last = UINT32_MAX;
  for (size_t i = 0; i < part.specs.size(); ++i) {
    const ShardSpec& spec = *part.specs[i];
    uint32_t id = last;
    if (i == 0 || part.specs[i - 1]->name != spec.name) {
      id = transaction->names ? NumberOf(*transaction->names, spec.name, last + 1) : UINT32_MAX;
      if (id == UINT32_MAX) {
        if (!grown) grown = transaction->names ? *transaction->names : NameTable();
        if (grown->heads.size() >= kMaxBallotNames) return {};
        id = static_cast<uint32_t>(grown->heads.size());
        grown->heads.push_back(part.specs[i]);
        grown->ids.emplace(grown->heads.back()->name, id);
      }
    }
    ballot.ids.push_back(last = id);
    ballot.cuts.push_back(CutOf(spec));
    ballot.size_bytes += spec.size_bytes;
    ballot.stored.push_back(
        spec.alias_of.empty()
            ? Kept<StoredShard>::Make({spec.extent, spec.phase, part.data[i]->Chunks()})
            : Kept<StoredShard>());
  }
  if (grown) transaction->names = Kept<NameTable>::Make(std::move(*grown));
  return Kept<Ballot>::Make(std::move(ballot));
}

std::optional<Tiling> FindTiling(const Transaction& transaction) {
  if (!transaction.names) return std::nullopt;
  const std::vector<Kept<ShardSpec>>& heads = transaction.names->heads;
  struct Reached {
    uint64_t end = 0, goal = 0;
    uint32_t axis = Cut::kOther;  ///< kOther: nothing yet
    bool alias = false;
  };
  std::vector<Reached> reached(heads.size());
  for (size_t id = 0; id < heads.size(); ++id) reached[id].alias = !heads[id]->alias_of.empty();
  Tiling tiling{std::vector<uint32_t>(heads.size(), 0)};
  for (const auto& part : transaction.ranks) {
    if (!part->ballot) return std::nullopt;
    const Ballot& ballot = *part->ballot;
    for (size_t i = 0; i < ballot.ids.size(); ++i) {
      const uint32_t id = ballot.ids[i];
      Reached& at = reached[id];
      if (at.alias) continue;
      const Cut& cut = ballot.cuts[i];
      if (at.axis == Cut::kOther) {
        if (cut.axis == Cut::kOther) return std::nullopt;
        at.axis = cut.axis;
        at.goal = cut.axis == Cut::kWhole ? 0 : heads[id]->shape[cut.axis];
      } else if (cut.axis != at.axis || cut.axis == Cut::kWhole) {
        return std::nullopt;
      }
      if (cut.begin != at.end) return std::nullopt;
      at.end = cut.end;
      ++tiling.shards[id];
    }
  }
  for (size_t id = 0; id < heads.size(); ++id) {
    if (!reached[id].alias) {
      if (tiling.shards[id] == 0 || reached[id].end != reached[id].goal) return std::nullopt;
      continue;
    }
    const auto target = transaction.names->ids.find(heads[id]->alias_of);
    if (target == transaction.names->ids.end()) return std::nullopt;
    const ShardSpec& other = *heads[target->second];
    const bool fits = other.alias_of.empty() && other.dtype == heads[id]->dtype &&
                      other.shape == heads[id]->shape;
    if (!fits) return std::nullopt;
  }
  return tiling;
}

std::vector<Kept<LogicalTensor>> BuildTensors(const Transaction& transaction,
                                              const Tiling& tiling) {
  const std::vector<Kept<ShardSpec>>& heads = transaction.names->heads;
  std::vector<LogicalTensor> tensors;
  tensors.reserve(heads.size());
  for (size_t id = 0; id < heads.size(); ++id) {
    const ShardSpec& head = *heads[id];
    LogicalTensor& tensor = tensors.emplace_back(
        LogicalTensor{head.name, head.group, head.dtype, head.shape, head.alias_of, {}});
    tensor.shards.reserve(tiling.shards[id]);
  }
  for (const auto& part : transaction.ranks) {
    const Ballot& ballot = *part->ballot;
    for (size_t i = 0; i < ballot.ids.size(); ++i) {
      if (i + kStoredAhead < ballot.ids.size()) ballot.stored[i + kStoredAhead].Prefetch();
      if (ballot.stored[i]) tensors[ballot.ids[i]].shards.push_back(ballot.stored[i]);
    }
  }
  std::sort(tensors.begin(), tensors.end(),
            [](const LogicalTensor& a, const LogicalTensor& b) { return a.name < b.name; });
  std::vector<Kept<LogicalTensor>> out;
  out.reserve(tensors.size());
  for (LogicalTensor& tensor : tensors) {
    out.push_back(Kept<LogicalTensor>::Make(std::move(tensor)));
  }
  return out;
}

}  // namespace cairn::tensor
