#include "tensor_module/ckpt_commit.h"

#include <algorithm>
#include <map>
#include <set>

#include "server/base/strings.h"
#include "tensor_module/ckpt_ballot.h"

namespace cairn::tensor {

namespace {

constexpr size_t kListedNames = 4;

/// The specs of one name over all prepared ranks.
struct Gathered {
  const ShardSpec* head = nullptr;
  std::vector<std::pair<uint32_t, size_t>> shards;  ///< rank's place in the transaction, shard
};
using Names = std::map<std::string_view, Gathered>;

/// Every name that somebody declared; shards of prepared ranks only.
Names Gather(const Transaction& transaction) {
  Names names;
  for (size_t rank = 0; rank < transaction.ranks.size(); ++rank) {
    const RankPart& part = *transaction.ranks[rank];
    auto at = names.end();
    for (size_t i = 0; i < part.specs.size(); ++i) {
      const std::string& name = part.specs[i]->name;
      // A rank's specs ascend by name: mostly the next one stands behind the last one.
      if (at == names.end() || at->first != name) {
        at = names.try_emplace(at == names.end() ? names.begin() : std::next(at), name);
      }
      Gathered& gathered = at->second;
      if (gathered.head == nullptr) gathered.head = part.specs[i].get();
      if (part.prepared) gathered.shards.emplace_back(static_cast<uint32_t>(rank), i);
    }
  }
  return names;
}

std::string MissingRanks(const Transaction& transaction) {
  size_t missing = transaction.world;
  for (const auto& part : transaction.ranks) {
    missing -= part->prepared && part->rank < transaction.world ? 1 : 0;
  }
  if (missing == 0) return "";
  std::string text;
  for (const uint32_t rank : FirstMissingRanks(transaction)) {
    text += (text.empty() ? "" : ",") + std::to_string(rank);
  }
  if (missing > kListedRanks) text += " and " + std::to_string(missing - kListedRanks) + " more";
  return (missing == 1 ? "rank " : "ranks ") + text + " not prepared";
}

/// Of the groups that the run requires (C1), those that are not `there`.
std::string GroupsNotIn(const CkptRun& run, const std::set<std::string_view>& there) {
  std::string text;
  for (const std::string& group : run.config.require) {
    if (!there.contains(group)) text += (text.empty() ? "group " : ", ") + group;
  }
  return text.empty() ? "" : text + " missing";
}

std::string MissingGroups(const CkptRun& run, const Transaction& transaction,
                          const Tiling* tiling) {
  if (run.config.require.empty()) return "";
  std::set<std::string_view> there;
  for (const auto& part : transaction.ranks) {
    if (!part->prepared) continue;
    for (const auto& state : part->states) there.insert(StateKindName(state->kind));
    if (tiling != nullptr) continue;
    for (const auto& spec : part->specs) there.insert(spec->group);
  }
  if (tiling != nullptr) {
    for (const auto& head : transaction.names->heads) there.insert(head->group);
  }
  return GroupsNotIn(run, there);
}

std::string MissingGroups(const CkptRun& run, const Version& version) {
  std::set<std::string_view> there;
  for (const auto& tensor : version.tensors) there.insert(tensor->group);
  for (const RankState& state : version.states) there.insert(StateKindName(state.blob->kind));
  return GroupsNotIn(run, there);
}

bool SameBytes(const ShardData& a, const ShardData& b) {
  for (size_t i = 0; i < a.cells().size(); ++i) {
    if (!SameBytes(*a.cells()[i].chunk, *b.cells()[i].chunk)) return false;
  }
  return true;
}

Result<Kept<LogicalTensor>> BuildTensor(const Transaction& transaction, const Gathered& gathered,
                                        Moment moment) {
  const ShardSpec& head = *gathered.head;
  struct Box {
    uint32_t rank;  ///< the first that has it
    const ShardData* data;
    size_t last;  ///< place of the last shard of this box
    Kept<StoredShard> stored;
  };
  LogicalTensor tensor{head.name, head.group, head.dtype, head.shape, head.alias_of, {}};
  std::map<const Extent*, size_t, LessExtent> seen;
  std::vector<Box> boxes;
  boxes.reserve(gathered.shards.size());
  for (size_t i = 0; i < gathered.shards.size(); ++i) {
    const auto& [at, shard] = gathered.shards[i];
    const RankPart& part = *transaction.ranks[at];
    const ShardSpec& spec = *part.specs[shard];
    const ShardData& data = *part.data[shard];
    if (!spec.alias_of.empty()) continue;
    const auto [found, fresh] = seen.try_emplace(&spec.extent, boxes.size());
    if (fresh) {
      boxes.push_back({part.rank, &data, i,
                       part.ballot ? part.ballot->stored[shard]
                                   : Kept<StoredShard>::Make(
                                         StoredShard{spec.extent, spec.phase, data.Chunks()})});
      continue;
    }
    Box& box = boxes[found->second];
    if (!moment.replayed && !SameBytes(*box.data, data)) {
      return Status::Client("CKPTDIVERGED ranks " + std::to_string(box.rank) + " and " +
                            std::to_string(part.rank) + " have other bytes of '" + spec.name + "'");
    }
    box.last = i;
  }
  for (const Box& box : boxes) tensor.shards.push_back(box.stored);
  if (Overlaps(tensor)) {
    // The highest rank counts (C10), also where others brought its box before.
    std::sort(boxes.begin(), boxes.end(),
              [](const Box& a, const Box& b) { return a.last < b.last; });
    tensor.shards = {};
    for (const Box& box : boxes) tensor.shards.push_back(box.stored);
  }
  return Kept<LogicalTensor>::Make(std::move(tensor));
}

/// Without tensors.
Version BuildVersion(const Transaction& transaction, Durable durable, Moment moment) {
  Version version;
  version.step = transaction.step;
  version.tx = transaction.id;
  version.attempt = transaction.attempt;
  version.world = transaction.world;
  version.parent = transaction.parent;
  version.began_ms = transaction.began_ms;
  version.first_prepare_ms = transaction.first_prepare_ms;
  version.last_prepare_ms = transaction.last_prepare_ms;
  version.committed_ms = moment.now_ms;
  version.durable = durable;
  for (const auto& part : transaction.ranks) {
    if (!part->prepared) continue;
    RankSummary summary{part->rank, part->specs.size(), 0};
    if (part->ballot) {
      summary.bytes = part->ballot->size_bytes;
    } else {
      for (const auto& spec : part->specs) summary.bytes += spec->size_bytes;
    }
    for (const auto& state : part->states) {
      summary.bytes += state->size_bytes;
      version.states.push_back({part->rank, state});
    }
    version.ranks.push_back(summary);
  }
  return version;
}

void Insert(CkptRun* run, Version version) {
  const auto at = std::lower_bound(
      run->versions.begin(), run->versions.end(), version.step,
      [](const VersionRow& row, uint64_t step) { return row.version->step < step; });
  if (at != run->versions.end() && at->version->step == version.step) {
    *at = {Freeze(std::move(version)), false};
  } else {
    run->versions.insert(at, {Freeze(std::move(version)), false});
  }
}

bool IsTagged(const CkptRun& run, uint64_t step) {
  return std::any_of(run.tags.begin(), run.tags.end(),
                     [step](const Tag& tag) { return tag.step == step; });
}

}  // namespace

bool IsPinned(const CkptRun& run, uint64_t step) {
  return std::any_of(run.tags.begin(), run.tags.end(),
                     [step](const Tag& tag) { return tag.step == step && tag.pinned; });
}

namespace {

/// Of the votes: ALLRANKS needs all, COVERAGE one.
std::string MissingVotes(const Transaction& transaction) {
  const bool nobody = std::none_of(transaction.ranks.begin(), transaction.ranks.end(),
                                   [](const Kept<RankPart>& part) { return part->prepared; });
  return transaction.coverage && !nobody ? "" : MissingRanks(transaction);
}

/// Of the tensors that somebody declared.
Result<std::string> MissingTensors(const Transaction& transaction, const Names& names) {
  std::string text;
  size_t missing = 0;
  for (const auto& [name, gathered] : names) {
    const ShardSpec& head = *gathered.head;
    bool whole = !gathered.shards.empty();
    if (!head.alias_of.empty()) {
      const auto target = names.find(head.alias_of);
      whole = whole && target != names.end() && !target->second.shards.empty() &&
              target->second.head->alias_of.empty() && target->second.head->dtype == head.dtype &&
              target->second.head->shape == head.shape;
    } else if (whole) {
      std::vector<const Extent*> extents;
      for (const auto& [at, shard] : gathered.shards) {
        extents.push_back(&transaction.ranks[at]->specs[shard]->extent);
      }
      Result<bool> covered = IsCovered(head.shape, extents);
      if (!covered.ok()) return covered.status();
      whole = covered.value();
    }
    if (whole) continue;
    if (missing < kListedNames) text += (missing > 0 ? ", '" : "'") + std::string(name) + "'";
    ++missing;
  }
  if (missing > kListedNames) text += " and " + std::to_string(missing - kListedNames) + " more";
  if (missing > 0) return text + " not covered by what is prepared";
  return text;
}

}  // namespace

std::vector<uint32_t> FirstMissingRanks(const Transaction& transaction) {
  std::vector<uint32_t> missing;
  size_t at = 0;
  for (uint32_t rank = 0; rank < transaction.world && missing.size() < kListedRanks; ++rank) {
    while (at < transaction.ranks.size() && transaction.ranks[at]->rank < rank) ++at;
    const bool here = at < transaction.ranks.size() && transaction.ranks[at]->rank == rank;
    if (!here || !transaction.ranks[at]->prepared) missing.push_back(rank);
  }
  return missing;
}

namespace {

/// How what is prepared becomes a version: by its ballots, or by all that it has.
struct Tally {
  std::optional<Tiling> tiling;
  Names names;  ///< without a tiling
  std::string missing;
};

Result<Tally> Count(const CkptRun& run, const Transaction& transaction) {
  Tally out;
  out.missing = MissingVotes(transaction);
  if (!out.missing.empty()) return out;
  out.tiling = FindTiling(transaction);
  if (!out.tiling) {
    out.names = Gather(transaction);
    Result<std::string> tensors = MissingTensors(transaction, out.names);
    if (!tensors.ok()) return tensors.status();
    out.missing = std::move(*tensors);
  }
  if (out.missing.empty()) {
    out.missing = MissingGroups(run, transaction, out.tiling ? &*out.tiling : nullptr);
  }
  return out;
}

}  // namespace

Result<std::string> WhatIsMissing(const CkptRun& run, const Transaction& transaction) {
  Result<Tally> counted = Count(run, transaction);
  if (!counted.ok()) return counted.status();
  return std::move(counted->missing);
}

Result<std::vector<uint64_t>> Commit(CkptRun* run, std::string_view tx, Durable durable,
                                     std::string_view tag, Moment moment) {
  Result<const Transaction*> found = FindLive(*run, tx);
  if (!found.ok()) return found.status();
  const Transaction& transaction = *found.value();
  Result<Tally> counted = Count(*run, transaction);
  if (!counted.ok()) return counted.status();
  if (!counted->missing.empty()) return Status::Client("CKPTINCOMPLETE " + counted->missing);
  CAIRN_RETURN_IF_ERROR(CheckNotPinned(*run, transaction.step));
  Version version = BuildVersion(transaction, durable, moment);
  if (counted->tiling) version.tensors = BuildTensors(transaction, *counted->tiling);
  for (const auto& [name, gathered] : counted->names) {
    if (gathered.shards.empty()) continue;
    Result<Kept<LogicalTensor>> tensor = BuildTensor(transaction, gathered, moment);
    if (!tensor.ok()) return tensor.status();
    version.tensors.push_back(std::move(*tensor));
  }
  CkptRun next = *run;
  std::erase_if(next.transactions, [tx](const auto& other) { return other->id == tx; });
  Result<std::vector<uint64_t>> gone = CommitVersion(&next, std::move(version), tag, moment);
  if (gone.ok()) *run = std::move(next);
  return gone;
}

Status CheckNotPinned(const CkptRun& run, uint64_t step) {
  if (!IsPinned(run, step)) return Status::Ok();
  return Status::Client("CKPTBUSY the version of step " + std::to_string(step) +
                        " is pinned by a tag");
}

Status CheckGroups(const CkptRun& run, const Version& version) {
  const std::string missing = MissingGroups(run, version);
  return missing.empty() ? Status::Ok() : Status::Client("CKPTINCOMPLETE " + missing);
}

Result<std::vector<uint64_t>> CommitVersion(CkptRun* run, Version version, std::string_view tag,
                                            Moment moment) {
  CAIRN_RETURN_IF_ERROR(CheckNotPinned(*run, version.step));
  CkptRun next = *run;
  const uint64_t step = version.step;
  const std::string tx = version.tx;
  version.committed_ms = moment.now_ms;
  Insert(&next, std::move(version));
  if (!tag.empty()) CAIRN_RETURN_IF_ERROR(SetTag(&next, tag, step, false));
  next.last_commit_ms = moment.now_ms;
  Note(&next, moment.now_ms, "committed", step, tx);
  std::vector<uint64_t> gone;
  if (next.config.keep > 0) {
    // What was committed just now stays, however low its step is: its reply tells of it.
    gone = NotRetained(next, {.keep = next.config.keep}, moment.now_ms);
    std::erase(gone, step);
    RemoveVersions(&next, gone, moment);
  }
  RecountPromises(&next, run->Latest());
  *run = std::move(next);
  return gone;
}

Result<const Version*> ResolveVersion(const CkptRun& run, std::string_view text) {
  if (EqualsIgnoreCase(text, "latest")) {
    if (const Version* latest = run.Latest()) return latest;
    return Status::Client("ERR this run has no committed version");
  }
  uint64_t step = 0;
  if (text.starts_with('@')) {
    const Tag* tag = run.FindTag(text.substr(1));
    if (tag == nullptr) return Status::Client("ERR no such tag");
    step = tag->step;
  } else if (!ParseUint64(text, &step)) {
    return Status::Client("ERR a version is a step, a @tag or LATEST");
  }
  const VersionRow* row = run.FindStep(step);
  if (row == nullptr) return Status::Client("ERR no version of step " + std::to_string(step));
  return row->version.get();
}

const Transaction* FindChild(const CkptRun& run, uint64_t step) {
  for (const auto& transaction : run.transactions) {
    if (transaction->live() && transaction->parent == step) return transaction.get();
  }
  return nullptr;
}

std::vector<uint64_t> NotRetained(const CkptRun& run, const RetainRule& rule, int64_t now_ms) {
  std::vector<uint64_t> steps;
  uint64_t newer = 0;
  const Version* latest = run.Latest();
  for (size_t i = run.versions.size(); i-- > 0;) {
    const Version& version = *run.versions[i].version;
    bool kept = &version == latest || IsPinned(run, version.step) ||
                FindChild(run, version.step) != nullptr;
    if (run.versions[i].rolled_back) {
      kept = kept || IsTagged(run, version.step);
    } else {
      kept = kept || newer < rule.keep || (rule.every > 0 && version.step % rule.every == 0) ||
             (rule.within_ms >= 0 && now_ms - version.committed_ms <= rule.within_ms);
      ++newer;
    }
    if (!kept) steps.push_back(version.step);
  }
  std::reverse(steps.begin(), steps.end());
  return steps;
}

void RemoveVersions(CkptRun* run, const std::vector<uint64_t>& steps, Moment moment) {
  const std::set<uint64_t> gone(steps.begin(), steps.end());
  const Version* const latest_before = run->Latest();
  std::erase_if(run->versions,
                [&](const VersionRow& row) { return gone.contains(row.version->step); });
  RecountPromises(run, latest_before);
  std::erase_if(run->tags, [&](const Tag& tag) { return gone.contains(tag.step); });
  for (uint64_t step : steps) Note(run, moment.now_ms, "deleted", step, "");
}

Status DeleteVersion(CkptRun* run, uint64_t step, Moment moment) {
  if (run->FindStep(step) == nullptr) {
    return Status::Client("ERR no version of step " + std::to_string(step));
  }
  if (IsPinned(*run, step)) return Status::Client("ERR this version is pinned by a tag");
  // A replay does what was done, also by a server that did not ask.
  const Transaction* child = moment.replayed ? nullptr : FindChild(*run, step);
  if (child != nullptr) {
    return Status::Client("ERR this version is the parent of transaction " + child->id +
                          ", which is open");
  }
  RemoveVersions(run, {step}, moment);
  return Status::Ok();
}

Status Rollback(CkptRun* run, uint64_t step, Moment moment) {
  if (run->FindStep(step) == nullptr) {
    return Status::Client("ERR no version of step " + std::to_string(step));
  }
  const Version* const latest_before = run->Latest();
  for (VersionRow& row : run->versions) {
    if (row.version->step > step) row.rolled_back = true;
    if (row.version->step == step) row.rolled_back = false;
  }
  RecountPromises(run, latest_before);
  Note(run, moment.now_ms, "rolledback", step, "");
  return Status::Ok();
}

Status SetTag(CkptRun* run, std::string_view name, uint64_t step, bool pinned) {
  const auto at =
      std::lower_bound(run->tags.begin(), run->tags.end(), name,
                       [](const Tag& tag, std::string_view key) { return tag.name < key; });
  if (at != run->tags.end() && at->name == name) {
    at->step = step;
    at->pinned = pinned;
    return Status::Ok();
  }
  if (run->tags.size() >= kMaxTags) {
    return Status::Client("ERR a run has at most " + std::to_string(kMaxTags) + " tags");
  }
  run->tags.insert(at, {std::string(name), step, pinned});
  return Status::Ok();
}

void RemoveTag(CkptRun* run, std::string_view name) {
  std::erase_if(run->tags, [name](const Tag& tag) { return tag.name == name; });
}

}  // namespace cairn::tensor
