#include "tensor_module/ckpt_args.h"

#include <limits>

#include "tensor_module/arg_cursor.h"

namespace cairn::tensor {

Status NextBounded(Cursor& cursor, uint64_t low, uint64_t high, uint64_t* out) {
  CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(out));
  if (*out >= low && *out <= high) return Status::Ok();
  return Status::Client("ERR value is out of range, must be " + std::to_string(low) + " to " +
                        std::to_string(high));
}

Status NextName(Cursor& cursor, std::string_view* out) {
  CAIRN_RETURN_IF_ERROR(cursor.Next(out));
  if (!out->empty() && out->size() <= kMaxNameBytes) return Status::Ok();
  return Status::Client("ERR a name has 1 to " + std::to_string(kMaxNameBytes) + " bytes");
}

Status ReadAt(Cursor& cursor, std::optional<int64_t>* out) {
  if (out->has_value()) return SyntaxError();
  int64_t at_ms = 0;
  CAIRN_RETURN_IF_ERROR(cursor.NextSigned(&at_ms));
  if (at_ms < 0 || at_ms > kMaxTimeMs) {
    return Status::Client("ERR a time is 0 to " + std::to_string(kMaxTimeMs) + " milliseconds");
  }
  *out = at_ms;
  return Status::Ok();
}

namespace {

Status NextRank(Cursor& cursor, uint32_t* out) {
  uint64_t rank = 0;
  CAIRN_RETURN_IF_ERROR(NextBounded(cursor, 0, kMaxWorld - 1, &rank));
  *out = static_cast<uint32_t>(rank);
  return Status::Ok();
}

/// "RANK r"
Status ReadRank(Cursor& cursor, uint32_t* out) {
  CAIRN_RETURN_IF_ERROR(cursor.Expect("rank"));
  return NextRank(cursor, out);
}

Status NextMs(Cursor& cursor, int64_t* out) {
  uint64_t value = 0;
  CAIRN_RETURN_IF_ERROR(NextBounded(cursor, 0, kMaxTimeoutMs, &value));
  *out = static_cast<int64_t>(value);
  return Status::Ok();
}

Status ReadDurable(Cursor& cursor, Durable* out) {
  for (Durable durable : {Durable::kMem, Durable::kAof, Durable::kDisk}) {
    if (!cursor.Take(DurableName(durable))) continue;
    *out = durable;
    return Status::Ok();
  }
  return SyntaxError();
}

Status ReadKind(Cursor& cursor, StateKind* out) {
  for (size_t i = 0; i < kStateKinds; ++i) {
    if (!cursor.Take(StateKindName(static_cast<StateKind>(i)))) continue;
    *out = static_cast<StateKind>(i);
    return Status::Ok();
  }
  return SyntaxError();
}

/// "BLOB bytes"
Status ReadBlobAt(Cursor& cursor, size_t* at) {
  CAIRN_RETURN_IF_ERROR(cursor.Expect("blob"));
  if (!cursor.more()) return SyntaxError();
  *at = cursor.at();
  cursor.Skip(1);
  return Status::Ok();
}

/// "name [SHARD i] AT offset"
Status ReadPlace(Cursor& cursor, std::string_view* name, uint32_t* shard, uint64_t* offset) {
  CAIRN_RETURN_IF_ERROR(NextName(cursor, name));
  if (cursor.Take("shard")) {
    uint64_t index = 0;
    CAIRN_RETURN_IF_ERROR(NextBounded(cursor, 0, kMaxShardsPerRank, &index));
    *shard = static_cast<uint32_t>(index);
  }
  CAIRN_RETURN_IF_ERROR(cursor.Expect("at"));
  return cursor.NextUnsigned(offset);
}

/// "n item.." : n, at least `least` arguments an item.
Status ReadCount(Cursor& cursor, size_t least, uint64_t* out) {
  CAIRN_RETURN_IF_ERROR(NextBounded(cursor, 1, kMaxListed, out));
  return *out > cursor.left() / least ? SyntaxError() : Status::Ok();
}

Status ReadHashes(Cursor& cursor, std::vector<Hash128>* out) {
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(ReadCount(cursor, 1, &count));
  for (uint64_t i = 0; i < count; ++i) {
    std::optional<Hash128> hash;
    CAIRN_RETURN_IF_ERROR(cursor.NextHash(&hash));
    out->push_back(*hash);
  }
  return Status::Ok();
}

/// "[LOGGED n hash32..] BLOB bytes"
Status ReadPayload(Cursor& cursor, std::vector<Hash128>* logged, size_t* blob_at) {
  if (cursor.Take("logged")) CAIRN_RETURN_IF_ERROR(ReadHashes(cursor, logged));
  return ReadBlobAt(cursor, blob_at);
}

Status End(const Cursor& cursor) { return cursor.more() ? SyntaxError() : Status::Ok(); }

/// "OFF n o1..on" or "LEN n l1..ln"
Status ReadSides(Cursor& cursor, std::string_view word, size_t dimensions, Shape* out) {
  CAIRN_RETURN_IF_ERROR(cursor.Expect(word));
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&count));
  if (count != dimensions) {
    return Status::Client("ERR " + std::string(word) + " takes one number for each dimension");
  }
  for (uint64_t i = 0; i < count; ++i) {
    CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&out->emplace_back()));
  }
  return Status::Ok();
}

