#include "tensor_module/args.h"

#include <limits>
#include <string>

#include "tensor_module/arg_cursor.h"
#include "tensor_module/numeric.h"
#include "tensor_module/stats.h"

namespace cairn::tensor {

namespace {

/// "BLOB bytes" where nothing else may stand.
Status ReadBlob(Cursor& cursor, size_t* at) {
  CAIRN_RETURN_IF_ERROR(cursor.Expect("blob"));
  if (!cursor.more()) return SyntaxError();
  *at = cursor.at();
  cursor.Skip(1);
  return Status::Ok();
}

Status ReadPayload(Cursor& cursor, SetArgs* out) {
  if (cursor.Take("zeros")) {
    out->payload = SetArgs::Payload::kZeros;
    return Status::Ok();
  }
  if (cursor.Take("values")) {
    uint64_t count = 0;
    CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&count));
    const uint64_t wanted = out->head.numel() * ScalarsPerElement(out->head.dtype);
    if (count != wanted) {
      return Status::Client("ERR VALUES has " + std::to_string(count) + " numbers, but " +
                            std::string(DTypeName(out->head.dtype)) + " " +
                            ShapeText(out->head.shape) + " takes " + std::to_string(wanted));
    }
    if (count > cursor.left()) return SyntaxError();
    out->payload = SetArgs::Payload::kValues;
    out->payload_at = cursor.at();
    cursor.Skip(count);
    return Status::Ok();
  }
  out->payload = SetArgs::Payload::kBlob;
  return ReadBlob(cursor, &out->payload_at);
}

/// EX s or PX ms, whose word stood at `at`.
Status ReadTtl(Cursor& cursor, SetArgs* out, bool seconds) {
  constexpr int64_t kMsPerS = 1000;
  if (out->ttl_ms || out->expire_at_ms || out->keep_ttl) return SyntaxError();
  out->ttl_at = cursor.at() - 1;
  int64_t amount = 0;
  CAIRN_RETURN_IF_ERROR(cursor.NextSigned(&amount));
  if (amount <= 0 || (seconds && amount > std::numeric_limits<int64_t>::max() / kMsPerS)) {
    return Status::Client("ERR invalid expire time in 'tensor.set' command");
  }
  out->ttl_ms = seconds ? amount * kMsPerS : amount;
  return Status::Ok();
}

Status ReadPxAt(Cursor& cursor, std::optional<int64_t>* out) {
  int64_t at_ms = 0;
  CAIRN_RETURN_IF_ERROR(cursor.NextSigned(&at_ms));
  if (at_ms <= 0) return Status::Client("ERR PXAT takes a Unix time in milliseconds");
  *out = at_ms;
  return Status::Ok();
}

Status ReadSetOption(Cursor& cursor, SetArgs* out) {
  if (!out->nx && !out->xx && cursor.Take("nx")) {
    out->nx = true;
  } else if (!out->nx && !out->xx && cursor.Take("xx")) {
    out->xx = true;
  } else if (cursor.Take("ex")) {
    return ReadTtl(cursor, out, /*seconds=*/true);
  } else if (cursor.Take("px")) {
    return ReadTtl(cursor, out, /*seconds=*/false);
  } else if (!out->ttl_ms && !out->expire_at_ms && !out->keep_ttl && cursor.Take("pxat")) {
    return ReadPxAt(cursor, &out->expire_at_ms);
  } else if (!out->ttl_ms && !out->expire_at_ms && !out->keep_ttl && cursor.Take("keepttl")) {
    out->keep_ttl = true;
  } else if (cursor.Take("xxh3")) {
    return cursor.NextHash(&out->hash);
  } else if (cursor.Take("guard")) {
    out->guard_finite = true;
    return cursor.Expect("finite");
  } else {
    return SyntaxError();
  }
  return Status::Ok();
}

Status ReadGetOption(Cursor& cursor, GetArgs* out) {
  if (cursor.Take("meta")) {
    out->meta = true;
  } else if (!out->values && cursor.Take("blob")) {
    out->blob = true;
  } else if (!out->blob && cursor.Take("values")) {
    out->values = true;
  } else if (cursor.Take("as")) {
    return cursor.NextDType(&out->as);
  } else if (!out->slice && !out->range && cursor.Take("slice")) {
    return ReadSliceWords(cursor, &out->slice.emplace());
  } else if (!out->slice && !out->range && cursor.Take("range")) {
    uint64_t offset = 0, length = 0;
    CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&offset));
    CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&length));
    uint64_t end = 0;
    if (__builtin_add_overflow(offset, length, &end)) end = std::numeric_limits<uint64_t>::max();
    out->range = ByteRange{offset, end};
  } else {
    return SyntaxError();
  }
  return Status::Ok();
}

}  // namespace

