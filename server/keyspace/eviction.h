#pragma once

// What Keyspace::EvictOne goes by: the rules of a maxmemory-policy and the pool of candidates that
// makes sampling come close to the true order. Decides which key goes, never whether one must:
// that is engine/memory_limit. Executor only.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cairn {

/// A maxmemory-policy taken apart.
struct EvictionRules {
  enum class Order : uint8_t {
    kRandom,     ///< any key, databases in turn
    kIdle,       ///< the one longest not used (LRU)
    kFrequency,  ///< the one least often used (LFU)
    kTtl,        ///< the one that expires first
  };
  Order order = Order::kIdle;
  bool volatile_only = false;  ///< only keys with a TTL
  int samples = 5;             ///< keys looked at per database and eviction; at least 1
  bool lazy = false;           ///< big values are freed by the reaper

  bool operator==(const EvictionRules&) const = default;
};

/// The best candidates of the last samples, kept from one eviction to the next, as Redis does.
class EvictionPool {
 public:
  static constexpr size_t kCandidates = 16;
  struct Candidate {
    uint64_t score;  ///< higher goes first
    uint32_t database;
    std::string key;
  };

  /// Keeps it if it is among the best. A key that is in already gets the new score.
  void Offer(uint64_t score, uint32_t database, std::string_view key);
  /// The best, taken out; false when there is none. It may no longer exist.
  bool TakeBest(Candidate* out);
  void Clear() { sorted_.clear(); }
  size_t size() const { return sorted_.size(); }

 private:
  std::vector<Candidate> sorted_;  // by score, the best last
};

}  // namespace cairn
