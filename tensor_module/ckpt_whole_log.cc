#include "tensor_module/ckpt_whole_log.h"

#include <algorithm>
#include <deque>

#include "tensor_module/ckpt_naming.h"

namespace cairn::tensor {

void LogBegin(CommandRun& run, const WholeSave& save, uint64_t attempt, int64_t at_ms) {
  run.PropagateAs({"CKPT.BEGIN", run.key(), std::to_string(save.step), "RANK", "0", "WORLD", "1",
                   "ATTEMPT", std::to_string(attempt), "TX", save.tx, "AT", std::to_string(at_ms)});
}

size_t LogDeclare(CommandRun& run, const WholeSave& save, size_t first) {
  const std::vector<ShardSpec>& specs = save.tensors.specs;
  const size_t end = std::min(first + kLoggedSpecs, specs.size());
  std::deque<std::string> numbers;  // what the words point to: it does not move
  const auto number = [&numbers](uint64_t value) -> std::string_view {
    return numbers.emplace_back(std::to_string(value));
  };
  std::vector<std::string_view> words = {"CKPT.DECLARE", run.key(), save.tx,
                                         "RANK",         "0",       number(end - first)};
  for (size_t i = first; i < end; ++i) {
    const ShardSpec& spec = specs[i];
    words.insert(words.end(), {spec.name, spec.group, DTypeName(spec.dtype), "SHAPE",
                               number(spec.shape.size())});
    for (uint64_t side : spec.shape) words.push_back(number(side));
    if (!spec.alias_of.empty()) words.insert(words.end(), {"ALIAS", spec.alias_of});
  }
  run.PropagateAs(words);
  return end;
}

void LogTensor(CommandRun& run, const WholeSave& save, size_t tensor) {
  const std::vector<ChunkRef>& chunks = save.tensors.chunks[tensor];
  const std::vector<bool> named = MayName(run, chunks);
  std::vector<LoggedPiece> pieces;
  for (size_t i = 0; i < chunks.size(); ++i) {
    pieces.push_back(named[i] ? LoggedPiece{{}, chunks[i].get()} : LoggedPiece{chunks[i]->bytes()});
  }
  LogPieces(run, {save.tx, 0, save.tensors.specs[tensor].name}, pieces,
            [&run](const std::vector<std::string_view>& args) { run.PropagateAs(args); });
}

void LogVotes(CommandRun& run, const WholeSave& save, Durable durable, int64_t at_ms) {
  const std::string at = std::to_string(at_ms);
  run.PropagateAs({"CKPT.PREPARE", run.key(), save.tx, "RANK", "0", "AT", at});
  run.PropagateAs({"CKPT.COMMIT", run.key(), save.tx, "DURABLE", DurableName(durable), "AT", at});
}

}  // namespace cairn::tensor
