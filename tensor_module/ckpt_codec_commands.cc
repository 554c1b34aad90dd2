// CKPT.CODECS: how the chunks of checkpoints are held, and what the background work on them is at
// (ckpt_encoder.h).

#include "tensor_module/module.h"

namespace cairn::tensor {

namespace {

Status CodecsCommand(CommandRun& run) {
  const CkptEncoder& encoder = run.module().encoder;
  const PoolFigures pool = run.module().pool.figures();
  const EncoderFigures work = encoder.figures();
  const std::pair<std::string_view, uint64_t> numbers[] = {
      {"level", static_cast<uint64_t>(encoder.level())},
      {"chunks", pool.chunks},
      {"bytes", pool.bytes},
      {"stored_bytes", pool.stored_bytes},
      {"encoded_chunks", pool.encoded_chunks},
      {"delta_chunks", pool.delta_chunks},
      {"expanded_bytes", pool.expanded_bytes},
      {"pending", work.pending},
      {"looked_at", work.looked_at},
      {"looked_at_bytes", work.looked_at_bytes},
      {"busy_us", work.busy_us}};
  run.Map(1 + std::size(numbers));
  run.Bulk("state");
  run.Bulk(encoder.enabled() ? "on" : "off");
  for (const auto& [word, number] : numbers) {
    run.Bulk(word);
    run.Unsigned(number);
  }
  return Status::Ok();
}

constexpr CairnCommandSpec kSpec = {
    .name = "ckpt.codecs",
    .arity = 1,
    .flags = CAIRN_CMD_READONLY | CAIRN_CMD_FAST,
    .keys = {},
    .since = "1.0.0",
    .complexity = "O(1)",
    .summary = "Returns figures of how the chunks of checkpoints are held.",
    .synopsis = "",
    .run = Run<CodecsCommand>,
};

}  // namespace

int RegisterCkptCodecCommands(Module& module) {
  return module.api.register_command(module.self, &kSpec);
}

}  // namespace cairn::tensor