Status ReadHead(Cursor& cursor, TensorHead* head) {
  std::string_view name;
  CAIRN_RETURN_IF_ERROR(cursor.Next(&name));
  Result<DType> dtype = ParseDTypeArg(name);
  if (!dtype.ok()) return dtype.status();
  head->dtype = dtype.value();
  CAIRN_RETURN_IF_ERROR(cursor.Expect("shape"));
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&count));
  if (count > kMaxDimensions) {
    return Status::Client("ERR a tensor has at most " + std::to_string(kMaxDimensions) +
                          " dimensions");
  }
  if (count > cursor.left()) return SyntaxError();
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t dim = 0;
    CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&dim));
    head->shape.push_back(dim);
  }
  Result<uint64_t> bytes = PayloadBytes(head->dtype, head->shape);
  if (!bytes.ok()) return bytes.status();
  head->size_bytes = bytes.value();
  return Status::Ok();
}

Status ReadSliceWords(Cursor& cursor, std::vector<SliceWords>* out) {
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&count));
  if (count > kMaxDimensions || count * 3 > cursor.left()) return SyntaxError();
  for (uint64_t i = 0; i < count; ++i) {
    SliceWords words;
    CAIRN_RETURN_IF_ERROR(cursor.NextSigned(&words.start));
    CAIRN_RETURN_IF_ERROR(cursor.NextSigned(&words.stop));
    CAIRN_RETURN_IF_ERROR(cursor.NextSigned(&words.step));
    out->push_back(words);
  }
  return Status::Ok();
}

Result<DType> ParseDTypeArg(std::string_view name) {
  DType dtype;
  if (ParseDType(name, &dtype)) return dtype;
  return Status::Client("ERR unknown dtype '" + std::string(name.substr(0, 32)) + "'");
}

Result<SetArgs> ParseSet(Args args) {
  SetArgs out;
  Cursor cursor(args, 2);
  CAIRN_RETURN_IF_ERROR(ReadHead(cursor, &out.head));
  CAIRN_RETURN_IF_ERROR(ReadPayload(cursor, &out));
  while (cursor.more()) CAIRN_RETURN_IF_ERROR(ReadSetOption(cursor, &out));
  return out;
}

Result<GetArgs> ParseGet(Args args) {
  GetArgs out;
  Cursor cursor(args, 2);
  while (cursor.more()) CAIRN_RETURN_IF_ERROR(ReadGetOption(cursor, &out));
  // A range of bytes has no shape, and is not of another type.
  if (out.range && (out.meta || out.values || out.as)) return SyntaxError();
  return out;
}

Result<std::vector<KeyedTensor>> ParseMSet(Args args) {
  std::vector<KeyedTensor> out;
  Cursor cursor(args, 1);
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&count));
  // The least a tensor takes: key dtype SHAPE 0 BLOB bytes.
  if (count == 0 || count > cursor.left() / 6) return SyntaxError();
  for (uint64_t i = 0; i < count; ++i) {
    KeyedTensor& tensor = out.emplace_back();
    std::string_view key;
    tensor.key_at = cursor.at();
    CAIRN_RETURN_IF_ERROR(cursor.Next(&key));
    CAIRN_RETURN_IF_ERROR(ReadHead(cursor, &tensor.head));
    CAIRN_RETURN_IF_ERROR(ReadBlob(cursor, &tensor.blob_at));
    CAIRN_RETURN_IF_ERROR(CheckPayloadSize(tensor.head, args[tensor.blob_at].size()));
  }
  if (cursor.more()) return SyntaxError();
  return out;
}

Result<MGetArgs> ParseMGet(Args args) {
  MGetArgs out;
  Cursor cursor(args, 1);
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&count));
  if (count == 0 || count > cursor.left()) return SyntaxError();
  for (uint64_t i = 0; i < count; ++i) CAIRN_RETURN_IF_ERROR(cursor.Next(&out.keys.emplace_back()));
  if (cursor.Take("as")) CAIRN_RETURN_IF_ERROR(cursor.NextDType(&out.as));
  if (cursor.more()) return SyntaxError();
  return out;
}

