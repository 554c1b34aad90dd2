#pragma once

// The text of INFO: Redis's sections, fields and order, filled from what this server counts; fields
// of its own stand at the end of a section. It collects on demand and keeps nothing. Thread:
// executor.

#include <span>
#include <string>
#include <string_view>

#include "server/engine/engine.h"

namespace cairn {

/// The sections that `names` ask for, each once, in fixed order. No names: the default ones; "all",
/// "everything" and "default" name groups; unknown names are ignored.
/// Cost: O(commands + clients), plus about 20 us for the memory section.
std::string InfoReport(Engine& engine, std::span<const std::string_view> names);

/// Memory figures that INFO memory and MEMORY STATS both show, in bytes.
struct MemoryReport {
  uint64_t used = 0;      ///< allocator and blob arena
  uint64_t peak = 0;      ///< highest `used` seen
  uint64_t startup = 0;   ///< before the first key
  uint64_t clients = 0;   ///< sessions with their buffers
  uint64_t backlog = 0;   ///< the stream kept for replicas, up to repl-backlog-size
  uint64_t replicas = 0;  ///< what is kept beyond that for those who are behind
  uint64_t aof_buffer = 0;
  uint64_t overhead = 0;                                      ///< everything but keys and values
  uint64_t dataset = 0;                                       ///< used - overhead
  double dataset_percent = 0;                                 ///< of used - startup
  uint64_t allocated = 0, active = 0, resident = 0, rss = 0;  ///< allocator and kernel
};
MemoryReport ReadMemoryReport(Engine& engine);

}  // namespace cairn
