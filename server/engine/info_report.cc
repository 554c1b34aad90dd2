#include "server/engine/info_report.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/utsname.h>

#include "server/base/strings.h"
#include "server/engine/durability.h"
#include "server/engine/engine.h"
#include "server/platform/memory.h"

namespace cairn {

namespace {

constexpr std::string_view kCairnVersion = "0.1.0";

template <typename... Args>
void Put(std::string& out, std::string_view name, fmt::format_string<Args...> format,
         Args&&... args) {
  out += name;
  out += ':';
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
  out += "\r\n";
}

void Server(Engine& engine, std::string& out) {
  utsname name{};
  ::uname(&name);
  const Settings& settings = engine.settings();
  const int64_t uptime_s = (engine.now_ms() - engine.started_ms) / 1000;
  Put(out, "redis_version", "7.0.15");
  Put(out, "redis_git_sha1", "00000000");
  Put(out, "redis_git_dirty", "0");
  Put(out, "redis_build_id", "{:016x}", 0);
  Put(out, "redis_mode", "standalone");
  Put(out, "os", "{} {} {}", name.sysname, name.release, name.machine);
  Put(out, "arch_bits", "64");
  Put(out, "monotonic_clock", "POSIX clock_gettime");
  Put(out, "multiplexing_api", "epoll");
  Put(out, "atomicvar_api", "c11-builtin");
  Put(out, "gcc_version", "{}.{}.{}", __GNUC__, __GNUC_MINOR__, __GNUC_PATCHLEVEL__);
  Put(out, "process_id", "{}", engine.process_id);
  Put(out, "process_supervised", "no");
  Put(out, "run_id", "{}", engine.run_id);
  Put(out, "tcp_port", "{}", settings.port);
  Put(out, "server_time_usec", "{}", engine.env.WallMicros());
  Put(out, "uptime_in_seconds", "{}", uptime_s);
  Put(out, "uptime_in_days", "{}", uptime_s / 86400);
  Put(out, "hz", "{}", settings.hz);
  Put(out, "configured_hz", "{}", settings.hz);
  Put(out, "lru_clock", "{}", (engine.now_ms() / 1000) & 0xffffff);
  Put(out, "executable", "{}", engine.executable);
  Put(out, "config_file", "{}", engine.config.file_path());
  Put(out, "io_threads_active", "0");
  Put(out, "cairn_version", "{}", kCairnVersion);
}

void Clients(Engine& engine, std::string& out) {
  uint64_t connected = 0, suspended = 0;
  size_t largest_in = 0, largest_out = 0;
  for (const auto& [id, session] : engine.sessions()) {
    if (session->port == nullptr || session->closing) continue;
    ++connected;
    suspended += session->suspended;
    largest_in = std::max(largest_in, session->port->query_bytes());
    largest_out = std::max(largest_out, session->output.size());
  }
  Put(out, "connected_clients", "{}", connected);
  Put(out, "cluster_connections", "0");
  Put(out, "maxclients", "{}", engine.settings().maxclients);
  Put(out, "client_recent_max_input_buffer", "{}", largest_in);
  Put(out, "client_recent_max_output_buffer", "{}", largest_out);
  Put(out, "blocked_clients", "{}", suspended);
  Put(out, "tracking_clients", "0");
  Put(out, "clients_in_timeout_table", "0");
}

void Memory(Engine& engine, std::string& out) {
  const MemoryFigures memory = ReadMemoryFigures();
  const uint64_t used = memory.allocated + engine.arena.in_use_bytes();
  Stats& stats = engine.stats;
  stats.peak_memory = std::max<size_t>(stats.peak_memory, used);
  const uint64_t system = TotalSystemMemory();
  const uint64_t overhead = engine.keyspace.OverheadBytes() + stats.startup_memory;
  const uint64_t dataset = used > overhead ? used - overhead : 0;
  const double dataset_share =
      used > stats.startup_memory
          ? 100.0 * static_cast<double>(dataset) / static_cast<double>(used - stats.startup_memory)
          : 0.0;
  const Settings& settings = engine.settings();
  std::string policy = engine.config.GetOne("maxmemory-policy");
  Put(out, "used_memory", "{}", used);
  Put(out, "used_memory_human", "{}", FormatBytesHuman(used));
  Put(out, "used_memory_rss", "{}", memory.rss);
  Put(out, "used_memory_rss_human", "{}", FormatBytesHuman(memory.rss));
  Put(out, "used_memory_peak", "{}", stats.peak_memory);
  Put(out, "used_memory_peak_human", "{}", FormatBytesHuman(stats.peak_memory));
  Put(out, "used_memory_peak_perc", "{:.2f}%",
      100.0 * static_cast<double>(used) / static_cast<double>(stats.peak_memory));
  Put(out, "used_memory_overhead", "{}", overhead);
  Put(out, "used_memory_startup", "{}", stats.startup_memory);
  Put(out, "used_memory_dataset", "{}", dataset);
  Put(out, "used_memory_dataset_perc", "{:.2f}%", dataset_share);
  Put(out, "allocator_allocated", "{}", memory.allocated);
  Put(out, "allocator_active", "{}", memory.active);
  Put(out, "allocator_resident", "{}", memory.resident);
  Put(out, "total_system_memory", "{}", system);
  Put(out, "total_system_memory_human", "{}", FormatBytesHuman(system));
  Put(out, "maxmemory", "{}", settings.maxmemory);
  Put(out, "maxmemory_human", "{}", FormatBytesHuman(settings.maxmemory));
  Put(out, "maxmemory_policy", "{}", policy);
  const double fragmentation =
      used ? static_cast<double>(memory.rss) / static_cast<double>(used) : 0.0;
  Put(out, "mem_fragmentation_ratio", "{:.2f}", fragmentation);
  Put(out, "mem_fragmentation_bytes", "{}",
      static_cast<int64_t>(memory.rss) - static_cast<int64_t>(used));
  Put(out, "mem_not_counted_for_evict", "{}", engine.keyspace.retained_bytes());
  Put(out, "mem_aof_buffer", "{}",
      engine.durability ? engine.durability->figures().aof_buffer_bytes : 0);
  Put(out, "mem_allocator", "{}", AllocatorName());
  Put(out, "lazyfree_pending_objects", "{}", engine.keyspace.figures().lazyfree_pending_objects);
  Put(out, "lazyfreed_objects", "{}", engine.keyspace.figures().lazyfreed_objects);
  Put(out, "blob_arena_in_use_bytes", "{}", engine.arena.in_use_bytes());
  Put(out, "blob_arena_retained_bytes", "{}", engine.arena.retained_bytes());
}

void Persistence(Engine& engine, std::string& out) {
  const DurabilityFigures figures = engine.durability->figures();
  const LoadFigures load = engine.durability->load_figures();
  const int64_t now_s = engine.now_ms() / 1000;
  const auto since = [&](int64_t started_s) { return started_s < 0 ? -1 : now_s - started_s; };
  Put(out, "loading", "{}", engine.loading ? 1 : 0);
  Put(out, "async_loading", "0");
  Put(out, "current_cow_peak", "{}", figures.retained_bytes_peak);
  Put(out, "current_cow_size", "{}", figures.retained_bytes);
  Put(out, "current_cow_size_age", "0");
  Put(out, "current_fork_perc", "{:.2f}",
      figures.current_save_keys_total
          ? 100.0 * static_cast<double>(figures.current_save_keys_done) /
                static_cast<double>(figures.current_save_keys_total)
          : 0.0);
  Put(out, "current_save_keys_processed", "{}", figures.current_save_keys_done);
  Put(out, "current_save_keys_total", "{}", figures.current_save_keys_total);
  Put(out, "rdb_changes_since_last_save", "{}", figures.changes_since_save);
  Put(out, "rdb_bgsave_in_progress", "{}", figures.save_running ? 1 : 0);
  Put(out, "rdb_last_save_time", "{}", figures.last_save_unix_s);
  Put(out, "rdb_last_bgsave_status", "{}", figures.last_save_ok ? "ok" : "err");
  Put(out, "rdb_last_bgsave_time_sec", "{}", figures.last_save_duration_s);
  Put(out, "rdb_current_bgsave_time_sec", "{}", since(figures.current_save_started_s));
  Put(out, "rdb_saves", "{}", figures.saves);
  Put(out, "rdb_last_cow_size", "{}", figures.retained_bytes_peak);
  Put(out, "rdb_last_load_keys_expired", "{}", figures.last_load_keys_expired);
  Put(out, "rdb_last_load_keys_loaded", "{}", figures.last_load_keys_loaded);
  Put(out, "aof_enabled", "{}", figures.aof_enabled ? 1 : 0);
  Put(out, "aof_rewrite_in_progress", "{}", figures.rewrite_running ? 1 : 0);
  Put(out, "aof_rewrite_scheduled", "{}", figures.rewrite_scheduled ? 1 : 0);
  Put(out, "aof_last_rewrite_time_sec", "{}", figures.last_rewrite_duration_s);
  Put(out, "aof_current_rewrite_time_sec", "{}", since(figures.current_rewrite_started_s));
  Put(out, "aof_last_bgrewrite_status", "{}", figures.aof_last_rewrite_ok ? "ok" : "err");
  Put(out, "aof_rewrites", "{}", figures.rewrites);
  Put(out, "aof_last_write_status", "{}", figures.aof_last_write_ok ? "ok" : "err");
  Put(out, "aof_last_cow_size", "{}", figures.retained_bytes_peak);
  if (figures.aof_enabled) {
    Put(out, "aof_current_size", "{}", figures.aof_current_bytes);
    Put(out, "aof_base_size", "{}", figures.aof_base_bytes);
    Put(out, "aof_pending_rewrite", "0");
    Put(out, "aof_buffer_length", "{}", figures.aof_buffer_bytes);
    Put(out, "aof_pending_bio_fsync", "{}", figures.aof_pending_bio_fsync ? 1 : 0);
    Put(out, "aof_delayed_fsync", "{}", figures.aof_delayed_fsync);
  }
  if (engine.loading) {
    Put(out, "loading_start_time", "{}", load.started_s);
    Put(out, "loading_total_bytes", "{}", load.total_bytes);
    Put(out, "loading_loaded_bytes", "{}", load.loaded_bytes);
    Put(out, "loading_loaded_perc", "{:.2f}",
        load.total_bytes
            ? 100.0 * static_cast<double>(load.loaded_bytes) / static_cast<double>(load.total_bytes)
            : 0);
  }
  Put(out, "snapshot_last_cut_usec", "{}", figures.last_cut_us);
  Put(out, "snapshot_retained_bytes", "{}", figures.retained_bytes);
  Put(out, "snapshot_overdue", "{}", figures.save_overdue ? 1 : 0);
}

void StatsSection(Engine& engine, std::string& out) {
  const Stats& stats = engine.stats;
  const KeyspaceFigures& keys = engine.keyspace.figures();
  Put(out, "total_connections_received", "{}", stats.connections_received);
  Put(out, "total_commands_processed", "{}", stats.commands_processed);
  Put(out, "instantaneous_ops_per_sec", "{}", stats.ops_rate.PerSecond());
  Put(out, "total_net_input_bytes", "{}", stats.net_input_bytes);
  Put(out, "total_net_output_bytes", "{}", stats.net_output_bytes);
  Put(out, "instantaneous_input_kbps", "{:.2f}",
      static_cast<double>(stats.input_rate.PerSecond()) / 1024);
  Put(out, "instantaneous_output_kbps", "{:.2f}",
      static_cast<double>(stats.output_rate.PerSecond()) / 1024);
  Put(out, "rejected_connections", "{}", stats.rejected_connections);
  Put(out, "expired_keys", "{}", keys.expired_keys);
  Put(out, "expired_stale_perc", "{:.2f}", static_cast<double>(keys.expired_stale_permille) / 10);
  Put(out, "expired_time_cap_reached_count", "{}", keys.expire_cycle_time_limit_hits);
  Put(out, "evicted_keys", "0");
  Put(out, "evicted_clients", "{}", stats.evicted_clients);
  Put(out, "keyspace_hits", "{}", keys.hits);
  Put(out, "keyspace_misses", "{}", keys.misses);
  Put(out, "pubsub_channels", "0");
  Put(out, "pubsub_patterns", "0");
  Put(out, "latest_fork_usec", "0");
  Put(out, "total_forks", "0");
  Put(out, "client_query_buffer_limit_disconnections", "{}",
      stats.query_buffer_limit_disconnections);
  Put(out, "client_output_buffer_limit_disconnections", "{}",
      stats.output_buffer_limit_disconnections);
  Put(out, "dump_payload_sanitizations", "{}", stats.dump_payload_sanitizations);
  Put(out, "total_reads_processed", "{}", stats.reads_processed);
  Put(out, "total_writes_processed", "{}", stats.writes_processed);
  Put(out, "total_error_replies", "{}", stats.total_error_replies);
}

void Replication(Engine& engine, std::string& out) {
  Put(out, "role", "master");
  Put(out, "connected_slaves", "0");
  Put(out, "master_failover_state", "no-failover");
  Put(out, "master_replid", "{}", engine.run_id);
  Put(out, "master_replid2", "{}", std::string(40, '0'));
  Put(out, "master_repl_offset", "0");
  Put(out, "second_repl_offset", "-1");
  Put(out, "repl_backlog_active", "0");
  Put(out, "repl_backlog_size", "{}", engine.settings().repl_backlog_size);
  Put(out, "repl_backlog_first_byte_offset", "0");
  Put(out, "repl_backlog_histlen", "0");
}

void Cpu(Engine&, std::string& out) {
  rusage self{}, children{}, thread{};
  ::getrusage(RUSAGE_SELF, &self);
  ::getrusage(RUSAGE_CHILDREN, &children);
  ::getrusage(RUSAGE_THREAD, &thread);
  const auto put = [&](std::string_view name, const timeval& time) {
    Put(out, name, "{}.{:06}", static_cast<int64_t>(time.tv_sec),
        static_cast<int64_t>(time.tv_usec));
  };
  put("used_cpu_sys", self.ru_stime);
  put("used_cpu_user", self.ru_utime);
  put("used_cpu_sys_children", children.ru_stime);
  put("used_cpu_user_children", children.ru_utime);
  put("used_cpu_sys_main_thread", thread.ru_stime);
  put("used_cpu_user_main_thread", thread.ru_utime);
}

void Modules(Engine&, std::string&) {}

void CommandStats(Engine& engine, std::string& out) {
  for (const auto& command : engine.commands.all()) {
    const CommandCounters& counters = command->counters;
    if (counters.calls == 0 && counters.rejected == 0 && counters.failed == 0) continue;
    const double usec = engine.stats.ticks.ToMicros(counters.usec_ticks);
    Put(out, "cmdstat_" + command->full_name,
        "calls={},usec={},usec_per_call={:.2f},rejected_calls={},failed_calls={}", counters.calls,
        static_cast<uint64_t>(usec),
        counters.calls ? usec / static_cast<double>(counters.calls) : 0.0, counters.rejected,
        counters.failed);
  }
}

void ErrorStats(Engine& engine, std::string& out) {
  for (const auto& [code, count] : engine.stats.errors)
    Put(out, "errorstat_" + code, "count={}", count);
}

void Cluster(Engine&, std::string& out) { Put(out, "cluster_enabled", "0"); }

void KeyspaceSection(Engine& engine, std::string& out) {
  engine.keyspace.ForEachDatabase([&](Database& db) {
    if (db.size() == 0) return;
    Put(out, "db" + std::to_string(db.index()), "keys={},expires={},avg_ttl={}", db.size(),
        db.expire_count(), db.average_ttl_ms());
  });
}

struct Section {
  std::string_view name;
  std::string_view title;
  bool by_default;
  void (*write)(Engine&, std::string&);
};

constexpr Section kSections[] = {
    {"server", "Server", true, Server},
    {"clients", "Clients", true, Clients},
    {"memory", "Memory", true, Memory},
    {"persistence", "Persistence", true, Persistence},
    {"stats", "Stats", true, StatsSection},
    {"replication", "Replication", true, Replication},
    {"cpu", "CPU", true, Cpu},
    {"modules", "Modules", true, Modules},
    {"commandstats", "Commandstats", false, CommandStats},
    {"errorstats", "Errorstats", true, ErrorStats},
    {"cluster", "Cluster", true, Cluster},
    {"keyspace", "Keyspace", true, KeyspaceSection},
};

}  // namespace

std::string InfoReport(Engine& engine, const std::set<std::string>& sections) {
  const bool all = sections.contains("all") || sections.contains("everything");
  const bool defaults = sections.empty() || sections.contains("default");
  std::string out;
  for (const Section& section : kSections) {
    if (!all && !(defaults && section.by_default) && !sections.contains(std::string(section.name)))
      continue;
    if (!out.empty()) out += "\r\n";
    out += "# " + std::string(section.title) + "\r\n";
    section.write(engine, out);
  }
  return out;
}

}  // namespace cairn