Status CheckExtent(const ShardSpec& spec) {
  for (size_t i = 0; i < spec.shape.size(); ++i) {
    const uint64_t off = spec.extent.off[i], len = spec.extent.len[i];
    if (off <= spec.shape[i] && len <= spec.shape[i] - off) continue;
    return Status::Client("ERR shard [" + std::to_string(off) + ", +" + std::to_string(len) +
                          ") is not within dimension " + std::to_string(i) + " of " +
                          ShapeText(spec.shape) + " of '" + spec.name + "'");
  }
  return Status::Ok();
}

/// A tensor's name may be SHARD or ALIAS too. "name group dtype SHAPE n" is what no option looks
/// like: where ALIAS has SHAPE three words on, that is a group's name with a dtype behind it.
bool BeginsSpec(const Cursor& cursor) {
  uint64_t dimensions = 0;
  return EqualsIgnoreCase(cursor.Peek(3), "shape") && ParseUint64(cursor.Peek(4), &dimensions);
}

/// "name group dtype SHAPE n .. [SHARD OFF n .. LEN n ..] [ALIAS of]"
Status ReadSpec(Cursor& cursor, ShardSpec* spec) {
  std::string_view name, group;
  CAIRN_RETURN_IF_ERROR(NextName(cursor, &name));
  CAIRN_RETURN_IF_ERROR(NextName(cursor, &group));
  TensorHead head;
  CAIRN_RETURN_IF_ERROR(ReadHead(cursor, &head));
  spec->name = name;
  spec->group = group;
  spec->dtype = head.dtype;
  spec->shape = std::move(head.shape);
  spec->extent = Extent::Whole(spec->shape);
  const bool sharded = !BeginsSpec(cursor) && cursor.Take("shard");
  if (sharded) {
    spec->extent = {};
    CAIRN_RETURN_IF_ERROR(ReadSides(cursor, "off", spec->shape.size(), &spec->extent.off));
    CAIRN_RETURN_IF_ERROR(ReadSides(cursor, "len", spec->shape.size(), &spec->extent.len));
    CAIRN_RETURN_IF_ERROR(CheckExtent(*spec));
  }
  if (!BeginsSpec(cursor) && cursor.Take("alias")) {
    std::string_view target;
    CAIRN_RETURN_IF_ERROR(NextName(cursor, &target));
    if (target == name || sharded) {
      return Status::Client("ERR an alias is another whole tensor's name");
    }
    spec->alias_of = target;
  }
  spec->Settle();
  return Status::Ok();
}

Status ReadRange(Cursor& cursor, std::optional<ByteRange>* out) {
  uint64_t offset = 0, length = 0;
  CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&offset));
  CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&length));
  uint64_t end = 0;
  if (__builtin_add_overflow(offset, length, &end)) end = std::numeric_limits<uint64_t>::max();
  *out = ByteRange{offset, end};
  return Status::Ok();
}

