#pragma once

// PrefetchLine: asks the processor for a cache line without waiting for it. Not for addresses that
// the next few instructions use. Pure; any thread.

namespace cairn {

/// Any address is allowed, mapped or not. Cost: one instruction, and a line of the cache.
inline void PrefetchLine(const void* address) {
  __builtin_prefetch(address);
  // A function that only prefetches has no effect in the eyes of GCC 12, which then drops the calls
  // to it; an empty asm is an effect.
  asm volatile("");
}

}  // namespace cairn
