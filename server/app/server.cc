#include "server/app/server.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <thread>

#include "server/app/families.h"
#include "server/app/shutdown_signals.h"
#include "server/base/hash.h"
#include "server/base/strings.h"
#include "server/platform/memory.h"
#include "server/platform/span_heap.h"
#include "server/platform/worker.h"

namespace cairn {

namespace {

// Memory the blob arena keeps for the next big value after one was freed; more where big values
// come and go all the time (B5), as far as `maxmemory` and this share of the machine's memory
// allow.
constexpr uint64_t kArenaRetainedBytes = 256ull << 20;
constexpr uint64_t kArenaMostShare = 4;
// As jemalloc keeps what was freed (dirty_decay_ms).
constexpr int64_t kArenaLingerMs = 10'000;
// Saves, limits and time-outs are looked at this often, or `hz` times a second where that is less.
constexpr int64_t kSlowCronMs = 100;
// dynamic-hz: beyond so many clients a turn there are more turns, up to the most that hz may be.
constexpr size_t kClientsPerTurn = 200;
constexpr int kMostHz = 500;
// Descriptors beside those of clients: files, listeners, log.
constexpr rlim_t kReservedDescriptors = 32;

}  // namespace

Server::Server(Env& env, Config& config, Logger& log, std::string executable)
    : env_(env), config_(config), log_(log), machine_memory_(TotalSystemMemory()) {
  arena_ = std::make_unique<BlobArena>(kArenaRetainedBytes);
  modules_ = std::make_unique<ModuleHost>();
  Keyspace::Options options;
  options.databases = static_cast<uint32_t>(config.settings().databases);
  options.hash_seed = env.RandomU64();
  options.listener = this;
  keyspace_ = std::make_unique<Keyspace>(options);
  engine_ = std::make_unique<Engine>(env, loop_, log, config, *keyspace_, *arena_);
  engine_->executable = std::move(executable);
  engine_->process_id = ::getpid();
  engine_->started_ms = env.WallMicros() / 1000;
  engine_->run_id = engine_->NewId();
  engine_->replication_id = engine_->NewId();
  dispatcher_ = std::make_unique<Dispatcher>(*engine_);
  engine_->dispatcher = dispatcher_.get();
  AddAllFamilies(engine_->commands);
  modules_->Attach(*engine_);
  jobs_ = std::make_unique<JobRunner>(*engine_);
  engine_->jobs = jobs_.get();
  scripts_ = std::make_unique<ScriptHost>(*engine_);
  functions_ = std::make_unique<FunctionHost>(*engine_, *scripts_);
  clients_ = std::make_unique<ClientHost>(*engine_, loop_);
  engine_->serve_while_busy = [this] { clients_->ServeWhileBusy(); };
  arena_->SetOnWarm([this] {
    loop_.Post([this] {
      if (clients_ != nullptr) clients_->OnMemory();
    });
  });
  connector_ = std::make_unique<SocketConnector>(loop_);
  replication_ = std::make_unique<Replication>(*engine_, *connector_);
  durability_ = NewDurability(*engine_, [this] {
    if (clients_ != nullptr) clients_->ReleaseHeld();
  });
  engine_->durability = durability_.get();
  engine_->prepare_shutdown = [this](int save, bool now, bool force) {
    return PrepareShutdown(save, now, force);
  };
  engine_->abort_shutdown = [this] { return AbortShutdown(); };
  engine_->RefreshClock();
  RegisterHooks();
}

Server::~Server() {
  ended_ = true;
  loop_.SetAfterPoll(nullptr);
  loop_.StopTimer(cron_timer_);
  StopListening();
  // A load that waits for its turn ends first, as given up.
  engine_->stop_requested = true;
  replication_->StopLoading();
  durability_.reset();
  engine_->durability = nullptr;
  // Waits for work that runs: it may allocate from the arena and hold values of modules.
  jobs_.reset();
  engine_->jobs = nullptr;
  arena_->SetOnWarm(nullptr);
  clients_.reset();
  functions_.reset();
  scripts_.reset();
  replication_.reset();
  connector_.reset();
  loop_.RunPosted();  // pieces of a copy hold its file, whose room the reaper frees
  dispatcher_.reset();
  engine_.reset();
  keyspace_.reset();
  // Posted jobs may hold references to blobs: the loop runs them before the arena goes.
  loop_.RunOnceNoWait();
}

// --- start ---

Status Server::Start() {
  CAIRN_RETURN_IF_ERROR(RenameCommands());
  ApplySettings();
  CAIRN_RETURN_IF_ERROR(FitMaxClients());
  if (!CheckTls(config_.settings()).ok())
    return Status::Io("Failed to configure TLS. Check logs for more info.");
  CAIRN_RETURN_IF_ERROR(Relisten());
  CAIRN_RETURN_IF_ERROR(ListenUnix());
  // CONFIG SET may come to that later: the clients that are there stay.
  if (tcp_listeners_.empty() && unix_listener_ == nullptr)
    return Status::Io("Configured to not listen anywhere, exiting.");
  WritePidFile();  // a long load can be ended by it
  loop_.SetAfterPoll([this] { clients_->RunTurn(); });
  ChooseSystemCalls();
  loop_.OnSignal(SIGTERM, [this](int number) { RequestShutdown(number); });
  loop_.OnSignal(SIGINT, [this](int number) { RequestShutdown(number); });
  InstallShutdownSignals(("temp-" + std::to_string(::getpid()) + ".rdb").c_str());
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGHUP, SIG_IGN);
  std::signal(SIGALRM, SIG_IGN);  // as Redis, which shows where it is and goes on
  CAIRN_RETURN_IF_ERROR(LoadModules());
  // After the modules: users may be given their commands.
  CAIRN_RETURN_IF_ERROR(engine_->acl.LoadAtStart());
  log_.Log(LogLevel::kNotice, "Server initialized");
  engine_->stats.startup_memory = ReadAllocatedBytes();
  engine_->serve_while_loading = [this] {
    loop_.RunOnceNoWait();
    return true;
  };
  replication_->PrepareStart();
  CAIRN_RETURN_IF_ERROR(durability_->LoadAtStart());
  engine_->serve_while_loading = nullptr;
  replication_->FinishStart();
  AdjustCron();
  if (!config_.settings().unixsocket.empty()) {
    log_.Log(LogLevel::kNotice, "The server is now ready to accept connections at {}",
             config_.settings().unixsocket);
  }
  if (port() > 0) log_.Log(LogLevel::kNotice, "Ready to accept connections");
  return Status::Ok();
}

