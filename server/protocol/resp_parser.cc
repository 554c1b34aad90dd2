#include "server/protocol/resp_parser.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include "server/base/strings.h"

namespace cairn {
namespace {

// The strict integer of header lines: no '+', no leading zeros, no "-0", no blanks.
bool ParseStrictInt(const char* text, size_t size, int64_t* value) {
  const bool negative = size > 0 && text[0] == '-';
  size_t i = negative ? 1 : 0;
  if (i == size) return false;
  if (text[i] == '0') {
    *value = 0;
    return !negative && size == 1;
  }
  const uint64_t limit = negative ? uint64_t{1} << 63 : std::numeric_limits<int64_t>::max();
  uint64_t magnitude = 0;
  for (; i < size; ++i) {
    const unsigned digit = static_cast<unsigned char>(text[i]) - unsigned{'0'};
    if (digit > 9 || magnitude > (limit - digit) / 10) return false;
    magnitude = magnitude * 10 + digit;
  }
  *value = static_cast<int64_t>(negative ? ~magnitude + 1 : magnitude);
  return true;
}

// A header line of up to four digits without leading zeros, "$16\r\n", ended as it should be: its
// number and the place behind it, or nullptr for anything else, an incomplete one included. One
// and two digits, nearly all of them, are told by one comparison of the bytes around them.
inline const char* ReadShortHeader(const char* p, const char* end, char type, size_t* value) {
  static_assert(std::endian::native == std::endian::little);
  uint64_t bytes = 0;
  if (end - p >= 8) [[likely]] {
    std::memcpy(&bytes, p, sizeof bytes);
  } else {
    std::memcpy(&bytes, p, static_cast<size_t>(end - p));  // zeros match nothing below
  }
  if ((bytes & 0xff) != static_cast<unsigned char>(type)) return nullptr;
  const size_t first = (bytes >> 8 & 0xff) - '0';
  if (first > 9) return nullptr;
  constexpr uint64_t kLineEnd = 0x0a0d;
  if ((bytes >> 16 & 0xffff) == kLineEnd) {
    *value = first;
    return p + 4;
  }
  const size_t second = (bytes >> 16 & 0xff) - '0';
  if (second > 9 || first == 0) return nullptr;
  if ((bytes >> 24 & 0xffff) == kLineEnd) {
    *value = first * 10 + second;
    return p + 5;
  }
  const size_t third = (bytes >> 24 & 0xff) - '0';
  if (third > 9) return nullptr;
  if ((bytes >> 32 & 0xffff) == kLineEnd) {
    *value = first * 100 + second * 10 + third;
    return p + 6;
  }
  const size_t fourth = (bytes >> 32 & 0xff) - '0';
  if (fourth > 9 || (bytes >> 40 & 0xffff) != kLineEnd) return nullptr;
  *value = first * 1000 + second * 100 + third * 10 + fourth;
  return p + 7;
}

bool IsSpace(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

// Reads the words of an inline request. A word never grows by unquoting, so it is written over the
// place it was read from and the views stay in the read buffer.
class InlineWords {
 public:
  InlineWords(char* begin, char* end) : read_(begin), end_(end) {}

  // False when a quote stays open or is followed by something else than a blank.
  bool Split(std::vector<std::string_view>* words) {
    for (;;) {
      while (read_ < end_ && IsSpace(*read_)) ++read_;
      if (read_ == end_) return true;
      char* const word = write_ = read_;
      if (!ReadWord()) return false;
      words->emplace_back(word, write_ - word);
    }
  }

 private:
  // The blanks that end an unquoted word are fewer than those that may stand before one.
  static bool EndsWord(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

  bool ReadWord() {
    while (read_ < end_ && !EndsWord(*read_)) {
      const char c = *read_++;
      if (c == '"') return ReadDoubleQuoted();
      if (c == '\'') return ReadSingleQuoted();
      *write_++ = c;
    }
    return true;
  }

  bool ReadDoubleQuoted() {
    while (read_ < end_) {
      const char c = *read_++;
      if (c == '"') return read_ == end_ || IsSpace(*read_);
      if (c != '\\' || read_ == end_) {
        *write_++ = c;
      } else if (end_ - read_ >= 3 && *read_ == 'x' && HexValue(read_[1]) >= 0 &&
                 HexValue(read_[2]) >= 0) {
        *write_++ = static_cast<char>(HexValue(read_[1]) * 16 + HexValue(read_[2]));
        read_ += 3;
      } else {
        *write_++ = Unescape(*read_++);
      }
    }
    return false;
  }

  bool ReadSingleQuoted() {
    while (read_ < end_) {
      const char c = *read_++;
      if (c == '\'') return read_ == end_ || IsSpace(*read_);
      if (c == '\\' && read_ < end_ && *read_ == '\'') {
        *write_++ = *read_++;
      } else {
        *write_++ = c;
      }
    }
    return false;
  }

  char* read_;
  char* write_ = nullptr;
  char* end_;
};

}  // namespace

RequestParser::RequestParser(BlobSource* source) : source_(source), buffer_(nullptr, &std::free) {}

RequestParser::~RequestParser() = default;

std::span<char> RequestParser::Reserve(size_t suggested_bytes) {
  CAIRN_CHECK(!cold_);
  if (big_ && big_filled_ < big_->size()) {
    reserved_in_blob_ = true;
    reserved_bytes_ = big_->size() - big_filled_;
    return {big_->mutable_data() + big_filled_, reserved_bytes_};
  }
  reserved_in_blob_ = false;
  if (start_ == end_ && start_ != 0) start_ = cursor_ = end_ = 0;
  suggested_bytes = std::max<size_t>(suggested_bytes, 1);
  // A partial request in the way of a full suggestion is no reason to double the buffer; too little
  // room for the argument at hand is.
  size_t needed = std::max<size_t>(suggested_bytes / 4, 1);
  if (bulk_size_ >= 0) {
    const size_t wanted = (big_ ? 0 : static_cast<size_t>(bulk_size_)) + 2;
    if (wanted > end_ - cursor_) needed = std::max(needed, wanted - (end_ - cursor_));
  }
  if (capacity_ - end_ < suggested_bytes) Compact();
  if (capacity_ - end_ < needed) {
    const size_t used = end_ - start_;
    Reallocate(
        std::max(kReadBufferInitialBytes, std::bit_ceil(std::max(used + needed, suggested_bytes))));
  }
  reserved_bytes_ = capacity_ - end_;
  return {buffer_.get() + end_, reserved_bytes_};
}

void RequestParser::Commit(size_t size_bytes) {
  CAIRN_CHECK(size_bytes <= reserved_bytes_);
  reserved_bytes_ = 0;
  if (reserved_in_blob_) {
    big_filled_ += size_bytes;
    big_received_bytes_ += size_bytes;
  } else {
    end_ += size_bytes;
  }
}

ParseResult RequestParser::NextOfAnyKind(Request* out) {
  if (!error_.empty()) return ParseResult::kProtocolError;
  out->Clear();
  for (;;) {
    Step step = Step::kDone;
    if (remaining_args_ == 0) {
      if (cursor_ == end_) return ParseResult::kNeedMore;
      if (buffer_.get()[cursor_] != '*') {
        step = ParseInline(out);
        if (step == Step::kDone) {
          if (!out->args.empty()) return ParseResult::kRequest;
          continue;  // a blank line
        }
      } else if (TakeShortRequest(out)) {
        return ParseResult::kRequest;
      } else {
        step = ParseArrayHeader();
        if (step == Step::kDone && remaining_args_ == 0) continue;  // "*0", "*-1"
      }
    }
    if (step == Step::kDone) step = ParseArguments();
    if (step == Step::kNeedMore) return ParseResult::kNeedMore;
    if (step == Step::kFailed) return ParseResult::kProtocolError;
    Yield(out);
    return ParseResult::kRequest;
  }
}

// The road of nearly all requests: complete, up to 99 arguments, each under 10000 bytes, so that no
// limit can apply (but that on arguments before authentication, which is left to the general road).
// Keeps the state in registers and writes the views at once. Anything else is left untouched for
// the general road; starting over there costs no more than these few headers.
bool RequestParser::TakeShortRequest(Request* out) {
  const char* const begin = buffer_.get() + cursor_;
  const char* const end = buffer_.get() + end_;
  size_t count = 0;
  const char* p = ReadShortHeader(begin, end, '*', &count);
  if (p == nullptr || count - 1 > 98) return false;
  if (count > static_cast<size_t>(kUnauthenticatedMaxArguments) && !authenticated_) return false;
  if (out->args.size() != count) out->args.resize(count);
  std::string_view* arg = out->args.data();
  for (std::string_view* const last = arg + count; arg != last; ++arg) {
    size_t size = 0;
    p = ReadShortHeader(p, end, '$', &size);
    if (p == nullptr || end - p < static_cast<ptrdiff_t>(size + 2)) return false;
    *arg = {p, size};
    p += size + 2;
  }
  if (!out->blobs.empty()) [[unlikely]]
    out->blobs.clear();
  out->is_inline = false;
  out->wire_bytes = static_cast<size_t>(p - begin);
  start_ = cursor_ += out->wire_bytes;
  scanned_ = 0;
  return true;
}

// Redis looks for line ends as in a C string: a NUL hides what is behind it until the line is too
// long.
RequestParser::Step RequestParser::FindLineEnd(char wanted, std::string_view too_big,
                                               size_t* position) {
  const char* line = buffer_.get() + cursor_;
  const size_t available = end_ - cursor_;
  const size_t limit = std::min(available, kMaxLineBytes + 1);
  size_t i = scanned_;
  while (i < limit && line[i] != wanted && line[i] != '\0') ++i;
  if (i < limit && line[i] == wanted) {
    *position = cursor_ + i;
    return Step::kDone;
  }
  if (available > kMaxLineBytes) return Fail(too_big);
  scanned_ = i;
  return Step::kNeedMore;
}

// Reads the number of the header line at cursor_; *next is the place behind the line. The byte
// after the CR is taken for a LF unseen, as Redis does.
RequestParser::Step RequestParser::ReadLength(std::string_view too_big, size_t* next,
                                              int64_t* value, bool* valid) {
  size_t line_end = 0;
  if (const Step step = FindLineEnd('\r', too_big, &line_end); step != Step::kDone) return step;
  if (end_ - line_end < 2) {
    scanned_ = line_end - cursor_;
    return Step::kNeedMore;
  }
  // A line that is only CR has no type byte and so no digits either.
  const size_t digits = line_end == cursor_ ? 0 : line_end - cursor_ - 1;
  *next = line_end + 2;
  *valid = ParseStrictInt(buffer_.get() + cursor_ + 1, digits, value);
  return Step::kDone;
}

RequestParser::Step RequestParser::ParseInline(Request* out) {
  size_t line_end = 0;
  const Step step = FindLineEnd('\n', "too big inline request", &line_end);
  if (step != Step::kDone) return step;
  char* const line = buffer_.get() + cursor_;
  size_t size = line_end - cursor_;
  if (size > 0 && line[size - 1] == '\r') --size;
  if (!InlineWords(line, line + size).Split(&out->args)) {
    out->args.clear();
    return Fail("unbalanced quotes in request");
  }
  out->is_inline = true;
  out->wire_bytes = line_end + 1 - start_;
  start_ = cursor_ = line_end + 1;
  scanned_ = 0;
  return Step::kDone;
}

RequestParser::Step RequestParser::ParseArrayHeader() {
  size_t next = 0;
  int64_t count = 0;
  bool valid = false;
  const Step step = ReadLength("too big mbulk count string", &next, &count, &valid);
  if (step != Step::kDone) return step;
  if (!valid || count > kMaxRequestArguments) return Fail("invalid multibulk length");
  if (count > kUnauthenticatedMaxArguments && !authenticated_) {
    return Fail("unauthenticated multibulk length");
  }
  cursor_ = next;
  scanned_ = 0;
  if (count <= 0) {
    start_ = cursor_;
    return Step::kDone;
  }
  remaining_args_ = count;
  return Step::kDone;
}

RequestParser::Step RequestParser::ParseArguments() {
  while (remaining_args_ > 0) {
    if (bulk_size_ < 0) {
      if (const Step step = ParseBulkHeader(); step != Step::kDone) return step;
      scanned_ = 0;
    }
    if (const Step step = TakeBulk(); step != Step::kDone) return step;
  }
  return Step::kDone;
}

RequestParser::Step RequestParser::ParseBulkHeader() {
  if (cursor_ == end_) return Step::kNeedMore;
  size_t next = 0;
  int64_t size = 0;
  bool valid = false;
  const Step step = ReadLength("too big bulk count string", &next, &size, &valid);
  if (step != Step::kDone) return step;
  const char type = buffer_.get()[cursor_];
  if (type != '$') {
    const char shown = type == '\r' || type == '\n' ? ' ' : type;
    return Fail(std::string("expected '$', got '") + shown + "'");
  }
  if (!valid || size < 0 || size > max_bulk_bytes_) return Fail("invalid bulk length");
  if (size > kUnauthenticatedMaxBulkBytes && !authenticated_) {
    return Fail("unauthenticated bulk length");
  }
  cursor_ = next;
  bulk_size_ = size;
  return Step::kDone;
}

RequestParser::Step RequestParser::TakeBulk() {
  const size_t size = static_cast<size_t>(bulk_size_);
  if (size >= kBigArgument) return TakeBigArgument();
  if (end_ - cursor_ < size + 2) return Step::kNeedMore;
  pieces_.push_back({cursor_ - start_, size});
  cursor_ += size + 2;
  bulk_size_ = -1;
  --remaining_args_;
  return Step::kDone;
}

RequestParser::Step RequestParser::TakeBigArgument() {
  const size_t size = static_cast<size_t>(bulk_size_);
  if (!big_) {
    Blob* blob = source_ != nullptr ? source_->AllocateSoon(size) : Blob::TryCreate(size);
    if (blob == nullptr) return Fail("invalid bulk length");
    big_ = BlobRef::Adopt(blob);
    big_filled_ = 0;
    cold_ = source_ != nullptr;
  }
  if (cold_) cold_ = !source_->IsWarm(*big_.get());
  if (cold_) return Step::kNeedMore;
  if (big_filled_ < size) {
    const size_t available = end_ - cursor_;
    const size_t taken = std::min(available, size - big_filled_);
    if (taken > 0) std::memcpy(big_->mutable_data() + big_filled_, buffer_.get() + cursor_, taken);
    big_filled_ += taken;
    if (taken == available) {
      end_ = cursor_;  // the bytes live in the blob now; what follows lands behind the header
      big_received_bytes_ += taken;
    } else {
      cursor_ += taken;
    }
    if (big_filled_ < size) return Step::kNeedMore;
  }
  if (end_ - cursor_ < 2) return Step::kNeedMore;
  big_arguments_.push_back({pieces_.size(), std::move(big_)});
  big_ = BlobRef();
  pieces_.push_back({0, size});
  cursor_ += 2;
  bulk_size_ = -1;
  --remaining_args_;
  return Step::kDone;
}

void RequestParser::Yield(Request* out) {
  const char* base = buffer_.get() + start_;
  const size_t count = pieces_.size();
  out->args.resize(count);
  for (size_t i = 0; i < count; ++i) {
    out->args[i] = std::string_view(base + pieces_[i].offset, pieces_[i].size);
  }
  for (const Request::BigArgument& big : big_arguments_) out->args[big.index] = big.blob->view();
  if (!big_arguments_.empty()) out->blobs.swap(big_arguments_);
  out->wire_bytes = cursor_ - start_ + big_received_bytes_;
  pieces_.clear();
  big_arguments_.clear();
  big_received_bytes_ = 0;
  start_ = cursor_;
}

RequestParser::Step RequestParser::Fail(std::string_view message) {
  error_ = "ERR Protocol error: ";
  error_ += message;
  return Step::kFailed;
}

size_t RequestParser::footprint() const {
  size_t bytes = capacity_ + pieces_.capacity() * sizeof(Piece);
  if (big_) bytes += big_->footprint();
  for (const Request::BigArgument& big : big_arguments_) bytes += big.blob->footprint();
  return bytes;
}

void RequestParser::ShrinkIfIdle() {
  const size_t used = end_ - start_;
  if (pieces_.empty() && pieces_.capacity() > kKeptArguments) pieces_ = {};
  if (used == 0 && !in_request()) {
    buffer_.reset();
    capacity_ = start_ = cursor_ = end_ = 0;
  } else if (capacity_ > kReadBufferInitialBytes && used <= capacity_ / 4) {
    Reallocate(std::max(kReadBufferInitialBytes, std::bit_ceil(used)));
  }
  reserved_bytes_ = 0;
}

void RequestParser::Compact() {
  if (start_ == 0) return;
  std::memmove(buffer_.get(), buffer_.get() + start_, end_ - start_);
  cursor_ -= start_;
  end_ -= start_;
  start_ = 0;
}

void RequestParser::Reallocate(size_t capacity_bytes) {
  char* fresh = static_cast<char*>(std::malloc(capacity_bytes));
  CAIRN_CHECK(fresh != nullptr);
  const size_t used = end_ - start_;
  if (used > 0) std::memcpy(fresh, buffer_.get() + start_, used);
  buffer_.reset(fresh);
  capacity_ = capacity_bytes;
  cursor_ -= start_;
  end_ = used;
  start_ = 0;
}

}  // namespace cairn
