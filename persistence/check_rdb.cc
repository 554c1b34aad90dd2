#include "persistence/check_rdb.h"

#include <cinttypes>
#include <map>
#include <memory>

#include "persistence/rdb_reader.h"
#include "persistence/rdb_values.h"
#include "server/base/strings.h"
#include "server/platform/env.h"

namespace cairn {
namespace {

/// Read at a time by a verification: some 0.1 ms of work.
constexpr size_t kVerifyStepBytes = size_t{128} << 10;

/// Tells of each piece before it is read, in the middle of a big value too.
class WatchedSource final : public ByteSource {
 public:
  WatchedSource(ByteSource* source, const std::function<Status(uint64_t)>& on_progress)
      : source_(source), on_progress_(on_progress) {}
  Result<size_t> Read(char* out, size_t size) override {
    if (on_progress_) CAIRN_RETURN_IF_ERROR(on_progress_(offset_));
    Result<size_t> got = source_->Read(out, size);
    if (got.ok()) offset_ += *got;
    return got;
  }
  uint64_t size_bytes() const override { return source_->size_bytes(); }
  std::string_view name() const override { return source_->name(); }

 private:
  ByteSource* const source_;
  const std::function<Status(uint64_t)>& on_progress_;
  uint64_t offset_ = 0;
};

/// Takes every event and keeps only what a report needs.
class CountingSink final : public DatasetSink, public ValueSink {
 public:
  struct Database {
    uint64_t keys = 0;
    uint64_t expires = 0;
  };

  explicit CountingSink(bool keep_names) : keep_names_(keep_names) {}

  Status Aux(std::string_view name, std::string_view value) override {
    if (keep_names_) aux_.emplace_back(name, value);
    return Status::Ok();
  }
  Status FunctionLibrary(std::string_view) override { return Status::Ok(); }
  Status SelectDatabase(uint32_t index, uint64_t, uint64_t) override {
    database_ = &databases_[index];
    return Status::Ok();
  }
  Result<ValueSink*> Key(std::string_view key, const KeyMeta& meta) override {
    if (keep_names_) key_.assign(key);
    reading_value_ = true;
    ++database_->keys;
    if (meta.expire_at_ms >= 0) ++database_->expires;
    return static_cast<ValueSink*>(this);
  }
  Result<ValueSink*> ModuleAux(uint64_t, uint64_t) override {
    return static_cast<ValueSink*>(this);
  }

  Status String(std::string_view) override { return Done(); }
  Status Integer(int64_t) override { return Done(); }
  Status Begin(ValueKind, uint64_t) override {
    nested_ = true;
    return Status::Ok();
  }
  Status Item(std::string_view) override { return Status::Ok(); }
  Status Field(std::string_view, std::string_view) override { return Status::Ok(); }
  Status Scored(std::string_view, double) override { return Status::Ok(); }
  Status Packed(uint8_t, std::string_view) override { return nested_ ? Status::Ok() : Done(); }
  Status FieldExpiring(std::string_view, std::string_view, int64_t) override {
    return Status::Ok();
  }
  Status StreamState(const StreamStateRecord&) override { return Status::Ok(); }
  Status StreamGroup(const StreamGroupRecord&) override { return Status::Ok(); }
  Status StreamPending(const StreamPendingRecord&) override { return Status::Ok(); }
  Status StreamConsumers(uint64_t) override { return Status::Ok(); }
  Status StreamConsumer(const StreamConsumerRecord&) override { return Status::Ok(); }
  Status StreamConsumerPending(StreamId) override { return Status::Ok(); }
  Status BeginModule(uint64_t) override {
    nested_ = true;
    return Status::Ok();
  }
  Status ModuleUnsigned(uint64_t) override { return Status::Ok(); }
  Status ModuleSigned(int64_t) override { return Status::Ok(); }
  Status ModuleDouble(double) override { return Status::Ok(); }
  Status ModuleFloat(float) override { return Status::Ok(); }
  Status ModuleString(std::string_view) override { return Status::Ok(); }
  Status End() override {
    nested_ = false;
    return Done();
  }

  /// The reader whose record type is counted when a value is complete.
  void Watch(const RdbReader* reader) { reader_ = reader; }
  bool reading_value() const { return reading_value_; }
  const std::string& key() const { return key_; }
  const std::vector<std::pair<std::string, std::string>>& aux() const { return aux_; }
  const std::map<uint32_t, Database>& databases() const { return databases_; }
  uint64_t values_of(uint8_t type) const { return types_[type]; }

 private:
  Status Done() {
    if (reading_value_) ++types_[reader_->current_type()];
    reading_value_ = false;
    return Status::Ok();
  }

