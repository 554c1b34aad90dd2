#include "persistence/rdb_parser.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>

#include "server/base/checksum.h"
#include "server/base/lzf.h"

namespace cairn {
namespace {

constexpr size_t kMinBufferBytes = 2 * RdbParser::kBlobBytes;
/// Big strings are read and summed in pieces, so that the checksum finds them in the cache.
constexpr size_t kPieceBytes = 256 * 1024;

uint64_t LoadLittle(const char* bytes, size_t size) {
  uint64_t value = 0;
  std::memcpy(&value, bytes, size);  // the hosts we build for are little-endian
  return value;
}

uint64_t LoadBig(const char* bytes, size_t size) {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) value = value << 8 | static_cast<uint8_t>(bytes[i]);
  return value;
}

static_assert(std::endian::native == std::endian::little);

}  // namespace

RdbParser::RdbParser(ByteSource* source, size_t buffer_bytes, bool checksum)
    : source_(source), name_(source->name()), size_(source->size_bytes()), checksum_on_(checksum) {
  capacity_ = std::max(buffer_bytes, kMinBufferBytes);
  buffer_ = std::make_unique_for_overwrite<char[]>(capacity_);
  base_ = cursor_ = end_ = filled_ = summed_ = buffer_.get();
}

RdbParser::RdbParser(std::string_view bytes, std::string_view name, bool checksum)
    : name_(name),
      base_(bytes.data()),
      cursor_(bytes.data()),
      end_(bytes.data() + bytes.size()),
      filled_(end_),
      summed_(bytes.data()),
      size_(bytes.size()),
      checksum_on_(checksum) {}

std::string RdbParser::Located(std::string_view what) const {
  return name_ + ": " + std::string(what) + " (offset " + std::to_string(offset()) + ")";
}

Status RdbParser::Corrupt(std::string_view what) const { return Status::Corruption(Located(what)); }

Status RdbParser::Unsupported(std::string_view what) const {
  return {StatusCode::kUnsupported, Located(what)};
}

uint64_t RdbParser::Checksum() {
  if (checksum_on_ && cursor_ > summed_) {
    crc_ = Crc64(crc_, {summed_, static_cast<size_t>(cursor_ - summed_)});
  }
  summed_ = cursor_;
  return crc_;
}

void RdbParser::StopChecksum() { checksum_on_ = false; }

void RdbParser::ReportEvery(uint64_t interval, std::function<Status(uint64_t offset)> report) {
  report_ = std::move(report);
  report_interval_ = interval;
  next_report_ = offset() + interval;
  end_ = cursor_;
}

Status RdbParser::ReportWhenDue() {
  if (!report_ || offset() < next_report_) return Status::Ok();
  next_report_ = offset() + report_interval_;
  return report_(offset());
}

Status RdbParser::Refill(size_t size) {
  if (size > remaining()) return Corrupt("unexpected end of file");
  if (static_cast<size_t>(filled_ - cursor_) < size) CAIRN_RETURN_IF_ERROR(FillBuffer(size));
  CAIRN_RETURN_IF_ERROR(ReportWhenDue());
  end_ = filled_;
  if (report_) {
    const uint64_t window =
        std::max<uint64_t>(size, next_report_ - std::min(next_report_, offset()));
    end_ = cursor_ + std::min(window, static_cast<uint64_t>(filled_ - cursor_));
  }
  return Status::Ok();
}

/// Has at least `size` bytes in memory.
Status RdbParser::FillBuffer(size_t size) {
  if (source_ == nullptr) return Corrupt("unexpected end of file");
  CAIRN_CHECK(size <= capacity_);
  Checksum();
  const size_t kept = static_cast<size_t>(filled_ - cursor_);
  base_offset_ = offset();
  if (kept > 0) std::memmove(buffer_.get(), cursor_, kept);
  base_ = cursor_ = end_ = summed_ = buffer_.get();
  size_t filled = kept;
  while (filled < size) {
    Result<size_t> got = source_->Read(buffer_.get() + filled, capacity_ - filled);
    filled_ = buffer_.get() + filled;
    if (!got.ok()) return got.status();
    if (*got == 0) return Corrupt("unexpected end of file");
    filled += *got;
  }
  filled_ = buffer_.get() + filled;
  return Status::Ok();
}