Status Server::RenameCommands() {
  for (const auto& words : config_.settings().rename_command) {
    if (words.size() != 2) return Status::Client("rename-command takes two words");
    CAIRN_RETURN_IF_ERROR(engine_->commands.Rename(words[0], words[1]));
  }
  return Status::Ok();
}

Status Server::LoadModules() {
  for (const auto& words : config_.settings().loadmodule) {
    const std::vector<std::string> arguments(words.begin() + 1, words.end());
    if (Status loaded = modules_->LoadModule(words[0], arguments); !loaded.ok()) {
      log_.Log(LogLevel::kWarning, "{}", loaded.message());
      return Status::Io("Can't load module from " + words[0] + ": server aborting");
    }
  }
  // No module here takes settings from the file.
  if (!config_.settings().module_settings.empty()) {
    return Status::Io(
        "Module Configuration detected without loadmodule directive or no ApplyConfig call: "
        "aborting");
  }
  return Status::Ok();
}

Status Server::ListenUnix() {
  const Settings& settings = config_.settings();
  if (settings.unixsocket.empty()) return Status::Ok();
  auto listener = Listener::ListenUnix(
      loop_, settings.unixsocket, static_cast<unsigned>(settings.unixsocketperm),
      settings.tcp_backlog, [this](const Accepted& a) { clients_->OnAccept(a); });
  if (!listener.ok()) {
    return Status::Io("Failed opening Unix socket: " + std::string(listener.status().message()));
  }
  unix_listener_ = std::move(*listener);
  return Status::Ok();
}

