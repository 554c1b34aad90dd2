#include "server/protocol/resp_writer.h"

#include <charconv>
#include <cmath>
#include <string>

#include "server/base/check.h"
#include "server/base/strings.h"
#include "server/protocol/resp_header.h"

namespace cairn {
namespace {

bool IsLineEnd(char c) { return c == '\r' || c == '\n'; }

}  // namespace

void RespWriter::Header(char type, uint64_t count) {
  out_->Advance(
      FormatRespHeader(out_->Extend(kRespHeaderBytes), type, static_cast<int64_t>(count)));
}

void RespWriter::MapLike(char type, size_t pairs) {
  if (version_ == 3) {
    Header(type, pairs);
  } else {
    Header('*', 2 * pairs);
  }
}

void RespWriter::AttributeHeader(size_t pairs) {
  CAIRN_CHECK(version_ == 3);
  Header('|', pairs);
}

void RespWriter::Deferred(ReplyBuffer::Mark mark, char type, uint64_t count) {
  char header[kRespHeaderBytes];
  out_->InsertAt(mark, {header, FormatRespHeader(header, type, static_cast<int64_t>(count))});
}

void RespWriter::EndDeferredSet(ReplyBuffer::Mark mark, size_t count) {
  Deferred(mark, version_ == 3 ? '~' : '*', count);
}

void RespWriter::EndDeferredMap(ReplyBuffer::Mark mark, size_t pairs) {
  if (version_ == 3) {
    Deferred(mark, '%', pairs);
  } else {
    Deferred(mark, '*', 2 * pairs);
  }
}

void RespWriter::SimpleString(std::string_view text) {
  out_->Append('+');
  out_->Append(text);
  out_->Append("\r\n");
}

void RespWriter::Error(std::string_view line) {
  char* to = out_->Extend(line.size() + 3);
  *to++ = '-';
  for (char c : line) *to++ = IsLineEnd(c) ? ' ' : c;
  to[0] = '\r';
  to[1] = '\n';
  out_->Advance(line.size() + 3);
}

void RespWriter::StatusReply(const Status& status) {
  CAIRN_CHECK(!status.ok());
  std::string_view line = status.message();
  while (!line.empty() && IsLineEnd(line.front())) line.remove_prefix(1);
  while (!line.empty() && IsLineEnd(line.back())) line.remove_suffix(1);
  if (status.code() == StatusCode::kClient) return Error(line);
  Error("ERR " + std::string(line));
}

void RespWriter::Integer(int64_t value) {
  out_->Advance(FormatRespHeader(out_->Extend(kRespHeaderBytes), ':', value));
}

void RespWriter::Bulk(std::string_view bytes) {
  char* to = out_->Extend(kRespHeaderBytes + bytes.size() + 2);
  size_t size = FormatRespHeader(to, '$', static_cast<int64_t>(bytes.size()));
  if (!bytes.empty()) std::memcpy(to + size, bytes.data(), bytes.size());
  size += bytes.size();
  to[size] = '\r';
  to[size + 1] = '\n';
  out_->Advance(size + 2);
}

void RespWriter::BulkBlob(BlobSlice slice) {
  Header('$', slice.size);
  out_->AppendBlob(std::move(slice));
  out_->Append("\r\n");
}

void RespWriter::BulkSlices(std::span<BlobSlice> slices) {
  size_t size = 0;
  for (const BlobSlice& slice : slices) size += slice.size;
  Header('$', size);
  for (BlobSlice& slice : slices) out_->AppendBlob(std::move(slice));
  out_->Append("\r\n");
}

void RespWriter::BulkInt64(int64_t value) {
  char digits[kRespHeaderBytes];
  const char* end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  Bulk({digits, static_cast<size_t>(end - digits)});
}

void RespWriter::Double(double value) {
  if (std::isnan(value)) return DoubleText(std::signbit(value) ? "-nan" : "nan");
  DoubleText(FormatDouble(value));
}

void RespWriter::DoubleText(std::string_view text) {
  if (version_ != 3) return Bulk(text);
  out_->Append(',');
  out_->Append(text);
  out_->Append("\r\n");
}

void RespWriter::BigNumber(std::string_view digits) {
  if (version_ != 3) return Bulk(digits);
  out_->Append('(');
  out_->Append(digits);
  out_->Append("\r\n");
}

void RespWriter::Boolean(bool value) {
  if (version_ == 3) {
    out_->Append(value ? std::string_view("#t\r\n") : "#f\r\n");
  } else {
    out_->Append(value ? std::string_view(":1\r\n") : ":0\r\n");
  }
}

void RespWriter::Verbatim(std::string_view extension, std::string_view text) {
  CAIRN_CHECK(extension.size() == 3);
  if (version_ != 3) return Bulk(text);
  Header('=', extension.size() + 1 + text.size());
  out_->Append(extension);
  out_->Append(':');
  out_->Append(text);
  out_->Append("\r\n");
}

}  // namespace cairn
