#include "persistence/rdb_values.h"

#include <bit>
#include <limits>
#include <utility>

#include "persistence/rdb_format.h"

namespace cairn {
namespace {

constexpr size_t kStreamIdBytes = 16;

StreamId DecodeStreamId(std::string_view raw) {
  StreamId id;
  std::memcpy(&id.ms, raw.data(), 8);
  std::memcpy(&id.sequence, raw.data() + 8, 8);
  return {__builtin_bswap64(id.ms), __builtin_bswap64(id.sequence)};
}

/// One value's parse: the parser, the sink and the two strings that a pair needs at once.
class ValueReader {
 public:
  ValueReader(RdbParser& in, ValueSink& sink) : in_(in), sink_(sink) {}

  Status ReadString();
  Status ReadItems(ValueKind kind);
  Status ReadScored(bool text);
  Status ReadHash();
  Status ReadHashMetadata();
  Status ReadHashValkey();
  Status ReadQuicklist(bool listpacks);
  Status ReadPacked(uint8_t type);
  Status ReadStream(uint8_t type);
  Status ReadModule();
  Status ReadModuleOpcodes();

 private:
  Status ReadPair();
  Status ReadTime(int64_t* out_ms);
  Status ReadStreamLengthId(StreamId* id);
  Status ReadRawStreamId(StreamId* id);
  Status ReadStreamState(uint8_t type, StreamStateRecord* state);
  Status ReadStreamGroup(uint8_t type);
  Status ReadStreamConsumer(uint8_t type);
  Status ReadModuleOpcode(uint64_t opcode);

