#include "tensor_module/ckpt_whole.h"

#include <algorithm>

namespace cairn::tensor {

Result<Durable> DurabilityFor(const CommandRun& command, const CkptRun& run,
                              const std::optional<Durable>& asked) {
  const Durable durable = std::max(run.config.durable, asked.value_or(Durable::kMem));
  if (durable == Durable::kMem || command.is_loading() || command.durability() == CAIRN_SYNCED) {
    return Durable(durable);
  }
  return Status::Client("ERR DURABLE " + std::string(DurableName(durable)) +
                        " needs 'appendonly yes' and 'appendfsync always'");
}

Result<std::vector<uint64_t>> CommitWhole(const CommandRun& command, CkptRun* run,
                                          const WholeSave& save, Moment moment) {
  const std::string& tx = save.tx;
  const WholeTensors& tensors = save.tensors;
  CAIRN_RETURN_IF_ERROR(CheckNotThere(*run, tx));
  Result<Durable> durable = DurabilityFor(command, *run, std::nullopt);
  if (!durable.ok()) return durable.status();
  CkptRun next = *run;
  Transaction transaction;
  transaction.id = tx;
  transaction.step = save.step;
  transaction.attempt = next.highest_attempt;
  transaction.began_ms = moment.now_ms;
  if (const Version* latest = next.Latest()) transaction.parent = latest->step;
  next.transactions.push_back(Kept<Transaction>::Make(std::move(transaction)));
  CAIRN_RETURN_IF_ERROR(Declare(&next, tx, 0, tensors.specs, moment));
  Transaction filled = *next.transactions.back();
  RankPart part = *filled.ranks[0];
  for (size_t i = 0; i < tensors.specs.size(); ++i) {
    Result<size_t> at = FindShard(part, tensors.specs[i].name, 0);
    CAIRN_CHECK(at.ok());
    ShardData data = *part.data[at.value()];
    // A name that stands twice with other bytes: CKPTDIVERGED.
    CAIRN_RETURN_IF_ERROR(data.Refer(tensors.specs[i], 0, tensors.chunks[i]));
    part.SetData(at.value(), std::move(data));
  }
  filled.ranks[0] = Kept<RankPart>::Make(std::move(part));
  next.transactions.back() = Kept<Transaction>::Make(std::move(filled));
  CAIRN_RETURN_IF_ERROR(Prepare(&next, tx, 0, false, moment));
  Result<std::vector<uint64_t>> gone = Commit(&next, tx, durable.value(), save.tag, moment);
  if (gone.ok()) *run = std::move(next);
  return gone;
}

}  // namespace cairn::tensor
