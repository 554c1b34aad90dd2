#include "server/engine/info_report.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include <algorithm>
#include <array>

#include "server/base/strings.h"
#include "server/engine/durability.h"
#include "server/engine/module_host.h"
#include "server/engine/peer_connections.h"
#include "server/engine/settings_table.h"
#include "server/engine/version.h"
#include "server/platform/memory.h"

namespace cairn {

namespace {

/// Appends "name:value" lines.
class Fields {
 public:
  explicit Fields(std::string* out) : out_(*out) {}
  template <typename T>
  Fields& Add(std::string_view name, const T& value) {
    fmt::format_to(std::back_inserter(out_), "{}:{}\r\n", name, value);
    return *this;
  }
  Fields& AddFixed(std::string_view name, double value, int decimals = 2) {
    fmt::format_to(std::back_inserter(out_), "{}:{:.{}f}\r\n", name, value, decimals);
    return *this;
  }
  Fields& AddPercent(std::string_view name, double value) {
    fmt::format_to(std::back_inserter(out_), "{}:{:.2f}%\r\n", name, value);
    return *this;
  }
  /// The bytes, and once more for people under name + "_human".
  Fields& AddBytes(std::string_view name, uint64_t bytes) {
    Add(name, bytes);
    fmt::format_to(std::back_inserter(out_), "{}_human:{}\r\n", name, FormatBytesHuman(bytes));
    return *this;
  }

