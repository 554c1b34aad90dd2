#include "tensor_module/ckpt_durable.h"

#include <algorithm>

#include "tensor_module/ckpt_commit.h"

namespace cairn::tensor {

namespace {

void Gather(const RankPart& part, std::vector<ChunkRef>* out) {
  for (const auto& data : part.data) {
    for (const Cell& cell : data->cells()) {
      if (cell.chunk) out->push_back(cell.chunk);
    }
  }
  for (const auto& state : part.states) {
    out->insert(out->end(), state->chunks.begin(), state->chunks.end());
  }
}

ToLog Unlogged(const CommandRun& run, std::vector<ChunkRef> chunks) {
  ToLog out;
  LogHost& host = run.logs();
  out.log = host.Open(host.ServerDirectory());
  std::sort(chunks.begin(), chunks.end(),
            [](const ChunkRef& a, const ChunkRef& b) { return a.get() < b.get(); });
  const Chunk* last = nullptr;
  for (ChunkRef& chunk : chunks) {
    if (chunk.get() == std::exchange(last, chunk.get())) continue;
    if (out.log != nullptr && out.log->Has(*chunk)) continue;
    out.size_bytes += chunk->size();
    out.chunks.push_back(std::move(chunk));
  }
  return out;
}

bool Promises(const CommandRun& run, Durable durable) {
  return durable == Durable::kDisk && !run.is_loading() && run.logs().saving();
}

/// A version that this command makes of its own promises it.
bool PromisesNewVersion(CommandRun& run) {
  Result<const RunValue*> found = run.FindRun(run.key(), CAIRN_WRITE);
  if (!found.ok() || found.value() == nullptr) return false;
  return Promises(run, found.value()->run().config.durable);
}

}  // namespace

ToLog FindUnlogged(CommandRun& run, std::string_view tx, std::optional<uint32_t> rank,
                   const std::optional<Durable>& asked) {
  Result<const RunValue*> found = run.FindRun(run.key(), CAIRN_WRITE);
  if (!found.ok() || found.value() == nullptr) return {};
  const CkptRun& state = found.value()->run();
  if (!Promises(run, std::max(state.config.durable, asked.value_or(Durable::kMem)))) return {};
  std::vector<ChunkRef> chunks;
  for (const auto& transaction : state.transactions) {
    if (transaction->id != tx) continue;
    for (const auto& part : transaction->ranks) {
      if (rank ? part->rank == *rank : part->prepared) Gather(*part, &chunks);
    }
  }
  return Unlogged(run, std::move(chunks));
}

ToLog FindUnlogged(CommandRun& run, const std::vector<std::vector<ChunkRef>>& chunks) {
  if (!PromisesNewVersion(run)) return {};
  std::vector<ChunkRef> all;
  for (const auto& some : chunks) all.insert(all.end(), some.begin(), some.end());
  return Unlogged(run, std::move(all));
}

ChunkLog* LogOfNewVersion(CommandRun& run) {
  if (!PromisesNewVersion(run)) return nullptr;
  return run.logs().Open(run.logs().ServerDirectory());
}

Status LogMade(ChunkLog* log, const std::vector<std::vector<ChunkRef>>& chunks) {
  ToLog what{log, {}, 0};
  if (log == nullptr) return Status::Ok();  // none is needed, or the second half finds it missing
  for (const auto& some : chunks) what.chunks.insert(what.chunks.end(), some.begin(), some.end());
  return LogNow(what);
}

Status LogNow(const ToLog& what) {
  if (what.chunks.empty()) return Status::Ok();
  if (what.log == nullptr) {
    return Status::Client(
        "CKPTDISK the server's directory has no chunk log that this process can write");
  }
  std::vector<const Chunk*> chunks;
  for (const ChunkRef& chunk : what.chunks) chunks.push_back(chunk.get());
  std::vector<bool> kept;
  const Status status = what.log->Keep(chunks, 0, {}, &kept);
  if (status.ok()) return status;
  return Status::Client("CKPTDISK the chunk log: " + std::string(status.message()));
}

}  // namespace cairn::tensor
