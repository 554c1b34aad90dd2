#pragma once

// Cursor: walks the arguments of a TENSOR or CKPT command and turns what is wrong into a client's
// line. For the parsers (args.cc, ckpt_args.cc) alone. Pure; any thread.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "server/base/checksum.h"
#include "server/base/strings.h"
#include "tensor_module/args.h"

namespace cairn::tensor {

inline Status SyntaxError() { return Status::Client("ERR syntax error"); }
inline Status NotInteger() { return Status::Client("ERR value is not an integer or out of range"); }

class Cursor {
 public:
  Cursor(Args args, size_t at) : args_(args), at_(at) {}
  bool more() const { return at_ < args_.size(); }
  size_t at() const { return at_; }
  /// The argument so many behind the next; empty when there is none.
  std::string_view Peek(size_t behind) const {
    return behind < left() ? args_[at_ + behind] : std::string_view();
  }
  void Skip(size_t count) { at_ += count; }
  size_t left() const { return args_.size() - at_; }

  /// Consumes `word` if it is next.
  bool Take(std::string_view word) {
    if (!more() || !EqualsIgnoreCase(args_[at_], word)) return false;
    ++at_;
    return true;
  }
  Status Expect(std::string_view word) { return Take(word) ? Status::Ok() : SyntaxError(); }
  Status Next(std::string_view* out) {
    if (!more()) return SyntaxError();
    *out = args_[at_++];
    return Status::Ok();
  }
  Status NextSigned(int64_t* out) {
    std::string_view text;
    CAIRN_RETURN_IF_ERROR(Next(&text));
    return ParseInt64(text, out) ? Status::Ok() : NotInteger();
  }
  Status NextUnsigned(uint64_t* out) {
    std::string_view text;
    CAIRN_RETURN_IF_ERROR(Next(&text));
    return ParseUint64(text, out) ? Status::Ok() : NotInteger();
  }
  Status NextHash(std::optional<Hash128>* out) {
    std::string_view text;
    CAIRN_RETURN_IF_ERROR(Next(&text));
    if (out->has_value()) return SyntaxError();
    Hash128 hash;
    if (!ParseHash128Hex(text, &hash))
      return Status::Client("ERR XXH3 takes 32 hexadecimal digits");
    *out = hash;
    return Status::Ok();
  }
  Status NextDType(std::optional<DType>* out) {
    std::string_view text;
    CAIRN_RETURN_IF_ERROR(Next(&text));
    if (out->has_value()) return SyntaxError();
    Result<DType> dtype = ParseDTypeArg(text);
    if (!dtype.ok()) return dtype.status();
    *out = dtype.value();
    return Status::Ok();
  }

 private:
  Args args_;
  size_t at_;
};

/// "dtype SHAPE n d1..dn", the product checked.
Status ReadHead(Cursor& cursor, TensorHead* head);
/// Behind the word SLICE: n, then n triples.
Status ReadSliceWords(Cursor& cursor, std::vector<SliceWords>* out);

// Defined beside the parsers of CKPT commands, ckpt_args.cc.

/// A number from `low` to `high`.
Status NextBounded(Cursor& cursor, uint64_t low, uint64_t high, uint64_t* out);
/// A name of a tensor, group, transaction or tag: 1 to kMaxNameBytes bytes.
Status NextName(Cursor& cursor, std::string_view* out);
/// Behind the word AT: a time in milliseconds since the epoch. A syntax error when *out has one.
Status ReadAt(Cursor& cursor, std::optional<int64_t>* out);

}  // namespace cairn::tensor
