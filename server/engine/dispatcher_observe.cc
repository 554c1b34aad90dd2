// What the dispatcher does beside running commands: showing them to monitors, keeping the slow
// ones, and asking again whether a queued one is allowed.

#include "server/engine/dispatcher.h"

namespace cairn {

bool Dispatcher::IsScript(const Session& session) const {
  return engine_.script != nullptr && engine_.script->session == &session;
}

void Dispatcher::Observe(const Session& session, const Command& command,
                         std::span<const std::string_view> args, uint64_t ticks, bool blocked) {
  // What administers the server may hold secrets that RedactedArgs does not know.
  if (!(command.flags & (kCmdSkipMonitor | kCmdAdmin)))
    engine_.monitors.Feed(session.db, IsScript(session) ? nullptr : &session, *command.spec, args);
  if (!blocked) ObserveDuration(session, command, args, ticks);
}

void Dispatcher::ObserveDuration(const Session& session, const Command& command,
                                 std::span<const std::string_view> args, uint64_t ticks) {
  const Settings& settings = engine_.settings();
  const bool of_script = IsScript(session);  // no client's, as in Redis
  const auto duration_us = static_cast<int64_t>(engine_.stats.ticks.ToMicros(ticks));
  if (settings.slowlog_log_slower_than >= 0 && duration_us >= settings.slowlog_log_slower_than &&
      !(command.flags & kCmdSkipSlowlog)) {
    const std::vector<std::string_view> shown = RedactedArgs(*command.spec, args);
    engine_.slowlog.Add(engine_.env.WallMicros() / 1000000, duration_us, shown,
                        of_script ? std::string_view("?:0") : session.peer_address,
                        of_script ? std::string_view() : session.name,
                        static_cast<size_t>(settings.slowlog_max_len));
  }
  engine_.NoteLatency(command.flags & kCmdFast ? "fast-command" : "command", duration_us / 1000);
}

Status Dispatcher::CheckQueued(const Session& session, const Command& command,
                               std::span<const std::string_view> args) {
  const AclDecision decision = Acl::Check(session, command, args);
  if (decision.allowed()) return Status::Ok();
  engine_.acl.Note(
      session, decision.verdict,
      decision.verdict == AclVerdict::kCommand ? command.full_name : args[decision.argument],
      session.user, AclContext::kMulti);
  std::string_view why = "no permission";
  if (decision.verdict == AclVerdict::kCommand) {
    why = "no permission to execute the command or subcommand";
  } else if (decision.verdict == AclVerdict::kKey) {
    why = "no permission to touch the specified keys";
  } else if (decision.verdict == AclVerdict::kChannel) {
    why = "no permission to access one of the channels used as arguments to the command";
  }
  return Status::Client(
      "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC "
      "call. This command is no longer allowed for the following reason: " +
      std::string(why));
}

}  // namespace cairn
