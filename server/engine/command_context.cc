#include "server/engine/command_context.h"

#include "server/base/strings.h"
#include "server/engine/engine.h"

namespace cairn {

BlobRef CommandContext::ArgBlob(size_t i) const {
  if (request_ != nullptr) {
    const BlobRef* blob = request_->FindBlob(i);
    return blob != nullptr ? *blob : BlobRef();
  }
  if (owned_ != nullptr && owned_->args[i]->size() >= kBigArgument) return owned_->args[i];
  return BlobRef();
}

KeyRef CommandContext::Key(size_t i) const {
  const size_t at = i - first_key_;
  if ((at & key_shift_) == 0 && at >> key_shift_ < hash_count_)
    return {args_[i], key_hashes_[at >> key_shift_]};
  return engine_.keyspace.db(session_.db).MakeKey(args_[i]);
}

Status CommandContext::ArgInt64(size_t i, int64_t* out) const {
  if (ParseInt64(args_[i], out)) return Status::Ok();
  return Status::Client("ERR value is not an integer or out of range");
}

bool CommandContext::ArgIs(size_t i, std::string_view word) const {
  return EqualsIgnoreCase(args_[i], word);
}

Database& CommandContext::db() { return engine_.keyspace.db(session_.db); }
Keyspace& CommandContext::keyspace() { return engine_.keyspace; }
const Settings& CommandContext::settings() const { return engine_.settings(); }
int64_t CommandContext::now_ms() const { return engine_.keyspace.now_ms(); }

void CommandContext::Changed(KeyRef key, NotifyClass cls, std::string_view event) {
  Changed(session_.db, key, cls, event);
}

void CommandContext::Changed(uint32_t db, KeyRef key, NotifyClass cls, std::string_view event) {
  ++dirty_;
  engine_.watches.Touch(db, key.key);
  engine_.NotifyKeyspaceEvent(cls, event, key.key, db);
}

void CommandContext::TouchWatchers(uint32_t db, std::string_view key) {
  engine_.KeyModified(&session_, db, key);
}

void CommandContext::Notify(NotifyClass cls, std::string_view event, std::string_view key,
                            uint32_t db) {
  engine_.NotifyKeyspaceEvent(cls, event, key, db);
}

void CommandContext::PropagateAs(std::vector<std::string> args) {
  rewritten_.push_back(std::move(args));
}

Status CommandContext::Block(const BlockRequest& request) {
  if (!CanBlock()) {
    ReplyTimedOut(request);
    return Status::Ok();
  }
  engine_.blocking.Park(session_, request,
                        owned_ != nullptr ? *owned_ : OwnedCommand::From(&spec_, args_, request_));
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
