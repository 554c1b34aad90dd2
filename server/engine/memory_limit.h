#pragma once

// MemoryLimit: holds the server to maxmemory. Measures what counts, has the keyspace evict by the
// policy, and says when a command that takes memory must be refused. It does not choose keys: that
// is Keyspace::EvictOne. Thread: executor.
//
// What counts is used memory less what no eviction would bring down: what the log keeps until it is
// durable, and what is held for a running snapshot. Asking the allocator costs about 10 us, so it
// is asked once a batch at most, and again within a batch when more than kBlindBytes were allocated
// since; far from the limit a bound from the executor's own allocations spares even that.

#include <cstdint>

#include "server/keyspace/eviction.h"
#include "server/platform/transport.h"

namespace cairn {

class Engine;
struct Settings;

class MemoryLimit {
 public:
  /// What a batch may allocate before memory is measured again.
  static constexpr uint64_t kBlindBytes = 256 * 1024;

  explicit MemoryLimit(Engine& engine) : engine_(engine) {}
  MemoryLimit(const MemoryLimit&) = delete;
  MemoryLimit& operator=(const MemoryLimit&) = delete;
  ~MemoryLimit();

  /// A new batch of commands: what was measured is old.
  void BeginBatch() { measured_ = false; }
  /// Evicts as needed, at most for the time maxmemory-eviction-tenacity grants; what is left to
  /// evict then goes on from a timer between turns. False: memory is over the limit and no key may
  /// go, so commands that take memory are refused. Cost: two loads while far from the limit.
  bool Hold();
  /// maxmemory was set: begins at once when memory is over it. Returns whether it is.
  bool LimitChanged();

  /// Used memory that counts against the limit, in bytes. Cost: about 10 us.
  uint64_t CountedBytes() const;
  /// How long one command may be held up by evicting. Source: redis 7.0.15 evict.c,
  /// evictionTimeLimitUs: 50 us a step up to 10, growing by 15 % a step above, no limit at 100.
  static int64_t TimeLimitUs(int tenacity);

 private:
  enum class Verdict { kWithin, kOver };
  bool FarFromLimit(uint64_t limit) const;
  uint64_t Measure();
  Verdict Evict(uint64_t excess_bytes);
  uint64_t EvictOne(const EvictionRules& rules);
  Verdict AwaitReaper(uint64_t limit);
  void GoOnLater();
  void WithinAgain();

  Engine& engine_;
  bool measured_ = false;
  Verdict verdict_ = Verdict::kWithin;
  // When last measured: what was handed out, counted or not, and by then by the executor alone.
  uint64_t handed_out_ = UINT64_MAX;
  uint64_t allocated_ = 0;
  uint64_t arena_bytes_ = 0;
  TimerId timer_ = 0;
  bool timer_running_ = false;
};

/// The rules that a maxmemory-policy stands for. Requires: not noeviction.
EvictionRules RulesOf(const Settings& settings);

}  // namespace cairn
