#include "server/data/stream_builder.h"

#include <string>

namespace cairn {
namespace {

Status Corrupt(std::string_view what) { return Status::Corruption("stream: " + std::string(what)); }

}  // namespace

StreamBuilder::StreamBuilder(const ValueHome& home) : stream_(new StreamValue(home)) {}

StreamBuilder::~StreamBuilder() {
  if (stream_ != nullptr) stream_->Unref();
}

Status StreamBuilder::Node(std::string_view master_id, std::string_view listpack) {
  if (has_state_ || master_id.size() != 16) return Corrupt("a node where none may be");
  return stream_->AppendNode(DecodeStreamId(master_id), listpack);
}

Status StreamBuilder::State(const StreamStateRecord& state) {
  if (has_state_) return Corrupt("counters twice");
  has_state_ = true;
  const bool first_id_stated = state.first_id != kMinStreamId;
  CAIRN_RETURN_IF_ERROR(stream_->FinishNodes(state.length, state.first_id, first_id_stated));
  if (state.length != 0 && state.last_id < stream_->EdgeId(false))
    return Corrupt("the last ID is before that of the last entry");
  stream_->last_id = state.last_id;
  stream_->max_deleted_id = state.max_deleted_id;
  stream_->entries_added = state.entries_added;
  groups_left_ = state.group_count;
  return Status::Ok();
}

Status StreamBuilder::CloseConsumer() const {
  return consumer_pending_left_ == 0 ? Status::Ok() : Corrupt("a consumer lacks pending entries");
}

Status StreamBuilder::CloseGroup() const {
  CAIRN_RETURN_IF_ERROR(CloseConsumer());
  if (pending_left_ != 0) return Corrupt("a group lacks pending entries");
  if (group_ != nullptr && !group_->AllAssigned())
    return Corrupt("a pending entry belongs to no consumer");
  return Status::Ok();
}

Status StreamBuilder::Group(const StreamGroupRecord& group) {
  CAIRN_RETURN_IF_ERROR(CloseGroup());
  if (!has_state_ || groups_left_ == 0) return Corrupt("a group too many");
  --groups_left_;
  const int64_t entries_read =
      group.has_entries_read ? group.entries_read : stream_->EstimateEntriesUpTo(group.last_id);
  group_ = stream_->AddGroup(group.name, group.last_id, entries_read);
  if (group_ == nullptr) return Corrupt("a group twice");
  consumer_ = nullptr;
  pending_left_ = group.pending_count;
  return Status::Ok();
}

Status StreamBuilder::Pending(const StreamPendingRecord& pending) {
  if (group_ == nullptr || pending_left_ == 0) return Corrupt("a pending entry too many");
  --pending_left_;
  if (group_->AddUnassigned(
          {pending.id, pending.delivered_at_ms, pending.delivery_count, StreamGroup::kUnassigned},
          *stream_))
    return Status::Ok();
  return Corrupt("a pending entry twice");
}

Status StreamBuilder::Consumer(const StreamConsumerRecord& consumer) {
  CAIRN_RETURN_IF_ERROR(CloseConsumer());
  if (group_ == nullptr || pending_left_ != 0 || group_->FindConsumer(consumer.name) != nullptr)
    return Corrupt("a consumer where none may be");
  consumer_ = group_->AddConsumer(consumer.name, consumer.seen_at_ms);
  consumer_pending_left_ = consumer.pending_count;
  return Status::Ok();
}

Status StreamBuilder::ConsumerPending(StreamId id) {
  if (consumer_ == nullptr || consumer_pending_left_ == 0)
    return Corrupt("a consumer's pending entry too many");
  --consumer_pending_left_;
  if (group_->AssignPending(id, consumer_, *stream_)) return Status::Ok();
  return Corrupt("a consumer's pending entry is not the group's");
}

Result<ObjectRef> StreamBuilder::Finish() {
  CAIRN_RETURN_IF_ERROR(CloseGroup());
  if (!has_state_ || groups_left_ != 0) return Corrupt("cut off");
  StreamValue* stream = stream_;
  stream_ = nullptr;
  return ObjectRef::Adopt(stream);
}

}  // namespace cairn
