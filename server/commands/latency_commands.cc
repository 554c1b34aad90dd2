// LATENCY: what held the loop (engine/latency), and how long commands take (INFO latencystats in
// full).

#include <array>

#include "server/base/strings.h"
#include "server/engine/command_reference.h"
#include "server/engine/engine.h"

namespace cairn {

namespace {

constexpr CommandSpec kLatencySpec{
    .name = "latency",
    .arity = -2,
    .group = "server",
    .since = "2.8.13",
    .complexity = "Depends on subcommand.",
    .summary = "Groups the commands about latency.",
};

constexpr uint64_t kWatching = kCmdAdmin | kCmdNoScript | kCmdLoading | kCmdStale;
constexpr std::string_view kOwnTips =
    "nondeterministic_output request_policy:all_nodes response_policy:special";

int64_t UnixSeconds(CommandContext& ctx) { return ctx.engine().env.WallMicros() / 1000000; }

Status LatencyLatest(CommandContext& ctx) {
  const auto& events = ctx.engine().latency.events();
  RespWriter& reply = ctx.reply();
  reply.ArrayHeader(events.size());
  for (const auto& [event, series] : events) {
    reply.ArrayHeader(4);
    reply.Bulk(event);
    reply.Integer(series.last().unix_s);
    reply.Integer(series.last().latency_ms);
    reply.Integer(series.max_ms());
  }
  return Status::Ok();
}
constexpr CommandSpec kLatencyLatestSpec{
    .name = "latest",
    .parent = "latency",
    .arity = 2,
    .flags = kWatching,
    .group = "server",
    .since = "2.8.13",
    .complexity = "O(1)",
    .summary = "Returns the newest sample of every event.",
    .tips = kOwnTips,
    .handler = LatencyLatest,
};

Status LatencyHistory(CommandContext& ctx) {
  const LatencySeries* series = ctx.engine().latency.Find(ctx.arg(2));
  RespWriter& reply = ctx.reply();
  if (series == nullptr) {
    reply.ArrayHeader(0);
    return Status::Ok();
  }
  const std::vector<LatencySample> samples = series->Samples();
  reply.ArrayHeader(samples.size());
  for (const LatencySample& sample : samples) {
    reply.ArrayHeader(2);
    reply.Integer(sample.unix_s);
    reply.Integer(sample.latency_ms);
  }
  return Status::Ok();
}
constexpr CommandSpec kLatencyHistorySpec{
    .name = "history",
    .parent = "latency",
    .arity = 3,
    .flags = kWatching,
    .group = "server",
    .since = "2.8.13",
    .complexity = "O(1)",
    .summary = "Returns the samples of one event.",
    .synopsis = "event",
    .tips = kOwnTips,
    .handler = LatencyHistory,
};

Status LatencyReset(CommandContext& ctx) {
  LatencyMonitor& latency = ctx.engine().latency;
  int64_t reset = 0;
  if (ctx.argc() == 2) reset = static_cast<int64_t>(latency.ResetAll());
  for (size_t i = 2; i < ctx.argc(); ++i) reset += latency.Reset(ctx.arg(i));
  ctx.reply().Integer(reset);
  return Status::Ok();
}
constexpr CommandSpec kLatencyResetSpec{
    .name = "reset",
    .parent = "latency",
    .arity = -2,
    .flags = kWatching,
    .group = "server",
    .since = "2.8.13",
    .complexity = "O(1)",
    .summary = "Forgets the samples of some events, or of all.",
    .synopsis = "[event...]",
    .tips = "request_policy:all_nodes response_policy:all_succeeded",
    .handler = LatencyReset,
};

Status LatencyGraphCommand(CommandContext& ctx) {
  const LatencySeries* series = ctx.engine().latency.Find(ctx.arg(2));
  if (series == nullptr) {
    return QuotingError({"ERR No samples available for event '", ctx.arg(2), "'"});
  }
  ctx.reply().Verbatim("txt", LatencyGraph(ctx.arg(2), *series, UnixSeconds(ctx)));
  return Status::Ok();
}
constexpr CommandSpec kLatencyGraphSpec{
    .name = "graph",
    .parent = "latency",
    .arity = 3,
    .flags = kWatching,
    .group = "server",
    .since = "2.8.13",
    .complexity = "O(1)",
    .summary = "Draws the samples of one event.",
    .synopsis = "event",
    .tips = kOwnTips,
    .handler = LatencyGraphCommand,
};

Status LatencyDoctorCommand(CommandContext& ctx) {
  ctx.reply().Verbatim("txt", LatencyDoctor(ctx.engine().latency, UnixSeconds(ctx),
                                            ctx.settings().latency_monitor_threshold));
  return Status::Ok();
}
constexpr CommandSpec kLatencyDoctorSpec{
    .name = "doctor",
    .parent = "latency",
    .arity = 2,
    .flags = kWatching,
    .group = "server",
    .since = "2.8.13",
    .complexity = "O(1)",
    .summary = "Explains what was seen and what may help.",
    .tips = kOwnTips,
    .handler = LatencyDoctorCommand,
};

// --- histogram -------------------------------------------------------------------------------

/// First and last limit of LATENCY HISTOGRAM in nanoseconds: powers of two from about a microsecond
/// to about a second, as the log iterator of Redis's histograms walks them.
constexpr uint64_t kFirstLimitNs = 1024, kLastLimitNs = uint64_t{1} << 30;

const Histogram* HistogramOf(const Command& command) {
  const Histogram* histogram = command.counters.latency_ticks.get();
  return histogram != nullptr && histogram->count() > 0 ? histogram : nullptr;
}

void ReplyHistogram(CommandContext& ctx, const Command& command) {
  const Histogram& histogram = *HistogramOf(command);
  RespWriter& reply = ctx.reply();
  reply.Bulk(command.full_name);
  reply.MapHeader(2);
  reply.Bulk("calls");
  reply.Integer(static_cast<int64_t>(histogram.count()));
  reply.Bulk("histogram_usec");
  const auto mark = reply.BeginDeferred();
  const double ns_per_tick = ctx.engine().stats.ticks.ToMicros(1) * 1000;
  uint64_t previous = 0;
  size_t pairs = 0;
  for (uint64_t limit_ns = kFirstLimitNs; previous < histogram.count(); limit_ns *= 2) {
    // All that is longer stands under the last limit.
    const uint64_t count = limit_ns >= kLastLimitNs
                               ? histogram.count()
                               : histogram.CountAtMost(static_cast<uint64_t>(
                                     static_cast<double>(limit_ns) / ns_per_tick));
    if (count == previous) continue;
    previous = count;
    ++pairs;
    // A limit is shown with the width of its bucket, 1/128, added.
    reply.Integer(static_cast<int64_t>((limit_ns + limit_ns / 128 - 1) / 1000));
    reply.Integer(static_cast<int64_t>(count));
  }
  reply.EndDeferredMap(mark, pairs);
}

Status LatencyHistogram(CommandContext& ctx) {
  std::vector<const Command*> shown;
  const auto add = [&shown](const Command& command) {
    if (HistogramOf(command) != nullptr) shown.push_back(&command);
    for (const Command* sub : command.subcommands) {
      if (HistogramOf(*sub) != nullptr) shown.push_back(sub);
    }
  };
  if (ctx.argc() == 2) {
    for (const Command* command : ctx.engine().commands.top_level()) add(*command);
  }
  for (size_t i = 2; i < ctx.argc(); ++i) {
    const Command* command = ctx.engine().commands.FindByFullName(ctx.arg(i));
    if (command != nullptr) add(*command);
  }
  ctx.reply().MapHeader(shown.size());
  for (const Command* command : shown) ReplyHistogram(ctx, *command);
  return Status::Ok();
}
constexpr CommandSpec kLatencyHistogramSpec{
    .name = "histogram",
    .parent = "latency",
    .arity = -2,
    .flags = kWatching,
    .group = "server",
    .since = "7.0.0",
    .complexity =
        "O(N) where N is the number of commands with latency information being retrieved.",
    .summary = "Returns how long commands took, as cumulative histograms.",
    .synopsis = "[command...]",
    .tips = kOwnTips,
    .handler = LatencyHistogram,
};

constexpr CommandSpec kLatencyHelpSpec{
    .name = "help",
    .parent = "latency",
    .arity = 2,
    .flags = kCmdLoading | kCmdStale,
    .group = "server",
    .since = "2.8.13",
    .complexity = "O(1)",
    .summary = "Lists the subcommands.",
    .handler = ReplyContainerHelp,
};

constexpr std::array kLatencySpecs = {
    kLatencySpec,      kLatencyLatestSpec, kLatencyHistorySpec,   kLatencyResetSpec,
    kLatencyGraphSpec, kLatencyDoctorSpec, kLatencyHistogramSpec, kLatencyHelpSpec,
};
static_assert(ValidSpecs(kLatencySpecs));

}  // namespace

CommandFamily LatencyCommands() { return kLatencySpecs; }

}  // namespace cairn