  bool keep_names_;
  bool reading_value_ = false;
  bool nested_ = false;
  const RdbReader* reader_ = nullptr;
  Database* database_ = nullptr;
  std::string key_;
  std::vector<std::pair<std::string, std::string>> aux_;
  std::map<uint32_t, Database> databases_;
  uint64_t types_[256] = {};
};

void PrintContents(const RdbReader& reader, const CountingSink& sink, std::FILE* out) {
  const RdbReadCounts& counts = reader.counts();
  std::fprintf(out, "format: %s version %d\n", counts.valkey ? "VALKEY" : "REDIS", counts.version);
  for (const auto& [name, value] : sink.aux()) {
    std::fprintf(out, "aux %s = %s\n", name.c_str(), QuoteRepr(value).c_str());
  }
  for (const auto& [index, database] : sink.databases()) {
    std::fprintf(out, "db%" PRIu32 ": %" PRIu64 " keys, %" PRIu64 " with expiry\n", index,
                 database.keys, database.expires);
  }
  for (int type = 0; type < 256; ++type) {
    const uint64_t values = sink.values_of(static_cast<uint8_t>(type));
    if (values > 0) {
      std::fprintf(out, "%s: %" PRIu64 "\n", RdbTypeName(static_cast<uint8_t>(type)), values);
    }
  }
  if (counts.functions > 0)
    std::fprintf(out, "function libraries: %" PRIu64 "\n", counts.functions);
}

const char* ChecksumVerdict(const RdbReadCounts& counts) {
  if (counts.checksum_verified) return "checksum: ok";
  return counts.version < 5 ? "checksum: none in this version"
                            : "checksum: not written (rdbchecksum no)";
}

Status Differs(const std::string& path, const char* what, uint64_t found, uint64_t expected) {
  return Status::Corruption(path + ": verification found " + std::to_string(found) + " " + what +
                            ", but " + std::to_string(expected) + " were written");
}

}  // namespace

int CheckRdb(Env& env, const std::string& path, std::FILE* out) {
  auto source = OpenByteSource(env, path);
  if (!source.ok()) {
    std::fprintf(out, "%s\n", std::string(source.status().message()).c_str());
    return 1;
  }
  RdbReader reader((*source).get(), RdbReadOptions());
  CountingSink sink(/*keep_names=*/true);
  sink.Watch(&reader);
  const Result<uint64_t> end = reader.Load(sink);
  PrintContents(reader, sink, out);
  if (!end.ok()) {
    std::fprintf(out, "DAMAGED: %s\n", std::string(end.status().message()).c_str());
    if (sink.reading_value()) {
      std::fprintf(out, "while reading key %s of type %s\n", QuoteRepr(sink.key()).c_str(),
                   RdbTypeName(reader.current_type()));
    }
    std::fprintf(out, "read soundly before it: %" PRIu64 " keys\n", reader.counts().keys);
    return 1;
  }
  std::fprintf(out, "%s\n", ChecksumVerdict(reader.counts()));
  if (const uint64_t tail = (*source)->size_bytes() - *end; tail > 0) {
    std::fprintf(out, "%" PRIu64 " bytes follow the RDB part (an AOF tail? see cairn-check aof)\n",
                 tail);
  }
  std::fprintf(out, "OK: %" PRIu64 " keys in %" PRIu64 " bytes\n", reader.counts().keys, *end);
  return 0;
}

Result<uint64_t> CheckRdbPart(Env& env, const std::string& path) {
  auto source = OpenByteSource(env, path);
  if (!source.ok()) return source.status();
  RdbReader reader((*source).get(), RdbReadOptions());
  CountingSink sink(/*keep_names=*/false);
  sink.Watch(&reader);
  return reader.Load(sink);
}

Status VerifyRdbFile(Env& env, const std::string& path, const ExpectedCounts& expected,
                     const std::function<Status(uint64_t)>& on_progress) {
  auto source = OpenByteSource(env, path);
  if (!source.ok()) return source.status();
  RdbReadOptions options;
  options.buffer_bytes = kVerifyStepBytes;
  options.pass_over_big_strings = true;
  WatchedSource watched(source->get(), on_progress);
  RdbReader reader(&watched, options);
  CountingSink sink(/*keep_names=*/false);
  sink.Watch(&reader);
  const Result<uint64_t> end = reader.Load(sink);
  if (!end.ok()) return end.status();
  const RdbReadCounts& counts = reader.counts();
  if (counts.keys != expected.keys) return Differs(path, "keys", counts.keys, expected.keys);
  if (counts.expires != expected.expires) {
    return Differs(path, "expiring keys", counts.expires, expected.expires);
  }
  if (*end != expected.bytes || (*source)->size_bytes() != expected.bytes) {
    return Differs(path, "bytes", (*source)->size_bytes(), expected.bytes);
  }
  if (expected.checksum && counts.checksum != *expected.checksum) {
    return Status::Corruption(path + ": verification found another checksum than was written");
  }
  return Status::Ok();
}

}  // namespace cairn
