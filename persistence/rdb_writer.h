#pragma once

// RdbWriter: a DatasetSink that writes RDB version 10 as redis-server 7.0 does, choice for choice
// (integer encodings, LZF, order of opcodes). DumpWriter: the same encoder for one value, as DUMP
// replies it. Neither knows files, fsync or rename: bytes go to a ByteSink the caller owns. Runs on
// the walker thread (or on the loop in step mode); one thread at a time. Memory of an RdbWriter,
// whatever the values: one buffer of 1 MiB and twice kMaxCompressedBytes, for a string whose pieces
// are brought together and for what it is compressed into; strings of 64 KiB and more that are not
// compressed pass through uncopied. A DumpWriter holds its whole payload anyway.

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "persistence/byte_stream.h"
#include "persistence/save_target.h"
#include "persistence/value_sink.h"

namespace cairn {

/// A save writes longer strings plain, worth compressing or not: its memory must not grow with the
/// largest value.
inline constexpr size_t kMaxCompressedBytes = size_t{3} << 20;

struct RdbWriteOptions {
  bool compress = true;   ///< setting rdbcompression
  bool checksum = true;   ///< setting rdbchecksum; false leaves a zero that readers accept
  bool aof_base = false;  ///< value of the aof-base field
  int64_t now_s = 0;      ///< Unix time for the ctime field
  uint64_t used_memory_bytes = 0;
  /// Auxiliary fields between used-mem and aof-base: where in which replication history it stands.
  std::vector<std::pair<std::string, std::string>> fields = {};
  size_t buffer_bytes = size_t{1} << 20;
  SaveTarget target = {};  ///< the default: values emit all that they are
};

/// Turns value events into RDB bytes. The common part of RdbWriter and DumpWriter; not for others.
class RdbEncoder : public ValueSink, public TargetedSink {
 public:
  RdbEncoder(ByteSink* sink, bool compress, bool checksum, size_t buffer_bytes);

  /// Not all that may shrink is compressed from now on: strings that hardly ever do are not all
  /// tried, and those above kMaxCompressedBytes never. Not in a DUMP, which shall be Redis's to the
  /// byte.
  void CompressAsASave() {
    passes_over_ = true;
    max_compressed_bytes_ = kMaxCompressedBytes;
  }

  Status String(std::string_view bytes) override;
  /// The same bytes as String of the whole. They are brought together only to be compressed.
  Status StringPieces(std::span<const std::string_view> pieces) override;
  Status Integer(int64_t value) override;
  Status Begin(ValueKind kind, uint64_t count) override;
  Status Item(std::string_view element) override;
  Status Field(std::string_view field, std::string_view value) override;
  Status Scored(std::string_view member, double score) override;
  Status Packed(uint8_t rdb_type, std::string_view blob) override;
  Status StreamState(const StreamStateRecord& state) override;
  Status StreamGroup(const StreamGroupRecord& group) override;
  Status StreamPending(const StreamPendingRecord& pending) override;
  Status StreamConsumers(uint64_t count) override;
  Status StreamConsumer(const StreamConsumerRecord& consumer) override;
  Status StreamConsumerPending(StreamId id) override;
  Status BeginModule(uint64_t type_id) override;
  Status ModuleUnsigned(uint64_t value) override;
  Status ModuleSigned(int64_t value) override;
  Status ModuleDouble(double value) override;
  Status ModuleFloat(float value) override;
  Status ModuleString(std::string_view bytes) override;
  Status End() override;
  const SaveTarget* target() const override { return target_; }
  /// Borrows.
  void SetTarget(const SaveTarget* target) { target_ = target; }

