#include "persistence/rdb_reader.h"

#include <algorithm>
#include <utility>

#include "persistence/rdb_format.h"
#include "persistence/rdb_parser.h"
#include "persistence/rdb_values.h"
#include "server/base/checksum.h"
#include "server/platform/env.h"

namespace cairn {
namespace {

/// A record is at least its type byte and two length bytes.
constexpr uint64_t kMinRecordBytes = 3;

class FileByteSource final : public ByteSource {
 public:
  FileByteSource(std::unique_ptr<RandomAccessFile> file, std::string name)
      : file_(std::move(file)), name_(std::move(name)), size_(file_->size()) {}
  Result<size_t> Read(char* out, size_t size) override {
    Result<size_t> got = file_->Read(offset_, size, out);
    if (got.ok()) offset_ += *got;
    return got;
  }
  uint64_t size_bytes() const override { return size_; }
  std::string_view name() const override { return name_; }

 private:
  std::unique_ptr<RandomAccessFile> file_;
  std::string name_;
  uint64_t size_;
  uint64_t offset_ = 0;
};

bool ParseVersion(std::string_view digits, int* out) {
  int value = 0;
  for (const char digit : digits) {
    if (digit < '0' || digit > '9') return false;
    value = value * 10 + (digit - '0');
  }
  *out = value;
  return true;
}

}  // namespace

Result<std::unique_ptr<ByteSource>> OpenByteSource(Env& env, const std::string& path) {
  auto file = env.OpenRead(path);
  if (!file.ok()) return file.status();
  return std::unique_ptr<ByteSource>(
      std::make_unique<FileByteSource>(std::move(file).value(), path));
}

RdbReader::RdbReader(ByteSource* source, RdbReadOptions options)
    : options_(std::move(options)),
      parser_(
          std::make_unique<RdbParser>(source, options_.buffer_bytes, options_.verify_checksum)) {
  if (options_.pass_over_big_strings) parser_->PassOverBigStrings();
}

RdbReader::RdbReader(std::string_view bytes, std::string_view name, RdbReadOptions options)
    : options_(std::move(options)),
      parser_(std::make_unique<RdbParser>(bytes, name, options_.verify_checksum)) {}

RdbReader::~RdbReader() = default;

uint64_t RdbReader::offset_bytes() const { return parser_->offset(); }

Status RdbReader::LoadHeader() {
  std::string_view header;
  if (parser_->remaining() < rdb::kHeaderBytes)
    return parser_->Corrupt("too short for an RDB file");
  CAIRN_RETURN_IF_ERROR(parser_->ReadRaw(rdb::kHeaderBytes, &header));
  counts_.valkey = header.starts_with("VALKEY");
  const bool redis = header.starts_with("REDIS");
  if ((!redis && !counts_.valkey) ||
      !ParseVersion(header.substr(redis ? 5 : 6), &counts_.version)) {
    return parser_->Corrupt("Wrong signature trying to load DB from file");
  }
  const bool known = counts_.valkey
                         ? counts_.version == rdb::kValkeyVersion
                         : counts_.version >= 1 && counts_.version <= rdb::kNewestVersion;
  if (!known) {
    return parser_->Unsupported("Can't handle RDB format version " +
                                std::to_string(counts_.version));
  }
  if (counts_.version < rdb::kFirstChecksumVersion) parser_->StopChecksum();
  return Status::Ok();
}

Status RdbReader::LoadAux(DatasetSink& sink) {
  RdbString text;
  CAIRN_RETURN_IF_ERROR(parser_->ReadText(&text));
  const std::string name(text.view);
  CAIRN_RETURN_IF_ERROR(parser_->ReadText(&text));
  return sink.Aux(name, text.view);
}

Status RdbReader::LoadModuleAux(DatasetSink& sink) {
  uint64_t type_id = 0;
  uint64_t opcode = 0;
  uint64_t when = 0;
  CAIRN_RETURN_IF_ERROR(parser_->ReadLength(&type_id));
  CAIRN_RETURN_IF_ERROR(parser_->ReadLength(&opcode));
  if (opcode != rdb::kModuleUnsigned) return parser_->Corrupt("malformed module auxiliary data");
  CAIRN_RETURN_IF_ERROR(parser_->ReadLength(&when));
  Result<ValueSink*> values = sink.ModuleAux(type_id, when);
  if (!values.ok()) return values.status();
  return ReadModuleOpcodes(*parser_, **values);
}

Status RdbReader::LoadSelect() {
  uint64_t index = 0;
  CAIRN_RETURN_IF_ERROR(parser_->ReadLength(&index));
  if (index > UINT32_MAX) return parser_->Corrupt("database number out of range");
  database_ = static_cast<uint32_t>(index);
  announced_ = false;
  return Status::Ok();
}

Status RdbReader::LoadResize(DatasetSink& sink) {
  uint64_t keys = 0;
  uint64_t expires = 0;
  CAIRN_RETURN_IF_ERROR(parser_->ReadLength(&keys));
  CAIRN_RETURN_IF_ERROR(parser_->ReadLength(&expires));
  // Hints, so a wrong one is no damage; but nobody may be made to presize beyond what can follow.
  const uint64_t most = parser_->remaining() / kMinRecordBytes;
  keys = std::min(keys, most);
  return Announce(sink, keys, std::min(expires, keys));
}

Status RdbReader::Announce(DatasetSink& sink, uint64_t keys, uint64_t expires) {
  announced_ = true;
  ++counts_.databases;
  return sink.SelectDatabase(database_, keys, expires);
}

Status RdbReader::LoadRecord(uint8_t type, DatasetSink& sink, const KeyMeta& meta) {
  current_type_ = type;
  if (!announced_) CAIRN_RETURN_IF_ERROR(Announce(sink, 0, 0));
  CAIRN_RETURN_IF_ERROR(parser_->ReadText(&key_));
  Result<ValueSink*> values = sink.Key(key_.view, meta);
  if (!values.ok()) return values.status();
  key_.blob = BlobRef();
  CAIRN_RETURN_IF_ERROR(ReadRdbValue(*parser_, type, counts_.valkey, **values));
  ++counts_.keys;
  if (meta.expire_at_ms >= 0) ++counts_.expires;
  return Status::Ok();
}

Status RdbReader::LoadChecksum() {
  const uint64_t computed = parser_->Checksum();
  if (counts_.version < rdb::kFirstChecksumVersion) return Status::Ok();
  const bool compare = parser_->checksum_on();
  parser_->StopChecksum();
  CAIRN_RETURN_IF_ERROR(parser_->ReadFixed(rdb::kChecksumBytes, &counts_.checksum));
  counts_.checksum_present = counts_.checksum != 0;
  if (!compare || !counts_.checksum_present) return Status::Ok();
  if (computed != counts_.checksum) return parser_->Corrupt("Wrong RDB checksum");
  counts_.checksum_verified = true;
  return Status::Ok();
}

Status RdbReader::LoadMeta(uint8_t opcode, KeyMeta* meta) {
  uint64_t bits = 0;
  switch (opcode) {
    case rdb::kExpireTimeMs:
      CAIRN_RETURN_IF_ERROR(parser_->ReadFixed(8, &bits));
      meta->expire_at_ms = static_cast<int64_t>(bits);
      // -1 is how KeyMeta says "no TTL"; any other time before 1970 is long past, as 0 is.
      if (meta->expire_at_ms < -1) meta->expire_at_ms = 0;
      return Status::Ok();
    case rdb::kExpireTimeS:
      CAIRN_RETURN_IF_ERROR(parser_->ReadFixed(4, &bits));
      meta->expire_at_ms = std::max<int64_t>(static_cast<int32_t>(bits), 0) * 1000;
      return Status::Ok();
    case rdb::kFrequency: {
      uint8_t frequency = 0;
      CAIRN_RETURN_IF_ERROR(parser_->ReadByte(&frequency));
      meta->lfu_frequency = frequency;
      return Status::Ok();
    }
    default:
      CAIRN_RETURN_IF_ERROR(parser_->ReadLength(&bits));
      if (bits > static_cast<uint64_t>(INT64_MAX))
        return parser_->Corrupt("idle time out of range");
      meta->lru_idle_s = static_cast<int64_t>(bits);
      return Status::Ok();
  }
}

Status RdbReader::LoadOpcode(uint8_t opcode, DatasetSink& sink) {
  switch (opcode) {
    case rdb::kAux:
      return LoadAux(sink);
    case rdb::kSelectDb:
      return LoadSelect();
    case rdb::kResizeDb:
      return LoadResize(sink);
    case rdb::kModuleAux:
      return LoadModuleAux(sink);
    case rdb::kFunction2: {
      RdbString code;
      CAIRN_RETURN_IF_ERROR(parser_->ReadText(&code));
      ++counts_.functions;
      return sink.FunctionLibrary(code.view);
    }
    case rdb::kSlotInfo:
      for (int i = 0; i < 3; ++i) {
        uint64_t hint = 0;
        CAIRN_RETURN_IF_ERROR(parser_->ReadLength(&hint));
      }
      return Status::Ok();
    case rdb::kFunctionPreRelease:
      return parser_->Unsupported("Pre-release function format not supported");
    default:
      return parser_->Unsupported("unknown opcode " + std::to_string(opcode));
  }
}

Result<uint64_t> RdbReader::Load(DatasetSink& sink) {
  CAIRN_RETURN_IF_ERROR(LoadHeader());
  if (options_.on_progress)
    parser_->ReportEvery(options_.progress_interval_bytes, options_.on_progress);
  KeyMeta meta;
  bool pending_meta = false;
  for (;;) {
    uint8_t opcode = 0;
    CAIRN_RETURN_IF_ERROR(parser_->ReadByte(&opcode));
    if (opcode < rdb::kFirstOpcode) {
      CAIRN_RETURN_IF_ERROR(LoadRecord(opcode, sink, meta));
      if (pending_meta) meta = KeyMeta();
      pending_meta = false;
    } else if (opcode == rdb::kExpireTimeMs || opcode == rdb::kExpireTimeS ||
               opcode == rdb::kIdle || opcode == rdb::kFrequency) {
      pending_meta = true;
      CAIRN_RETURN_IF_ERROR(LoadMeta(opcode, &meta));
    } else if (pending_meta) {
      return parser_->Corrupt("expiry or access data without a key");
    } else if (opcode == rdb::kEof) {
      CAIRN_RETURN_IF_ERROR(LoadChecksum());
      return parser_->offset();
    } else {
      CAIRN_RETURN_IF_ERROR(LoadOpcode(opcode, sink));
    }
  }
}

namespace {

/// Checks the footer of a payload. *valkey: its version says that Valkey wrote it.
Status CheckDumpFooter(std::string_view payload, bool skip_checksum, bool* valkey) {
  const Status wrong = Status::Client("ERR DUMP payload version or checksum are wrong");
  if (payload.size() < rdb::kDumpFooterBytes) return wrong;
  const size_t footer = payload.size() - rdb::kDumpFooterBytes;
  const auto byte = [&](size_t at) { return static_cast<uint8_t>(payload[at]); };
  const int version = byte(footer) | byte(footer + 1) << 8;
  *valkey = version == rdb::kValkeyVersion;
  if (version > rdb::kNewestVersion && !*valkey) return wrong;
  if (skip_checksum) return Status::Ok();
  uint64_t stored = 0;
  for (size_t i = 8; i-- > 0;) stored = stored << 8 | byte(footer + 2 + i);
  return Crc64(0, payload.substr(0, footer + 2)) == stored ? Status::Ok() : wrong;
}

}  // namespace

Status ReadFunctionsPayload(std::string_view payload, bool skip_checksum,
                            const std::function<Status(std::string_view source)>& visit) {
  bool valkey = false;
  CAIRN_RETURN_IF_ERROR(CheckDumpFooter(payload, skip_checksum, &valkey));
  // As for values, a length that is wrong may reach into the footer.
  RdbParser parser(payload, "FUNCTION payload", /*checksum=*/false);
  while (parser.remaining() > rdb::kDumpFooterBytes) {
    uint8_t type = 0;
    CAIRN_RETURN_IF_ERROR(parser.ReadByte(&type));
    if (type == rdb::kFunctionPreRelease)
      return Status::Client("ERR Pre-GA function format not supported");
    if (type != rdb::kFunction2) return Status::Client("ERR given type is not a function");
    RdbString source;
    if (!parser.ReadText(&source).ok()) return Status::Client("ERR Failed loading library payload");
    CAIRN_RETURN_IF_ERROR(visit(source.view));
  }
  return Status::Ok();
}

Status ReadDumpPayload(std::string_view payload, ValueSink& sink, bool skip_checksum) {
  bool valkey = false;
  CAIRN_RETURN_IF_ERROR(CheckDumpFooter(payload, skip_checksum, &valkey));
  // As in Redis, what follows the value is not looked at, and the footer counts as bytes to read.
  RdbParser parser(payload.substr(1), "DUMP payload", /*checksum=*/false);
  if (!ReadRdbValue(parser, DumpPayloadType(payload), valkey, sink).ok())
    return Status::Client("ERR Bad data format");
  return Status::Ok();
}

}  // namespace cairn