Status Server::Relisten() {
  const Settings& settings = config_.settings();
  if (tcp_place_ && tcp_place_->port == settings.port && tcp_place_->bind == settings.bind)
    return Status::Ok();
  // On a port of their own the new ones are there before the old ones go. On the same port they
  // would be in each other's way.
  if (tcp_place_ && tcp_place_->port == settings.port) {
    tcp_place_.reset();
    tcp_listeners_.clear();
  }
  Listeners listeners;
  CAIRN_RETURN_IF_ERROR(ListenTcp(&listeners));
  tcp_listeners_ = std::move(listeners);
  tcp_place_ = {settings.port, settings.bind};
  return Status::Ok();
}

void Server::StopListening() {
  tcp_listeners_.clear();
  unix_listener_.reset();
}

void Server::ChooseSystemCalls() {
  if (!config_.settings().io_uring) {
    loop_.batch().Close();
  } else if (const int error = loop_.batch().Open(); error != 0) {
    log_.Log(LogLevel::kVerbose, "io_uring is not to be had, each socket takes its own calls: {}",
             std::strerror(error));
  }
}

Status Server::ListenTcp(Listeners* listeners) {
  const Settings& settings = config_.settings();
  const int port = settings.port;
  if (port == 0) return Status::Ok();
  for (std::string address : settings.bind) {
    const bool optional = address.starts_with("-");
    if (optional) address.erase(0, 1);
    auto listener = Listener::ListenTcp(loop_, address, port, settings.tcp_backlog,
                                        [this](const Accepted& a) { clients_->OnAccept(a); });
    if (listener.ok()) {
      listeners->push_back(std::move(*listener));
      continue;
    }
    log_.Log(LogLevel::kWarning, "Warning: Could not create server TCP listening socket {}:{}: {}",
             address, port, listener.status().message());
    const StatusCode code = listener.status().code();
    if (code == StatusCode::kUnsupported || (optional && code == StatusCode::kNotFound)) continue;
    return Status::Io("Failed listening on port " + std::to_string(port) + " (TCP), aborting.");
  }
  return Status::Ok();
}

int Server::port() const { return config_.settings().port; }

void Server::WritePidFile() {
  const std::string& path = config_.settings().pidfile;
  if (path.empty()) return;
  auto file = env_.OpenTruncate(path);
  if (!file.ok() || !(*file)->Append(std::to_string(::getpid()) + "\n").ok()) {
    log_.Log(LogLevel::kWarning, "Failed to write PID file: {}",
             file.ok() ? "write error" : file.status().message());
  }
}

void Server::ApplySettings() {
  const Settings& settings = config_.settings();
  const bool lfu = settings.maxmemory_policy == MaxmemoryPolicy::kAllkeysLfu ||
                   settings.maxmemory_policy == MaxmemoryPolicy::kVolatileLfu;
  const bool lru = settings.maxmemory_policy == MaxmemoryPolicy::kAllkeysLru ||
                   settings.maxmemory_policy == MaxmemoryPolicy::kVolatileLru;
  keyspace_->set_access_mode(lfu, settings.lfu_log_factor, settings.lfu_decay_time);
  keyspace_->set_save_access(lfu || lru);
}

// Asks the system for `maxclients` + kReservedDescriptors descriptors. Returns for how many clients
// those it gives are enough, `maxclients` at most: beyond them neither a client could be refused in
// words nor a file be opened for a save.
int64_t Server::RaiseOpenFiles(int64_t maxclients) {
  rlimit limit{};
  const rlim_t wanted = static_cast<rlim_t>(maxclients) + kReservedDescriptors;
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return maxclients;
  // Above the hard limit for those who may raise that, else up to it.
  const rlimit raised{wanted, std::max(limit.rlim_max, wanted)};
  if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) return maxclients;
  const rlimit within{std::min(wanted, limit.rlim_max), limit.rlim_max};
  if (::setrlimit(RLIMIT_NOFILE, &within) == 0) limit = within;
  return static_cast<int64_t>(limit.rlim_cur) - static_cast<int64_t>(kReservedDescriptors);
}