  RdbParser& in_;
  ValueSink& sink_;
  RdbString text_;
  std::string first_;  ///< first of a pair: reading the second may move the parser's buffer
};

Status ValueReader::ReadString() {
  CAIRN_RETURN_IF_ERROR(in_.ReadString(&text_));
  switch (text_.form) {
    case RdbString::Form::kInteger:
      return sink_.Integer(text_.integer);
    case RdbString::Form::kBlob:
      return sink_.StringBlob(std::move(text_.blob));
    case RdbString::Form::kView:
      break;
  }
  return sink_.String(text_.view);
}

Status ValueReader::ReadItems(ValueKind kind) {
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(in_.ReadCount(1, &count));
  CAIRN_RETURN_IF_ERROR(sink_.Begin(kind, count));
  for (uint64_t i = 0; i < count; ++i) {
    CAIRN_RETURN_IF_ERROR(in_.ReadText(&text_));
    CAIRN_RETURN_IF_ERROR(sink_.Item(text_.view));
  }
  return sink_.End();
}

Status ValueReader::ReadScored(bool text) {
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(in_.ReadCount(text ? 2 : 9, &count));
  CAIRN_RETURN_IF_ERROR(sink_.Begin(ValueKind::kSortedSet, count));
  for (uint64_t i = 0; i < count; ++i) {
    double score = 0;
    CAIRN_RETURN_IF_ERROR(in_.ReadText(&text_));
    first_.assign(text_.view);
    CAIRN_RETURN_IF_ERROR(text ? in_.ReadTextDouble(&score) : in_.ReadDouble(&score));
    if (score != score) return in_.Corrupt("score is not a number");
    CAIRN_RETURN_IF_ERROR(sink_.Scored(first_, score));
  }
  return sink_.End();
}

Status ValueReader::ReadPair() {
  CAIRN_RETURN_IF_ERROR(in_.ReadText(&text_));
  first_.assign(text_.view);
  return in_.ReadText(&text_);
}

Status ValueReader::ReadHash() {
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(in_.ReadCount(2, &count));
  CAIRN_RETURN_IF_ERROR(sink_.Begin(ValueKind::kHash, count));
  for (uint64_t i = 0; i < count; ++i) {
    CAIRN_RETURN_IF_ERROR(ReadPair());
    CAIRN_RETURN_IF_ERROR(sink_.Field(first_, text_.view));
  }
  return sink_.End();
}

Status ValueReader::ReadTime(int64_t* out_ms) {
  uint64_t bits = 0;
  CAIRN_RETURN_IF_ERROR(in_.ReadFixed(8, &bits));
  *out_ms = static_cast<int64_t>(bits);
  return Status::Ok();
}

Status ValueReader::ReadHashMetadata() {
  int64_t earliest_ms = 0;
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(ReadTime(&earliest_ms));
  CAIRN_RETURN_IF_ERROR(in_.ReadCount(3, &count));
  CAIRN_RETURN_IF_ERROR(sink_.Begin(ValueKind::kHash, count));
  for (uint64_t i = 0; i < count; ++i) {
    // 0 = no TTL, else one more than the distance to the earliest.
    uint64_t ttl = 0;
    int64_t expire_at_ms = -1;
    CAIRN_RETURN_IF_ERROR(in_.ReadLength(&ttl));
    if (ttl > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ||
        (ttl > 0 &&
         __builtin_add_overflow(earliest_ms, static_cast<int64_t>(ttl - 1), &expire_at_ms)) ||
        (ttl > 0 && expire_at_ms < 0)) {
      return in_.Corrupt("field expiry out of range");
    }
    CAIRN_RETURN_IF_ERROR(ReadPair());
    CAIRN_RETURN_IF_ERROR(sink_.FieldExpiring(first_, text_.view, expire_at_ms));
  }
  return sink_.End();
}

Status ValueReader::ReadHashValkey() {
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(in_.ReadCount(10, &count));
  CAIRN_RETURN_IF_ERROR(sink_.Begin(ValueKind::kHash, count));
  for (uint64_t i = 0; i < count; ++i) {
    CAIRN_RETURN_IF_ERROR(ReadPair());
    std::string value(text_.view);
    int64_t expire_at_ms = -1;
    CAIRN_RETURN_IF_ERROR(ReadTime(&expire_at_ms));
    if (expire_at_ms < -1) return in_.Corrupt("field expiry out of range");
    CAIRN_RETURN_IF_ERROR(sink_.FieldExpiring(first_, value, expire_at_ms));
  }
  return sink_.End();
}

Status ValueReader::ReadQuicklist(bool listpacks) {
  uint64_t nodes = 0;
  CAIRN_RETURN_IF_ERROR(in_.ReadCount(listpacks ? 2 : 1, &nodes));
  CAIRN_RETURN_IF_ERROR(sink_.Begin(ValueKind::kList, nodes));
  for (uint64_t i = 0; i < nodes; ++i) {
    uint8_t node_type = rdb::kListZiplist;
    if (listpacks) {
      uint64_t container = 0;
      CAIRN_RETURN_IF_ERROR(in_.ReadLength(&container));
      if (container != rdb::kNodePlain && container != rdb::kNodePacked) {
        return in_.Corrupt("unknown quicklist node container");
      }
      node_type = container == rdb::kNodePlain ? rdb::kString : rdb::kListQuicklist2;
    }
    CAIRN_RETURN_IF_ERROR(in_.ReadText(&text_));
    CAIRN_RETURN_IF_ERROR(sink_.Packed(node_type, text_.view));
  }
  return sink_.End();
}

Status ValueReader::ReadPacked(uint8_t type) {
  if (type == rdb::kHashListpackExpiring) {
    int64_t earliest_ms = 0;  // only an index hint: the listpack holds every field's own time
    CAIRN_RETURN_IF_ERROR(ReadTime(&earliest_ms));
  }
  CAIRN_RETURN_IF_ERROR(in_.ReadText(&text_));
  return sink_.Packed(type, text_.view);
}

Status ValueReader::ReadStreamLengthId(StreamId* id) {
  CAIRN_RETURN_IF_ERROR(in_.ReadLength(&id->ms));
  return in_.ReadLength(&id->sequence);
}

Status ValueReader::ReadRawStreamId(StreamId* id) {
  std::string_view raw;
  CAIRN_RETURN_IF_ERROR(in_.ReadRaw(kStreamIdBytes, &raw));
  *id = DecodeStreamId(raw);
  return Status::Ok();
}

Status ValueReader::ReadStreamState(uint8_t type, StreamStateRecord* state) {
  CAIRN_RETURN_IF_ERROR(in_.ReadLength(&state->length));
  CAIRN_RETURN_IF_ERROR(ReadStreamLengthId(&state->last_id));
  if (type == rdb::kStreamListpacks) {
    state->entries_added = state->length;  // what Redis 7 assumes of older files
  } else {
    CAIRN_RETURN_IF_ERROR(ReadStreamLengthId(&state->first_id));
    CAIRN_RETURN_IF_ERROR(ReadStreamLengthId(&state->max_deleted_id));
    CAIRN_RETURN_IF_ERROR(in_.ReadLength(&state->entries_added));
  }
  return in_.ReadCount(5, &state->group_count);
}

Status ValueReader::ReadStreamConsumer(uint8_t type) {
  StreamConsumerRecord consumer;
  CAIRN_RETURN_IF_ERROR(in_.ReadText(&text_));
  first_.assign(text_.view);
  consumer.name = first_;
  CAIRN_RETURN_IF_ERROR(ReadTime(&consumer.seen_at_ms));
  if (type == rdb::kStreamListpacks3) CAIRN_RETURN_IF_ERROR(ReadTime(&consumer.active_at_ms));
  CAIRN_RETURN_IF_ERROR(in_.ReadCount(kStreamIdBytes, &consumer.pending_count));
  CAIRN_RETURN_IF_ERROR(sink_.StreamConsumer(consumer));
  for (uint64_t i = 0; i < consumer.pending_count; ++i) {
    StreamId id;
    CAIRN_RETURN_IF_ERROR(ReadRawStreamId(&id));
    CAIRN_RETURN_IF_ERROR(sink_.StreamConsumerPending(id));
  }
  return Status::Ok();
}

Status ValueReader::ReadStreamGroup(uint8_t type) {
  StreamGroupRecord group;
  CAIRN_RETURN_IF_ERROR(in_.ReadText(&text_));
  first_.assign(text_.view);
  group.name = first_;
  CAIRN_RETURN_IF_ERROR(ReadStreamLengthId(&group.last_id));
  if (type != rdb::kStreamListpacks) {
    uint64_t entries_read = 0;
    CAIRN_RETURN_IF_ERROR(in_.ReadLength(&entries_read));
    group.entries_read = static_cast<int64_t>(entries_read);
  } else {
    group.has_entries_read = false;
  }
  CAIRN_RETURN_IF_ERROR(in_.ReadCount(kStreamIdBytes + 9, &group.pending_count));
  CAIRN_RETURN_IF_ERROR(sink_.StreamGroup(group));
  for (uint64_t i = 0; i < group.pending_count; ++i) {
    StreamPendingRecord pending;
    CAIRN_RETURN_IF_ERROR(ReadRawStreamId(&pending.id));
    CAIRN_RETURN_IF_ERROR(ReadTime(&pending.delivered_at_ms));
    CAIRN_RETURN_IF_ERROR(in_.ReadLength(&pending.delivery_count));
    CAIRN_RETURN_IF_ERROR(sink_.StreamPending(pending));
  }
  uint64_t consumers = 0;
  CAIRN_RETURN_IF_ERROR(in_.ReadCount(10, &consumers));
  CAIRN_RETURN_IF_ERROR(sink_.StreamConsumers(consumers));
  for (uint64_t i = 0; i < consumers; ++i) CAIRN_RETURN_IF_ERROR(ReadStreamConsumer(type));
  return Status::Ok();
}

Status ValueReader::ReadStream(uint8_t type) {
  uint64_t listpacks = 0;
  CAIRN_RETURN_IF_ERROR(in_.ReadCount(kStreamIdBytes + 2, &listpacks));
  CAIRN_RETURN_IF_ERROR(sink_.Begin(ValueKind::kStream, listpacks));
  for (uint64_t i = 0; i < listpacks; ++i) {
    CAIRN_RETURN_IF_ERROR(ReadPair());
    if (first_.size() != kStreamIdBytes) return in_.Corrupt("stream node key is not 16 bytes long");
    CAIRN_RETURN_IF_ERROR(sink_.Field(first_, text_.view));
  }
  StreamStateRecord state;
  CAIRN_RETURN_IF_ERROR(ReadStreamState(type, &state));
  CAIRN_RETURN_IF_ERROR(sink_.StreamState(state));
  for (uint64_t i = 0; i < state.group_count; ++i) CAIRN_RETURN_IF_ERROR(ReadStreamGroup(type));
  return sink_.End();
}

Status ValueReader::ReadModule() {
  uint64_t type_id = 0;
  CAIRN_RETURN_IF_ERROR(in_.ReadLength(&type_id));
  CAIRN_RETURN_IF_ERROR(sink_.BeginModule(type_id));
  return ReadModuleOpcodes();
}

Status ValueReader::ReadModuleOpcode(uint64_t opcode) {
  uint64_t bits = 0;
  switch (opcode) {
    case rdb::kModuleSigned:
      CAIRN_RETURN_IF_ERROR(in_.ReadLength(&bits));
      return sink_.ModuleSigned(static_cast<int64_t>(bits));
    case rdb::kModuleUnsigned:
      CAIRN_RETURN_IF_ERROR(in_.ReadLength(&bits));
      return sink_.ModuleUnsigned(bits);
    case rdb::kModuleFloat:
      CAIRN_RETURN_IF_ERROR(in_.ReadFixed(4, &bits));
      return sink_.ModuleFloat(std::bit_cast<float>(static_cast<uint32_t>(bits)));
    case rdb::kModuleDouble:
      CAIRN_RETURN_IF_ERROR(in_.ReadFixed(8, &bits));
      return sink_.ModuleDouble(std::bit_cast<double>(bits));
    case rdb::kModuleString:
      CAIRN_RETURN_IF_ERROR(in_.ReadText(&text_));
      if (text_.form == RdbString::Form::kBlob)
        return sink_.ModuleStringBlob(std::move(text_.blob));
      return sink_.ModuleString(text_.view);
    default:
      return in_.Corrupt("unknown module opcode " + std::to_string(opcode));
  }
}

Status ValueReader::ReadModuleOpcodes() {
  for (;;) {
    uint64_t opcode = 0;
    CAIRN_RETURN_IF_ERROR(in_.ReadLength(&opcode));
    if (opcode == rdb::kModuleEof) return sink_.End();
    CAIRN_RETURN_IF_ERROR(ReadModuleOpcode(opcode));
  }
}

}  // namespace

Status ReadRdbValue(RdbParser& in, uint8_t type, bool valkey, ValueSink& sink) {
  ValueReader reader(in, sink);
  switch (type) {
    case rdb::kString:
      return reader.ReadString();
    case rdb::kList:
      return reader.ReadItems(ValueKind::kList);
    case rdb::kSet:
      return reader.ReadItems(ValueKind::kSet);
    case rdb::kSortedSetText:
      return reader.ReadScored(/*text=*/true);
    case rdb::kSortedSet2:
      return reader.ReadScored(/*text=*/false);
    case rdb::kHash:
      return reader.ReadHash();
    case rdb::kModule2:
      return reader.ReadModule();
    case rdb::kListQuicklist:
      return reader.ReadQuicklist(/*listpacks=*/false);
    case rdb::kListQuicklist2:
      return reader.ReadQuicklist(/*listpacks=*/true);
    case rdb::kStreamListpacks:
    case rdb::kStreamListpacks2:
    case rdb::kStreamListpacks3:
      return reader.ReadStream(type);
    case rdb::kHashMetadata:
      return reader.ReadHashMetadata();
    case rdb::kHash2Valkey:
      if (valkey) return reader.ReadHashValkey();
      break;
    case rdb::kHashZipmap:
    case rdb::kListZiplist:
    case rdb::kSetIntset:
    case rdb::kSortedSetZiplist:
    case rdb::kHashZiplist:
    case rdb::kHashListpack:
    case rdb::kSortedSetListpack:
    case rdb::kSetListpack:
    case rdb::kHashListpackExpiring:
      return reader.ReadPacked(type);
    default:
      break;
  }
  return in.Unsupported("unknown value type " + std::to_string(type));
}

Status ReadModuleOpcodes(RdbParser& in, ValueSink& sink) {
  return ValueReader(in, sink).ReadModuleOpcodes();
}

const char* RdbTypeName(uint8_t type) {
  switch (type) {
    case rdb::kString:
      return "string";
    case rdb::kList:
      return "list";
    case rdb::kSet:
      return "set";
    case rdb::kSortedSetText:
      return "zset (text scores)";
    case rdb::kHash:
      return "hash";
    case rdb::kSortedSet2:
      return "zset";
    case rdb::kModulePreRelease:
      return "module (pre-release)";
    case rdb::kModule2:
      return "module";
    case rdb::kHashZipmap:
      return "hash (zipmap)";
    case rdb::kListZiplist:
      return "list (ziplist)";
    case rdb::kSetIntset:
      return "set (intset)";
    case rdb::kSortedSetZiplist:
      return "zset (ziplist)";
    case rdb::kHashZiplist:
      return "hash (ziplist)";
    case rdb::kListQuicklist:
      return "list (ziplist nodes)";
    case rdb::kStreamListpacks:
      return "stream (v1)";
    case rdb::kHashListpack:
      return "hash (listpack)";
    case rdb::kSortedSetListpack:
      return "zset (listpack)";
    case rdb::kListQuicklist2:
      return "list (quicklist)";
    case rdb::kStreamListpacks2:
      return "stream (v2)";
    case rdb::kSetListpack:
      return "set (listpack)";
    case rdb::kStreamListpacks3:
      return "stream (v3)";
    case rdb::kHash2Valkey:
      return "hash (field TTL, Valkey)";
    case rdb::kHashMetadata:
      return "hash (field TTL)";
    case rdb::kHashListpackExpiring:
      return "hash (listpack, field TTL)";
    default:
      return "unknown";
  }
}

}  // namespace cairn
