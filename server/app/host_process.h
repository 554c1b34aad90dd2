#pragma once

// HostProcess: how the process looks from outside and who watches over it: its title in `ps`, its
// OOM score, the messages to a service manager, the allocator's background thread. Each is a
// setting's whole effect; nothing here concerns clients or data. One per process, owned by main,
// used on the main thread only.

#include <string>
#include <string_view>

#include "server/base/log.h"
#include "server/engine/config.h"

namespace cairn {

class HostProcess {
 public:
  /// Takes the memory of argv and of the environment for the title: what points into the
  /// environment's old place is invalid afterwards. Requires: called before any other thread runs.
  HostProcess(int argc, char** argv);

  /// Finds who supervises, as the setting says: `systemd` needs NOTIFY_SOCKET, `upstart` needs
  /// UPSTART_JOB, `auto` takes the one that is there. A supervised server does not daemonize.
  void FindSupervisor(const Settings& settings);
  bool is_supervised() const { return manager_ != Supervised::kNo; }

  /// Tells the supervisor that the server starts, shows the title, applies the OOM score and the
  /// allocator's thread, and follows the settings from now on. Borrows both.
  void Begin(Config& config, Logger& log);
  /// Tells the service manager: "READY=1", "STATUS=..", "STOPPING=1", each with its
  /// newline. Nothing without one.
  void Tell(std::string_view message) const;

  /// The server became a replica, or a primary again (`replicaof`): the OOM score follows.
  void RoleChanged(const Settings& settings, Logger& log);

  /// The text of proc-title-template with its variables filled in.
  std::string Title(const Settings& settings, std::string_view config_file) const;

 private:
  void ShowTitle(const std::string& title);
  Status ApplyOomScore(const Settings& settings, Logger& log);

  std::string executable_;
  char* title_begin_ = nullptr;           // argv[0] and all that follows it without a gap
  size_t title_capacity_ = 0;             // bytes, the final zero included
  Supervised manager_ = Supervised::kNo;  // the one that was found, not the setting
  bool oom_score_is_ours_ = false;
  int oom_score_base_ = 0;  // what the process was started with
};

}  // namespace cairn