Status ReadCreateOption(Cursor& cursor, RunConfig* out) {
  uint64_t value = 0;
  if (cursor.Take("world")) {
    CAIRN_RETURN_IF_ERROR(NextBounded(cursor, 1, kMaxWorld, &value));
    out->world = static_cast<uint32_t>(value);
  } else if (out->require.empty() && cursor.Take("require")) {
    CAIRN_RETURN_IF_ERROR(NextBounded(cursor, 1, kMaxRequiredGroups, &value));
    for (uint64_t i = 0; i < value; ++i) {
      std::string_view group;
      CAIRN_RETURN_IF_ERROR(NextName(cursor, &group));
      out->require.emplace_back(group);
    }
  } else if (cursor.Take("timeout")) {
    CAIRN_RETURN_IF_ERROR(NextBounded(cursor, 1, kMaxTimeoutMs, &value));
    out->timeout_ms = static_cast<int64_t>(value);
  } else if (cursor.Take("maxconcurrent")) {
    CAIRN_RETURN_IF_ERROR(NextBounded(cursor, 1, kMaxOpenTransactions, &value));
    out->max_concurrent = static_cast<uint32_t>(value);
  } else if (cursor.Take("minpause")) {
    return NextMs(cursor, &out->min_pause_ms);
  } else if (cursor.Take("keep")) {
    return cursor.NextUnsigned(&out->keep);
  } else if (cursor.Take("durable")) {
    return ReadDurable(cursor, &out->durable);
  } else {
    return SyntaxError();
  }
  return Status::Ok();
}

Status ReadBeginOption(Cursor& cursor, BeginTxArgs* out, bool* ranked) {
  uint64_t value = 0;
  if (!*ranked && cursor.Take("rank")) {
    CAIRN_RETURN_IF_ERROR(NextRank(cursor, &out->request.rank));
    CAIRN_RETURN_IF_ERROR(cursor.Expect("world"));
    CAIRN_RETURN_IF_ERROR(NextBounded(cursor, 1, kMaxWorld, &value));
    out->request.world = static_cast<uint32_t>(value);
    *ranked = true;
  } else if (cursor.Take("attempt")) {
    return cursor.NextUnsigned(&out->request.attempt);
  } else if (!out->parent && cursor.Take("parent")) {
    return cursor.Next(&out->parent.emplace());
  } else if (!out->request.timeout_ms && cursor.Take("timeout")) {
    CAIRN_RETURN_IF_ERROR(NextBounded(cursor, 1, kMaxTimeoutMs, &value));
    out->request.timeout_ms = static_cast<int64_t>(value);
  } else if (cursor.Take("coverage")) {
    out->request.coverage = true;
  } else if (cursor.Take("allranks")) {
    out->request.coverage = false;
  } else if (out->tx.empty() && cursor.Take("tx")) {
    return NextName(cursor, &out->tx);
  } else if (cursor.Take("at")) {
    return ReadAt(cursor, &out->at_ms);
  } else {
    return SyntaxError();
  }
  return Status::Ok();
}

Status ReadLoadOption(Cursor& cursor, LoadArgs* out) {
  if (!out->slice && !out->range && cursor.Take("slice")) {
    return ReadSliceWords(cursor, &out->slice.emplace());
  }
  if (!out->slice && !out->range && cursor.Take("range")) return ReadRange(cursor, &out->range);
  if (cursor.Take("as")) return cursor.NextDType(&out->as);
  return SyntaxError();
}

}  // namespace

Result<RunConfig> ParseCreate(Args args) {
  RunConfig out;
  Cursor cursor(args, 2);
  while (cursor.more()) CAIRN_RETURN_IF_ERROR(ReadCreateOption(cursor, &out));
  return out;
}

Result<BeginTxArgs> ParseBeginTx(Args args) {
  BeginTxArgs out;
  Cursor cursor(args, 2);
  CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&out.request.step));
  bool ranked = false;
  while (cursor.more()) CAIRN_RETURN_IF_ERROR(ReadBeginOption(cursor, &out, &ranked));
  return out;
}

Result<DeclareArgs> ParseDeclare(Args args) {
  DeclareArgs out;
  Cursor cursor(args, 3);
  CAIRN_RETURN_IF_ERROR(ReadRank(cursor, &out.rank));
  uint64_t count = 0;
  // The least a tensor takes: name group dtype SHAPE 0.
  CAIRN_RETURN_IF_ERROR(ReadCount(cursor, 5, &count));
  out.specs.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    CAIRN_RETURN_IF_ERROR(ReadSpec(cursor, &out.specs.emplace_back()));
  }
  CAIRN_RETURN_IF_ERROR(End(cursor));
  return out;
}

