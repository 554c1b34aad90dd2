// MEMORY: what a key costs, what everything costs, and giving pages back.

#include <fmt/format.h>

#include <array>

#include "server/engine/command_reference.h"
#include "server/engine/engine.h"
#include "server/engine/info_report.h"
#include "server/platform/memory.h"

namespace cairn {

namespace {

constexpr CommandSpec kMemorySpec{
    .name = "memory",
    .arity = -2,
    .group = "server",
    .since = "4.0.0",
    .complexity = "That of the subcommand",
    .summary = "Groups the commands about memory.",
};

Status MemoryUsage(CommandContext& ctx) {
  for (size_t i = 3; i < ctx.argc(); i += 2) {
    if (!ctx.ArgIs(i, "SAMPLES") || i + 1 >= ctx.argc()) return RespError(resp_errors::kSyntax);
    // Values know their size, so nothing is sampled; the count is only checked.
    int64_t samples;
    CAIRN_RETURN_IF_ERROR(ctx.ArgInt64(i + 1, &samples));
    if (samples < 0) return RespError(resp_errors::kSyntax);
  }
  // A key past its TTL takes memory until it is removed, and this is no reason to.
  const Entry* entry = ctx.db().Peek(ctx.Key(2));
  if (entry == nullptr) {
    ctx.reply().Null();
  } else {
    // The slot that points to the entry belongs to the key too.
    ctx.reply().Integer(static_cast<int64_t>(entry->MemoryUsage() + sizeof(uint64_t)));
  }
  return Status::Ok();
}
constexpr CommandSpec kMemoryUsageSpec{
    .name = "usage",
    .parent = "memory",
    .arity = -3,
    .flags = kCmdReadonly,
    .keys = {OneKey(2, kKeyRO)},
    .group = "server",
    .since = "4.0.0",
    .complexity = "O(N) in the number of samples",
    .summary = "Tells how many bytes a key and its value take.",
    .synopsis = "key#0 [SAMPLES=count:integer]",
    .handler = MemoryUsage,
};

/// Writes pairs and counts them.
class StatPairs {
 public:
  explicit StatPairs(RespWriter& reply) : reply_(reply), mark_(reply.BeginDeferred()) {}
  void Add(std::string_view name, uint64_t value) {
    Name(name);
    reply_.Integer(static_cast<int64_t>(value));
  }
  void Signed(std::string_view name, int64_t value) {
    Name(name);
    reply_.Integer(value);
  }
  void Ratio(std::string_view name, double part, double whole, double scale = 1) {
    Name(name);
    reply_.Double(whole > 0 ? scale * part / whole : 0);
  }
  void Name(std::string_view name) {
    ++pairs_;
    reply_.Bulk(name);
  }
  void End() { reply_.EndDeferredMap(mark_, pairs_); }