// There is no TLS: who asks for it must not find a port, or a link, without.
Status Server::CheckTls(const Settings& settings) {
  if (settings.tls_port == 0 && !settings.tls_replication && !settings.tls_cluster)
    return Status::Ok();
  log_.Log(LogLevel::kWarning, "tls-port, tls-replication and tls-cluster: there is no TLS here.");
  return Status::Io("Unable to update TLS configuration. Check server logs.");
}

Status Server::FitMaxClients() {
  const int64_t asked = config_.settings().maxclients;
  const int64_t possible = RaiseOpenFiles(asked);
  if (possible >= asked) return Status::Ok();
  const int64_t files = possible + static_cast<int64_t>(kReservedDescriptors);
  if (possible <= 0) {
    return Status::Io("Your current 'ulimit -n' of " + std::to_string(files) +
                      " is not enough for the server to start. Please increase your open file "
                      "limit to at least " +
                      std::to_string(asked + static_cast<int64_t>(kReservedDescriptors)) +
                      ". Exiting.");
  }
  log_.Log(LogLevel::kWarning,
           "Current maximum open files is {}. maxclients has been reduced to {} to compensate for "
           "low ulimit. If you need higher maxclients increase 'ulimit -n'.",
           files, possible);
  config_.MutableSettings().maxclients = static_cast<decltype(Settings::maxclients)>(possible);
  return Status::Ok();
}

void Server::RegisterHooks() {
  const auto apply = [this](const Settings&, const Settings&) {
    ApplySettings();
    return Status::Ok();
  };
  for (std::string_view name : {"maxmemory-policy", "lfu-log-factor", "lfu-decay-time"}) {
    config_.OnChange(name, apply);
  }
  config_.OnChange("maxmemory", [this](const Settings&, const Settings& after) {
    if (dispatcher_->memory_limit().LimitChanged()) {
      log_.Log(
          LogLevel::kWarning,
          "WARNING: the new maxmemory value set via CONFIG SET ({}) is smaller than the current "
          "memory usage ({}). This will result in key eviction and/or the inability to accept "
          "new write commands depending on the maxmemory-policy.",
          after.maxmemory, engine_->UsedMemory());
    }
    return Status::Ok();
  });
  for (std::string_view name : {"tls-port", "tls-replication", "tls-cluster"}) {
    config_.OnChange(name,
                     [this](const Settings&, const Settings& after) { return CheckTls(after); });
  }
  config_.OnChange("maxclients", [this](const Settings&, const Settings& after) {
    const int64_t possible = RaiseOpenFiles(after.maxclients);
    if (possible >= after.maxclients) return Status::Ok();
    return Status::Client(
        "The operating system is not able to handle the specified number of clients, try with " +
        std::to_string(possible));
  });
  config_.OnChange("loglevel", [this](const Settings&, const Settings& after) {
    log_.set_level(static_cast<LogLevel>(after.loglevel));
    return Status::Ok();
  });
  for (std::string_view name : {"hz", "dynamic-hz"}) {
    config_.OnChange(name, [this](const Settings&, const Settings&) {
      AdjustCron();
      return Status::Ok();
    });
  }
  const auto rebind = [this](const char* error) {
    return [this, error](const Settings&, const Settings&) {
      return Relisten().ok() ? Status::Ok() : Status::Io(error);  // the reason is in the log
    };
  };
  config_.OnChange("io-uring", [this](const Settings&, const Settings&) {
    ChooseSystemCalls();
    return Status::Ok();
  });
  config_.OnChange("bind", rebind("Failed to bind to specified addresses."));
  config_.OnChange("port", rebind("Unable to listen on this port. Check server logs."));
}

