// CKPT.LOGS: what the chunk log holds (chunk_log.h).

#include "tensor_module/module.h"

namespace cairn::tensor {

namespace {

Status LogsCommand(CommandRun& run) {
  const LogHost& host = run.module().logs;
  const ChunkLog* log = host.opened();
  const ChunkLogFigures figures = log == nullptr ? ChunkLogFigures() : log->figures();
  const std::string state = !host.saving()      ? "off"
                            : log == nullptr    ? "unopened"
                            : !figures.writable ? "read-only"
                                                : "on";
  const std::pair<std::string_view, uint64_t> numbers[] = {
      {"segments", figures.segments},
      {"bytes", figures.bytes},
      {"chunks", figures.chunks},
      {"chunk_bytes", figures.chunk_bytes},
      {"needed_bytes", figures.needed_bytes},
      {"appended_bytes", figures.appended_bytes},
      {"syncs", figures.syncs},
      {"errors", figures.errors},
      {"removed_segments", figures.removed_segments},
      {"collecting", figures.collecting ? 1 : 0}};
  run.Map(2 + std::size(numbers));
  run.Bulk("state");
  run.Bulk(state);
  for (const auto& [word, number] : numbers) {
    run.Bulk(word);
    run.Unsigned(number);
  }
  run.Bulk("held_by");
  run.Bulk(figures.pinned ? "a list that cannot be read" : figures.held_by);
  return Status::Ok();
}

constexpr CairnCommandSpec kSpec = {
    .name = "ckpt.logs",
    .arity = 1,
    .flags = CAIRN_CMD_READONLY,
    .keys = {},
    .since = "1.0.0",
    .complexity = "O(N) in the chunks that the log holds.",
    .summary = "Returns figures of the chunk log.",
    .synopsis = "",
    .run = Run<LogsCommand>,
};

}  // namespace

int RegisterCkptLogCommands(Module& module) {
  return module.api.register_command(module.self, &kSpec);
}

}  // namespace cairn::tensor
