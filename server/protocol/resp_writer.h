#pragma once

// RespWriter: writes replies in RESP2 or RESP3 into a ReplyBuffer, each kind falling back in RESP2
// to what Redis sends there (a map becomes a flat array, a double a bulk string, ...). It holds no
// bytes of its own and does not decide what to reply. Cheap to construct. Thread: that of its
// ReplyBuffer.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "server/base/bytes.h"
#include "server/base/status.h"
#include "server/protocol/reply_buffer.h"

namespace cairn {

class RespWriter {
 public:
  explicit RespWriter(ReplyBuffer* out, int version = 2) : out_(out), version_(version) {}

  int version() const { return version_; }
  /// 2 or 3.
  void set_version(int version) { version_ = version; }
  ReplyBuffer& buffer() { return *out_; }

  void Ok() { out_->Append("+OK\r\n"); }
  /// `text` holds no line ends.
  void SimpleString(std::string_view text);
  /// An error from its line without '-', e.g. "ERR syntax error". Each CR and LF becomes a space.
  void Error(std::string_view line);
  /// The error line of a failed status, CR and LF at its ends dropped, others made spaces; failures
  /// that are not the client's get "ERR " in front.
  /// Requires: !status.ok().
  void StatusReply(const Status& status);

  void Integer(int64_t value);
  void Bulk(std::string_view bytes);
  /// A bulk string whose bytes are sent from the blob when they are many.
  void BulkBlob(BlobSlice slice);
  /// A bulk string in several pieces, in order, each sent from its blob when it is large. They are
  /// moved from.
  void BulkSlices(std::span<BlobSlice> slices);
  /// A bulk string with the decimal digits of `value`.
  void BulkInt64(int64_t value);
  void EmptyBulk() { out_->Append("$0\r\n\r\n"); }
  /// "_" in RESP3, "$-1" in RESP2.
  void Null() { out_->Append(version_ == 3 ? std::string_view("_\r\n") : "$-1\r\n"); }
  /// "_" in RESP3, "*-1" in RESP2.
  void NullArray() { out_->Append(version_ == 3 ? std::string_view("_\r\n") : "*-1\r\n"); }
  /// 17 significant digits, as Redis 7.0 replies scores; a bulk string in RESP2.
  void Double(double value);
  /// A double that is already text (long double results); a bulk string in RESP2.
  void DoubleText(std::string_view text);
  /// Decimal digits with an optional '-'; a bulk string in RESP2.
  void BigNumber(std::string_view digits);
  /// ":1" or ":0" in RESP2.
  void Boolean(bool value);
  /// `extension` is three characters ("txt", "mkd"); a plain bulk string in RESP2.
  void Verbatim(std::string_view extension, std::string_view text);

  void ArrayHeader(size_t count) { Header('*', count); }
  /// `pairs` key-value pairs follow; an array of twice as many in RESP2.
  void MapHeader(size_t pairs) { MapLike('%', pairs); }
  void SetHeader(size_t count) { Header(version_ == 3 ? '~' : '*', count); }
  void PushHeader(size_t count) { Header(version_ == 3 ? '>' : '*', count); }
  /// Requires: version() == 3; RESP2 has no form of it.
  void AttributeHeader(size_t pairs);

  /// An aggregate whose count is known only at its end:
  ///   auto mark = writer.BeginDeferred(); ...elements...; writer.EndDeferredArray(mark, n);
  /// Nested ones end innermost first, and nothing is consumed in between.
  ReplyBuffer::Mark BeginDeferred() const { return out_->Here(); }
  void EndDeferredArray(ReplyBuffer::Mark mark, size_t count) { Deferred(mark, '*', count); }
  void EndDeferredSet(ReplyBuffer::Mark mark, size_t count);
  void EndDeferredMap(ReplyBuffer::Mark mark, size_t pairs);

  /// Bytes that are RESP already.
  void Raw(std::string_view bytes) { out_->Append(bytes); }

 private:
  void Header(char type, uint64_t count);
  void MapLike(char type, size_t pairs);
  void Deferred(ReplyBuffer::Mark mark, char type, uint64_t count);

  ReplyBuffer* out_;
  int version_;
};

}  // namespace cairn
