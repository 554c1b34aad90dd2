#pragma once

// The versions this server reports: its own, and that of the Redis whose behaviour it follows,
// which clients and tools look at to know what they may send.

#include <string_view>

namespace cairn {

inline constexpr std::string_view kCairnVersion = "0.1.0";
inline constexpr std::string_view kRedisVersion = "7.0.15";
/// The same, a byte for each number: redis.REDIS_VERSION_NUM.
inline constexpr int kRedisVersionNumber = 7 << 16 | 0 << 8 | 15;

}  // namespace cairn
