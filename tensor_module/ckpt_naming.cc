#include "tensor_module/ckpt_naming.h"

#include <algorithm>

namespace cairn::tensor {

namespace {

/// Bytes that are not named are logged in commands of this size.
constexpr size_t kLoggedPieceBytes = 8 << 20;
/// Hashes of one REF.
constexpr size_t kLoggedHashes = 4096;

Status Missing(Hash128 hash, size_t size) {
  return Status::Client("CKPTHASH the chunk log has no chunk of " + std::to_string(size) +
                        " bytes with hash " + Hash128Hex(hash) +
                        " that the append-only file names");
}

}  // namespace

Status StageChunks(const NamesTarget& names, const std::vector<ChunkRef>& chunks) {
  if (names.log == nullptr) return Status::Ok();
  // What could not be staged or synced is not named; the error has been said.
  const Status staged = names.log->Stage(chunks, names.file);
  if (staged.code() == StatusCode::kNoSpace && names.may_refuse) {
    return Status::Client("CKPTDISK the chunk log: " + std::string(staged.message()));
  }
  if (!names.sync_first || !staged.ok() || std::this_thread::get_id() == names.executor) {
    return Status::Ok();
  }
  [[maybe_unused]] const Status synced = names.log->SyncStaged();
  return Status::Ok();
}

Status StageChunks(const NamesTarget& names, const std::vector<std::vector<ChunkRef>>& chunks) {
  if (names.log == nullptr) return Status::Ok();
  std::vector<ChunkRef> all;
  for (const auto& each : chunks) all.insert(all.end(), each.begin(), each.end());
  return StageChunks(names, all);
}

uint64_t StagingCost(const NamesTarget& names, uint64_t size_bytes) {
  const bool stages = names.log != nullptr && size_bytes >= ChunkLog::kLeastBytes;
  return std::max(size_bytes * 2, stages ? kLateBytes : 0);
}

std::vector<bool> MayName(const CommandRun& run, const std::vector<ChunkRef>& chunks) {
  const NamesTarget names = run.names();
  if (names.log == nullptr) return std::vector<bool>(chunks.size(), false);
  return names.log->Name(chunks, names.file, names.number);
}

void LogPieces(const CommandRun& run, const LoggedPlace& place,
               const std::vector<LoggedPiece>& pieces,
               const std::function<void(const std::vector<std::string_view>&)>& log) {
  const std::string rank = std::to_string(place.rank), shard = std::to_string(place.shard);
  uint64_t offset = place.offset;
  for (size_t i = 0; i < pieces.size();) {
    const std::string at = std::to_string(offset);
    const bool named = pieces[i].named != nullptr;
    std::vector<std::string_view> words = {named ? "CKPT.REF" : "CKPT.PUT",
                                           run.key(),
                                           place.tx,
                                           "RANK",
                                           rank,
                                           place.name,
                                           "SHARD",
                                           shard,
                                           "AT",
                                           at};
    std::vector<std::string> room;
    std::string bytes, count;
    // One more than fits is never begun with, so that each command has something.
    while (i < pieces.size() && (pieces[i].named != nullptr) == named) {
      const LoggedPiece& piece = pieces[i];
      if (named ? room.size() == kLoggedHashes
                : !bytes.empty() && bytes.size() + piece.bytes.size > kLoggedPieceBytes) {
        break;
      }
      if (named) {
        room.push_back(Hash128Hex(piece.named->hash()));
        offset += piece.named->size();
      } else {
        bytes += piece.bytes.view();
        offset += piece.bytes.size;
      }
      ++i;
    }
    if (named) {
      count = std::to_string(room.size());
      words.push_back(count);
      words.insert(words.end(), room.begin(), room.end());
      words.push_back("LOGGED");
    } else {
      words.insert(words.end(), {"BLOB", bytes});
    }
    log(words);
  }
}

std::vector<std::string_view> NamedPayload(const CommandRun& run, std::string_view payload,
                                           const std::vector<ChunkRef>& chunks,
                                           std::vector<std::string>* room) {
  const size_t whole = payload.size() / kChunkBytes;
  if (whole == 0) return {};
  const std::vector<bool> named = MayName(run, {chunks.begin(), chunks.begin() + whole});
  if (!std::all_of(named.begin(), named.end(), [](bool may) { return may; })) return {};
  room->push_back(std::to_string(whole));
  for (size_t i = 0; i < whole; ++i) room->push_back(Hash128Hex(chunks[i]->hash()));
  std::vector<std::string_view> words = {"LOGGED"};
  words.insert(words.end(), room->begin(), room->end());
  words.insert(words.end(), {"BLOB", payload.substr(whole * kChunkBytes)});
  return words;
}

Result<ChunkRef> LoadNamed(CommandRun& run, Hash128 hash, size_t size) {
  ChunkRef chunk = run.logs().Load(run.module().pool, run.module().memory, hash, size);
  if (!chunk) return Missing(hash, size);
  return chunk;
}

Result<std::vector<ChunkRef>> LoadNamed(CommandRun& run, const std::vector<Hash128>& hashes) {
  std::vector<ChunkRef> chunks;
  if (!hashes.empty() && !run.is_loading()) return Status::Client("ERR syntax error");
  for (const Hash128& hash : hashes) {
    Result<ChunkRef> chunk = LoadNamed(run, hash, kChunkBytes);
    if (!chunk.ok()) return chunk.status();
    chunks.push_back(std::move(*chunk));
  }
  return chunks;
}

}  // namespace cairn::tensor
