#pragma once

// MonitorFeed: the sessions that see every command as it was run (MONITOR), and the rule which
// arguments nobody may see: passwords in AUTH, HELLO, CONFIG SET, ACL SETUSER and MIGRATE stand as
// "(redacted)" in MONITOR and SLOWLOG alike. Thread: executor.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "server/engine/session.h"

namespace cairn {

class Engine;
struct CommandSpec;

inline constexpr std::string_view kRedacted = "(redacted)";

/// `args` with what is secret replaced by kRedacted. Borrows from `args`.
std::vector<std::string_view> RedactedArgs(const CommandSpec& spec,
                                           std::span<const std::string_view> args);

class MonitorFeed {
 public:
  explicit MonitorFeed(Engine& engine) : engine_(engine) {}
  MonitorFeed(const MonitorFeed&) = delete;
  MonitorFeed& operator=(const MonitorFeed&) = delete;

  bool empty() const { return monitors_.empty(); }
  /// Both are idempotent.
  void Join(Session& session);
  void Leave(Session& session);

  /// One line to every monitor: `+seconds.micros [db address] "arg" ...`. `origin` is nullptr for a
  /// command that a script runs, which shows as "lua". Not while a dataset is loaded.
  void Feed(uint32_t db, const Session* origin, const CommandSpec& spec,
            std::span<const std::string_view> args);

 private:
  Engine& engine_;
  std::vector<Session*> monitors_;
};

}  // namespace cairn