 private:
  RespWriter& reply_;
  ReplyBuffer::Mark mark_;
  size_t pairs_ = 0;
};

uint64_t AddDatabases(CommandContext& ctx, StatPairs& stats) {
  uint64_t keys = 0;
  ctx.keyspace().ForEachDatabase([&](Database& db) {
    if (db.size() == 0) return;
    keys += db.size();
    stats.Name(fmt::format("db.{}", db.index()));
    // TTLs stand in the entries, and nothing maps slots to keys: only the main table costs
    // anything.
    RespWriter& reply = ctx.reply();
    reply.MapHeader(3);
    reply.Bulk("overhead.hashtable.main");
    reply.Integer(static_cast<int64_t>(db.TableBytes()));
    reply.Bulk("overhead.hashtable.expires");
    reply.Integer(0);
    reply.Bulk("overhead.hashtable.slot-to-keys");
    reply.Integer(0);
  });
  return keys;
}

int64_t Difference(uint64_t a, uint64_t b) {
  return static_cast<int64_t>(a) - static_cast<int64_t>(b);
}

Status MemoryStats(CommandContext& ctx) {
  const MemoryReport memory = ReadMemoryReport(ctx.engine());
  const auto real = [](uint64_t bytes) { return static_cast<double>(bytes); };
  StatPairs stats(ctx.reply());
  stats.Add("peak.allocated", memory.peak);
  stats.Add("total.allocated", memory.used);
  stats.Add("startup.allocated", memory.startup);
  stats.Add("replication.backlog", memory.backlog);
  stats.Add("clients.slaves", memory.replicas);
  stats.Add("clients.normal", memory.clients);
  stats.Add("cluster.links", 0);
  stats.Add("aof.buffer", memory.aof_buffer);
  const ScriptFigures scripts =
      ctx.engine().script_figures ? ctx.engine().script_figures() : ScriptFigures{};
  stats.Add("lua.caches", scripts.eval_cache_bytes);
  stats.Add("functions.caches", scripts.functions_bytes);
  const uint64_t keys = AddDatabases(ctx, stats);
  const uint64_t net = memory.used > memory.startup ? memory.used - memory.startup : 0;
  stats.Add("overhead.total", memory.overhead);
  stats.Add("keys.count", keys);
  stats.Add("keys.bytes-per-key", keys > 0 ? net / keys : 0);
  stats.Add("dataset.bytes", memory.dataset);
  stats.Ratio("dataset.percentage", memory.dataset_percent, 1);
  stats.Ratio("peak.percentage", real(memory.used), real(memory.peak), 100);
  stats.Add("allocator.allocated", memory.allocated);
  stats.Add("allocator.active", memory.active);
  stats.Add("allocator.resident", memory.resident);
  stats.Ratio("allocator-fragmentation.ratio", real(memory.active), real(memory.allocated));
  stats.Signed("allocator-fragmentation.bytes", Difference(memory.active, memory.allocated));
  stats.Ratio("allocator-rss.ratio", real(memory.resident), real(memory.active));
  stats.Signed("allocator-rss.bytes", Difference(memory.resident, memory.active));
  stats.Ratio("rss-overhead.ratio", real(memory.rss), real(memory.resident));
  stats.Signed("rss-overhead.bytes", Difference(memory.rss, memory.resident));
  stats.Ratio("fragmentation", real(memory.rss), real(memory.used));
  stats.Signed("fragmentation.bytes", Difference(memory.rss, memory.used));
  stats.End();
  return Status::Ok();
}
constexpr CommandSpec kMemoryStatsSpec{
    .name = "stats",
    .parent = "memory",
    .arity = 2,
    .group = "server",
    .since = "4.0.0",
    .complexity = "O(1)",
    .summary = "Gives the memory figures one by one.",
    .tips = "nondeterministic_output request_policy:all_shards response_policy:special",
    .handler = MemoryStats,
};

Status MemoryDoctor(CommandContext& ctx) {
  // Below this, fixed costs swamp every ratio.
  constexpr uint64_t kLeastBytes = 5ull << 20;
  const MemoryReport memory = ReadMemoryReport(ctx.engine());
  std::string report;
  if (memory.used < kLeastBytes) {
    report = "Too little memory is in use to judge: fill the server with data and ask again.";
  } else {
    const auto note = [&report](bool holds, std::string_view text) {
      if (holds) report += fmt::format(" * {}\n", text);
    };
    note(memory.peak > memory.used + memory.used / 2,
         "Peak: much more memory was in use once than now, so the resident size may stay above the "
         "data's.");
    note(memory.rss > memory.used + memory.used * 4 / 10,
         "Fragmentation: the process holds over 1.4 times the memory it has handed out. MEMORY "
         "PURGE may help.");
    note(memory.active > memory.allocated + memory.allocated / 10,
         "Allocator: pages are sparsely used, as after many deletions or changes of size.");
    const uint64_t sessions = std::max<uint64_t>(ctx.engine().sessions().size(), 1);
    note(memory.clients / sessions > 200 * 1024,
         "Clients: they hold over 200 KiB each on average. CLIENT LIST shows who (tot-mem).");
    report = report.empty() ? "Nothing stands out in the memory figures."
                            : "What stands out:\n\n" + report;
  }
  ctx.reply().Verbatim("txt", report + "\n");
  return Status::Ok();
}
constexpr CommandSpec kMemoryDoctorSpec{
    .name = "doctor",
    .parent = "memory",
    .arity = 2,
    .group = "server",
    .since = "4.0.0",
    .complexity = "O(1)",
    .summary = "Judges the memory figures in words.",
    .tips = "nondeterministic_output request_policy:all_shards response_policy:special",
    .handler = MemoryDoctor,
};

Status MemoryMallocStats(CommandContext& ctx) {
  const MemoryFigures figures = ReadMemoryFigures();
  const BlobArena& arena = ctx.engine().arena;
  ctx.reply().Verbatim(
      "txt",
      fmt::format(
          "allocator: {}\nallocated: {}\nactive: {}\nresident: {}\nretained: {}\nprocess rss: {}\n"
          "blob arena in use: {}\nblob arena retained: {}\nblob arena mapped: {}\n",
          AllocatorName(), figures.allocated, figures.active, figures.resident, figures.retained,
          figures.rss, arena.in_use_bytes(), arena.retained_bytes(), arena.mapped_bytes()));
  return Status::Ok();
}
constexpr CommandSpec kMemoryMallocStatsSpec{
    .name = "malloc-stats",
    .parent = "memory",
    .arity = 2,
    .group = "server",
    .since = "4.0.0",
    .complexity = "Grows with the memory allocated",
    .summary = "Gives the figures of the allocator as text.",
    .tips = "nondeterministic_output request_policy:all_shards response_policy:special",
    .handler = MemoryMallocStats,
};

Status MemoryPurge(CommandContext& ctx) {
  ctx.engine().arena.ReleaseRetained();
  PurgeAllocator();
  ctx.engine().memory_sample.Forget();
  ctx.reply().Ok();
  return Status::Ok();
}
constexpr CommandSpec kMemoryPurgeSpec{
    .name = "purge",
    .parent = "memory",
    .arity = 2,
    .group = "server",
    .since = "4.0.0",
    .complexity = "Grows with the memory allocated",
    .summary = "Returns unused pages to the operating system.",
    .tips = "request_policy:all_shards response_policy:all_succeeded",
    .handler = MemoryPurge,
};

constexpr CommandSpec kMemoryHelpSpec{
    .name = "help",
    .parent = "memory",
    .arity = 2,
    .flags = kCmdLoading | kCmdStale,
    .group = "server",
    .since = "4.0.0",
    .complexity = "O(1)",
    .summary = "Lists the subcommands.",
    .handler = ReplyContainerHelp,
};

constexpr std::array kMemorySpecs = {
    kMemorySpec,      kMemoryUsageSpec, kMemoryStatsSpec, kMemoryDoctorSpec, kMemoryMallocStatsSpec,
    kMemoryPurgeSpec, kMemoryHelpSpec,
};
static_assert(ValidSpecs(kMemorySpecs));

}  // namespace

CommandFamily MemoryCommands() { return kMemorySpecs; }

}  // namespace cairn
