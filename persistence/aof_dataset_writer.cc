#include "persistence/aof_dataset_writer.h"

#include <utility>

#include "persistence/packed_value.h"
#include "server/base/strings.h"
#include "server/protocol/resp_header.h"

namespace cairn {

void AofDatasetWriter::PutCount(char type, size_t count) {
  char header[kRespHeaderBytes];
  buffer_.append(header, FormatRespHeader(header, type, static_cast<int64_t>(count)));
}

Status AofDatasetWriter::Flush() {
  bytes_ += buffer_.size();
  CAIRN_RETURN_IF_ERROR(sink_->Append(buffer_));
  buffer_.clear();
  return Status::Ok();
}

Status AofDatasetWriter::Put(std::string_view bytes) {
  if (bytes.size() < kBufferBytes) {
    buffer_.append(bytes);
    return Status::Ok();
  }
  CAIRN_RETURN_IF_ERROR(Flush());
  bytes_ += bytes.size();
  return sink_->Append(bytes);
}

Status AofDatasetWriter::PutBulk(std::string_view bytes) {
  PutCount('$', bytes.size());
  CAIRN_RETURN_IF_ERROR(Put(bytes));
  buffer_.append("\r\n");
  return Status::Ok();
}

Status AofDatasetWriter::Command(std::initializer_list<std::string_view> args) {
  PutCount('*', args.size());
  for (std::string_view arg : args) CAIRN_RETURN_IF_ERROR(PutBulk(arg));
  return FlushWhenFull();
}

Status AofDatasetWriter::FunctionLibrary(std::string_view code) {
  return Command({"FUNCTION", "LOAD", code});
}

Status AofDatasetWriter::SelectDatabase(uint32_t index, uint64_t, uint64_t) {
  return Command({"SELECT", std::to_string(index)});
}

Result<ValueSink*> AofDatasetWriter::Key(std::string_view key, const KeyMeta& meta) {
  key_.assign(key);
  expire_at_ms_ = meta.expire_at_ms;
  ++keys_;
  return static_cast<ValueSink*>(this);
}

Status AofDatasetWriter::ValueDone() {
  if (expire_at_ms_ < 0) return Status::Ok();
  return Command({"PEXPIREAT", key_, std::to_string(expire_at_ms_)});
}

Status AofDatasetWriter::Finish() { return Flush(); }

Status AofDatasetWriter::String(std::string_view bytes) { return StringPieces({&bytes, 1}); }

Status AofDatasetWriter::StringPieces(std::span<const std::string_view> pieces) {
  size_t size = 0;
  for (std::string_view piece : pieces) size += piece.size();
  PutCount('*', 3);
  CAIRN_RETURN_IF_ERROR(PutBulk("SET"));
  CAIRN_RETURN_IF_ERROR(PutBulk(key_));
  PutCount('$', size);
  for (std::string_view piece : pieces) {
    CAIRN_RETURN_IF_ERROR(Put(piece));
    CAIRN_RETURN_IF_ERROR(FlushWhenFull());
  }
  buffer_.append("\r\n");
  return ValueDone();
}

Status AofDatasetWriter::Integer(int64_t value) {
  char digits[24];
  return String({digits, FormatInt64(value, digits)});
}

Status AofDatasetWriter::Begin(ValueKind kind, uint64_t count) {
  words_per_item_ = 1;
  in_list_ = kind == ValueKind::kList;
  switch (kind) {
    case ValueKind::kList:
      item_command_ = "RPUSH";
      return Status::Ok();
    case ValueKind::kSet:
      item_command_ = "SADD";
      return Status::Ok();
    case ValueKind::kSortedSet:
      item_command_ = "ZADD";
      words_per_item_ = 2;
      return Status::Ok();
    case ValueKind::kHash:
      item_command_ = "HMSET";
      words_per_item_ = 2;
      return Status::Ok();
    case ValueKind::kStream:
      dump_.emplace();
      return dump_->sink().Begin(kind, count);
    default:
      return Status(StatusCode::kUnsupported,
                    "this type cannot be written as commands; use aof-use-rdb-preamble yes");
  }
}

template <typename Words>
Status AofDatasetWriter::WriteCommand(const Words& words) {
  PutCount('*', 2 + words.size());
  CAIRN_RETURN_IF_ERROR(PutBulk(item_command_));
  CAIRN_RETURN_IF_ERROR(PutBulk(key_));
  for (std::string_view word : words) CAIRN_RETURN_IF_ERROR(PutBulk(word));
  return FlushWhenFull();
}

Status AofDatasetWriter::AddItem(std::string_view first, std::optional<std::string_view> second) {
  const size_t bytes = first.size() + (second.has_value() ? second->size() : 0);
  if (bytes >= kBufferBytes) {
    CAIRN_RETURN_IF_ERROR(WriteItems());
    const std::string_view words[] = {first, second.value_or("")};
    return WriteCommand(std::span(words, second.has_value() ? 2 : 1));
  }
  items_.emplace_back(first);
  if (second.has_value()) items_.emplace_back(*second);
  items_bytes_ += bytes;
  const bool full =
      items_.size() >= kItemsPerCommand * words_per_item_ || items_bytes_ >= kBufferBytes;
  return full ? WriteItems() : Status::Ok();
}

Status AofDatasetWriter::WriteItems() {
  if (items_.empty()) return Status::Ok();
  CAIRN_RETURN_IF_ERROR(WriteCommand(items_));
  items_.clear();
  items_bytes_ = 0;
  return Status::Ok();
}

Status AofDatasetWriter::Item(std::string_view element) { return AddItem(element, std::nullopt); }
Status AofDatasetWriter::Field(std::string_view field, std::string_view value) {
  if (dump_.has_value()) return dump_->sink().Field(field, value);  // a node of a stream
  return AddItem(field, value);
}
Status AofDatasetWriter::Scored(std::string_view member, double score) {
  return AddItem(FormatDouble(score), member);
}

Status AofDatasetWriter::Packed(uint8_t rdb_type, std::string_view blob) {
  return in_list_ ? UnpackListNode(rdb_type, blob, *this) : UnpackValue(rdb_type, blob, *this);
}

// A stream goes out as RESTORE: commands would not bring its nodes, counters and groups back as
// they were.
Status AofDatasetWriter::StreamState(const StreamStateRecord& state) {
  return dump_->sink().StreamState(state);
}
Status AofDatasetWriter::StreamGroup(const StreamGroupRecord& group) {
  return dump_->sink().StreamGroup(group);
}
Status AofDatasetWriter::StreamPending(const StreamPendingRecord& pending) {
  return dump_->sink().StreamPending(pending);
}
Status AofDatasetWriter::StreamConsumers(uint64_t count) {
  return dump_->sink().StreamConsumers(count);
}
Status AofDatasetWriter::StreamConsumer(const StreamConsumerRecord& consumer) {
  return dump_->sink().StreamConsumer(consumer);
}
Status AofDatasetWriter::StreamConsumerPending(StreamId id) {
  return dump_->sink().StreamConsumerPending(id);
}

Status AofDatasetWriter::BeginModule(uint64_t type_id) {
  dump_.emplace();
  return dump_->sink().BeginModule(type_id);
}
Status AofDatasetWriter::ModuleUnsigned(uint64_t value) {
  return dump_->sink().ModuleUnsigned(value);
}
Status AofDatasetWriter::ModuleSigned(int64_t value) { return dump_->sink().ModuleSigned(value); }
Status AofDatasetWriter::ModuleDouble(double value) { return dump_->sink().ModuleDouble(value); }
Status AofDatasetWriter::ModuleFloat(float value) { return dump_->sink().ModuleFloat(value); }
Status AofDatasetWriter::ModuleString(std::string_view bytes) {
  return dump_->sink().ModuleString(bytes);
}

Status AofDatasetWriter::End() {
  in_list_ = false;
  if (!dump_.has_value()) {
    CAIRN_RETURN_IF_ERROR(WriteItems());
    return ValueDone();
  }
  CAIRN_RETURN_IF_ERROR(dump_->sink().End());
  Result<std::string> payload = dump_->Finish();
  dump_.reset();
  if (!payload.ok()) return payload.status();
  CAIRN_RETURN_IF_ERROR(Command({"RESTORE", key_, "0", *payload}));
  return ValueDone();
}

}  // namespace cairn
