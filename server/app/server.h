#pragma once

// Server: builds every object of the process in one fixed order, wires the ports, and takes them
// down in the reverse order. The only place that knows all of them. One per process; tests build
// what they need themselves. Thread: the main thread, which is the executor.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/engine/config.h"
#include "server/engine/dispatcher.h"
#include "server/engine/durability.h"
#include "server/engine/engine.h"
#include "server/engine/job_runner.h"
#include "server/engine/module_host.h"
#include "server/net/client_host.h"
#include "server/net/event_loop.h"
#include "server/net/listener.h"
#include "server/net/socket_connector.h"
#include "server/replication/replication.h"
#include "server/scripting/function_host.h"
#include "server/scripting/script_host.h"

namespace cairn {

class Server final : public KeyspaceListener {
 public:
  /// `config` is loaded. `executable` as started, for INFO.
  Server(Env& env, Config& config, Logger& log, std::string executable);
  ~Server() override;

  /// Opens sockets, loads modules and data. Errors: the line to log before exiting with status 1.
  Status Start();
  /// Serves until shut down. Returns the exit status of the process.
  int Run();
  void RequestShutdown(int signal_number);
  /// `fn` runs when this has become a replica, or a primary again.
  void OnRoleChange(std::function<void()> fn) { replication_->on_role_change = std::move(fn); }

  Engine& engine() { return *engine_; }
  int port() const;

  // KeyspaceListener
  void OnExpired(uint32_t db, std::string_view key) override;
  void OnEvicted(uint32_t db, std::string_view key) override;

 private:
  using Listeners = std::vector<std::unique_ptr<Listener>>;
  /// Adds what `port` and `bind` ask for to *listeners: all of it, or an error and some.
  Status ListenTcp(Listeners* listeners);
  Status ListenUnix();
  /// The TCP listeners that the settings ask for take the place of those that are there; nothing
  /// happens when they are those. The unix socket stays: its file, its owner and its backlog are
  /// not a port's business. Errors: the old ones stay where the port is another, else none are
  /// left.
  Status Relisten();
  void StopListening();
  /// Setting io-uring.
  void ChooseSystemCalls();
  Status RenameCommands();
  Status LoadModules();
  Status PrepareShutdown(int save, bool now, bool force);
  Status ShutDown(int save, bool force);
  /// Ends a wait for replicas: the shutdown goes on, or is taken back and those who asked are told.
  void EndShutdownWait();
  void CheckShutdownWait();
  bool AbortShutdown();
  void ApplySettings();
  static int64_t RaiseOpenFiles(int64_t maxclients);
  /// Lowers maxclients to what the limit on open files allows. Errors: it allows no client at all.
  Status FitMaxClients();
  Status CheckTls(const Settings& settings);
  void RegisterHooks();
  void Cron();
  /// Lets cron run as often as hz and dynamic-hz ask.
  void AdjustCron();
  void WritePidFile();

  Env& env_;
  Config& config_;
  Logger& log_;
  EventLoop loop_;
  std::unique_ptr<BlobArena> arena_;
  const uint64_t machine_memory_;        // bytes
  std::unique_ptr<ModuleHost> modules_;  ///< before the keyspace, whose values its modules free
  std::unique_ptr<Keyspace> keyspace_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Dispatcher> dispatcher_;
  std::unique_ptr<JobRunner> jobs_;
  std::unique_ptr<ScriptHost> scripts_;
  std::unique_ptr<FunctionHost> functions_;
  std::unique_ptr<SocketConnector> connector_;
  std::unique_ptr<Replication> replication_;
  std::unique_ptr<Durability> durability_;
  std::unique_ptr<ClientHost> clients_;
  Listeners tcp_listeners_;
  struct TcpPlace {
    int port;
    std::vector<std::string> bind;
  };
  std::optional<TcpPlace> tcp_place_;  // where tcp_listeners_ are
  std::unique_ptr<Listener> unix_listener_;
  TimerId cron_timer_ = 0;
  int64_t next_slow_cron_ms_ = 0;
  bool ended_ = false;  // all is saved, or this is being destroyed: signals ask for nothing
  struct PendingShutdown {
    int save = -1;
    bool force = false;
    int64_t deadline_ms = 0;
  };
  std::optional<PendingShutdown> pending_shutdown_;  ///< while it waits for replicas
};

}  // namespace cairn