 private:
  std::string& out_;
};

double Ratio(double a, double b) { return b > 0 ? a / b : 0; }
int64_t Difference(uint64_t a, uint64_t b) {
  return static_cast<int64_t>(a) - static_cast<int64_t>(b);
}

DurabilityFigures FiguresOf(const Engine& engine) {
  return engine.durability != nullptr ? engine.durability->figures() : DurabilityFigures();
}

void AddServer(Engine& engine, Fields out) {
  const Settings& settings = engine.settings();
  const int64_t now_us = engine.env.WallMicros();
  const int64_t uptime_s = (now_us / 1000 - engine.started_ms) / 1000;
  utsname system{};
  ::uname(&system);
  static constexpr std::string_view kSupervised[] = {"no", "upstart", "systemd", "auto"};
  out.Add("redis_version", kRedisVersion)
      .Add("redis_git_sha1", "00000000")
      .Add("redis_git_dirty", 0)
      .Add("redis_build_id", "0")
      .Add("redis_mode", "standalone")
      .Add("os", fmt::format("{} {} {}", system.sysname, system.release, system.machine))
      .Add("arch_bits", sizeof(void*) * 8)
      .Add("monotonic_clock", "POSIX clock_gettime")
      .Add("multiplexing_api", "epoll")
      .Add("atomicvar_api", "c11-builtin")
      .Add("gcc_version", fmt::format("{}.{}.{}", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__))
      .Add("process_id", engine.process_id)
      .Add("process_supervised", kSupervised[static_cast<size_t>(settings.supervised)])
      .Add("run_id", engine.run_id)
      .Add("tcp_port", settings.port)
      .Add("server_time_usec", now_us)
      .Add("uptime_in_seconds", uptime_s)
      .Add("uptime_in_days", uptime_s / 86400)
      .Add("hz", engine.cron_hz)
      .Add("configured_hz", settings.hz)
      .Add("lru_clock", (now_us / 1000000) & 0xffffff)
      .Add("executable", engine.executable)
      .Add("config_file", engine.config.file_path())
      .Add("io_threads_active", 0);
  if (engine.shutdown_waits)
    out.Add("shutdown_in_milliseconds", engine.shutdown_deadline_ms - engine.loop.NowMillis());
  out.Add("cairn_version", kCairnVersion);
}

void AddClients(Engine& engine, Fields out) {
  const SessionCounts& counts = engine.session_counts();
  const int64_t now_s = engine.now_ms() / 1000;
  out.Add("connected_clients", counts.clients)
      .Add("cluster_connections", 0)
      .Add("maxclients", engine.settings().maxclients)
      .Add("client_recent_max_input_buffer", engine.stats.input_buffer.Peak(now_s))
      .Add("client_recent_max_output_buffer", engine.stats.output_buffer.Peak(now_s))
      .Add("blocked_clients", counts.suspended)
      .Add("tracking_clients", engine.tracking.session_count())
      .Add("clients_in_timeout_table", engine.blocking.deadline_count());
}

void AddMemory(Engine& engine, Fields out) {
  const MemoryReport memory = ReadMemoryReport(engine);
  const Settings& settings = engine.settings();
  const KeyspaceFigures& keys = engine.keyspace.figures();
  const ScriptFigures scripts = engine.script_figures ? engine.script_figures() : ScriptFigures{};
  const double fragmentation =
      Ratio(static_cast<double>(memory.rss), static_cast<double>(memory.used));
  out.AddBytes("used_memory", memory.used)
      .AddBytes("used_memory_rss", memory.rss)
      .AddBytes("used_memory_peak", memory.peak)
      .AddPercent("used_memory_peak_perc",
                  100 * Ratio(static_cast<double>(memory.used), static_cast<double>(memory.peak)))
      .Add("used_memory_overhead", memory.overhead)
      .Add("used_memory_startup", memory.startup)
      .Add("used_memory_dataset", memory.dataset)
      .AddPercent("used_memory_dataset_perc", memory.dataset_percent)
      .Add("allocator_allocated", memory.allocated)
      .Add("allocator_active", memory.active)
      .Add("allocator_resident", memory.resident)
      .AddBytes("total_system_memory", TotalSystemMemory())
      .Add("used_memory_lua", scripts.eval_vm_bytes)
      .Add("used_memory_vm_eval", scripts.eval_vm_bytes)
      .Add("used_memory_lua_human", FormatBytesHuman(scripts.eval_vm_bytes))
      .Add("used_memory_scripts_eval", scripts.eval_cache_bytes)
      .Add("number_of_cached_scripts", scripts.cached_scripts)
      .Add("number_of_functions", scripts.functions)
      .Add("number_of_libraries", scripts.libraries)
      .Add("used_memory_vm_functions", scripts.functions_vm_bytes)
      .AddBytes("used_memory_vm_total", scripts.eval_vm_bytes + scripts.functions_vm_bytes)
      .Add("used_memory_functions", scripts.functions_bytes)
      .AddBytes("used_memory_scripts", scripts.eval_cache_bytes + scripts.functions_bytes)
      .AddBytes("maxmemory", settings.maxmemory)
      .Add("maxmemory_policy", engine.config.GetOne("maxmemory-policy"))
      .AddFixed("allocator_frag_ratio",
                Ratio(static_cast<double>(memory.active), static_cast<double>(memory.allocated)))
      .Add("allocator_frag_bytes", Difference(memory.active, memory.allocated))
      .AddFixed("allocator_rss_ratio",
                Ratio(static_cast<double>(memory.resident), static_cast<double>(memory.active)))
      .Add("allocator_rss_bytes", Difference(memory.resident, memory.active))
      .AddFixed("rss_overhead_ratio",
                Ratio(static_cast<double>(memory.rss), static_cast<double>(memory.resident)))
      .Add("rss_overhead_bytes", Difference(memory.rss, memory.resident))
      .AddFixed("mem_fragmentation_ratio", fragmentation)
      .Add("mem_fragmentation_bytes", Difference(memory.rss, memory.used))
      .Add("mem_not_counted_for_evict",
           engine.keyspace.BytesNotEvictable() + memory.aof_buffer + memory.replicas)
      .Add("mem_replication_backlog", memory.backlog)
      .Add("mem_total_replication_buffers", memory.backlog + memory.replicas)
      .Add("mem_clients_slaves", memory.replicas)
      .Add("mem_clients_normal", memory.clients)
      .Add("mem_cluster_links", 0)
      .Add("mem_aof_buffer", memory.aof_buffer)
      .Add("mem_allocator", AllocatorName())
      .Add("active_defrag_running", 0)
      .Add("lazyfree_pending_objects", keys.lazyfree_pending_objects)
      .Add("lazyfreed_objects", keys.lazyfreed_objects)
      .Add("record_slab_free_bytes", engine.keyspace.SlabFreeBytes())
      .Add("blob_arena_in_use_bytes", engine.arena.in_use_bytes())
      .Add("blob_arena_retained_bytes", engine.arena.retained_bytes());
}

int64_t SecondsSince(int64_t now_s, int64_t started_s) {
  return started_s < 0 ? -1 : now_s - started_s;
}

void AddLoading(Engine& engine, Fields out) {
  if (!engine.loading || engine.durability == nullptr) return;
  const LoadFigures load = engine.durability->load_figures();
  const double fraction =
      Ratio(static_cast<double>(load.loaded_bytes), static_cast<double>(load.total_bytes));
  const int64_t elapsed_s = engine.env.WallMicros() / 1000000 - load.started_s;
  const double remaining =
      static_cast<double>(load.total_bytes) - static_cast<double>(load.loaded_bytes);
  const double eta_s = load.loaded_bytes == 0 ? -1.0
                                              : static_cast<double>(elapsed_s) * remaining /
                                                    static_cast<double>(load.loaded_bytes);
  out.Add("loading_start_time", load.started_s)
      .Add("loading_total_bytes", load.total_bytes)
      .Add("loading_rdb_used_mem", load.saved_by_memory_bytes)
      .Add("loading_loaded_bytes", load.loaded_bytes)
      .AddFixed("loading_loaded_perc", 100 * fraction)
      .Add("loading_eta_seconds",
           static_cast<int64_t>(std::max(eta_s, load.loaded_bytes == 0 ? 1.0 : 0.0)));
}

// Of the running save or rewrite; the fields are there only while one runs, as those of loading
// are.
void AddSnapshotProgress(const DurabilityFigures& figures, Fields out) {
  if (figures.snapshot_running_us < 0) return;
  const double seconds =
      static_cast<double>(std::max<int64_t>(1, figures.snapshot_running_us)) / 1e6;
  const double keys_per_s = static_cast<double>(figures.current_save_keys_done) / seconds;
  const double left = static_cast<double>(figures.current_save_keys_total) -
                      static_cast<double>(figures.current_save_keys_done);
  out.Add("snapshot_bytes_written", figures.snapshot_bytes)
      .Add("snapshot_keys_per_sec", static_cast<uint64_t>(keys_per_s))
      .Add("snapshot_eta_seconds",
           keys_per_s > 0 ? static_cast<int64_t>(std::max(0.0, left) / keys_per_s) : int64_t{-1});
}

void AddPersistence(Engine& engine, Fields out) {
  const DurabilityFigures figures = FiguresOf(engine);
  const int64_t now_s = engine.env.WallMicros() / 1000000;
  out.Add("loading", engine.loading ? 1 : 0)
      .Add("async_loading", 0)
      // There is no forked child whose pages could be copied: what a save costs is in the snapshot_
      // fields.
      .Add("current_cow_peak", 0)
      .Add("current_cow_size", 0)
      .Add("current_cow_size_age", 0)
      .AddFixed("current_fork_perc",
                100 * Ratio(static_cast<double>(figures.current_save_keys_done),
                            static_cast<double>(figures.current_save_keys_total)))
      .Add("current_save_keys_processed", figures.current_save_keys_done)
      .Add("current_save_keys_total", figures.current_save_keys_total)
      .Add("rdb_changes_since_last_save", figures.changes_since_save)
      .Add("rdb_bgsave_in_progress", figures.save_running ? 1 : 0)
      .Add("rdb_last_save_time", figures.last_save_unix_s)
      .Add("rdb_last_bgsave_status", figures.last_save_ok ? "ok" : "err")
      .Add("rdb_last_bgsave_time_sec", figures.last_save_duration_s)
      .Add("rdb_current_bgsave_time_sec",
           figures.save_running ? SecondsSince(now_s, figures.current_save_started_s) : -1)
      .Add("rdb_saves", figures.saves)
      .Add("rdb_last_cow_size", 0)
      .Add("rdb_last_load_keys_expired", figures.last_load_keys_expired)
      .Add("rdb_last_load_keys_loaded", figures.last_load_keys_loaded)
      .Add("aof_enabled", figures.aof_enabled ? 1 : 0)
      .Add("aof_rewrite_in_progress", figures.rewrite_running ? 1 : 0)
      .Add("aof_rewrite_scheduled", figures.rewrite_scheduled ? 1 : 0)
      .Add("aof_last_rewrite_time_sec", figures.last_rewrite_duration_s)
      .Add("aof_current_rewrite_time_sec",
           figures.rewrite_running ? SecondsSince(now_s, figures.current_rewrite_started_s) : -1)
      .Add("aof_last_bgrewrite_status", figures.aof_last_rewrite_ok ? "ok" : "err")
      .Add("aof_rewrites", figures.rewrites)
      .Add("aof_rewrites_consecutive_failures", figures.rewrite_failures)
      .Add("aof_last_write_status", figures.aof_last_write_ok ? "ok" : "err")
      .Add("aof_last_cow_size", 0)
      .Add("module_fork_in_progress", 0)
      .Add("module_fork_last_cow_size", 0);
  if (figures.aof_enabled) {
    out.Add("aof_state", figures.aof_state)
        .Add("aof_current_size", figures.aof_current_bytes)
        .Add("aof_base_size", figures.aof_base_bytes)
        .Add("aof_pending_rewrite", figures.rewrite_scheduled ? 1 : 0)
        .Add("aof_buffer_length", figures.aof_buffer_bytes)
        .Add("aof_pending_bio_fsync", figures.aof_pending_bio_fsync ? 1 : 0)
        .Add("aof_delayed_fsync", figures.aof_delayed_fsync)
        .Add("aof_unsynced_ms", figures.aof_unsynced_ms)
        .Add("aof_write_holds", figures.aof_write_holds)
        .Add("aof_write_held_usec", figures.aof_write_held_us);
  }
  AddLoading(engine, out);
  AddSnapshotProgress(figures, out);
  out.Add("snapshot_last_cut_usec", figures.last_cut_us)
      .Add("snapshot_retained_bytes", figures.retained_bytes)
      .Add("snapshot_retained_bytes_peak", figures.retained_bytes_peak)
      .Add("snapshot_structure_bytes", figures.structure_bytes)
      .Add("snapshot_write_holds", figures.write_holds)
      .Add("snapshot_write_held_usec", figures.write_held_us)
      .Add("save_overdue", figures.save_overdue ? 1 : 0);
}

void AddStats(Engine& engine, Fields out) {
  const Stats& stats = engine.stats;
  const KeyspaceFigures& keys = engine.keyspace.figures();
  const uint64_t exceeded_us =
      stats.eviction_exceeded_since_us == 0
          ? 0
          : static_cast<uint64_t>(engine.env.MonotonicMicros() - stats.eviction_exceeded_since_us);
  const ReplicaFeed::SyncCounts syncs =
      engine.replicas != nullptr ? engine.replicas->sync_counts() : ReplicaFeed::SyncCounts();
  out.Add("total_connections_received", stats.connections_received)
      .Add("total_commands_processed", stats.commands_processed)
      .Add("instantaneous_ops_per_sec", stats.ops_rate.PerSecond())
      .Add("total_net_input_bytes", stats.net_input_bytes)
      .Add("total_net_output_bytes", stats.net_output_bytes)
      .Add("total_net_repl_input_bytes", stats.net_repl_input_bytes)
      .Add("total_net_repl_output_bytes", stats.net_repl_output_bytes)
      .AddFixed("instantaneous_input_kbps",
                static_cast<double>(stats.input_rate.PerSecond()) / 1024)
      .AddFixed("instantaneous_output_kbps",
                static_cast<double>(stats.output_rate.PerSecond()) / 1024)
      .AddFixed("instantaneous_input_repl_kbps",
                static_cast<double>(stats.repl_input_rate.PerSecond()) / 1024)
      .AddFixed("instantaneous_output_repl_kbps",
                static_cast<double>(stats.repl_output_rate.PerSecond()) / 1024)
      .Add("rejected_connections", stats.rejected_connections)
      .Add("sync_full", syncs.full)
      .Add("sync_partial_ok", syncs.partial_ok)
      .Add("sync_partial_err", syncs.partial_refused)
      .Add("expired_keys", keys.expired_keys)
      .AddFixed("expired_stale_perc", keys.expired_stale_percent)
      .Add("expired_time_cap_reached_count", keys.expire_cycle_time_limit_hits)
      .Add("expire_cycle_cpu_milliseconds", keys.expire_cycle_us / 1000)
      .Add("evicted_keys", keys.evicted_keys)
      .Add("evicted_clients", stats.evicted_clients)
      .Add("total_eviction_exceeded_time", (stats.total_eviction_exceeded_us + exceeded_us) / 1000)
      .Add("current_eviction_exceeded_time", exceeded_us / 1000)
      .Add("keyspace_hits", keys.hits)
      .Add("keyspace_misses", keys.misses)
      .Add("pubsub_channels", engine.pubsub.NameCount(SubscriptionKind::kChannel))
      .Add("pubsub_patterns", engine.pubsub.NameCount(SubscriptionKind::kPattern))
      .Add("pubsubshard_channels", engine.pubsub.NameCount(SubscriptionKind::kShard))
      .Add("latest_fork_usec", 0)
      .Add("total_forks", 0)
      .Add("migrate_cached_sockets", engine.peers().size())
      .Add("slave_expires_tracked_keys", 0)
      .Add("active_defrag_hits", 0)
      .Add("active_defrag_misses", 0)
      .Add("active_defrag_key_hits", 0)
      .Add("active_defrag_key_misses", 0)
      .Add("total_active_defrag_time", 0)
      .Add("current_active_defrag_time", 0)
      .Add("tracking_total_keys", engine.tracking.key_count())
      .Add("tracking_total_items", engine.tracking.item_count())
      .Add("tracking_total_prefixes", engine.tracking.prefix_count())
      .Add("unexpected_error_replies", stats.unexpected_error_replies)
      .Add("total_error_replies", stats.total_error_replies)
      .Add("dump_payload_sanitizations", stats.dump_payload_sanitizations)
      .Add("total_reads_processed", stats.reads_processed)
      .Add("total_writes_processed", stats.writes_processed)
      .Add("io_threaded_reads_processed", 0)
      .Add("io_threaded_writes_processed", 0)
      .Add("reply_buffer_shrinks", 0)
      .Add("reply_buffer_expands", 0)
      .Add("client_query_buffer_limit_disconnections", stats.query_buffer_limit_disconnections)
      .Add("client_output_buffer_limit_disconnections", stats.output_buffer_limit_disconnections);
}

void AddReplication(Engine& engine, Fields out) {
  if (engine.replicas == nullptr) return;
  for (const auto& [name, value] : engine.replicas->InfoFields()) out.Add(name, value);
}

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

void AddCpu(Engine&, Fields out) {
  rusage self{};
  rusage children{};
  rusage thread{};
  ::getrusage(RUSAGE_SELF, &self);
  ::getrusage(RUSAGE_CHILDREN, &children);
  ::getrusage(RUSAGE_THREAD, &thread);
  out.AddFixed("used_cpu_sys", Seconds(self.ru_stime), 6)
      .AddFixed("used_cpu_user", Seconds(self.ru_utime), 6)
      .AddFixed("used_cpu_sys_children", Seconds(children.ru_stime), 6)
      .AddFixed("used_cpu_user_children", Seconds(children.ru_utime), 6)
      .AddFixed("used_cpu_sys_main_thread", Seconds(thread.ru_stime), 6)
      .AddFixed("used_cpu_user_main_thread", Seconds(thread.ru_utime), 6);
}

/// Modules add their lines when there is a host that loads them.
void AddModules(Engine& engine, Fields out) {
  if (engine.modules == nullptr) return;
  for (const LoadedModule& module : engine.modules->modules()) {
    out.Add("module", fmt::format("name={},ver={},api={},filters=0,usedby=[],using=[],options=[]",
                                  module.name, module.version, CAIRN_MODULE_ABI_VERSION));
  }
}

void AddCommandStats(Engine& engine, Fields out) {
  for (const auto& command : engine.commands.all()) {
    const CommandCounters& counters = command->counters;
    if (counters.calls == 0 && counters.rejected == 0 && counters.failed == 0) continue;
    const double usec = engine.stats.ticks.ToMicros(counters.usec_ticks);
    out.Add("cmdstat_" + command->full_name,
            fmt::format("calls={},usec={},usec_per_call={:.2f},rejected_calls={},failed_calls={}",
                        counters.calls, static_cast<uint64_t>(usec),
                        Ratio(usec, static_cast<double>(counters.calls)), counters.rejected,
                        counters.failed));
  }
}

void AddErrorStats(Engine& engine, Fields out) {
  for (const auto& [code, count] : engine.stats.errors)
    out.Add("errorstat_" + code, fmt::format("count={}", count));
}

void AddLatencyStats(Engine& engine, Fields out) {
  if (!engine.settings().latency_tracking) return;
  for (const auto& command : engine.commands.all()) {
    const Histogram* histogram = command->counters.latency_ticks.get();
    if (histogram == nullptr || histogram->count() == 0) continue;
    std::string quantiles;
    for (double percentile : engine.settings().latency_tracking_info_percentiles) {
      if (!quantiles.empty()) quantiles += ',';
      quantiles += fmt::format("p{}={:.3f}", FormatPercentile(percentile),
                               engine.stats.ticks.ToMicros(histogram->Quantile(percentile / 100)));
    }
    out.Add("latency_percentiles_usec_" + command->full_name, quantiles);
  }
}

void AddCluster(Engine& engine, Fields out) {
  out.Add("cluster_enabled", engine.settings().cluster_enabled ? 1 : 0);
}

void AddKeyspace(Engine& engine, Fields out) {
  engine.keyspace.ForEachDatabase([&out](Database& db) {
    if (db.size() == 0 && db.expire_count() == 0) return;
    out.Add(fmt::format("db{}", db.index()), fmt::format("keys={},expires={},avg_ttl={}", db.size(),
                                                         db.expire_count(), db.average_ttl_ms()));
  });
}

struct InfoSection {
  std::string_view name;
  std::string_view title;
  void (*add)(Engine&, Fields);
  bool in_default;
};

constexpr std::array kSections = {
    InfoSection{"server", "Server", AddServer, true},
    InfoSection{"clients", "Clients", AddClients, true},
    InfoSection{"memory", "Memory", AddMemory, true},
    InfoSection{"persistence", "Persistence", AddPersistence, true},
    InfoSection{"stats", "Stats", AddStats, true},
    InfoSection{"replication", "Replication", AddReplication, true},
    InfoSection{"cpu", "CPU", AddCpu, true},
    InfoSection{"modules", "Modules", AddModules, true},
    InfoSection{"commandstats", "Commandstats", AddCommandStats, false},
    InfoSection{"errorstats", "Errorstats", AddErrorStats, true},
    InfoSection{"latencystats", "Latencystats", AddLatencyStats, false},
    InfoSection{"cluster", "Cluster", AddCluster, true},
    InfoSection{"keyspace", "Keyspace", AddKeyspace, true},
};

bool IsWanted(const InfoSection& section, std::span<const std::string_view> names) {
  if (names.empty()) return section.in_default;
  return std::any_of(names.begin(), names.end(), [&section](std::string_view name) {
    return EqualsIgnoreCase(name, section.name) || EqualsIgnoreCase(name, "all") ||
           EqualsIgnoreCase(name, "everything") ||
           (section.in_default && EqualsIgnoreCase(name, "default"));
  });
}

}  // namespace

MemoryReport ReadMemoryReport(Engine& engine) {
  const int64_t now_us = engine.env.MonotonicMicros();
  const MemoryFigures& figures = engine.memory_sample.Read(now_us);
  MemoryReport report;
  report.allocated = figures.allocated;
  report.active = figures.active;
  report.resident = figures.resident;
  report.rss = figures.rss;
  report.used = engine.UsedMemory(engine.memory_sample.AllocatedBytes());
  engine.stats.peak_memory = std::max<size_t>(engine.stats.peak_memory, report.used);
  report.peak = engine.stats.peak_memory;
  report.startup = engine.stats.startup_memory;
  if (engine.modules != nullptr) report.startup += engine.modules->startup_bytes();
  for (const auto& [id, session] : engine.sessions()) report.clients += session->MemoryUsage();
  report.aof_buffer = FiguresOf(engine).aof_buffer_bytes;
  const uint64_t stream = engine.replicas != nullptr ? engine.replicas->backlog_bytes() : 0;
  report.backlog = std::min(stream, static_cast<uint64_t>(engine.settings().repl_backlog_size));
  report.replicas = stream - report.backlog;
  report.overhead = report.startup + report.clients + report.backlog + report.replicas +
                    report.aof_buffer + engine.keyspace.OverheadBytes();
  report.dataset = report.used - std::min(report.used, report.overhead);
  const uint64_t net = report.used - std::min(report.used, report.startup);
  report.dataset_percent =
      std::min(100.0, 100 * Ratio(static_cast<double>(report.dataset), static_cast<double>(net)));
  return report;
}

std::string InfoReport(Engine& engine, std::span<const std::string_view> names) {
  std::string text;
  for (const InfoSection& section : kSections) {
    if (!IsWanted(section, names)) continue;
    if (!text.empty()) text += "\r\n";
    text += fmt::format("# {}\r\n", section.title);
    section.add(engine, Fields(&text));
  }
  return text;
}

}  // namespace cairn