Result<PutArgs> ParsePut(Args args) {
  PutArgs out;
  Cursor cursor(args, 3);
  CAIRN_RETURN_IF_ERROR(ReadRank(cursor, &out.rank));
  CAIRN_RETURN_IF_ERROR(ReadPlace(cursor, &out.name, &out.shard, &out.offset));
  CAIRN_RETURN_IF_ERROR(ReadBlobAt(cursor, &out.blob_at));
  if (cursor.Take("xxh3")) CAIRN_RETURN_IF_ERROR(cursor.NextHash(&out.hash));
  CAIRN_RETURN_IF_ERROR(End(cursor));
  return out;
}

Result<ReferArgs> ParseRefer(Args args) {
  ReferArgs out;
  Cursor cursor(args, 3);
  CAIRN_RETURN_IF_ERROR(ReadRank(cursor, &out.rank));
  CAIRN_RETURN_IF_ERROR(ReadPlace(cursor, &out.name, &out.shard, &out.offset));
  CAIRN_RETURN_IF_ERROR(ReadHashes(cursor, &out.hashes));
  out.logged = cursor.Take("logged");
  CAIRN_RETURN_IF_ERROR(End(cursor));
  return out;
}

Result<std::vector<Hash128>> ParseHave(Args args) {
  std::vector<Hash128> out;
  Cursor cursor(args, 3);
  CAIRN_RETURN_IF_ERROR(ReadHashes(cursor, &out));
  CAIRN_RETURN_IF_ERROR(End(cursor));
  return out;
}

Result<StateArgs> ParseState(Args args) {
  StateArgs out;
  Cursor cursor(args, 3);
  CAIRN_RETURN_IF_ERROR(ReadRank(cursor, &out.rank));
  CAIRN_RETURN_IF_ERROR(NextName(cursor, &out.name));
  CAIRN_RETURN_IF_ERROR(cursor.Expect("kind"));
  CAIRN_RETURN_IF_ERROR(ReadKind(cursor, &out.kind));
  CAIRN_RETURN_IF_ERROR(ReadPayload(cursor, &out.logged, &out.blob_at));
  CAIRN_RETURN_IF_ERROR(End(cursor));
  return out;
}

Result<OffsetArgs> ParseOffset(Args args) {
  OffsetArgs out;
  Cursor cursor(args, 3);
  CAIRN_RETURN_IF_ERROR(ReadRank(cursor, &out.rank));
  if (cursor.more()) {
    CAIRN_RETURN_IF_ERROR(NextName(cursor, &out.name.emplace()));
    if (cursor.Take("shard")) {
      uint64_t index = 0;
      CAIRN_RETURN_IF_ERROR(NextBounded(cursor, 0, kMaxShardsPerRank, &index));
      out.shard = static_cast<uint32_t>(index);
    }
  }
  CAIRN_RETURN_IF_ERROR(End(cursor));
  return out;
}

Result<RankArgs> ParsePrepare(Args args) {
  RankArgs out;
  Cursor cursor(args, 3);
  CAIRN_RETURN_IF_ERROR(ReadRank(cursor, &out.rank));
  if (cursor.Take("guard")) {
    CAIRN_RETURN_IF_ERROR(cursor.Expect("finite"));
    out.guard_finite = true;
  }
  if (cursor.Take("at")) CAIRN_RETURN_IF_ERROR(ReadAt(cursor, &out.at_ms));
  CAIRN_RETURN_IF_ERROR(End(cursor));
  return out;
}

Result<RankArgs> ParseResume(Args args) {
  RankArgs out;
  Cursor cursor(args, 2);
  CAIRN_RETURN_IF_ERROR(ReadRank(cursor, &out.rank));
  if (cursor.Take("attempt")) CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&out.attempt.emplace()));
  CAIRN_RETURN_IF_ERROR(End(cursor));
  return out;
}

Result<CommitArgs> ParseCommit(Args args) {
  CommitArgs out;
  Cursor cursor(args, 3);
  while (cursor.more()) {
    if (!out.durable && cursor.Take("durable")) {
      CAIRN_RETURN_IF_ERROR(ReadDurable(cursor, &out.durable.emplace()));
    } else if (cursor.Take("wait")) {
      CAIRN_RETURN_IF_ERROR(NextMs(cursor, &out.wait_ms));
    } else if (out.tag.empty() && cursor.Take("tag")) {
      CAIRN_RETURN_IF_ERROR(NextName(cursor, &out.tag));
    } else if (cursor.Take("at")) {
      CAIRN_RETURN_IF_ERROR(ReadAt(cursor, &out.at_ms));
    } else {
      return SyntaxError();
    }
  }
  return out;
}

