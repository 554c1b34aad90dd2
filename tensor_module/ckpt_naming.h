#pragma once

// How the append-only file's increments name chunks of the chunk log (chunk_log.h, L9) in place of
// their bytes, and how a replay finds them. A first half stages what it has interned; the second
// half names what it may, by commands that stand in the file alone:
//
//   CKPT.REF   run tx RANK r name SHARD i AT offset n hash32.. LOGGED
//   CKPT.STATE run tx RANK r name KIND k LOGGED n hash32.. BLOB rest
//   CKPT.SAVE  run step n (name dtype SHAPE .. LOGGED n hash32.. BLOB rest)..
//   CKPT.MERGE .. LOGGED n item.. BLOB rest                  (ckpt_merge_commands.cc)
//
// REF takes the sizes from the shard's grid; in the others each chunk has 256 KiB and `rest` is
// what stands behind them. A named chunk is the log's record of that hash and size (L3), whatever
// the pool holds; one that is missing ends the replay. A replica, or the file when the log
// could not be written though there is room, gets the bytes: PUT, or the command as it was sent.
// Clients are refused LOGGED.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tensor_module/ckpt_edit.h"

namespace cairn::tensor {

/// For a first half: what `names` allows is in the log afterwards. Errors: CKPTDISK to a client
/// when the disk has no room for it, since the append-only file, which would get the bytes, then
/// has none either. Thread: any.
Status StageChunks(const NamesTarget& names, const std::vector<ChunkRef>& chunks);
/// All that one command brings, tensor by tensor, which is synced at once.
Status StageChunks(const NamesTarget& names, const std::vector<std::vector<ChunkRef>>& chunks);

/// What a first half costs, in RunLate's measure, that hashes `size_bytes` and stages them: the log
/// is not for the executor to write.
uint64_t StagingCost(const NamesTarget& names, uint64_t size_bytes);

/// Which of the chunks this command may name, from now on.
std::vector<bool> MayName(const CommandRun& run, const std::vector<ChunkRef>& chunks);

/// A stretch of a shard's bytes.
struct LoggedPiece {
  BlobSlice bytes;
  const Chunk* named = nullptr;  ///< the whole chunk that stands for them
};
/// Where the first of them goes.
struct LoggedPlace {
  std::string_view tx;
  uint32_t rank = 0;
  std::string_view name;
  uint32_t shard = 0;
  uint64_t offset = 0;
};
/// The pieces, one behind the other, as commands REF and PUT of some 8 MiB at most. Each call of
/// `log` is one; the views end with it.
void LogPieces(const CommandRun& run, const LoggedPlace& place,
               const std::vector<LoggedPiece>& pieces,
               const std::function<void(const std::vector<std::string_view>&)>& log);

/// The words "LOGGED n hash32.. BLOB rest" for a payload that was interned as PieceSizes cuts it,
/// or nothing when its whole chunks cannot be named. `room` holds what the words point to: empty
/// before.
std::vector<std::string_view> NamedPayload(const CommandRun& run, std::string_view payload,
                                           const std::vector<ChunkRef>& chunks,
                                           std::vector<std::string>* room);

/// The log's chunk that a replayed command names. Errors: there is none, which ends the replay.
Result<ChunkRef> LoadNamed(CommandRun& run, Hash128 hash, size_t size);
/// Whole chunks that a replayed STATE or SAVE names. Errors: as LoadNamed; a syntax error when a
/// client sent it.
Result<std::vector<ChunkRef>> LoadNamed(CommandRun& run, const std::vector<Hash128>& hashes);

}  // namespace cairn::tensor