Status RdbParser::ReadFixed(size_t size, uint64_t* out) {
  CAIRN_RETURN_IF_ERROR(Need(size));
  *out = LoadLittle(cursor_, size);
  cursor_ += size;
  return Status::Ok();
}

Status RdbParser::ReadDouble(double* out) {
  uint64_t bits = 0;
  CAIRN_RETURN_IF_ERROR(ReadFixed(8, &bits));
  *out = std::bit_cast<double>(bits);
  return Status::Ok();
}

Status RdbParser::ReadTextDouble(double* out) {
  uint8_t size = 0;
  CAIRN_RETURN_IF_ERROR(ReadByte(&size));
  constexpr uint8_t kNan = 253, kInfinity = 254, kMinusInfinity = 255;
  if (size >= kNan) {
    *out = size == kNan        ? std::numeric_limits<double>::quiet_NaN()
           : size == kInfinity ? std::numeric_limits<double>::infinity()
                               : -std::numeric_limits<double>::infinity();
    static_assert(kMinusInfinity == 255);
    return Status::Ok();
  }
  std::string_view text;
  CAIRN_RETURN_IF_ERROR(ReadRaw(size, &text));
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  if (error != std::errc() || stop != text.data() + text.size()) return Corrupt("malformed score");
  return Status::Ok();
}

Status RdbParser::DecodeLength(uint8_t first, uint64_t* out) {
  std::string_view rest;
  if (first < rdb::kLength14Bit) {
    *out = first;
  } else if (first < rdb::kLength32Bit) {
    CAIRN_RETURN_IF_ERROR(ReadRaw(1, &rest));
    *out = static_cast<uint64_t>(first & 0x3F) << 8 | static_cast<uint8_t>(rest[0]);
  } else if (first == rdb::kLength32Bit || first == rdb::kLength64Bit) {
    CAIRN_RETURN_IF_ERROR(ReadRaw(first == rdb::kLength32Bit ? 4 : 8, &rest));
    *out = LoadBig(rest.data(), rest.size());
  } else {
    return Corrupt("unknown length encoding " + std::to_string(first));
  }
  return Status::Ok();
}

Status RdbParser::ReadLongLength(uint64_t* out) {
  uint8_t first = 0;
  CAIRN_RETURN_IF_ERROR(ReadByte(&first));
  if (first >= rdb::kEncodedString) return Corrupt("string encoding where a length was expected");
  return DecodeLength(first, out);
}

Status RdbParser::ReadCount(uint64_t min_bytes, uint64_t* out) {
  CAIRN_RETURN_IF_ERROR(ReadLength(out));
  if (*out > remaining() / min_bytes) {
    return Corrupt("count " + std::to_string(*out) + " does not fit the remaining " +
                   std::to_string(remaining()) + " bytes");
  }
  return Status::Ok();
}

Status RdbParser::ReadLongString(RdbString* out) {
  uint8_t first = 0;
  CAIRN_RETURN_IF_ERROR(ReadByte(&first));
  if (first < rdb::kEncodedString) {
    uint64_t size = 0;
    CAIRN_RETURN_IF_ERROR(DecodeLength(first, &size));
    return ReadPlainString(size, out);
  }
  const uint8_t encoding = first & 0x3F;
  if (encoding <= rdb::kInt32) return ReadIntegerString(encoding, out);
  if (encoding == rdb::kLzf) return ReadLzfString(out);
  return Corrupt("unknown string encoding " + std::to_string(encoding));
}

Status RdbParser::ReadPlainString(uint64_t size, RdbString* out) {
  if (size > remaining()) {
    return Corrupt("string of " + std::to_string(size) + " bytes, but only " +
                   std::to_string(remaining()) + " remain");
  }
  if (source_ == nullptr || size < kBlobBytes) {
    out->form = RdbString::Form::kView;
    return ReadRaw(size, &out->view);
  }
  if (passes_over_) {
    out->form = RdbString::Form::kView;
    out->view = {};
    return PassOver(size);
  }
  out->form = RdbString::Form::kBlob;
  out->blob = BlobRef::Adopt(Blob::Create(size));
  out->view = out->blob.view();
  return ReadInto(out->blob->mutable_data(), size);
}

