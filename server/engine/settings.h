#pragma once

// Settings: the configured values of one server as plain typed fields, named after the setting with
// '-' turned into '_' ("repl-timeout" is repl_timeout). The initialisers here are the defaults;
// settings_table says how each is spelled, checked and explained, and Config (config.h) owns the
// one live copy and changes it on the executor thread. This file knows nothing about parsing.
// Memory is in bytes, the unit of a time is in the table ("seconds" unless it says otherwise). A
// plain value: copy it to compare.

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace cairn {

enum class AppendFsync : uint8_t { kNo, kEverysec, kAlways };
/// Order is Redis's table order, which is also the order in its error text.
enum class MaxmemoryPolicy : uint8_t {
  kVolatileLru,
  kVolatileLfu,
  kVolatileRandom,
  kVolatileTtl,
  kAllkeysLru,
  kAllkeysLfu,
  kAllkeysRandom,
  kNoEviction,
};
enum class LogLevelSetting : uint8_t { kDebug, kVerbose, kNotice, kWarning };
enum class Supervised : uint8_t { kNo, kUpstart, kSystemd, kAuto };
enum class SyslogFacility : uint8_t {
  kUser,
  kLocal0,
  kLocal1,
  kLocal2,
  kLocal3,
  kLocal4,
  kLocal5,
  kLocal6,
  kLocal7
};
enum class ReplDisklessLoad : uint8_t { kDisabled, kOnEmptyDb, kSwapdb };
enum class OomScoreAdj : uint8_t { kNo, kRelative, kAbsolute };
enum class AclPubsubDefault : uint8_t { kAllChannels, kResetChannels };
enum class SanitizeDumpPayload : uint8_t { kNo, kYes, kClients };
/// Who may use a guarded command: nobody, everybody, or connections of this machine only.
enum class GuardedAccess : uint8_t { kNo, kYes, kLocal };
enum class ClusterEndpointType : uint8_t { kIp, kHostname, kUnknownEndpoint };
enum class PropagationErrorBehavior : uint8_t { kIgnore, kPanic, kPanicOnReplicas };
enum class TlsAuthClients : uint8_t { kNo, kYes, kOptional };
/// What a snapshot does when retained pre-images reach snapshot-retained-limit.
enum class SnapshotOverLimitPolicy : uint8_t { kThrottle, kAbort };
/// What the server does when the append-only file cannot be written.
enum class AofErrorPolicy : uint8_t { kStopWrites, kExit };

/// Bits of shutdown-on-sigint / shutdown-on-sigterm; 0 is "default" (save when save rules exist).
inline constexpr int kShutdownNoSave = 1;
inline constexpr int kShutdownSave = 2;
inline constexpr int kShutdownNow = 4;
inline constexpr int kShutdownForce = 8;

/// Bits of notify-keyspace-events.
inline constexpr int kNotifyKeyspace = 1 << 0;  // K
inline constexpr int kNotifyKeyevent = 1 << 1;  // E
inline constexpr int kNotifyGeneric = 1 << 2;   // g
inline constexpr int kNotifyString = 1 << 3;    // $
inline constexpr int kNotifyList = 1 << 4;      // l
inline constexpr int kNotifySet = 1 << 5;       // s
inline constexpr int kNotifyHash = 1 << 6;      // h
inline constexpr int kNotifyZset = 1 << 7;      // z
inline constexpr int kNotifyExpired = 1 << 8;   // x
inline constexpr int kNotifyEvicted = 1 << 9;   // e
inline constexpr int kNotifyStream = 1 << 10;   // t
inline constexpr int kNotifyKeyMiss = 1 << 11;  // m
inline constexpr int kNotifyModule = 1 << 12;   // d
inline constexpr int kNotifyNew = 1 << 13;      // n
inline constexpr int kNotifyAll = kNotifyGeneric | kNotifyString | kNotifyList | kNotifySet |
                                  kNotifyHash | kNotifyZset | kNotifyExpired | kNotifyEvicted |
                                  kNotifyStream | kNotifyModule;  // A

/// One class's limit on unsent reply bytes: over `hard_bytes` the client is closed at once, over
/// `soft_bytes` after that many seconds without a break. 0 is no limit.
struct OutputBufferLimit {
  uint64_t hard_bytes = 0;
  uint64_t soft_bytes = 0;
  int64_t soft_seconds = 0;
  bool operator==(const OutputBufferLimit&) const = default;
};
/// Index into Settings::client_output_buffer_limit.
enum ClientClass : uint8_t { kClientNormal, kClientReplica, kClientPubsub, kClientClassCount };

/// "replicaof host port"; an empty host is a primary.
struct ReplicaofTarget {
  std::string host;
  int port = 0;
  bool operator==(const ReplicaofTarget&) const = default;
};

struct Settings {
  // Network
  std::vector<std::string> bind = {"*", "-::*"};
  std::string bind_source_addr;
  bool protected_mode = true;
  GuardedAccess enable_protected_configs = GuardedAccess::kNo;
  GuardedAccess enable_debug_command = GuardedAccess::kNo;
  GuardedAccess enable_module_command = GuardedAccess::kNo;
  int port = 6379;
  int tcp_backlog = 511;
  std::string unixsocket;
  int unixsocketperm = 0;
  int timeout = 0;
  int tcp_keepalive = 300;
  int64_t socket_mark_id = 0;
  bool io_uring = true;

  // TLS
  int tls_port = 0;
  std::string tls_cert_file;
  std::string tls_key_file;
  std::string tls_key_file_pass;
  std::string tls_client_cert_file;
  std::string tls_client_key_file;
  std::string tls_client_key_file_pass;
  std::string tls_dh_params_file;
  std::string tls_ca_cert_file;
  std::string tls_ca_cert_dir;
  TlsAuthClients tls_auth_clients = TlsAuthClients::kYes;
  bool tls_replication = false;
  bool tls_cluster = false;
  std::string tls_protocols;
  std::string tls_ciphers;
  std::string tls_ciphersuites;
  bool tls_prefer_server_ciphers = false;
  bool tls_session_caching = true;
  int tls_session_cache_size = 20 * 1024;
  int tls_session_cache_timeout = 300;

  // General
  bool daemonize = false;
  Supervised supervised = Supervised::kNo;
  std::string pidfile;
  LogLevelSetting loglevel = LogLevelSetting::kNotice;
  std::string logfile;
  bool syslog_enabled = false;
  std::string syslog_ident = "redis";
  SyslogFacility syslog_facility = SyslogFacility::kLocal0;
  bool crash_log_enabled = true;
  bool crash_memcheck_enabled = true;
  int databases = 16;
  bool always_show_logo = false;
  bool set_proc_title = true;
  std::string proc_title_template = "{title} {listen-addr} {server-mode}";
  int shutdown_timeout = 10;
  int shutdown_on_sigint = 0;
  int shutdown_on_sigterm = 0;
  bool use_exit_on_panic = false;
  std::string ignore_warnings;
  std::string server_cpulist;
  std::string bio_cpulist;
  std::string aof_rewrite_cpulist;
  std::string bgsave_cpulist;

  // Snapshots. Each save rule is (seconds, changes).
  std::vector<std::pair<int64_t, int64_t>> save = {{3600, 1}, {300, 100}, {60, 10000}};
  bool stop_writes_on_bgsave_error = true;
  bool rdbcompression = true;
  bool rdbchecksum = true;
  bool rdb_verify = true;
  SanitizeDumpPayload sanitize_dump_payload = SanitizeDumpPayload::kNo;
  std::string dbfilename = "dump.rdb";
  bool rdb_del_sync_files = false;
  /// "." until Config resolves it; always absolute afterwards.
  std::string dir = ".";
  bool rdb_save_incremental_fsync = true;
  int rdb_key_save_delay = 0;
  int key_load_delay = 0;
  int64_t loading_process_events_interval_bytes = 2 * 1024 * 1024;
  uint64_t snapshot_retained_limit = 0;  // 0 is "auto": SnapshotRetainedLimit
  int snapshot_max_write_delay = 100;    // milliseconds
  int snapshot_cpu_limit = 100;          // percent of one core
  SnapshotOverLimitPolicy snapshot_over_limit_policy = SnapshotOverLimitPolicy::kThrottle;

  // Replication
  ReplicaofTarget replicaof;
  std::string masterauth;
  std::string masteruser;
  bool replica_serve_stale_data = true;
  bool replica_read_only = true;
  bool repl_diskless_sync = true;
  int repl_diskless_sync_delay = 5;
  int repl_diskless_sync_max_replicas = 0;
  ReplDisklessLoad repl_diskless_load = ReplDisklessLoad::kDisabled;
  int repl_ping_replica_period = 10;
  int repl_timeout = 60;
  bool repl_disable_tcp_nodelay = false;
  int64_t repl_backlog_size = 1024 * 1024;
  int64_t repl_backlog_ttl = 3600;
  int replica_priority = 100;
  PropagationErrorBehavior propagation_error_behavior = PropagationErrorBehavior::kIgnore;
  bool replica_ignore_disk_write_errors = false;
  bool replica_announced = true;
  int min_replicas_to_write = 0;
  int min_replicas_max_lag = 10;
  std::string replica_announce_ip;
  int replica_announce_port = 0;

  // Security
  std::string requirepass;
  std::string aclfile;
  int64_t acllog_max_len = 128;
  AclPubsubDefault acl_pubsub_default = AclPubsubDefault::kResetChannels;
  int64_t tracking_table_max_keys = 1000000;

  // Clients
  int64_t maxclients = 10000;
  std::array<OutputBufferLimit, kClientClassCount> client_output_buffer_limit = {
      OutputBufferLimit{0, 0, 0}, OutputBufferLimit{256ULL << 20, 64ULL << 20, 60},
      OutputBufferLimit{32ULL << 20, 8ULL << 20, 60}};
  int64_t client_query_buffer_limit = 1024LL * 1024 * 1024;
  int64_t proto_max_bulk_len = 512LL * 1024 * 1024;

  // Memory. maxmemory_clients below 0 is a percentage of maxmemory (-5 is "5%").
  uint64_t maxmemory = 0;
  MaxmemoryPolicy maxmemory_policy = MaxmemoryPolicy::kNoEviction;
  int maxmemory_samples = 5;
  int maxmemory_eviction_tenacity = 10;
  int64_t maxmemory_clients = 0;
  bool replica_ignore_maxmemory = true;
  int active_expire_effort = 1;
  int lfu_log_factor = 10;
  int lfu_decay_time = 1;
  uint64_t tensor_memory_limit = 0;
  uint64_t blob_arena_reserve = 0;

  // Lazy freeing
  bool lazyfree_lazy_eviction = false;
  bool lazyfree_lazy_expire = false;
  bool lazyfree_lazy_server_del = false;
  bool replica_lazy_flush = false;
  bool lazyfree_lazy_user_del = false;
  bool lazyfree_lazy_user_flush = false;

  // Threads and the kernel
  int io_threads = 1;
  bool io_threads_do_reads = false;
  OomScoreAdj oom_score_adj = OomScoreAdj::kNo;
  std::array<int, 3> oom_score_adj_values = {0, 200, 800};
  bool disable_thp = true;

  // Append-only file
  bool appendonly = false;
  std::string appendfilename = "appendonly.aof";
  std::string appenddirname = "appendonlydir";
  AppendFsync appendfsync = AppendFsync::kEverysec;
  bool no_appendfsync_on_rewrite = false;
  int auto_aof_rewrite_percentage = 100;
  int64_t auto_aof_rewrite_min_size = 64LL * 1024 * 1024;
  bool aof_load_truncated = true;
  bool aof_load_corrupt_tail = true;
  bool aof_use_rdb_preamble = true;
  bool aof_timestamp_enabled = false;
  bool aof_rewrite_incremental_fsync = true;
  bool aof_disable_auto_gc = false;
  bool aof_checksum = true;
  uint64_t aof_buffer_limit = 256ULL * 1024 * 1024;
  int aof_unsynced_limit = 10000;  // milliseconds
  AofErrorPolicy aof_error_policy = AofErrorPolicy::kStopWrites;

  // Scripts
  int64_t busy_reply_threshold = 5000;  // milliseconds

  // Cluster
  bool cluster_enabled = false;
  std::string cluster_config_file = "nodes.conf";
  int64_t cluster_node_timeout = 15000;  // milliseconds
  int cluster_port = 0;
  int cluster_replica_validity_factor = 10;
  int cluster_migration_barrier = 1;
  bool cluster_allow_replica_migration = true;
  bool cluster_require_full_coverage = true;
  bool cluster_replica_no_failover = false;
  bool cluster_allow_reads_when_down = false;
  bool cluster_allow_pubsubshard_when_down = true;
  uint64_t cluster_link_sendbuf_limit = 0;
  std::string cluster_announce_hostname;
  ClusterEndpointType cluster_preferred_endpoint_type = ClusterEndpointType::kIp;
  std::string cluster_announce_ip;
  int cluster_announce_port = 0;
  int cluster_announce_tls_port = 0;
  int cluster_announce_bus_port = 0;

  // Observation
  int64_t slowlog_log_slower_than = 10000;  // microseconds; below 0 is off
  int64_t slowlog_max_len = 128;
  int64_t latency_monitor_threshold = 0;  // milliseconds; 0 is off
  bool latency_tracking = true;
  std::vector<double> latency_tracking_info_percentiles = {50.0, 99.0, 99.9};
  int notify_keyspace_events = 0;  // kNotify* bits
  int watchdog_period = 0;         // milliseconds

  // Encodings
  int64_t hash_max_listpack_entries = 512;
  int64_t hash_max_listpack_value = 64;
  int list_max_listpack_size = -2;
  int list_compress_depth = 0;
  int64_t set_max_intset_entries = 512;
  int64_t zset_max_listpack_entries = 128;
  int64_t zset_max_listpack_value = 64;
  int64_t hll_sparse_max_bytes = 3000;
  int64_t stream_node_max_bytes = 4096;
  int64_t stream_node_max_entries = 100;

  // Background work
  bool activerehashing = true;
  int hz = 10;
  bool dynamic_hz = true;
  bool activedefrag = false;
  int64_t active_defrag_ignore_bytes = 100LL << 20;
  int active_defrag_threshold_lower = 10;
  int active_defrag_threshold_upper = 100;
  int active_defrag_cycle_min = 1;
  int active_defrag_cycle_max = 25;
  int64_t active_defrag_max_scan_fields = 1000;
  bool jemalloc_bg_thread = true;

  // Directives that may stand in the file more than once and are not settings: the words after the
  // name.
  std::vector<std::vector<std::string>> rename_command;
  std::vector<std::vector<std::string>> loadmodule;
  std::vector<std::vector<std::string>> user;
  /// "module.name value" lines, kept for the module that will claim them.
  std::vector<std::vector<std::string>> module_settings;

  bool operator==(const Settings&) const = default;
};

}  // namespace cairn
