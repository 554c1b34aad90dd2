#include "server/engine/memory_limit.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "server/engine/dispatcher.h"
#include "server/engine/durability.h"
#include "server/engine/engine.h"
#include "server/platform/memory.h"

namespace cairn {

namespace {

// Between two turns of evicting that a command's time limit broke off.
constexpr int64_t kLaterMs = 1;
constexpr int64_t kReaperStepUs = 100;
// How often a command that found nothing to evict looks whether the reaper has freed enough.
constexpr int kReaperSteps = 50;

}  // namespace

EvictionRules RulesOf(const Settings& settings) {
  using Order = EvictionRules::Order;
  EvictionRules rules;
  rules.samples = settings.maxmemory_samples;
  rules.lazy = settings.lazyfree_lazy_eviction;
  switch (settings.maxmemory_policy) {
    case MaxmemoryPolicy::kVolatileLru:
    case MaxmemoryPolicy::kAllkeysLru:
    case MaxmemoryPolicy::kNoEviction:
      rules.order = Order::kIdle;
      break;
    case MaxmemoryPolicy::kVolatileLfu:
    case MaxmemoryPolicy::kAllkeysLfu:
      rules.order = Order::kFrequency;
      break;
    case MaxmemoryPolicy::kVolatileRandom:
    case MaxmemoryPolicy::kAllkeysRandom:
      rules.order = Order::kRandom;
      break;
    case MaxmemoryPolicy::kVolatileTtl:
      rules.order = Order::kTtl;
      break;
  }
  rules.volatile_only = settings.maxmemory_policy == MaxmemoryPolicy::kVolatileLru ||
                        settings.maxmemory_policy == MaxmemoryPolicy::kVolatileLfu ||
                        settings.maxmemory_policy == MaxmemoryPolicy::kVolatileRandom ||
                        settings.maxmemory_policy == MaxmemoryPolicy::kVolatileTtl;
  return rules;
}

MemoryLimit::~MemoryLimit() {
  if (timer_running_) engine_.loop.StopTimer(timer_);
}

int64_t MemoryLimit::TimeLimitUs(int tenacity) {
  constexpr int kLinearUpTo = 10;
  constexpr int64_t kStepUs = 50;
  if (tenacity <= kLinearUpTo) return kStepUs * tenacity;
  if (tenacity >= 100) return INT64_MAX;
  return static_cast<int64_t>(kStepUs * kLinearUpTo * std::pow(1.15, tenacity - kLinearUpTo));
}

uint64_t MemoryLimit::CountedBytes() const {
  uint64_t spared = engine_.keyspace.BytesNotEvictable();
  if (engine_.durability != nullptr) spared += engine_.durability->figures().aof_buffer_bytes;
  // Replicas that lag must not lead to evictions, which would make them lag more.
  if (engine_.replicas != nullptr) {
    const uint64_t held = engine_.replicas->backlog_bytes();
    spared += held - std::min(held, static_cast<uint64_t>(engine_.settings().repl_backlog_size));
  }
  const uint64_t used = engine_.UsedMemory();
  return used - std::min(used, spared);
}

// Memory cannot have grown by more than what was allocated. Other threads' allocations are the
// walker's and the log's buffers: few, and seen when it is measured next.
bool MemoryLimit::FarFromLimit(uint64_t limit) const {
  const uint64_t allocated = ThreadAllocatedBytes();
  if (allocated == 0 || handed_out_ == UINT64_MAX) return false;  // not told, or not yet measured
  const uint64_t arena_bytes = engine_.arena.in_use_bytes();
  const uint64_t arena_grown = arena_bytes - std::min(arena_bytes, arena_bytes_);
  return handed_out_ + (allocated - allocated_) + arena_grown <= limit;
}

uint64_t MemoryLimit::Measure() {
  measured_ = true;
  engine_.keyspace.CountFlushed();
  allocated_ = ThreadAllocatedBytes();
  arena_bytes_ = engine_.arena.in_use_bytes();
  handed_out_ = engine_.UsedMemory() + engine_.keyspace.SlabFreeBytes();
  return CountedBytes();
}

bool MemoryLimit::Hold() {
  const uint64_t limit = engine_.settings().maxmemory;
  // A paused server must not change, and what is being loaded was admitted when it was written.
  if (limit == 0 || engine_.loading || engine_.is_paused()) return true;
  // What a replica holds is its primary's to decide.
  if (engine_.is_replica() && engine_.settings().replica_ignore_maxmemory) return true;
  if (FarFromLimit(limit)) {
    WithinAgain();
    return true;
  }
  if (measured_ && ThreadAllocatedBytes() - allocated_ < kBlindBytes)
    return verdict_ == Verdict::kWithin;
  const uint64_t counted = Measure();
  if (counted <= limit) {
    WithinAgain();
  } else if (engine_.settings().maxmemory_policy == MaxmemoryPolicy::kNoEviction) {
    verdict_ = Verdict::kOver;
  } else {
    const int64_t began_us = engine_.env.MonotonicMicros();
    verdict_ = Evict(counted - limit);
    engine_.NoteLatency("eviction-cycle", (engine_.env.MonotonicMicros() - began_us) / 1000);
  }
  return verdict_ == Verdict::kWithin;
}

uint64_t MemoryLimit::EvictOne(const EvictionRules& rules) {
  if (engine_.settings().latency_monitor_threshold == 0) return engine_.keyspace.EvictOne(rules);
  const int64_t began_us = engine_.env.MonotonicMicros();
  const uint64_t bytes = engine_.keyspace.EvictOne(rules);
  engine_.NoteLatency("eviction-del", (engine_.env.MonotonicMicros() - began_us) / 1000);
  return bytes;
}

MemoryLimit::Verdict MemoryLimit::Evict(uint64_t excess_bytes) {
  const EvictionRules rules = RulesOf(engine_.settings());
  const int64_t limit_us = TimeLimitUs(engine_.settings().maxmemory_eviction_tenacity);
  const int64_t began_us = engine_.env.MonotonicMicros();
  uint64_t freed = 0;
  while (freed < excess_bytes) {
    const uint64_t bytes = EvictOne(rules);
    if (bytes == 0) return AwaitReaper(engine_.settings().maxmemory);
    freed += bytes;
    // Each time: a sample among few keys with an expiry reads many others.
    if (freed < excess_bytes && engine_.env.MonotonicMicros() - began_us > limit_us) {
      GoOnLater();
      return Verdict::kWithin;  // enough for one command
    }
  }
  WithinAgain();
  return Verdict::kWithin;
}

// Nothing can be evicted, but the reaper may be about to free what was deleted before.
MemoryLimit::Verdict MemoryLimit::AwaitReaper(uint64_t limit) {
  for (int i = 0; i < kReaperSteps && engine_.keyspace.figures().lazyfree_pending_objects > 0;
       ++i) {
    std::this_thread::sleep_for(std::chrono::microseconds(kReaperStepUs));
    if (Measure() <= limit) {
      WithinAgain();
      return Verdict::kWithin;
    }
  }
  return Verdict::kOver;
}

bool MemoryLimit::LimitChanged() {
  const uint64_t limit = engine_.settings().maxmemory;
  measured_ = false;
  if (limit == 0 || CountedBytes() <= limit) return false;
  if (engine_.settings().maxmemory_policy != MaxmemoryPolicy::kNoEviction) GoOnLater();
  return true;
}

void MemoryLimit::GoOnLater() {
  Stats& stats = engine_.stats;
  if (stats.eviction_exceeded_since_us == 0)
    stats.eviction_exceeded_since_us = engine_.env.MonotonicMicros();
  if (timer_running_) return;
  timer_running_ = true;
  timer_ = engine_.loop.StartTimer(kLaterMs, kLaterMs, [this] {
    engine_.RefreshClock();
    measured_ = false;
    if (engine_.is_paused()) {  // nothing may go until it is over, and then a command will ask
      timer_running_ = false;
      engine_.loop.StopTimer(timer_);
      return;
    }
    Hold();
    engine_.dispatcher->ServeBetweenCommands();
    // Hold clears the mark when memory is within the limit, and gives up when nothing may go.
    if (engine_.stats.eviction_exceeded_since_us != 0 && verdict_ == Verdict::kWithin) return;
    if (verdict_ == Verdict::kWithin) WithinAgain();
    timer_running_ = false;
    engine_.loop.StopTimer(timer_);
  });
}

void MemoryLimit::WithinAgain() {
  verdict_ = Verdict::kWithin;
  Stats& stats = engine_.stats;
  if (stats.eviction_exceeded_since_us == 0) return;
  stats.total_eviction_exceeded_us +=
      static_cast<uint64_t>(engine_.env.MonotonicMicros() - stats.eviction_exceeded_since_us);
  stats.eviction_exceeded_since_us = 0;
}

}  // namespace cairn
