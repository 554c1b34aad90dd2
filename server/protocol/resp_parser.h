#pragma once

// RequestParser: turns the byte stream of one client into requests (RESP arrays and inline
// commands), with the limits and the error lines of Redis 7.0. It owns the read buffer; it does not
// read sockets, does not look up commands and does not count arity. Requests are views into the
// read buffer, so a pipeline read in one call is parsed without a copy or an allocation; arguments
// of kBigArgument bytes or more are received straight into a Blob of their own. One parser belongs
// to one connection and is used only on that connection's loop thread.
//
// One turn of a connection:  Reserve -> read(2) -> Commit -> Next, Next, ... -> (execute) ->
// Reserve ... A request's views live until the next Reserve() or ShrinkIfIdle(): these may move the
// buffer.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/bytes.h"
#include "server/base/check.h"

namespace cairn {

/// Arguments of at least this many bytes travel in a Blob of their own.
inline constexpr size_t kBigArgument = 64 * 1024;
/// First size of a connection's read buffer, and the least Reserve() offers when nothing is
/// pending.
inline constexpr size_t kReadBufferInitialBytes = 16 * 1024;
/// The longest header line or inline request; one byte more without a line end is an error.
inline constexpr size_t kMaxLineBytes = 64 * 1024;
/// The most arguments a request may announce.
inline constexpr int64_t kMaxRequestArguments = 2147483647;
/// Vectors that grew beyond this many arguments are not kept for the next request.
inline constexpr size_t kKeptArguments = 1024;
/// What a client may announce before it has authenticated.
inline constexpr int64_t kUnauthenticatedMaxArguments = 10;
inline constexpr int64_t kUnauthenticatedMaxBulkBytes = 16384;
/// Default of proto-max-bulk-len.
inline constexpr int64_t kDefaultMaxBulkBytes = 512LL * 1024 * 1024;
/// Least value of proto-max-bulk-len, as in Redis.
inline constexpr int64_t kLeastMaxBulkBytes = 1024 * 1024;

/// One request. Reuse the object: its vectors keep their capacity, so a warm one costs no
/// allocation.
struct Request {
  struct BigArgument {
    size_t index;  ///< position in args
    BlobRef blob;  ///< exactly the bytes of args[index]
  };

  /// Command name and arguments; never empty after kRequest.
  std::vector<std::string_view> args;
  /// Ascending by index; only arguments that were received into a blob. Inline requests have none.
  std::vector<BigArgument> blobs;
  /// Bytes the request took on the wire, headers included.
  size_t wire_bytes = 0;
  /// True when it came as a plain line instead of a RESP array.
  bool is_inline = false;

  /// The blob that holds args[index], or null when the argument lies in the read buffer.
  const BlobRef* FindBlob(size_t index) const {
    for (const BigArgument& big : blobs) {
      if (big.index == index) return &big.blob;
    }
    return nullptr;
  }
  void Clear() {
    if (args.capacity() > kKeptArguments) [[unlikely]]
      args = {};
    args.clear();
    blobs.clear();
    wire_bytes = 0;
    is_inline = false;
  }
};

enum class ParseResult : unsigned char {
  kRequest,        ///< *out holds the next request
  kNeedMore,       ///< all committed bytes are used up; Reserve, read, Commit
  kProtocolError,  ///< send '-' error() CRLF and close; every later Next() says the same
};

class RequestParser {
 public:
  /// `source` provides the blobs of big arguments and must outlive the parser; null means the heap.
  explicit RequestParser(BlobSource* source = nullptr);
  ~RequestParser();
  RequestParser(const RequestParser&) = delete;
  RequestParser& operator=(const RequestParser&) = delete;

  /// proto-max-bulk-len in bytes; applies to headers parsed from now on. Requires: at least
  /// kLeastMaxBulkBytes, so that short headers need no look at it.
  void set_max_bulk_bytes(int64_t bytes) {
    CAIRN_CHECK(bytes >= kLeastMaxBulkBytes);
    max_bulk_bytes_ = bytes;
  }
  /// Tells whether the small limits apply. Starts as true (no limits). A caller that serves clients
  /// which must authenticate runs each request before it asks for the next, as the answer may
  /// change.
  void set_authenticated(bool authenticated) { authenticated_ = authenticated; }

