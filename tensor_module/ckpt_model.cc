#include "tensor_module/ckpt_model.h"

#include <algorithm>

namespace cairn::tensor {

std::string_view DurableName(Durable durable) {
  constexpr std::string_view kNames[] = {"MEM", "AOF", "DISK"};
  return kNames[static_cast<size_t>(durable)];
}

std::string_view StateKindName(StateKind kind) {
  constexpr std::string_view kNames[] = {"optim", "sched", "rng", "loader", "trainer", "user"};
  return kNames[static_cast<size_t>(kind)];
}

std::string_view TxStateName(TxState state) {
  constexpr std::string_view kNames[] = {"open", "preparing", "expired", "fenced"};
  return kNames[static_cast<size_t>(state)];
}

void RankPart::SetShards(std::vector<Kept<ShardSpec>> new_specs,
                         std::vector<Kept<ShardData>> new_data) {
  specs = SharedList<Kept<ShardSpec>>(std::move(new_specs));
  data = SharedList<Kept<ShardData>>(std::move(new_data));
}

void RankPart::SetData(size_t shard, ShardData new_data) {
  data.Own(shard) = Kept<ShardData>::Make(std::move(new_data));
}

const LogicalTensor* Version::Find(std::string_view name) const {
  const auto found = std::lower_bound(
      tensors.begin(), tensors.end(), name,
      [](const Kept<LogicalTensor>& tensor, std::string_view key) { return tensor->name < key; });
  return found == tensors.end() || (*found)->name != name ? nullptr : found->get();
}

const LogicalTensor& Version::Storage(const LogicalTensor& tensor) const {
  if (tensor.alias_of.empty()) return tensor;
  const LogicalTensor* target = Find(tensor.alias_of);
  CAIRN_CHECK(target != nullptr && target->alias_of.empty());
  return *target;
}

namespace {

/// Memory that they have beside themselves.
size_t BytesBehind(const std::string& text) {
  return text.capacity() < sizeof text / 2 ? 0 : text.capacity() + 1;  // a short one has none
}
template <typename T>
size_t BytesBehind(const std::vector<T>& items) {
  return items.capacity() * sizeof(T);
}

size_t HeadBytes(const LogicalTensor& tensor) {
  size_t bytes = Kept<LogicalTensor>::node_bytes() + BytesBehind(tensor.name) +
                 BytesBehind(tensor.group) + BytesBehind(tensor.alias_of) +
                 BytesBehind(tensor.shape);
  for (const StoredShard& shard : tensor.shards) {
    bytes += sizeof(Kept<StoredShard>) + Kept<StoredShard>::node_bytes() +
             BytesBehind(shard.extent.off) + BytesBehind(shard.extent.len) +
             BytesBehind(shard.chunks);
  }
  return bytes;
}

size_t HeadBytes(const StateBlob& state) {
  return Kept<StateBlob>::node_bytes() + BytesBehind(state.name) + BytesBehind(state.chunks);
}

}  // namespace

Kept<Version> Freeze(Version version) {
  version.size_bytes = 0;
  version.head_bytes = Kept<Version>::node_bytes() + BytesBehind(version.tx) +
                       BytesBehind(version.ranks) + BytesBehind(version.tensors) +
                       BytesBehind(version.states);
  for (const auto& tensor : version.tensors) {
    if (tensor->alias_of.empty()) version.size_bytes += tensor->size_bytes();
    version.head_bytes += HeadBytes(*tensor);
  }
  for (const RankState& state : version.states) {
    version.size_bytes += state.blob->size_bytes;
    version.head_bytes += HeadBytes(*state.blob);
  }
  return Kept<Version>::Make(std::move(version));
}

const Version* CkptRun::Latest() const {
  for (size_t i = versions.size(); i-- > 0;) {
    if (!versions[i].rolled_back) return versions[i].version.get();
  }
  return nullptr;
}

const VersionRow* CkptRun::FindStep(uint64_t step) const {
  const auto found =
      std::lower_bound(versions.begin(), versions.end(), step,
                       [](const VersionRow& row, uint64_t key) { return row.version->step < key; });
  return found == versions.end() || found->version->step != step ? nullptr : &*found;
}

const Tag* CkptRun::FindTag(std::string_view name) const {
  const auto found =
      std::lower_bound(tags.begin(), tags.end(), name,
                       [](const Tag& tag, std::string_view key) { return tag.name < key; });
  return found == tags.end() || found->name != name ? nullptr : &*found;
}

const Ended* CkptRun::FindEnded(std::string_view tx) const {
  const auto found =
      std::find_if(ended->begin(), ended->end(), [tx](const Ended& each) { return each.tx == tx; });
  return found == ended->end() ? nullptr : &*found;
}

void Remember(CkptRun* run, Ended ended) {
  std::vector<Ended>& all = run->ended.Own();
  if (all.size() == kMaxEnded) all.erase(all.begin());
  all.push_back(std::move(ended));
}

void Note(CkptRun* run, int64_t at_ms, std::string_view event, uint64_t step, std::string text) {
  std::vector<LogLine>& lines = run->log.Own();
  if (lines.size() == kMaxLogLines) lines.erase(lines.begin());
  lines.push_back({at_ms, std::string(event), step, std::move(text)});
}

}  // namespace cairn::tensor