Result<AbortArgs> ParseAbort(Args args) {
  AbortArgs out;
  Cursor cursor(args, 3);
  if (cursor.Take("reason")) {
    CAIRN_RETURN_IF_ERROR(cursor.Next(&out.reason));
    if (out.reason.size() > kMaxReasonBytes ||
        out.reason.find_first_of("\r\n") != std::string_view::npos) {
      return Status::Client("ERR a reason is one line of at most " +
                            std::to_string(kMaxReasonBytes) + " bytes");
    }
  }
  out.expired = cursor.Take("expired");
  if (cursor.Take("at")) CAIRN_RETURN_IF_ERROR(ReadAt(cursor, &out.at_ms));
  CAIRN_RETURN_IF_ERROR(End(cursor));
  return out;
}

Result<std::optional<int64_t>> ParseAt(Args args, size_t from) {
  std::optional<int64_t> at_ms;
  Cursor cursor(args, from);
  if (cursor.Take("at")) CAIRN_RETURN_IF_ERROR(ReadAt(cursor, &at_ms));
  CAIRN_RETURN_IF_ERROR(End(cursor));
  return at_ms;
}

Result<SaveArgs> ParseSave(Args args) {
  SaveArgs out;
  Cursor cursor(args, 2);
  CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&out.step));
  uint64_t count = 0;
  // The least a tensor takes: name dtype SHAPE 0 BLOB bytes.
  CAIRN_RETURN_IF_ERROR(ReadCount(cursor, 6, &count));
  for (uint64_t i = 0; i < count; ++i) {
    SavedTensor& tensor = out.tensors.emplace_back();
    CAIRN_RETURN_IF_ERROR(NextName(cursor, &tensor.name));
    CAIRN_RETURN_IF_ERROR(ReadHead(cursor, &tensor.head));
    CAIRN_RETURN_IF_ERROR(ReadPayload(cursor, &tensor.logged, &tensor.blob_at));
    const uint64_t size = tensor.logged.size() * kChunkBytes + args[tensor.blob_at].size();
    CAIRN_RETURN_IF_ERROR(CheckPayloadSize(tensor.head, size));
  }
  while (cursor.more()) {
    if (out.tag.empty() && cursor.Take("tag")) {
      CAIRN_RETURN_IF_ERROR(NextName(cursor, &out.tag));
    } else if (out.tx.empty() && cursor.Take("tx")) {
      CAIRN_RETURN_IF_ERROR(NextName(cursor, &out.tx));
    } else if (cursor.Take("at")) {
      CAIRN_RETURN_IF_ERROR(ReadAt(cursor, &out.at_ms));
    } else {
      return SyntaxError();
    }
  }
  return out;
}

Result<LoadArgs> ParseLoad(Args args) {
  LoadArgs out;
  Cursor cursor(args, 3);
  CAIRN_RETURN_IF_ERROR(NextName(cursor, &out.names.emplace_back()));
  while (cursor.more()) CAIRN_RETURN_IF_ERROR(ReadLoadOption(cursor, &out));
  // A range of bytes is not of another type.
  if (out.range && out.as) return SyntaxError();
  return out;
}

Result<LoadArgs> ParseMLoad(Args args) {
  LoadArgs out;
  Cursor cursor(args, 3);
  uint64_t count = 0;
  CAIRN_RETURN_IF_ERROR(ReadCount(cursor, 1, &count));
  for (uint64_t i = 0; i < count; ++i) {
    CAIRN_RETURN_IF_ERROR(NextName(cursor, &out.names.emplace_back()));
  }
  if (cursor.Take("as")) CAIRN_RETURN_IF_ERROR(cursor.NextDType(&out.as));
  CAIRN_RETURN_IF_ERROR(End(cursor));
  return out;
}