  /// Whether Next() found the memory of a big argument still on its way. Until a Next() after
  /// memory_came() nothing may be read: bytes for that argument may lie in the read buffer.
  bool waits_for_memory() const { return cold_; }
  /// Requires: waits_for_memory().
  bool memory_came() const { return source_->IsWarm(*big_.get()); }

  /// Where the next read() lands: at least one byte, normally `suggested_bytes` or more of the read
  /// buffer; while a big argument is incomplete, exactly the rest of its blob. Invalidates the
  /// views of all requests yielded so far (never their blobs). Requires: not waits_for_memory().
  std::span<char> Reserve(size_t suggested_bytes = kReadBufferInitialBytes);
  /// States that the first `size_bytes` of the last Reserve() were filled. Requires: not more than
  /// that.
  void Commit(size_t size_bytes);

  /// Yields the next complete request. Empty lines, "*0" and "*-1" are skipped as Redis skips them.
  /// Cost: one pass over the headers (about 40 ns for a small SET); no allocation once `out` is
  /// warm.
  ParseResult Next(Request* out) {
    if (remaining_args_ == 0 && error_.empty()) [[likely]] {
      if (cursor_ == end_) return ParseResult::kNeedMore;
      if (TakeShortRequest(out)) [[likely]]
        return ParseResult::kRequest;
    }
    return NextOfAnyKind(out);
  }

  /// The error line without '-' and CRLF, e.g. "ERR Protocol error: invalid bulk length". Empty
  /// before kProtocolError.
  std::string_view error() const { return error_; }
  /// Bytes received and not yet yielded in a request, big arguments in progress included; what
  /// client-query-buffer-limit bounds.
  size_t buffered_bytes() const { return end_ - start_ + big_received_bytes_; }
  /// Bytes of memory held: read buffer and blobs in progress.
  size_t footprint() const;
  /// True when a request has begun and is not complete.
  bool in_request() const { return end_ != start_ || remaining_args_ != 0; }

  /// Gives back memory a quiet connection does not need. Invalidates views like Reserve().
  void ShrinkIfIdle();

 private:
  // An argument of the request in progress. Offsets count from start_, so that moving the buffer
  // does not touch them; a blob's index stands in place of the offset for big arguments.
  struct Piece {
    size_t offset;
    size_t size;
  };
  enum class Step : unsigned char { kDone, kNeedMore, kFailed };

  bool TakeShortRequest(Request* out);
  ParseResult NextOfAnyKind(Request* out);
  Step ParseInline(Request* out);
  Step ParseArrayHeader();
  Step ParseArguments();
  Step ParseBulkHeader();
  Step TakeBulk();
  Step FindLineEnd(char wanted, std::string_view too_big, size_t* position);
  Step ReadLength(std::string_view too_big, size_t* next, int64_t* value, bool* valid);
  Step TakeBigArgument();
  void Yield(Request* out);
  Step Fail(std::string_view message);
  void Compact();
  void Reallocate(size_t capacity_bytes);

  BlobSource* source_;
  std::unique_ptr<char, void (*)(void*)> buffer_;
  size_t capacity_ = 0;
  size_t start_ = 0;    // first byte of the request in progress
  size_t cursor_ = 0;   // first byte not yet interpreted
  size_t end_ = 0;      // end of committed bytes
  size_t scanned_ = 0;  // bytes from cursor_ known to hold no line end

  int64_t remaining_args_ = 0;  // arguments still to come of the array in progress
  int64_t bulk_size_ = -1;      // announced size of the argument in progress, -1 before its header
  std::vector<Piece> pieces_;
  std::vector<Request::BigArgument> big_arguments_;
  BlobRef big_;                    // argument being received straight into its blob
  bool cold_ = false;              // the pages of big_ were not all there when it was last asked
  size_t big_filled_ = 0;          // bytes of big_ received
  size_t big_received_bytes_ = 0;  // bytes of this request that went to blobs
  bool reserved_in_blob_ = false;
  size_t reserved_bytes_ = 0;

  int64_t max_bulk_bytes_ = kDefaultMaxBulkBytes;
  bool authenticated_ = true;
  std::string error_;
};

}  // namespace cairn
