#pragma once

// StreamBuilder: makes a StreamValue of the events of one stream (value_sink.h), as the loader and
// RESTORE hand them on. Bytes come from outside: everything is checked before it is believed. A
// part of ValueBuilder; executor.

#include <cstdint>
#include <memory>
#include <string_view>

#include "persistence/value_sink.h"
#include "server/data/stream_value.h"

namespace cairn {

class StreamBuilder {
 public:
  explicit StreamBuilder(const ValueHome& home);
  ~StreamBuilder();
  StreamBuilder(const StreamBuilder&) = delete;

  // Each returns kCorruption for what makes no stream; nothing else may follow then.
  Status Node(std::string_view master_id, std::string_view listpack);
  Status State(const StreamStateRecord& state);
  Status Group(const StreamGroupRecord& group);
  Status Pending(const StreamPendingRecord& pending);
  Status Consumer(const StreamConsumerRecord& consumer);
  Status ConsumerPending(StreamId id);
  /// The stream. Errors: counts that were announced did not come. Last call.
  Result<ObjectRef> Finish();

 private:
  Status CloseConsumer() const;
  Status CloseGroup() const;

  StreamValue* stream_;  // with one reference, until Finish gives it away
  StreamGroup* group_ = nullptr;
  StreamConsumer* consumer_ = nullptr;
  uint64_t groups_left_ = 0, pending_left_ = 0, consumer_pending_left_ = 0;
  bool has_state_ = false;
};

}  // namespace cairn