// --- life ---

int Server::Run() {
  AskForShortSlices();
  loop_.Run();
  return engine_->exit_code;
}

void Server::RequestShutdown(int signal_number) {
  if (ended_) return;
  log_.Log(LogLevel::kWarning, "Received {} scheduling shutdown...",
           signal_number == SIGINT ? "SIGINT" : "SIGTERM");
  if (pending_shutdown_) return;
  if (engine_->loading) {
    engine_->TellSupervisor("STOPPING=1\n");
    engine_->stop_requested = true;
    return;
  }
  const Settings& settings = config_.settings();
  const int flags =
      signal_number == SIGINT ? settings.shutdown_on_sigint : settings.shutdown_on_sigterm;
  const int save = (flags & kShutdownSave) ? 1 : (flags & kShutdownNoSave) ? 0 : -1;
  if (PrepareShutdown(save, flags & kShutdownNow, flags & kShutdownForce).ok()) {
    if (engine_->shutdown_waits) return;
    engine_->stop_requested = true;
    loop_.Stop();
  } else {
    ForgetShutdownSignals();
    log_.Log(LogLevel::kWarning,
             "Received shutdown signal but errors trying to shut down the server, check the logs "
             "for more "
             "information");
  }
}

Status Server::PrepareShutdown(int save, bool now, bool force) {
  log_.Log(LogLevel::kWarning, "User requested shutdown...");
  if (!pending_shutdown_) engine_->TellSupervisor("STOPPING=1\n");
  const int64_t patience_s = config_.settings().shutdown_timeout;
  if (now || patience_s == 0 || !replication_->ReplicasLag()) {
    EndShutdownWait();
    return ShutDown(save, force);
  }
  if (pending_shutdown_) return Status::Ok();
  log_.Log(LogLevel::kNotice, "Waiting for replicas before shutting down (at most {} s)",
           patience_s);
  replication_->failover().Abort("the server shuts down");
  pending_shutdown_ = {save, force, loop_.NowMillis() + patience_s * 1000};
  engine_->shutdown_waits = true;
  engine_->shutdown_deadline_ms = pending_shutdown_->deadline_ms;
  engine_->Pause(PauseReason::kShutdown, PauseMode::kWrites, INT64_MAX);
  replication_->primary().RequestAcks();
  return Status::Ok();
}

void Server::EndShutdownWait() {
  if (!pending_shutdown_) return;
  pending_shutdown_.reset();
  engine_->shutdown_waits = false;
  engine_->EndPause(PauseReason::kShutdown);
}

bool Server::AbortShutdown() {
  if (!pending_shutdown_) return false;
  EndShutdownWait();
  ForgetShutdownSignals();
  log_.Log(LogLevel::kNotice, "Shutdown manually aborted.");
  std::vector<Session*> asked;
  for (const auto& [id, session] : engine_->sessions()) {
    if (session->blocked != nullptr && session->blocked->command.spec->name == "shutdown")
      asked.push_back(session.get());
  }
  for (Session* session : asked) dispatcher_->UnblockByTimeout(*session);
  return true;
}

void Server::CheckShutdownWait() {
  if (!pending_shutdown_) return;
  if (replication_->ReplicasLag() && loop_.NowMillis() < pending_shutdown_->deadline_ms) return;
  const PendingShutdown asked = *pending_shutdown_;
  if (ShutDown(asked.save, asked.force).ok()) {
    EndShutdownWait();
    engine_->stop_requested = true;
    loop_.Stop();
  } else {
    AbortShutdown();
  }
}

Status Server::ShutDown(int save, bool force) {
  CAIRN_RETURN_IF_ERROR(durability_->Shutdown(save, force));
  IgnoreShutdownSignals();
  ended_ = true;
  if (!config_.settings().pidfile.empty()) {
    log_.Log(LogLevel::kNotice, "Removing the pid file.");
    [[maybe_unused]] const Status removed = env_.Remove(config_.settings().pidfile);
  }
  clients_->CloseAll();
  StopListening();
  log_.Log(LogLevel::kWarning, "Redis is now ready to exit, bye bye...");
  return Status::Ok();
}

