#include "tensor_module/ckpt_ballot.h"

#include <algorithm>
#include <span>

#include "tensor_module/ckpt_grid.h"

namespace cairn::tensor {

namespace {

/// Handles are copied so far behind the request for their count's cache line.
constexpr size_t kStoredAhead = 16;

/// `several` takes the cuts of a box with more than one.
Cut CutOf(const ShardSpec& spec, std::vector<Cut>* several) {
  Cut cut{0, 0, Cut::kWhole};
  const size_t before = several->size();
  for (size_t i = 0; i < spec.shape.size(); ++i) {
    const uint64_t off = spec.extent.off[i], len = spec.extent.len[i];
    if (len == 0) {
      several->resize(before);
      return {};
    }
    if (len == spec.shape[i]) continue;
    const Cut one{off, off + len, static_cast<uint32_t>(i)};
    if (cut.axis == Cut::kWhole) {
      cut = one;
      continue;
    }
    if (cut.axis != Cut::kSeveral) {
      several->push_back(cut);
      cut = {before, 0, Cut::kSeveral};
    }
    several->push_back(one);
    cut.end = several->size();
  }
  return cut;
}

/// Of a box that is not empty.
std::span<const Cut> CutsOf(const Ballot& ballot, size_t shard) {
  const Cut& cut = ballot.cuts[shard];
  if (cut.axis == Cut::kWhole) return {};
  if (cut.axis != Cut::kSeveral) return {&cut, 1};
  return std::span(ballot.several).subspan(cut.begin, cut.end - cut.begin);
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
    ballot.cuts.push_back(CutOf(spec, &ballot.several));
    ballot.size_bytes += spec.size_bytes;
    ballot.stored.push_back(
        spec.alias_of.empty()
            ? Kept<StoredShard>::Make({spec.extent, spec.phase, part.data[i]->Chunks()})
            : Kept<StoredShard>());
  }
  if (grown) transaction->names = Kept<NameTable>::Make(std::move(*grown));
  return Kept<Ballot>::Make(std::move(ballot));
}

namespace {

/// Looks at the shards of a transaction whose ranks all have ballots, name by name.
class Tiler {
 public:
  explicit Tiler(const Transaction& transaction)
      : transaction_(transaction), heads_(transaction.names->heads), names_(heads_.size()) {
    tiling_.shards.resize(heads_.size());
    for (size_t id = 0; id < heads_.size(); ++id) names_[id].alias = !heads_[id]->alias_of.empty();
  }

  std::optional<Tiling> Run() {
    if (!TakeInOrder() || !AliasesFit()) return std::nullopt;
    GatherApart();
    for (uint32_t id = 0; id < names_.size(); ++id) {
      if (names_[id].apart && !IsGrid(id)) return std::nullopt;
    }
    std::sort(tiling_.copies.begin(), tiling_.copies.end());
    return std::move(tiling_);
  }

 private:
  struct Name {
    uint64_t end = 0, goal = 0;
    uint32_t axis = Cut::kEmpty;  ///< kEmpty: nothing yet
    bool alias = false;
    bool apart = false;           ///< one did not begin where the last ended
    size_t first = 0, count = 0;  ///< of places_, if they are apart
  };

  const Ballot& BallotOf(size_t rank) const { return *transaction_.ranks[rank]->ballot; }

  bool TakeInOrder() {
    for (size_t rank = 0; rank < transaction_.ranks.size(); ++rank) {
      if (!transaction_.ranks[rank]->ballot) return false;
      const Ballot& ballot = BallotOf(rank);
      for (size_t i = 0; i < ballot.ids.size(); ++i) {
        Name& name = names_[ballot.ids[i]];
        if (name.alias) continue;
        if (ballot.cuts[i].axis == Cut::kEmpty) return false;
        ++tiling_.shards[ballot.ids[i]];
        name.apart = name.apart || !Extend(ballot.ids[i], ballot.cuts[i]);
      }
    }
    for (size_t id = 0; id < names_.size(); ++id) {
      const Name& name = names_[id];
      if (name.alias || name.apart) continue;
      if (tiling_.shards[id] == 0 || name.end != name.goal) return false;
    }
    return true;
  }

  bool Extend(uint32_t id, const Cut& cut) {
    Name& name = names_[id];
    if (cut.axis == Cut::kSeveral) return false;
    if (name.axis == Cut::kEmpty) {
      name.axis = cut.axis;
      name.goal = cut.axis == Cut::kWhole ? 0 : heads_[id]->shape[cut.axis];
    } else if (cut.axis != name.axis || cut.axis == Cut::kWhole) {
      return false;
    }
    if (cut.begin != name.end) return false;
    name.end = cut.end;
    return true;
  }

