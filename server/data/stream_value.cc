#include "server/data/stream_value.h"

#include <algorithm>
#include <vector>

namespace cairn {

StreamValue::~StreamValue() {
  if (!owns_nodes()) return;
  nodes_.FreeNodes();
  ForEachGroup([](StreamGroup& group) { group.FreeNodes(); });
}

StreamValue::StreamValue(StreamValue& old, uint64_t frozen_until)
    : Container(old, frozen_until),
      last_id(old.last_id),
      max_deleted_id(old.max_deleted_id),
      entries_added(old.entries_added),
      length_(old.length_),
      first_id_(old.first_id_),
      radix_nodes_(old.radix_nodes_),
      node_bytes_(old.node_bytes_) {
  nodes_.ForkFrom(old.nodes_);
  for (const auto& [name, group] : old.groups_) groups_.emplace(name, group->ForkHead());
}

StreamValue* StreamValue::Fork(uint64_t frozen_until) {
  return new StreamValue(*this, frozen_until);
}

StreamValue* StreamValue::Clone() const {
  auto* clone = new StreamValue(home());
  clone->last_id = last_id;
  clone->max_deleted_id = max_deleted_id;
  clone->entries_added = entries_added;
  clone->length_ = length_;
  clone->first_id_ = first_id_;
  clone->radix_nodes_ = radix_nodes_;
  clone->node_bytes_ = node_bytes_;
  std::vector<StreamNode*> nodes;
  for (Cursor at = nodes_.First(); at; at.Next()) nodes.push_back(StreamNode::Copy(*at.leaf()));
  clone->nodes_.Build(nodes, *clone);
  for (const auto& [name, group] : groups_) clone->groups_.emplace(name, group->Clone(*clone));
  return clone;
}

// --- entries ---------------------------------------------------------------------------------

bool StreamValue::MustBeginNode(const StreamNode& last, uint64_t more,
                                const StreamNodeLimits& limits) const {
  const uint64_t max_bytes = limits.max_bytes == 0 || limits.max_bytes > kListpackMaxBytes
                                 ? kListpackMaxBytes
                                 : limits.max_bytes;
  if (last.bytes + more >= max_bytes) return true;
  return limits.max_entries != 0 && last.entry_count() >= limits.max_entries;
}

void StreamValue::AddNode(StreamNode* node) {
  node_bytes_ += node->HeapBytes();
  radix_nodes_ += RadixNodesBy(node->master_id);
  Cursor last = nodes_.Last();
  nodes_.InsertLeaf(&last, true, node, *this);
}

void StreamValue::RemoveNode(Cursor* cursor) {
  node_bytes_ -= cursor->leaf()->HeapBytes();
  const StreamId key = cursor->leaf()->master_id;
  nodes_.EraseLeaf(cursor, *this);
  radix_nodes_ -= RadixNodesBy(key);
}

void StreamValue::Append(StreamId id, std::span<const std::string_view> fields,
                         const StreamNodeLimits& limits) {
  uint64_t size = 0;
  for (std::string_view each : fields) size += each.size();
  Cursor last = nodes_.Last();
  const bool full = last && MustBeginNode(*last.leaf(), size, limits);
  if (!last || full) {
    if (full) {
      StreamNode* node = nodes_.Own(&last, *this);
      node_bytes_ -= node->HeapBytes();
      node = node->Trim();
      node_bytes_ += node->HeapBytes();
      nodes_.Moved(&last, node);
    }
    AddNode(StreamNode::New(id, fields));
  } else {
    StreamNode* node = nodes_.Own(&last, *this);
    node_bytes_ -= node->HeapBytes();
    node = node->Append(id, fields);
    node_bytes_ += node->HeapBytes();
    nodes_.Moved(&last, node);
    nodes_.Refresh(last, false);
  }
  ++length_;
  ++entries_added;
  last_id = id;
  if (length_ == 1) first_id_ = id;
}

bool StreamValue::Erase(StreamId id) {
  Cursor at = nodes_.FindLast([id](StreamId first) { return first <= id; });
  StreamEntry entry;
  if (!at || !at.leaf()->Find(id, &entry) || entry.deleted) return false;
  if (at.leaf()->live == 1) {
    RemoveNode(&at);
  } else {
    StreamNode* node = nodes_.Own(&at, *this);
    node->Find(id, &entry);  // again: owning may have copied the node
    node_bytes_ -= node->HeapBytes();
    node = node->Delete(&entry);
    node_bytes_ += node->HeapBytes();
    nodes_.Moved(&at, node);
  }
  --length_;
  if (length_ == 0) {
    first_id_ = kMinStreamId;
  } else if (id == first_id_) {
    first_id_ = EdgeId(true);
  }
  return true;
}

bool StreamValue::WholeNodeGoes(const StreamNode& node, const StreamTrim& trim) const {
  if (trim.kind == StreamTrim::Kind::kMaxLength) return length_ - node.live >= trim.max_length;
  StreamEntry last;
  return node.Last(&last) && last.id < trim.min_id;
}

uint64_t StreamValue::TrimInside(Cursor* cursor, const StreamTrim& trim) {
  StreamNode* node = nodes_.Own(cursor, *this);
  node_bytes_ -= node->HeapBytes();
  uint64_t removed = 0;
  StreamEntry entry;
  for (bool more = node->First(&entry); more;) {
    const bool enough = trim.kind == StreamTrim::Kind::kMaxLength ? length_ <= trim.max_length
                                                                  : entry.id >= trim.min_id;
    if (enough) break;
    if (!entry.deleted) {
      node = node->Delete(&entry);
      ++removed;
      --length_;
    }
    more = node->Next(entry, &entry);
  }
  node_bytes_ += node->HeapBytes();
  nodes_.Moved(cursor, node);
  return removed;
}

uint64_t StreamValue::Trim(const StreamTrim& trim) {
  if (trim.kind == StreamTrim::Kind::kNone) return 0;
  uint64_t removed = 0;
  for (Cursor at = nodes_.First(); at; at = nodes_.First()) {
    if (trim.kind == StreamTrim::Kind::kMaxLength && length_ <= trim.max_length) break;
    const StreamNode& node = *at.leaf();
    if (trim.limit != 0 && removed + node.live > trim.limit) break;
    if (WholeNodeGoes(node, trim)) {
      length_ -= node.live;
      removed += node.live;
      RemoveNode(&at);
      continue;
    }
    if (!trim.approximate) removed += TrimInside(&at, trim);
    break;
  }
  if (length_ == 0) {
    first_id_ = kMinStreamId;
  } else if (removed != 0) {
    first_id_ = EdgeId(true);
  }
  return removed;
}

bool StreamValue::Contains(StreamId id) const {
  StreamIterator at(*this, id, id, false);
  return at.Next();
}

StreamId StreamValue::EdgeId(bool first) const {
  StreamIterator at(*this, kMinStreamId, kMaxStreamId, !first);
  return at.Next() ? at.entry().id : kMinStreamId;
}

StreamId StreamValue::FirstKeptId() const {
  const Cursor at = nodes_.First();
  StreamEntry entry;
  return at && at.leaf()->First(&entry) ? entry.id : kMaxStreamId;
}

// --- what groups ask -------------------------------------------------------------------------

int64_t StreamValue::EstimateEntriesUpTo(StreamId id) const {
  if (entries_added == 0) return 0;
  if (length_ == 0 && id <= last_id) return static_cast<int64_t>(entries_added);
  if (id == last_id) return static_cast<int64_t>(entries_added);
  if (id > last_id) return StreamGroup::kEntriesReadUnknown;
  const bool whole = max_deleted_id == kMinStreamId || max_deleted_id < first_id_;
  if (whole && id < first_id_) return static_cast<int64_t>(entries_added - length_);
  if (whole && id == first_id_) return static_cast<int64_t>(entries_added - length_ + 1);
  return StreamGroup::kEntriesReadUnknown;
}

bool StreamValue::HasGapFrom(StreamId from) const {
  if (length_ == 0 || max_deleted_id == kMinStreamId) return false;
  return from <= max_deleted_id && first_id_ <= max_deleted_id;
}

std::optional<int64_t> StreamValue::LagOf(const StreamGroup& group) const {
  if (entries_added == 0) return 0;
  const int64_t added = static_cast<int64_t>(entries_added);
  if (group.entries_read != StreamGroup::kEntriesReadUnknown && !HasGapFrom(group.last_id))
    return added - group.entries_read;
  const int64_t read = EstimateEntriesUpTo(group.last_id);
  if (read == StreamGroup::kEntriesReadUnknown) return std::nullopt;
  return added - read;
}

StreamGroup* StreamValue::FindGroup(std::string_view name) const {
  const auto found = groups_.find(name);
  return found == groups_.end() ? nullptr : found->second.get();
}

StreamGroup* StreamValue::AddGroup(std::string_view name, StreamId last, int64_t entries_read) {
  auto [place, added] = groups_.try_emplace(std::string(name));
  if (!added) return nullptr;
  place->second = std::make_unique<StreamGroup>(std::string(name), last, entries_read);
  return place->second.get();
}

void StreamValue::RemoveGroup(StreamGroup* group) {
  group->Discard(*this);
  groups_.erase(groups_.find(group->name()));
}

// --- loading and saving ----------------------------------------------------------------------

Status StreamValue::AppendNode(StreamId master_id, std::string_view listpack) {
  Result<StreamNode*> node = StreamNode::FromBytes(master_id, listpack);
  if (!node.ok()) return node.status();
  StreamEntry first, before;
  (*node)->First(&first);
  if (Cursor last = nodes_.Last();
      last && (!last.leaf()->Last(&before) || first.id <= before.id || master_id <= before.id)) {
    StreamNode::Free(*node);
    return Status::Corruption("stream nodes are not in the order of their IDs");
  }
  length_ += (*node)->live;
  AddNode(*node);
  return Status::Ok();
}

Status StreamValue::FinishNodes(uint64_t length, StreamId first_id, bool first_id_stated) {
  if (length != length_) return Status::Corruption("stream length is not that of its nodes");
  first_id_ = first_id_stated ? first_id : EdgeId(true);
  return Status::Ok();
}

Status StreamValue::EmitGroup(ValueSink& sink, const StreamGroup& group) const {
  CAIRN_RETURN_IF_ERROR(
      sink.StreamGroup({group.name(), group.last_id, group.entries_read, group.pending().size()}));
  Status status;
  group.pending().ForEachFrom(kMinStreamId, [&](const PendingDelivery& each) {
    status = sink.StreamPending({each.id, each.delivered_at_ms, each.delivery_count});
    return status.ok();
  });
  CAIRN_RETURN_IF_ERROR(std::move(status));
  CAIRN_RETURN_IF_ERROR(sink.StreamConsumers(group.consumer_count()));
  group.ForEachConsumer([&](const StreamConsumer& consumer) {
    if (!status.ok()) return;
    status = sink.StreamConsumer({consumer.name, consumer.seen_at_ms, -1, consumer.pending.size()});
    if (!status.ok()) return;
    consumer.pending.ForEachFrom(kMinStreamId, [&](const PendingId& each) {
      status = sink.StreamConsumerPending(each.id);
      return status.ok();
    });
  });
  return status;
}

Status StreamValue::Emit(ValueSink& sink) const {
  CAIRN_RETURN_IF_ERROR(sink.Begin(ValueKind::kStream, nodes_.leaf_count()));
  for (Cursor at = nodes_.First(); at; at.Next()) {
    const auto id = EncodeStreamId(at.leaf()->master_id);
    CAIRN_RETURN_IF_ERROR(
        sink.Field(std::string_view(id.data(), id.size()), at.leaf()->listpack()));
  }
  CAIRN_RETURN_IF_ERROR(sink.StreamState(
      {length_, last_id, first_id_, max_deleted_id, entries_added, groups_.size()}));
  for (const auto& [name, group] : groups_) CAIRN_RETURN_IF_ERROR(EmitGroup(sink, *group));
  return sink.End();
}

size_t StreamValue::MemoryUsage() const {
  if (!owns_nodes()) return sizeof(StreamValue);
  size_t bytes = sizeof(StreamValue) + node_bytes_ + nodes_.InnerBytes();
  ForEachGroup([&bytes](const StreamGroup& group) { bytes += group.MemoryUsage(); });
  return bytes;
}

size_t StreamValue::FreeEffort() const {
  size_t effort = nodes_.leaf_count();
  ForEachGroup([&effort](const StreamGroup& group) { effort += 1 + group.node_count(); });
  return std::max<size_t>(effort, 1);
}

namespace {

using RadixKeys = std::span<const std::array<char, 16>>;

// Nodes below one point of a tree that joins runs of single children into one node. Keys are
// sorted and have the same length.
uint64_t RadixNodesOf(RadixKeys keys, size_t depth) {
  size_t common = depth;
  while (common < 16 && keys.front()[common] == keys.back()[common]) ++common;
  uint64_t nodes = common > depth;
  if (common == 16) return nodes + 1;
  ++nodes;  // where they part
  for (size_t from = 0; from < keys.size();) {
    size_t to = from + 1;
    while (to < keys.size() && keys[to][common] == keys[from][common]) ++to;
    nodes += RadixNodesOf(keys.subspan(from, to - from), common + 1);
    from = to;
  }
  return nodes;
}

}  // namespace

void StreamValue::CheckInvariants() const {
  uint64_t live = 0;
  size_t bytes = 0;
  bool any = false;
  StreamId last = kMinStreamId;
  std::vector<std::array<char, 16>> keys;
  nodes_.CheckInvariants([&](const StreamNode& node) {
    keys.push_back(EncodeStreamId(node.master_id));
    uint64_t node_live = 0, node_deleted = 0;
    StreamEntry entry;
    for (bool more = node.First(&entry); more; more = node.Next(entry, &entry)) {
      CAIRN_CHECK(entry.id >= node.master_id && (!any || entry.id > last));
      last = entry.id;
      any = true;
      ++(entry.deleted ? node_deleted : node_live);
    }
    CAIRN_CHECK(node_live == node.live && node_deleted == node.deleted);
    live += node_live;
    bytes += node.HeapBytes();
  });
  CAIRN_CHECK(live == length_ && bytes == node_bytes_);
  CAIRN_CHECK(radix_nodes_ == (keys.empty() ? 1 : RadixNodesOf(keys, 0)));
  ForEachGroup([](const StreamGroup& group) { group.CheckInvariants(); });
}

// --- StreamIterator --------------------------------------------------------------------------

StreamIterator::StreamIterator(const StreamValue& stream, StreamId from, StreamId to, bool reverse)
    : from_(from), to_(to), reverse_(reverse) {
  const StreamId start = reverse ? to : from;
  cursor_ = stream.nodes_.FindLast([start](StreamId first) { return first <= start; });
}

bool StreamIterator::EnterNode() {
  return reverse_ ? cursor_.leaf()->Last(&entry_) : cursor_.leaf()->First(&entry_);
}

bool StreamIterator::Step() {
  if (!cursor_) return false;
  if (!begun_) {
    begun_ = true;
    return EnterNode();
  }
  if (reverse_ ? cursor_.leaf()->Previous(entry_, &entry_) : cursor_.leaf()->Next(entry_, &entry_))
    return true;
  return (reverse_ ? cursor_.Prev() : cursor_.Next()) && EnterNode();
}

const StreamEntry* StreamFinder::Find(StreamId id) {
  const auto step_up_to = [this, id](bool there) {
    while (there && entry_.id < id) there = cursor_.leaf()->Next(entry_, &entry_);
    return there;
  };
  if (!cursor_ || !step_up_to(true)) {
    cursor_ = stream_.nodes_.FindLast([id](StreamId first) { return first <= id; });
    if (cursor_ && !step_up_to(cursor_.leaf()->First(&entry_))) cursor_ = {};
  }
  return cursor_ && entry_.id == id && !entry_.deleted ? &entry_ : nullptr;
}

bool StreamIterator::Next() {
  while (Step()) {
    if (reverse_ ? entry_.id < from_ : entry_.id > to_) {
      cursor_ = {};
      return false;
    }
    const bool before_range = reverse_ ? entry_.id > to_ : entry_.id < from_;
    if (!before_range && !entry_.deleted) return true;
  }
  return false;
}

}  // namespace cairn