Status RdbParser::PassOver(uint64_t size) {
  while (size > 0) {
    const size_t piece = static_cast<size_t>(std::min<uint64_t>(size, kBlobBytes));
    std::string_view passed;
    CAIRN_RETURN_IF_ERROR(ReadRaw(piece, &passed));
    size -= piece;
  }
  return Status::Ok();
}

Status RdbParser::ReadInto(char* out, size_t size) {
  const size_t buffered = std::min(size, static_cast<size_t>(filled_ - cursor_));
  std::memcpy(out, cursor_, buffered);
  cursor_ += buffered;
  end_ = std::max(end_, cursor_);
  if (buffered == size) return Status::Ok();
  // The buffer is empty from here on: the rest comes straight from the source.
  Checksum();
  base_offset_ = offset();
  base_ = cursor_ = end_ = filled_ = summed_ = buffer_.get();
  for (size_t done = buffered; done < size;) {
    Result<size_t> got = source_->Read(out + done, std::min(kPieceBytes, size - done));
    if (!got.ok()) return got.status();
    if (*got == 0) return Corrupt("unexpected end of file");
    if (checksum_on_) crc_ = Crc64(crc_, {out + done, *got});
    base_offset_ += *got;
    done += *got;
    CAIRN_RETURN_IF_ERROR(ReportWhenDue());
  }
  return Status::Ok();
}

Status RdbParser::ReadIntegerString(uint8_t encoding, RdbString* out) {
  uint64_t bits = 0;
  CAIRN_RETURN_IF_ERROR(ReadFixed(size_t{1} << encoding, &bits));
  out->form = RdbString::Form::kInteger;
  out->integer = encoding == rdb::kInt8    ? static_cast<int8_t>(bits)
                 : encoding == rdb::kInt16 ? static_cast<int16_t>(bits)
                                           : static_cast<int32_t>(bits);
  return Status::Ok();
}

Status RdbParser::ReadLzfString(RdbString* out) {
  uint64_t packed_size = 0;
  uint64_t size = 0;
  CAIRN_RETURN_IF_ERROR(ReadLength(&packed_size));
  CAIRN_RETURN_IF_ERROR(ReadLength(&size));
  if (packed_size > remaining()) return Corrupt("compressed string reaches beyond the end");
  if (size == 0 || packed_size == 0 || size / rdb::kMaxLzfRatio > packed_size ||
      size > std::numeric_limits<unsigned>::max() ||
      packed_size > std::numeric_limits<unsigned>::max()) {
    return Corrupt("impossible length of a compressed string");
  }
  std::string_view packed;
  if (source_ == nullptr || packed_size <= kBlobBytes) {
    CAIRN_RETURN_IF_ERROR(ReadRaw(packed_size, &packed));
  } else {
    packed_.resize(packed_size);
    CAIRN_RETURN_IF_ERROR(ReadInto(packed_.data(), packed_size));
    packed = {packed_.data(), packed_size};
  }
  char* target = nullptr;
  if (size >= kBlobBytes) {
    out->form = RdbString::Form::kBlob;
    out->blob = BlobRef::Adopt(Blob::Create(size));
    target = out->blob->mutable_data();
  } else {
    out->form = RdbString::Form::kView;
    if (unpacked_bytes_ < size) {
      // All that a file may ask for at once; of a payload it is most often the only string.
      unpacked_bytes_ = source_ == nullptr ? size : kBlobBytes;
      unpacked_ = std::make_unique_for_overwrite<char[]>(unpacked_bytes_);
    }
    target = unpacked_.get();
  }
  out->view = {target, size};
  if (LzfDecompress(packed, target, size) != size) {
    return Corrupt("malformed compressed string");
  }
  return Status::Ok();
}

Status RdbParser::ReadText(RdbString* out) {
  CAIRN_RETURN_IF_ERROR(ReadString(out));
  if (out->form == RdbString::Form::kInteger) {
    const auto written = std::to_chars(number_, number_ + sizeof(number_), out->integer);
    out->view = {number_, static_cast<size_t>(written.ptr - number_)};
  }
  return Status::Ok();
}

}  // namespace cairn
