#include "server/data/stream_group.h"

#include <algorithm>

namespace cairn {

StreamConsumer* StreamGroup::FindConsumer(std::string_view name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : consumers_[found->second].get();
}

StreamConsumer* StreamGroup::AddConsumer(std::string_view name, int64_t seen_at_ms) {
  const bool full = by_name_.size() == consumers_.size();
  const auto from = consumers_.begin() + static_cast<ptrdiff_t>(first_empty_);
  const auto place =
      full ? consumers_.emplace(consumers_.end()) : std::find(from, consumers_.end(), nullptr);
  const uint32_t index = static_cast<uint32_t>(place - consumers_.begin());
  first_empty_ = index + 1;
  const bool added = by_name_.emplace(name, index).second;
  CAIRN_CHECK(added);
  *place = std::make_unique<StreamConsumer>();
  (*place)->name = name;
  (*place)->index = index;
  (*place)->seen_at_ms = seen_at_ms;
  return place->get();
}

uint64_t StreamGroup::RemoveConsumer(StreamConsumer* consumer, const Container& owner) {
  const uint64_t count = consumer->pending.size();
  consumer->pending.ForEachFrom(kMinStreamId, [&](const PendingId& each) {
    pending_.Erase(each.id, owner);
    return true;
  });
  consumer->pending.Discard(owner);
  by_name_.erase(consumer->name);
  first_empty_ = std::min(first_empty_, consumer->index);
  consumers_[consumer->index].reset();
  return count;
}

PendingDelivery StreamGroup::Deliver(StreamId id, StreamConsumer* consumer, int64_t now_ms,
                                     uint64_t delivery_count, const Container& owner) {
  if (PendingDelivery* delivery = pending_.Mutable(id, owner)) {
    if (delivery->consumer != consumer->index) {
      consumers_[delivery->consumer]->pending.Erase(id, owner);
      consumer->pending.Insert({id}, owner);
      delivery->consumer = consumer->index;
    }
    delivery->delivered_at_ms = now_ms;
    delivery->delivery_count = delivery_count;
    return *delivery;
  }
  const PendingDelivery fresh{id, now_ms, delivery_count, consumer->index};
  pending_.Insert(fresh, owner);
  consumer->pending.Insert({id}, owner);
  return fresh;
}

bool StreamGroup::Acknowledge(StreamId id, const Container& owner) {
  const PendingDelivery* delivery = pending_.Find(id);
  if (delivery == nullptr) return false;
  consumers_[delivery->consumer]->pending.Erase(id, owner);
  pending_.Erase(id, owner);
  return true;
}

bool StreamGroup::AssignPending(StreamId id, StreamConsumer* consumer, const Container& owner) {
  PendingDelivery* delivery = pending_.Mutable(id, owner);
  if (delivery == nullptr || delivery->consumer != kUnassigned) return false;
  delivery->consumer = consumer->index;
  return consumer->pending.Insert({id}, owner);
}

bool StreamGroup::AllAssigned() const {
  bool all = true;
  pending_.ForEachFrom(kMinStreamId, [&all](const PendingDelivery& delivery) {
    all = delivery.consumer != kUnassigned;
    return all;
  });
  return all;
}

std::unique_ptr<StreamGroup> StreamGroup::CopyHead() const {
  auto copy = std::make_unique<StreamGroup>(name_, last_id, entries_read);
  copy->by_name_ = by_name_;
  for (const auto& consumer : consumers_) {
    auto& place = copy->consumers_.emplace_back();
    if (consumer == nullptr) continue;
    place = std::make_unique<StreamConsumer>();
    place->name = consumer->name;
    place->index = consumer->index;
    place->seen_at_ms = consumer->seen_at_ms;
  }
  return copy;
}

std::unique_ptr<StreamGroup> StreamGroup::ForkHead() const {
  auto fork = CopyHead();
  fork->pending_.ForkFrom(pending_);
  for (size_t i = 0; i < consumers_.size(); ++i) {
    if (consumers_[i] != nullptr) fork->consumers_[i]->pending.ForkFrom(consumers_[i]->pending);
  }
  return fork;
}

std::unique_ptr<StreamGroup> StreamGroup::Clone(const Container& owner) const {
  auto clone = CopyHead();
  clone->pending_.CloneFrom(pending_, owner);
  for (size_t i = 0; i < consumers_.size(); ++i) {
    if (consumers_[i] != nullptr)
      clone->consumers_[i]->pending.CloneFrom(consumers_[i]->pending, owner);
  }
  return clone;
}

void StreamGroup::Discard(const Container& owner) {
  pending_.Discard(owner);
  ForEachConsumer([&owner](StreamConsumer& consumer) { consumer.pending.Discard(owner); });
}

void StreamGroup::FreeNodes() {
  pending_.FreeNodes();
  ForEachConsumer([](StreamConsumer& consumer) { consumer.pending.FreeNodes(); });
}

size_t StreamGroup::MemoryUsage() const {
  size_t bytes = sizeof(StreamGroup) + name_.capacity() + pending_.MemoryUsage();
  ForEachConsumer([&bytes](const StreamConsumer& consumer) {
    bytes += sizeof(StreamConsumer) + 2 * consumer.name.capacity() + consumer.pending.MemoryUsage();
  });
  return bytes;
}

uint64_t StreamGroup::node_count() const {
  uint64_t nodes = pending_.node_count();
  ForEachConsumer(
      [&nodes](const StreamConsumer& consumer) { nodes += 1 + consumer.pending.node_count(); });
  return nodes;
}

void StreamGroup::CheckInvariants() const {
  pending_.CheckInvariants();
  uint64_t held = 0;
  ForEachConsumer([this, &held](const StreamConsumer& consumer) {
    consumer.pending.CheckInvariants();
    held += consumer.pending.size();
    consumer.pending.ForEachFrom(kMinStreamId, [&](const PendingId& each) {
      const PendingDelivery* delivery = pending_.Find(each.id);
      CAIRN_CHECK(delivery != nullptr && delivery->consumer == consumer.index);  // G2
      return true;
    });
  });
  CAIRN_CHECK(held == pending_.size());  // G1
  for (uint32_t i = 0; i < first_empty_; ++i) CAIRN_CHECK(consumers_[i] != nullptr);
}

}  // namespace cairn
