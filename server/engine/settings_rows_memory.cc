// Rows of security, clients, memory, lazy freeing and threads.

#include "server/engine/settings_table.h"

namespace cairn {
namespace {

constexpr EnumName kPubsubDefaultNames[] = {{"allchannels", 0}, {"resetchannels", 1}};
constexpr EnumName kPolicyNames[] = {
    {"volatile-lru", 0}, {"volatile-lfu", 1}, {"volatile-random", 2}, {"volatile-ttl", 3},
    {"allkeys-lru", 4},  {"allkeys-lfu", 5},  {"allkeys-random", 6},  {"noeviction", 7}};
// "yes" stands before "relative", of which it is the old name, because that is how it is shown.
constexpr EnumName kOomNames[] = {{"no", 0}, {"yes", 1}, {"relative", 1}, {"absolute", 2}};

constexpr const char* kAlwaysLazy =
    "big values are always freed off the executor thread, whatever removes them";

constexpr SettingSpec kRows[] = {
    {.name = "requirepass",
     .section = Section::kSecurity,
     .value = Text(&Settings::requirepass),
     .flags = kSettingSensitive,
     .help =
         "Password of the default user, asked of every client before anything else. The server "
         "is fast enough to be guessed at many thousand times a second: take a long random one."},
    {.name = "aclfile",
     .section = Section::kSecurity,
     .value = TextOrEmpty(&Settings::aclfile),
     .flags = kSettingImmutable,
     .help = "File of users, one line each, in place of user lines here (see conf/users.acl)."},
    {.name = "acllog-max-len",
     .section = Section::kSecurity,
     .value = Number(&Settings::acllog_max_len, 0, kMaxInt64),
     .unit = "entries",
     .help = "Refused commands and logins that ACL LOG remembers."},
    {.name = "acl-pubsub-default",
     .section = Section::kSecurity,
     .value = OneOf<&Settings::acl_pubsub_default>(kPubsubDefaultNames),
     .help = "Channels that a new user may use: all, or none until they are allowed."},
    {.name = "tracking-table-max-keys",
     .section = Section::kSecurity,
     .value = Number(&Settings::tracking_table_max_keys, 0, kMaxInt64),
     .unit = "keys",
     .help = "Keys remembered for client-side caching; above it some clients are told to forget "
             "keys that have not changed. 0 is no limit."},

    {.name = "maxclients",
     .section = Section::kClients,
     .value = Number(&Settings::maxclients, 1, kMaxUint),
     .unit = "clients",
     .help = "Clients connected at once; more get an error and are closed. The limit of open files "
             "is raised to fit at start, and this is lowered where the system does not allow it."},
    {.name = "client-output-buffer-limit",
     .section = Section::kClients,
     .value = kOutputBufferLimitField,
     .flags = kSettingMultiArg,
     .help =
         "Class, hard limit, soft limit, seconds: a client of the class (normal, replica, "
         "pubsub) with more unsent replies than the hard limit is closed at once, one above the "
         "soft limit for that many seconds too. 0 is no limit. Normal clients wait for what "
         "they asked, so they need none; subscribers are sent what they did not ask for."},
    {.name = "client-query-buffer-limit",
     .section = Section::kClients,
     .value = Memory(&Settings::client_query_buffer_limit, 1024 * 1024, kMaxInt64),
     .help = "Bytes of one client's unfinished command, all its arguments together."},
    {.name = "proto-max-bulk-len",
     .section = Section::kClients,
     .value = Memory(&Settings::proto_max_bulk_len, 1024 * 1024, kMaxInt64),
     .help = "Longest single argument, and with it longest string. Raise it, and "
             "client-query-buffer-limit, for tensors above 512 MiB."},

    {.name = "maxmemory",
     .section = Section::kMemory,
     .value = Memory(&Settings::maxmemory, 0, kMaxUint64),
     .help = "Memory for data. At the limit maxmemory-policy decides. 0 is no limit. Leave room "
             "beside it for client buffers; a save needs no second copy here, only "
             "snapshot-retained-limit."},
    {.name = "maxmemory-policy",
     .section = Section::kMemory,
     .value = OneOf<&Settings::maxmemory_policy>(kPolicyNames),
     .help = "What goes when memory is full: nothing, writes get an error (noeviction), or keys, "
             "chosen among all (allkeys-*) or those with a time to live (volatile-*) as the least "
             "recently used (lru), the least often used (lfu), any (random), or those that expire "
             "first (ttl). Checkpoints that can be resumed from never go."},
    {.name = "maxmemory-samples",
     .section = Section::kMemory,
     .value = Number(&Settings::maxmemory_samples, 1, kMaxInt),
     .unit = "keys",
     .help =
         "Keys looked at to find one to evict. 5 comes close to the true order, 10 closer still."},
    {.name = "maxmemory-eviction-tenacity",
     .section = Section::kMemory,
     .value = Number(&Settings::maxmemory_eviction_tenacity, 0, 100),
     .help = "How long a command may be held up by evicting: 0 little, 100 until enough is free."},
    {.name = "maxmemory-clients",
     .section = Section::kMemory,
     .value =
         NumberField{&Settings::maxmemory_clients, -100, kMaxInt64, NumberForm::kMemoryOrPercent},
     .help =
         "Memory of all client buffers together, in bytes or as a percentage of maxmemory, such "
         "as 5%. Above it the greediest clients are closed. 0 is no limit."},
    {.name = "replica-ignore-maxmemory",
     .alias = "slave-ignore-maxmemory",
     .section = Section::kMemory,
     .value = Bool(&Settings::replica_ignore_maxmemory),
     .help = "A replica evicts only what its primary evicts."},
    {.name = "active-expire-effort",
     .section = Section::kMemory,
     .value = Number(&Settings::active_expire_effort, 1, 10),
     .help = "How eagerly expired keys that nobody asks for are looked for: 1 is thrifty, 10 frees "
             "memory soonest and costs the most processor time."},
    {.name = "lfu-log-factor",
     .section = Section::kMemory,
     .value = Number(&Settings::lfu_log_factor, 0, kMaxInt),
     .help = "The use counter of lfu is logarithmic; the higher this is, the more uses it takes to "
             "fill it."},
    {.name = "lfu-decay-time",
     .section = Section::kMemory,
     .value = Number(&Settings::lfu_decay_time, 0, kMaxInt),
     .unit = "minutes",
     .help = "The use counter of an idle key falls by one in this time. 0 never lets it fall."},
    {.name = "tensor-memory-limit",
     .section = Section::kMemory,
     .value = Memory(&Settings::tensor_memory_limit, 0, kMaxUint64),
     .help = "Memory for tensors, part of maxmemory. A tensor that does not fit is refused before "
             "its bytes are received. 0 is no limit of its own. Ours, not in Redis."},
    {.name = "blob-arena-reserve",
     .section = Section::kMemory,
     .value = Memory(&Settings::blob_arena_reserve, 0, kMaxUint64),
     .help =
         "Memory for values of 64 KiB and more, checkpoints above all, that is fetched from the "
         "system at the start and held, so that the first of them do not wait for it: in use "
         "or not, so much stays. At most a quarter of the machine's memory, and what maxmemory "
         "leaves. Ours, not in Redis."},

    {.name = "lazyfree-lazy-eviction",
     .section = Section::kLazyFree,
     .value = Bool(&Settings::lazyfree_lazy_eviction),
     .help = "Free evicted values in the background.",
     .needless = kAlwaysLazy},
    {.name = "lazyfree-lazy-expire",
     .section = Section::kLazyFree,
     .value = Bool(&Settings::lazyfree_lazy_expire),
     .help = "Free expired values in the background.",
     .needless = kAlwaysLazy},
    {.name = "lazyfree-lazy-server-del",
     .section = Section::kLazyFree,
     .value = Bool(&Settings::lazyfree_lazy_server_del),
     .help = "Free values that a command such as RENAME or SET replaces in the background.",
     .needless = kAlwaysLazy},
    {.name = "replica-lazy-flush",
     .alias = "slave-lazy-flush",
     .section = Section::kLazyFree,
     .value = Bool(&Settings::replica_lazy_flush),
     .help = "Free a replica's old data in the background before a full copy.",
     .needless = kAlwaysLazy},
    {.name = "lazyfree-lazy-user-del",
     .section = Section::kLazyFree,
     .value = Bool(&Settings::lazyfree_lazy_user_del),
     .help = "Make DEL behave as UNLINK.",
     .needless = kAlwaysLazy},
    {.name = "lazyfree-lazy-user-flush",
     .section = Section::kLazyFree,
     .value = Bool(&Settings::lazyfree_lazy_user_flush),
     .help = "Make FLUSHALL, FLUSHDB and the like ASYNC unless SYNC is said."},

    {.name = "io-threads",
     .section = Section::kThreads,
     .value = Number(&Settings::io_threads, 1, 128),
     .flags = kSettingImmutable,
     .unit = "threads",
     .help = "Threads that read from and write to sockets, the executor included.",
     .later = "more than one I/O thread"},
    {.name = "io-threads-do-reads",
     .section = Section::kThreads,
     .value = Bool(&Settings::io_threads_do_reads),
     .flags = kSettingImmutable,
     .help = "Let those threads read and parse, not only write.",
     .later = "more than one I/O thread"},
    {.name = "oom-score-adj",
     .section = Section::kThreads,
     .value = OneOf<&Settings::oom_score_adj>(kOomNames),
     .help =
         "Tell the kernel which of its servers to kill first when memory runs out: no leaves it "
         "alone; relative (or yes) adds oom-score-adj-values to what the process had at start; "
         "absolute sets them as they are."},
    {.name = "oom-score-adj-values",
     .section = Section::kThreads,
     .value = kOomScoreAdjValuesField,
     .flags = kSettingMultiArg,
     .help = "Values for a primary, for a replica, and for background children (of which there are "
             "none here), -2000 to 2000; higher is killed sooner."},
    {.name = "disable-thp",
     .section = Section::kThreads,
     .value = Bool(&Settings::disable_thp),
     .flags = kSettingImmutable,
     .help = "Ask the kernel not to use transparent huge pages for this process.",
     .needless = "huge pages hurt a server that forks; without fork they only help, so ours is "
                 "left as the system has it"},
};

}  // namespace

std::span<const SettingSpec> MemorySettings() { return kRows; }

}  // namespace cairn
