// Rows of snapshots and the append-only file.

#include "server/engine/settings_table.h"

namespace cairn {
namespace {

constexpr EnumName kSanitizeNames[] = {{"no", 0}, {"yes", 1}, {"clients", 2}};
constexpr EnumName kOverLimitNames[] = {{"throttle", 0}, {"abort", 1}};
constexpr EnumName kFsyncNames[] = {{"everysec", static_cast<int>(AppendFsync::kEverysec)},
                                    {"always", static_cast<int>(AppendFsync::kAlways)},
                                    {"no", static_cast<int>(AppendFsync::kNo)}};
constexpr EnumName kAofErrorNames[] = {{"stop-writes", 0}, {"exit", 1}};

constexpr SettingSpec kRows[] = {
    {.name = "save",
     .section = Section::kSnapshots,
     .value = kSaveField,
     .flags = kSettingMultiArg,
     .help =
         "Save in the background once so many seconds have passed and so many writes were made "
         "since the last save: pairs of seconds and changes, any number on a line or on several "
         "lines. save \"\" never saves by itself. A save does not stop the server and does not "
         "fork; what it costs is disk bandwidth and part of a core."},
    {.name = "stop-writes-on-bgsave-error",
     .section = Section::kSnapshots,
     .value = Bool(&Settings::stop_writes_on_bgsave_error),
     .help = "Refuse writes while the last background save failed, so that somebody notices before "
             "much is at stake. Only with save rules. Say no if your monitoring watches "
             "rdb_last_bgsave_status."},
    {.name = "rdbcompression",
     .section = Section::kSnapshots,
     .value = Bool(&Settings::rdbcompression),
     .help = "Compress strings in dump files with LZF. Weights of a model do not get smaller; text "
             "and JSON do."},
    {.name = "rdbchecksum",
     .section = Section::kSnapshots,
     .value = Bool(&Settings::rdbchecksum),
     .flags = kSettingImmutable,
     .help = "Write a CRC-64 at the end of the dump file and check it on load."},
    {.name = "rdb-verify",
     .section = Section::kSnapshots,
     .value = Bool(&Settings::rdb_verify),
     .help =
         "Read each new dump file back and compare it with what was meant to be written before "
         "it replaces the old one. What was encoded or written wrongly is found while the "
         "previous file still exists. It is read through the page cache, so what the disk itself "
         "damages later is for the checksum on load. Ours, not in Redis."},
    {.name = "sanitize-dump-payload",
     .section = Section::kSnapshots,
     .value = OneOf<&Settings::sanitize_dump_payload>(kSanitizeNames),
     .help = "Deep checks of values that arrive from a file or by RESTORE.",
     .needless = "every value that arrives is always checked in full, which is Redis's yes"},
    {.name = "dbfilename",
     .section = Section::kSnapshots,
     .value = TextOrEmpty(&Settings::dbfilename, &CheckDbFilename),
     .flags = kSettingProtected,
     .help = "Name of the dump file inside dir."},
    {.name = "rdb-del-sync-files",
     .section = Section::kSnapshots,
     .value = Bool(&Settings::rdb_del_sync_files),
     .help = "Delete dump files that were made for a replica when nothing else needs them."},
    {.name = "dir",
     .section = Section::kSnapshots,
     .value = kDirField,
     .flags = kSettingProtected | kSettingDenyLoading,
     .help = "The working directory: dump file, append-only directory and relative paths of this "
             "file are found here. It must exist and be writable."},
    {.name = "rdb-save-incremental-fsync",
     .section = Section::kSnapshots,
     .value = Bool(&Settings::rdb_save_incremental_fsync),
     .help = "Hand a growing dump file to the disk in portions, so that the sync at its end does "
             "not hold up the append-only file behind gigabytes."},
    {.name = "rdb-key-save-delay",
     .section = Section::kSnapshots,
     .value = Number(&Settings::rdb_key_save_delay, -2147483648LL, kMaxInt),
     .flags = kSettingHidden,
     .unit = "microseconds",
     .help = "For tests: pause after each saved key; below 0, one microsecond every so many keys."},
    {.name = "key-load-delay",
     .section = Section::kSnapshots,
     .value = Number(&Settings::key_load_delay, -2147483648LL, kMaxInt),
     .flags = kSettingHidden,
     .unit = "microseconds",
     .help =
         "For tests: pause after each loaded key; below 0, one microsecond every so many keys."},
    {.name = "loading-process-events-interval-bytes",
     .section = Section::kSnapshots,
     .value = Number(&Settings::loading_process_events_interval_bytes, 1024, kMaxInt),
     .flags = kSettingHidden,
     .unit = "bytes",
     .help = "While loading, answer clients (with -LOADING) after so many bytes."},
    {.name = "snapshot-retained-limit",
     .section = Section::kSnapshots,
     .value = kRetainedLimitField,
     .help = "A save in progress keeps the old form of what clients change until it is written. "
             "This bounds the memory of those old forms; snapshot-over-limit-policy says what "
             "happens at the bound. auto: 64mb, or 2 % of maxmemory where that is more; else a "
             "memory value of at least 1mb. Ours, not in Redis, where the bound is twice the data "
             "set."},
    {.name = "snapshot-max-write-delay",
     .section = Section::kSnapshots,
     .value = Number(&Settings::snapshot_max_write_delay, 0, 60000),
     .unit = "milliseconds",
     .help = "With retained memory at its limit, a writing command waits for the save to catch up, "
             "at most this long in all before the policy decides. Ours, not in Redis."},
    {.name = "snapshot-cpu-limit",
     .section = Section::kSnapshots,
     .value = Number(&Settings::snapshot_cpu_limit, 1, 100),
     .unit = "percent of one core",
     .help = "How much of a core a background save may use. Lower it where clients and save share "
             "a core; the save takes longer then. Ours, not in Redis."},
    {.name = "snapshot-over-limit-policy",
     .section = Section::kSnapshots,
     .value = OneOf<&Settings::snapshot_over_limit_policy>(kOverLimitNames),
     .help = "When waiting was not enough: throttle goes on slowing writers so that the save ends, "
             "abort gives the save up so that writers are not slowed. Ours, not in Redis."},

    {.name = "appendonly",
     .section = Section::kAppendOnly,
     .value = Bool(&Settings::appendonly),
     .flags = kSettingDenyLoading,
     .help =
         "Write every change to a log and replay it at start. A dump file loses what came after "
         "it; the log loses at most what appendfsync leaves open. Both may be used together."},
    {.name = "appendfilename",
     .section = Section::kAppendOnly,
     .value = TextOrEmpty(&Settings::appendfilename, &CheckAppendFilename),
     .flags = kSettingImmutable,
     .help = "First part of the names of the log's files: a base, increments and a manifest."},
    {.name = "appenddirname",
     .section = Section::kAppendOnly,
     .value = TextOrEmpty(&Settings::appenddirname, &CheckAppendDirname),
     .flags = kSettingImmutable,
     .help = "Directory of those files, inside dir."},
    {.name = "appendfsync",
     .section = Section::kAppendOnly,
     .value = OneOf<&Settings::appendfsync>(kFsyncNames),
     .help =
         "When written bytes are forced to the disk. always: before the client gets its reply, "
         "nothing acknowledged is ever lost, and many clients share each sync. everysec: once a "
         "second, a power cut costs about a second. no: when the kernel feels like it, a power "
         "cut costs up to half a minute."},
    {.name = "no-appendfsync-on-rewrite",
     .section = Section::kAppendOnly,
     .value = Bool(&Settings::no_appendfsync_on_rewrite),
     .help =
         "Do not sync the log while a save or rewrite runs. It trades the promise of appendfsync "
         "for a calmer disk during that time.",
     .needless =
         "the log is synced by a thread of its own, for which no client's command waits, so "
         "there is nothing to trade the promise of appendfsync for"},
    {.name = "auto-aof-rewrite-percentage",
     .section = Section::kAppendOnly,
     .value = Number(&Settings::auto_aof_rewrite_percentage, 0, kMaxInt),
     .unit = "percent",
     .help = "Rewrite the log when it has grown by so much since the last rewrite. 0 never does."},
    {.name = "auto-aof-rewrite-min-size",
     .section = Section::kAppendOnly,
     .value = Memory(&Settings::auto_aof_rewrite_min_size, 0, kMaxInt64),
     .help = "No automatic rewrite below this size, whatever the percentage."},
    {.name = "aof-load-truncated",
     .section = Section::kAppendOnly,
     .value = Bool(&Settings::aof_load_truncated),
     .help = "A log whose last command is cut off, as a crash leaves it, is loaded up to there and "
             "the rest removed, with a line in the log. No refuses to start instead."},
    {.name = "aof-load-corrupt-tail",
     .section = Section::kAppendOnly,
     .value = Bool(&Settings::aof_load_corrupt_tail),
     .help = "The same for a last file whose end is whole but fails its checksum (aof-checksum). "
             "Damage before the end always refuses to start. Ours, not in Redis."},
    {.name = "aof-use-rdb-preamble",
     .section = Section::kAppendOnly,
     .value = Bool(&Settings::aof_use_rdb_preamble),
     .help = "Write the base of the log as a dump file, which is smaller and loads faster than "
             "commands."},
    {.name = "aof-timestamp-enabled",
     .section = Section::kAppendOnly,
     .value = Bool(&Settings::aof_timestamp_enabled),
     .help = "Note the time in the log once a second, so that it can be cut back to a moment."},
    {.name = "aof-rewrite-incremental-fsync",
     .section = Section::kAppendOnly,
     .value = Bool(&Settings::aof_rewrite_incremental_fsync),
     .help = "As rdb-save-incremental-fsync, for a rewrite."},
    {.name = "aof-disable-auto-gc",
     .section = Section::kAppendOnly,
     .value = Bool(&Settings::aof_disable_auto_gc),
     .help = "Keep the files that a rewrite made superfluous instead of deleting them."},
    {.name = "aof-checksum",
     .section = Section::kAppendOnly,
     .value = Bool(&Settings::aof_checksum),
     .help =
         "Open each group of written commands with a comment line that holds its length and its "
         "CRC-64, which Redis 7 skips. It finds flipped bits that a command's own form does not, "
         "and tells the ruins that a power cut leaves from damage. Ours, not in Redis."},
    {.name = "aof-buffer-limit",
     .section = Section::kAppendOnly,
     .value = Memory(&Settings::aof_buffer_limit, 1024 * 1024, kMaxUint64),
     .help = "Bytes that may wait for a slow disk. Above it writing commands wait too, instead of "
             "memory filling up. Ours, not in Redis."},
    {.name = "aof-unsynced-limit",
     .section = Section::kAppendOnly,
     .value = Number(&Settings::aof_unsynced_limit, 0, kMaxInt),
     .unit = "milliseconds",
     .help =
         "Under appendfsync everysec, how long a write may be answered and not be on the disk, "
         "when a slow disk does not let it be a second: above it writing commands wait, so that "
         "a power cut never costs more than this. Reads go on. 0: no limit. Ours, not in "
         "Redis."},
    {.name = "aof-error-policy",
     .section = Section::kAppendOnly,
     .value = OneOf<&Settings::aof_error_policy>(kAofErrorNames),
     .help = "When the log cannot be written: stop-writes refuses writes with MISCONF and tries "
             "again, exit ends the server so that a supervisor or a replica takes over. Ours, not "
             "in Redis."},
};

}  // namespace

std::span<const SettingSpec> DurabilitySettings() { return kRows; }

}  // namespace cairn