  /// The key stands between the type byte and the value, so it waits here until the value names its
  /// type.
  void SetKey(std::string_view key) {
    key_.assign(key);
    has_key_ = true;
  }
  Status PutByte(uint8_t byte);
  Status PutLength(uint64_t length);
  Status PutFixed(uint64_t value, int bytes);  ///< little-endian
  Status PutString(std::string_view bytes);    ///< integer, LZF or plain, whichever Redis chooses
  Status PutIntegerString(int64_t value);
  Status PutRaw(std::string_view bytes);
  /// Hands the buffer to the sink. Cost: CRC over what was buffered, one Append.
  Status Flush();
  uint64_t crc() const { return crc_; }  ///< of the flushed bytes
  uint64_t bytes() const { return flushed_ + used_; }

 private:
  /// What Begin opened. A list names its type only with its first child: elements or nodes.
  enum class Open : uint8_t { kNone, kListPending, kList, kNodes, kZiplistNodes, kOther, kModule };
  friend class RdbWriter;

  Status PutType(uint8_t type);
  Status PutStreamId(StreamId id);
  Status ListChild(Open wanted, uint8_t type);
  Status PutNode(uint8_t rdb_type, std::string_view blob);
  bool WorthCompressing(std::span<const std::string_view> pieces, size_t size);
  size_t Compress(std::string_view bytes);
  Status PassThrough(std::string_view bytes);
  Status Reserve(size_t bytes) { return used_ + bytes > capacity_ ? Flush() : Status::Ok(); }

  ByteSink* sink_;
  const SaveTarget* target_ = nullptr;
  bool compress_;
  bool checksum_;
  bool has_key_ = false;
  Open open_ = Open::kNone;
  std::string key_;
  uint64_t list_count_ = 0;
  uint64_t crc_ = 0;
  uint64_t flushed_ = 0;
  size_t used_ = 0;
  size_t capacity_;
  std::unique_ptr<char[]> buffer_;
  std::vector<char> scratch_;
  /// What is known of strings of about one size: short ones tell nothing about long ones, nor keys
  /// about values.
  struct SizeClass {
    uint32_t in_vain = 0;  ///< in a row, did not shrink
    uint32_t passed_over = 0;
  };
  bool passes_over_ = false;
  size_t max_compressed_bytes_ = std::numeric_limits<unsigned>::max();  // what LZF can take
  std::array<SizeClass, 17> classes_;  // by power of two, up to where samples decide
};

class RdbWriter final : public DatasetSink {
 public:
  /// `sink` outlives the writer. Writes nothing yet.
  RdbWriter(ByteSink* sink, const RdbWriteOptions& options);

  /// Header and the standard aux fields. Call first, once.
  Status Start();

  Status Aux(std::string_view name, std::string_view value) override;
  Status FunctionLibrary(std::string_view code) override;
  Status SelectDatabase(uint32_t index, uint64_t key_count, uint64_t expire_count) override;
  Result<ValueSink*> Key(std::string_view key, const KeyMeta& meta) override;
  Result<ValueSink*> ModuleAux(uint64_t type_id, uint64_t when) override;

  /// EOF opcode, checksum, last flush. The sink holds the whole file afterwards; syncing it is the
  /// caller's. Call once, last.
  Status Finish();

  uint64_t key_count() const { return keys_; }
  uint64_t expire_count() const { return expires_; }
  uint64_t bytes() const { return encoder_.bytes(); }
  /// CRC-64 as written; 0 when switched off. Valid after Finish().
  uint64_t checksum() const { return checksum_; }

 private:
  RdbWriteOptions options_;
  RdbEncoder encoder_;
  uint64_t keys_ = 0;
  uint64_t expires_ = 0;
  uint64_t checksum_ = 0;
};

/// One value in DUMP form: feed sink(), then Finish().
class DumpWriter {
 public:
  explicit DumpWriter(bool compress = true);
  ValueSink& sink() { return encoder_; }
  /// In place of a value, any number of times: FUNCTION DUMP.
  Status FunctionLibrary(std::string_view source);
  /// Appends version and checksum. Returns the payload; call once.
  Result<std::string> Finish();

 private:
  std::string out_;
  StringByteSink bytes_;
  RdbEncoder encoder_;
};

}  // namespace cairn