Result<PlanArgs> ParsePlan(Args args) {
  PlanArgs out;
  Cursor cursor(args, 3);
  CAIRN_RETURN_IF_ERROR(cursor.Expect("world"));
  uint64_t world = 0;
  CAIRN_RETURN_IF_ERROR(NextBounded(cursor, 1, kMaxWorld, &world));
  out.world = static_cast<uint32_t>(world);
  CAIRN_RETURN_IF_ERROR(ReadRank(cursor, &out.rank));
  if (out.rank >= out.world) {
    return Status::Client("CKPTWORLD rank " + std::to_string(out.rank) + " of a world of " +
                          std::to_string(world));
  }
  if (cursor.Take("dim")) {
    CAIRN_RETURN_IF_ERROR(NextBounded(cursor, 0, kMaxDimensions - 1, &out.dim.emplace()));
  }
  CAIRN_RETURN_IF_ERROR(End(cursor));
  return out;
}

Result<StateGetArgs> ParseStateGet(Args args) {
  StateGetArgs out;
  Cursor cursor(args, 3);
  CAIRN_RETURN_IF_ERROR(ReadRank(cursor, &out.rank));
  if (cursor.Take("kind")) CAIRN_RETURN_IF_ERROR(ReadKind(cursor, &out.kind.emplace()));
  CAIRN_RETURN_IF_ERROR(End(cursor));
  return out;
}

Result<TagArgs> ParseTag(Args args) {
  TagArgs out;
  Cursor cursor(args, 4);
  if (args[2].empty() || args[2].size() > kMaxNameBytes) {
    return Status::Client("ERR a name has 1 to " + std::to_string(kMaxNameBytes) + " bytes");
  }
  while (cursor.more()) {
    if (cursor.Take("pin")) {
      out.pin = true;
    } else if (!out.if_version && cursor.Take("if")) {
      CAIRN_RETURN_IF_ERROR(cursor.Next(&out.if_version.emplace()));
    } else {
      return SyntaxError();
    }
  }
  return out;
}

Result<RetainArgs> ParseRetain(Args args) {
  RetainArgs out;
  Cursor cursor(args, 2);
  bool ruled = false;
  while (cursor.more()) {
    if (cursor.Take("dryrun")) {
      out.dry_run = true;
      continue;
    }
    ruled = true;
    if (cursor.Take("keep")) {
      CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&out.rule.keep));
    } else if (cursor.Take("every")) {
      CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&out.rule.every));
    } else if (cursor.Take("within")) {
      uint64_t seconds = 0;
      CAIRN_RETURN_IF_ERROR(NextBounded(cursor, 0, 100 * kMaxTimeoutMs / 1000, &seconds));
      out.rule.within_ms = static_cast<int64_t>(seconds) * 1000;
    } else {
      return SyntaxError();
    }
  }
  if (!ruled) return Status::Client("ERR RETAIN needs KEEP, EVERY or WITHIN");
  return out;
}

Result<WaitArgs> ParseWaitFor(Args args) {
  WaitArgs out;
  Cursor cursor(args, 2);
  CAIRN_RETURN_IF_ERROR(cursor.Expect("after"));
  CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&out.after));
  out.timeout_ms = kDefaultTimeoutMs;
  if (cursor.Take("timeout")) CAIRN_RETURN_IF_ERROR(NextMs(cursor, &out.timeout_ms));
  CAIRN_RETURN_IF_ERROR(End(cursor));
  return out;
}

Result<uint64_t> ParseLimit(Args args, size_t from) {
  uint64_t limit = kMaxListed;
  Cursor cursor(args, from);
  if (cursor.Take("limit")) CAIRN_RETURN_IF_ERROR(cursor.NextUnsigned(&limit));
  CAIRN_RETURN_IF_ERROR(End(cursor));
  return limit;
}

Result<std::string_view> ParseMatch(Args args, size_t from) {
  std::string_view pattern = "*";
  Cursor cursor(args, from);
  if (cursor.Take("match")) CAIRN_RETURN_IF_ERROR(cursor.Next(&pattern));
  CAIRN_RETURN_IF_ERROR(End(cursor));
  return pattern;
}

Result<FileFormat> ParseFormat(Args args, size_t from, std::string_view word) {
  const bool form = args.size() == from + 4 && EqualsIgnoreCase(args[from], "format") &&
                    EqualsIgnoreCase(args[from + 2], word);
  if (!form) return Status::Client("ERR syntax error");
  if (EqualsIgnoreCase(args[from + 1], "safetensors")) return FileFormat::kSafetensors;
  if (EqualsIgnoreCase(args[from + 1], "pt")) return FileFormat::kPt;
  return Status::Client("ERR FORMAT is safetensors or pt");
}

}  // namespace cairn::tensor
