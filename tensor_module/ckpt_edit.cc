#include "tensor_module/ckpt_edit.h"

#include <algorithm>

namespace cairn::tensor {

Result<RunEdit> RunEdit::Open(CommandRun& command, bool create) {
  Result<const RunValue*> found = create ? command.FindRun(command.key(), CAIRN_WRITE)
                                         : command.NeedRun(command.key(), CAIRN_WRITE);
  if (!found.ok()) return found.status();
  RunEdit edit(command);
  if (found.value() == nullptr) return edit;
  edit.existed = true;
  edit.run = found.value()->run();
  const Swept swept = Sweep(&edit.run, edit.moment());
  // A deadline that begins to count is kept, also when this command fails.
  edit.ended_by_clock = swept.expired.size() + swept.forgotten.size();
  if (edit.ended_by_clock == 0) {
    if (swept.armed) command.SetRunQuietly(command.key(), new RunValue(edit.run));
    return edit;
  }
  command.SetRun(command.key(), new RunValue(edit.run),
                 swept.expired.empty() ? "ckpt.forget" : "ckpt.expire");
  // Replicas have no clock for this, and would hold for ever what is forgotten here.
  for (const std::string& tx : swept.forgotten) {
    command.PropagateAs({"CKPT.ABORT", command.key(), tx, "EXPIRED"});
  }
  const std::string at = std::to_string(command.now_ms());
  for (const std::string& tx : swept.expired) {
    command.PropagateAs({"CKPT.ABORT", command.key(), tx, "EXPIRED", "AT", at});
    for (const auto& transaction : edit.run.transactions) {
      if (transaction->id == tx) edit.Tell("expired", transaction->step, tx);
    }
  }
  edit.logged_ = true;
  return edit;
}

Status RunEdit::CheckOpenTo(std::string_view tx) const {
  if (!IsImport(tx) || command_->is_loading() || !FindLive(run, tx).ok()) return Status::Ok();
  return Status::Client("CKPTBUSY transaction " + std::string(tx) +
                        " is an import's: only ABORT ends it");
}

void RunEdit::Store(const char* event) {
  command_->SetRun(command_->key(), new RunValue(run), event);
  if (logged_) command_->PropagateAs({command_->args().begin(), command_->args().end()});
}

void RunEdit::StoreAs(const char* event, const std::vector<std::string_view>& args) {
  command_->SetRun(command_->key(), new RunValue(run), event);
  command_->PropagateAs(args);
}

void RunEdit::StoreWithTime(const char* event, const std::optional<int64_t>& at_ms) {
  const std::string at = std::to_string(MomentAt(at_ms).now_ms);
  StoreAs(event, at_ms ? With(command_->args(), {}) : With(command_->args(), {"AT", at}));
}

void RunEdit::Tell(std::string_view event, uint64_t step, std::string_view text) {
  command_->SignalKey(command_->key());
  command_->Publish("__ckpt__:" + std::string(command_->key()),
                    std::string(event) + " " + std::to_string(step) + " " + std::string(text));
}

void RunEdit::TellCommitted(uint64_t step, std::string_view tx, const std::vector<uint64_t>& gone) {
  Tell("committed", step, tx);
  for (uint64_t old : gone) Tell("deleted", old, "");
}

namespace {

Status AsQuota(const Status& room) {
  if (room.ok()) return room;
  const std::string why(room.message());
  return Status::Client("CKPTQUOTA " + why.substr(why.find(' ') + 1));
}

}  // namespace

Status CheckQuota(const CommandRun& command, uint64_t size_bytes, uint64_t promised_bytes) {
  return AsQuota(command.CheckMemory(size_bytes, promised_bytes));
}

Status ClaimQuota(CommandRun& command, uint64_t size_bytes) {
  return AsQuota(command.ClaimMemory(size_bytes));
}

std::vector<std::string_view> With(Args args, std::initializer_list<std::string_view> more) {
  std::vector<std::string_view> out(args.begin(), args.end());
  out.insert(out.end(), more);
  return out;
}

std::string NewTransactionId(Module& module) {
  const uint64_t bits = module.api.random_u64(module.self);
  return HexEncode({reinterpret_cast<const char*>(&bits), sizeof bits});
}

std::vector<size_t> PieceSizes(uint64_t size_bytes) {
  std::vector<size_t> sizes;
  for (uint64_t at = 0; at < size_bytes; at += kChunkBytes) {
    sizes.push_back(static_cast<size_t>(std::min<uint64_t>(kChunkBytes, size_bytes - at)));
  }
  return sizes;
}

}  // namespace cairn::tensor