  bool AliasesFit() const {
    for (size_t id = 0; id < heads_.size(); ++id) {
      if (!names_[id].alias) continue;
      const auto target = transaction_.names->ids.find(heads_[id]->alias_of);
      if (target == transaction_.names->ids.end()) return false;
      const ShardSpec& other = *heads_[target->second];
      const bool fits = other.alias_of.empty() && other.dtype == heads_[id]->dtype &&
                        other.shape == heads_[id]->shape;
      if (!fits) return false;
    }
    return true;
  }

  /// Name by name, as ranks have names in one order: what is looked at for one is near what was
  /// for the last.
  void GatherApart() {
    size_t count = 0;
    for (size_t id = 0; id < names_.size(); ++id) {
      names_[id].first = count;
      if (names_[id].apart) count += tiling_.shards[id];
    }
    if (count == 0) return;
    places_.resize(count);
    for (uint32_t rank = 0; rank < transaction_.ranks.size(); ++rank) {
      const std::vector<uint32_t>& ids = BallotOf(rank).ids;
      for (uint32_t i = 0; i < ids.size(); ++i) {
        Name& name = names_[ids[i]];
        if (name.apart) places_[name.first + name.count++] = {rank, i};
      }
    }
  }

  std::span<const Cut> CutsAt(Tiling::Place place) const {
    return CutsOf(BallotOf(place.rank), place.shard);
  }
  const StoredShard& StoredAt(Tiling::Place place) const {
    return *BallotOf(place.rank).stored[place.shard];
  }

  /// The boxes of the name are the cells of a grid, perhaps with copies.
  bool IsGrid(uint32_t id) {
    const std::span places = std::span(places_).subspan(names_[id].first, names_[id].count);
    const std::span<const Cut> axes = CutsAt(places[0]);
    grid_.Restart(axes.size());
    for (const Tiling::Place place : places) {
      const std::span<const Cut> cuts = CutsAt(place);
      if (cuts.size() != axes.size()) return false;
      for (size_t i = 0; i < cuts.size(); ++i) {
        if (cuts[i].axis != axes[i].axis) return false;
        grid_.Add(i, cuts[i].begin, cuts[i].end);
      }
    }
    Shape lengths;
    for (const Cut& cut : axes) lengths.push_back(heads_[id]->shape[cut.axis]);
    if (!grid_.Settle(lengths) || grid_.cells() > places.size()) return false;
    return FillCells(id, places);
  }

  bool FillCells(uint32_t id, std::span<const Tiling::Place> places) {
    constexpr Tiling::Place kNobody{UINT32_MAX, UINT32_MAX};
    cells_.assign(static_cast<size_t>(grid_.cells()), kNobody);
    size_t found = 0;
    for (const Tiling::Place place : places) {
      const std::span<const Cut> cuts = CutsAt(place);
      size_t at = 0;
      for (size_t i = 0; i < cuts.size(); ++i) at = grid_.PlaceOf(at, i, cuts[i].begin);
      if (cells_[at] == kNobody) {
        cells_[at] = place;
        ++found;
        continue;
      }
      if (!HaveSameBytes(StoredAt(cells_[at]), StoredAt(place))) return false;
      tiling_.copies.push_back(place);
      --tiling_.shards[id];
    }
    return found == cells_.size();
  }

  static bool HaveSameBytes(const StoredShard& a, const StoredShard& b) {
    for (size_t i = 0; i < a.chunks.size(); ++i) {
      if (!SameBytes(*a.chunks[i], *b.chunks[i])) return false;
    }
    return true;
  }

  const Transaction& transaction_;
  const std::vector<Kept<ShardSpec>>& heads_;
  std::vector<Name> names_;            // by number
  std::vector<Tiling::Place> places_;  // of the shards of names that are apart, by name
  Grid grid_{0};                       // of the name that is looked at
  std::vector<Tiling::Place> cells_;   // its first shard of each cell
  Tiling tiling_;
};

}  // namespace

std::optional<Tiling> FindTiling(const Transaction& transaction) {
  if (!transaction.names) return std::nullopt;
  return Tiler(transaction).Run();
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
  auto copy = tiling.copies.begin();
  for (uint32_t rank = 0; rank < transaction.ranks.size(); ++rank) {
    const Ballot& ballot = *transaction.ranks[rank]->ballot;
    for (uint32_t i = 0; i < ballot.ids.size(); ++i) {
      if (copy != tiling.copies.end() && *copy == Tiling::Place{rank, i}) {
        ++copy;
        continue;
      }
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
