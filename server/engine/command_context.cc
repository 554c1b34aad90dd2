#include "server/engine/command_context.h"

#include "server/base/strings.h"
#include "server/engine/engine.h"
#include "server/engine/job_runner.h"

namespace cairn {

BlobRef CommandContext::ArgBlob(size_t i) const {
  if (request_ != nullptr) {
    const BlobRef* blob = request_->FindBlob(i);
    return blob != nullptr ? *blob : BlobRef();
  }
  if (owned_ != nullptr && owned_->args[i]->size() >= kBigArgument) return owned_->args[i];
  return BlobRef();
}

Status CommandContext::ArgInt64(size_t i, int64_t* out) const {
  if (ParseInt64(args_[i], out)) return Status::Ok();
  return Status::Client("ERR value is not an integer or out of range");
}

bool CommandContext::ArgIs(size_t i, std::string_view word) const {
  return EqualsIgnoreCase(args_[i], word);
}

const Settings& CommandContext::settings() const { return engine_.settings(); }

bool CommandContext::from_script() const {
  return engine_.script != nullptr && engine_.script->session == &session_;
}

bool CommandContext::CanRunLater() const {
  return !in_exec_ && session_.kind == SessionKind::kNormal && session_.port != nullptr &&
         engine_.jobs != nullptr && !engine_.loading;
}

void CommandContext::RunLater(std::unique_ptr<CommandJob> job) {
  CAIRN_CHECK(CanRunLater() && !goes_on_later_);
  goes_on_later_ = true;
  engine_.jobs->Start(
      session_, owned_ != nullptr ? owned_->Again() : OwnedCommand::From(&spec_, args_, request_),
      std::move(job));
}

void CommandContext::PropagateAs(std::vector<std::string> args) {
  rewritten_.push_back(std::move(args));
}

Status CommandContext::Block(const BlockRequest& request) {
  if (!CanBlock()) {
    ReplyTimedOut(request);
    return Status::Ok();
  }
  if (!request.args.empty()) {
    engine_.blocking.Park(session_, request, OwnedCommand::From(&spec_, request.args, nullptr));
  } else {
    engine_.blocking.Park(
        session_, request,
        owned_ != nullptr ? owned_->Again() : OwnedCommand::From(&spec_, args_, request_));
  }
  return Status::Ok();
}

void CommandContext::ReplyTimedOut(const BlockRequest& request) {
  if (request.on_timeout != nullptr) {
    request.on_timeout(*this);
  } else {
    reply().NullArray();
  }
}

void CommandContext::SignalReady(uint32_t db, std::string_view key) {
  engine_.blocking.Signal(db, key);
}

}  // namespace cairn