void Server::AdjustCron() {
  const Settings& settings = config_.settings();
  int hz = settings.hz;
  if (settings.dynamic_hz) {
    while (hz < kMostHz && engine_->sessions().size() / static_cast<size_t>(hz) > kClientsPerTurn)
      hz *= 2;
  }
  hz = std::clamp(hz, 1, kMostHz);
  if (hz == engine_->cron_hz && cron_timer_ != 0) return;
  engine_->cron_hz = hz;
  loop_.StopTimer(cron_timer_);
  cron_timer_ = loop_.StartTimer(1000 / hz, 1000 / hz, [this] { Cron(); });
}

void Server::Cron() {
  engine_->RefreshClock();
  const Settings& settings = config_.settings();
  if (engine_->debug.active_expire && !engine_->is_paused() && !engine_->debug.pause_cron &&
      !engine_->is_replica() && !engine_->loading) {
    // A quarter of the time between two turns at effort 1, as much as Redis's slow cycle takes.
    const int64_t budget_us = 250000 / engine_->cron_hz;
    const int64_t began_us = env_.MonotonicMicros();
    keyspace_->ActiveExpire(budget_us, settings.active_expire_effort);
    engine_->NoteLatency("expire-cycle", (env_.MonotonicMicros() - began_us) / 1000);
    dispatcher_->ServeBetweenCommands();
    modules_->Tick();
  }
  keyspace_->TakeBackFreed();
  const int64_t now_ms = loop_.NowMillis();
  if (now_ms < next_slow_cron_ms_ || engine_->debug.pause_cron) return;
  next_slow_cron_ms_ = now_ms + kSlowCronMs;
  Stats& stats = engine_->stats;
  stats.ticks.Calibrate(env_.MonotonicMicros());
  engine_->UpdateObservation();
  stats.ops_rate.Sample(now_ms, stats.commands_processed);
  stats.input_rate.Sample(now_ms, stats.net_input_bytes);
  stats.output_rate.Sample(now_ms, stats.net_output_bytes);
  stats.repl_input_rate.Sample(now_ms, stats.net_repl_input_bytes);
  stats.repl_output_rate.Sample(now_ms, stats.net_repl_output_bytes);
  const uint64_t used = engine_->UsedMemory();
  stats.peak_memory = std::max<size_t>(stats.peak_memory, used);
  const uint64_t elsewhere = used - std::min(used, arena_->in_use_bytes());
  const uint64_t limit = config_.settings().maxmemory;
  arena_->Age(now_ms, {.most_retained = machine_memory_ / kArenaMostShare,
                       .most_held = limit == 0 ? UINT64_MAX : limit - std::min(limit, elsewhere),
                       .reserve = config_.settings().blob_arena_reserve,
                       .linger_ms = kArenaLingerMs});
  ProcessSpans().Age(now_ms);
  clients_->Cron(static_cast<int>(std::min<int64_t>(engine_->cron_hz, 1000 / kSlowCronMs)));
  AdjustCron();
  engine_->tracking.Tick();
  durability_->Tick();
  replication_->Tick();
  CheckShutdownWait();
  clients_->WakeIfPending();
}

void Server::OnExpired(uint32_t db, std::string_view key) {
  dispatcher_->PropagateRemoval(db, key, config_.settings().lazyfree_lazy_expire);
  engine_->NotifyKeyspaceEvent(NotifyClass::kExpired, "expired", key, db);
}

void Server::OnEvicted(uint32_t db, std::string_view key) {
  dispatcher_->PropagateRemoval(db, key, config_.settings().lazyfree_lazy_eviction);
  engine_->NotifyKeyspaceEvent(NotifyClass::kEvicted, "evicted", key, db);
}

}  // namespace cairn
