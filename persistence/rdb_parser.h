#pragma once

// RdbParser: the bytes under the RDB reader. It refills a buffer from a ByteSource (or stands on a
// string), runs the checksum over what is consumed, and decodes the primitives: fixed-width
// numbers, lengths, strings. It tells how far it is, in the middle of values too. It knows no
// opcode and no sink. Owned by one RdbReader, one thread at a time.

#include <bit>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "persistence/byte_stream.h"
#include "persistence/rdb_format.h"
#include "server/base/bytes.h"
#include "server/base/status.h"

namespace cairn {

/// A decoded string: an integer, a view valid until the next read, or (big ones) a blob.
struct RdbString {
  enum class Form : uint8_t { kView, kInteger, kBlob };
  Form form = Form::kView;
  int64_t integer = 0;
  std::string_view view;  ///< of the blob too; of an integer's text only after AsText
  BlobRef blob;
};

class RdbParser {
 public:
  /// Strings from this size on are read straight into a blob.
  static constexpr size_t kBlobBytes = 64 * 1024;

  RdbParser(ByteSource* source, size_t buffer_bytes, bool checksum);
  RdbParser(std::string_view bytes, std::string_view name, bool checksum);

  /// From now on `report` is called with the offset about every `interval` bytes, between two reads
  /// or within a string of kBlobBytes and more; its error is the read's.
  void ReportEvery(uint64_t interval, std::function<Status(uint64_t offset)> report);

  uint64_t offset() const { return base_offset_ + static_cast<uint64_t>(cursor_ - base_); }
  uint64_t remaining() const { return size_ - offset(); }

  Status ReadByte(uint8_t* out) {
    CAIRN_RETURN_IF_ERROR(Need(1));
    *out = static_cast<uint8_t>(*cursor_++);
    return Status::Ok();
  }
  /// A view of the next `size` bytes, valid until the next read. Requires: size <= 64 KiB.
  Status ReadRaw(size_t size, std::string_view* out) {
    CAIRN_RETURN_IF_ERROR(Need(size));
    *out = {cursor_, size};
    cursor_ += size;
    return Status::Ok();
  }
  /// Little-endian, 1..8 bytes.
  Status ReadFixed(size_t size, uint64_t* out);
  Status ReadDouble(double* out);
  /// The text form of scores before version 8: a length byte, then decimal text.
  Status ReadTextDouble(double* out);
  /// A length; a string encoding in its place is corruption.
  Status ReadLength(uint64_t* out) {
    if (end_ > cursor_ && static_cast<uint8_t>(*cursor_) < rdb::kLength14Bit) {
      *out = static_cast<uint8_t>(*cursor_++);
      return Status::Ok();
    }
    return ReadLongLength(out);
  }
  /// A length that counts things of at least `min_bytes` each: refused when they cannot fit any
  /// more.
  Status ReadCount(uint64_t min_bytes, uint64_t* out);
  Status ReadString(RdbString* out) {
    if (end_ > cursor_) {
      const size_t size = static_cast<uint8_t>(*cursor_);
      if (size < rdb::kLength14Bit && size < static_cast<size_t>(end_ - cursor_)) {
        out->form = RdbString::Form::kView;
        out->view = {cursor_ + 1, size};
        cursor_ += 1 + size;
        return Status::Ok();
      }
    }
    return ReadLongString(out);
  }
  /// The same as text: integers are printed. The view is valid until the next read or while `out`
  /// holds its blob.
  Status ReadText(RdbString* out);

  /// Plain strings of kBlobBytes and more are read and summed from now on, but none is kept: they
  /// come out empty. For who only checks. Requires: reads from a source.
  void PassOverBigStrings() { passes_over_ = true; }

  /// Starts or stops the checksum from here on (an old version has none).
  void StopChecksum();
  bool checksum_on() const { return checksum_on_; }
  /// CRC-64 of all bytes consumed so far.
  uint64_t Checksum();

  /// Errors with the input's name and the offset.
  Status Corrupt(std::string_view what) const;
  Status Unsupported(std::string_view what) const;

 private:
  Status Need(size_t size) {
    if (static_cast<size_t>(end_ - cursor_) >= size) [[likely]]
      return Status::Ok();
    return Refill(size);
  }
  Status Refill(size_t size);
  Status FillBuffer(size_t size);
  Status ReportWhenDue();
  Status ReadLongLength(uint64_t* out);
  Status ReadLongString(RdbString* out);
  Status ReadPlainString(uint64_t size, RdbString* out);
  Status ReadIntegerString(uint8_t encoding, RdbString* out);
  Status ReadLzfString(RdbString* out);
  Status ReadInto(char* out, size_t size);
  Status PassOver(uint64_t size);
  Status DecodeLength(uint8_t first, uint64_t* out);
  std::string Located(std::string_view what) const;

  ByteSource* source_ = nullptr;
  std::string name_;
  std::unique_ptr<char[]> buffer_;
  size_t capacity_ = 0;
  const char* base_ = nullptr;  ///< first byte of the buffer or of the string
  const char* cursor_ = nullptr;
  const char* end_ = nullptr;     ///< what may be read before the next report is due
  const char* filled_ = nullptr;  ///< the end of the bytes in memory
  const char* summed_ = nullptr;  ///< the checksum has run up to here
  uint64_t base_offset_ = 0;      ///< input offset of base_
  uint64_t size_ = 0;
  uint64_t crc_ = 0;
  bool checksum_on_;
  bool passes_over_ = false;
  std::function<Status(uint64_t)> report_;
  uint64_t report_interval_ = 0;
  uint64_t next_report_ = 0;
  std::vector<char> packed_;          ///< compressed bytes that do not fit the buffer
  std::unique_ptr<char[]> unpacked_;  ///< decompressed strings below kBlobBytes
  size_t unpacked_bytes_ = 0;
  char number_[24];
};

}  // namespace cairn
