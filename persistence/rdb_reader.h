#pragma once

// RdbReader: parses an RDB file and plays it into a DatasetSink. It checks framing only (lengths,
// counts, encodings, checksum): what lies inside a packed blob is for the type that unpacks it, and
// which types can be held is for the sink. No length of the input is believed before it is compared
// with what the input still has, so damaged files cost no memory. Runs on the loading thread; one
// thread at a time. Memory: the buffer (1 MiB for a file, none for a string) plus the largest
// single string.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "persistence/byte_stream.h"
#include "persistence/rdb_parser.h"
#include "persistence/value_sink.h"

namespace cairn {

class Env;

struct RdbReadOptions {
  bool verify_checksum = true;  ///< setting rdbchecksum; the field is read either way
  size_t buffer_bytes = size_t{1} << 20;
  /// Big strings that are not compressed reach the sink empty: it only counts, and memory is not to
  /// grow with the largest of them. For RdbReader on a source.
  bool pass_over_big_strings = false;
  uint64_t progress_interval_bytes = 2u << 20;
  /// Called about every interval with the offset reached, in the middle of values too, never from
  /// within a call of a sink; an error ends the load (kCancelled).
  std::function<Status(uint64_t offset_bytes)> on_progress;
};

/// What one load saw.
struct RdbReadCounts {
  int version = 0;
  bool valkey = false;            ///< the file begins with VALKEY
  bool checksum_present = false;  ///< false: older than version 5, or written without
  bool checksum_verified = false;
  uint64_t checksum = 0;  ///< as stored
  uint64_t keys = 0;
  uint64_t expires = 0;
  uint64_t databases = 0;
  uint64_t functions = 0;
};

class RdbReader {
 public:
  /// Reads from `source`, which outlives the reader.
  RdbReader(ByteSource* source, RdbReadOptions options);
  /// Reads from memory without copying; `bytes` outlives the reader. `name` stands in messages.
  RdbReader(std::string_view bytes, std::string_view name, RdbReadOptions options);
  ~RdbReader();
  RdbReader(const RdbReader&) = delete;
  RdbReader& operator=(const RdbReader&) = delete;

  /// Plays the file into `sink`. Call once. Returns the offset just behind the checksum, where the
  /// commands of an AOF with an RDB preamble begin; bytes behind it are not looked at. Errors:
  /// kCorruption or kUnsupported with input name and offset; the sink's own error unchanged. The
  /// sink has received part of the data then.
  Result<uint64_t> Load(DatasetSink& sink);

  const RdbReadCounts& counts() const { return counts_; }
  /// Type byte of the record being read, or of the last one.
  uint8_t current_type() const { return current_type_; }
  uint64_t offset_bytes() const;

 private:
  Status LoadHeader();
  Status LoadRecord(uint8_t type, DatasetSink& sink, const KeyMeta& meta);
  Status LoadMeta(uint8_t opcode, KeyMeta* meta);
  Status LoadOpcode(uint8_t opcode, DatasetSink& sink);
  Status LoadAux(DatasetSink& sink);
  Status LoadModuleAux(DatasetSink& sink);
  Status LoadSelect();
  Status LoadResize(DatasetSink& sink);
  Status LoadChecksum();
  Status Announce(DatasetSink& sink, uint64_t keys, uint64_t expires);

  RdbReadOptions options_;
  std::unique_ptr<RdbParser> parser_;
  RdbReadCounts counts_;
  RdbString key_;
  uint32_t database_ = 0;
  bool announced_ = false;
  uint8_t current_type_ = 0;
};

/// Opens `path` through `env` for an RdbReader. The source owns the file.
Result<std::unique_ptr<ByteSource>> OpenByteSource(Env& env, const std::string& path);

/// Checks version and checksum of a DUMP payload and plays its value into `sink`. Errors are client
/// errors: "ERR DUMP payload version or checksum are wrong", or "ERR Bad data format" when the
/// value does not parse or `sink` refuses it. Cost: one pass for the checksum (unless
/// `skip_checksum`), one for the value.
Status ReadDumpPayload(std::string_view payload, ValueSink& sink, bool skip_checksum = false);

/// Visits the sources of the libraries in a payload of FUNCTION DUMP, until `visit` refuses one.
/// Errors: client errors, as of FUNCTION RESTORE, and those of `visit`.
Status ReadFunctionsPayload(std::string_view payload, bool skip_checksum,
                            const std::function<Status(std::string_view source)>& visit);

/// The first byte of a payload (an rdb::Type), for choosing a builder before reading. Requires: not
/// empty.
inline uint8_t DumpPayloadType(std::string_view payload) {
  return static_cast<uint8_t>(payload.front());
}

}  // namespace cairn