Result<SetSliceArgs> ParseSetSlice(Args args) {
  SetSliceArgs out;
  Cursor cursor(args, 2);
  CAIRN_RETURN_IF_ERROR(cursor.Expect("slice"));
  CAIRN_RETURN_IF_ERROR(ReadSliceWords(cursor, &out.slice));
  CAIRN_RETURN_IF_ERROR(ReadBlob(cursor, &out.blob_at));
  if (cursor.more()) return SyntaxError();
  return out;
}

Result<BeginArgs> ParseBegin(Args args) {
  BeginArgs out;
  Cursor cursor(args, 2);
  CAIRN_RETURN_IF_ERROR(ReadHead(cursor, &out.head));
  if (cursor.Take("upload")) {
    CAIRN_RETURN_IF_ERROR(cursor.Next(&out.upload));
    if (out.upload.empty()) return SyntaxError();
  }
  if (cursor.Take("pxat")) CAIRN_RETURN_IF_ERROR(ReadPxAt(cursor, &out.expire_at_ms));
  if (cursor.more()) return SyntaxError();
  return out;
}

Result<WriteArgs> ParseWrite(Args args) {
  WriteArgs out;
  Cursor cursor(args, 3);
  CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&out.offset));
  CAIRN_RETURN_IF_ERROR(ReadBlob(cursor, &out.blob_at));
  if (cursor.Take("xxh3")) CAIRN_RETURN_IF_ERROR(cursor.NextHash(&out.hash));
  if (cursor.more()) return SyntaxError();
  return out;
}

Result<std::optional<Hash128>> ParseEnd(Args args) {
  std::optional<Hash128> hash;
  Cursor cursor(args, 3);
  if (cursor.Take("xxh3")) CAIRN_RETURN_IF_ERROR(cursor.NextHash(&hash));
  if (cursor.more()) return SyntaxError();
  return hash;
}

Result<uint64_t> ParseStats(Args args) {
  uint64_t bins = 0;
  Cursor cursor(args, 2);
  if (!cursor.more()) return bins;
  CAIRN_RETURN_IF_ERROR(cursor.Expect("hist"));
  CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&bins));
  if (cursor.more()) return SyntaxError();

  if (bins == 0 || bins > kMaxHistogramBins) {
    return Status::Client("ERR HIST takes 1 to " + std::to_string(kMaxHistogramBins) + " bins");
  }
  return bins;
}

Result<EqualArgs> ParseEqual(Args args) {
  EqualArgs out;
  bool rtol_seen = false, atol_seen = false;
  Cursor cursor(args, 3);
  while (cursor.more()) {
    double* to = nullptr;
    if (!rtol_seen && cursor.Take("rtol")) {
      rtol_seen = true;
      to = &out.rtol;
    } else if (!atol_seen && cursor.Take("atol")) {
      atol_seen = true;
      to = &out.atol;
    } else {
      return SyntaxError();
    }
    std::string_view text;
    CAIRN_RETURN_IF_ERROR(cursor.Next(&text));
    if (!ParseDouble(text, to) || *to < 0)
      return Status::Client("ERR a tolerance is a number of 0 or more");
  }
  out.tolerant = rtol_seen || atol_seen;
  return out;
}

Status ParseValues(const TensorHead& head, Args values, char* out) {
  const size_t parts = ScalarsPerElement(head.dtype), size = DTypeSize(head.dtype);
  for (size_t i = 0; i < values.size(); ++i) {
    Scalar value;
    if (!ParseScalar(head.dtype, values[i], &value)) {
      return Status::Client("ERR value " + std::to_string(i) + " is not a number of type " +
                            std::string(DTypeName(head.dtype)));
    }
    StoreScalar(head.dtype, value, out + i / parts * size, i % parts);
  }
  return Status::Ok();
}

Status CheckPayloadSize(const TensorHead& head, uint64_t size) {
  if (size == head.size_bytes) return Status::Ok();
  return Status::Client("ERR the blob has " + std::to_string(size) + " bytes, but " +
                        std::string(DTypeName(head.dtype)) + " " + ShapeText(head.shape) +
                        " takes " + std::to_string(head.size_bytes));
}

}  // namespace cairn::tensor
