#include "server/engine/slowlog.h"

#include <fmt/format.h>

#include <algorithm>

namespace cairn {

namespace {

std::vector<std::string> CutArgs(std::span<const std::string_view> args) {
  std::vector<std::string> cut;
  const size_t shown = std::min(args.size(), kSlowLogArgs);
  cut.reserve(shown);
  for (size_t i = 0; i < shown; ++i) {
    if (args.size() > kSlowLogArgs && i == kSlowLogArgs - 1) {
      cut.push_back(fmt::format("... ({} more arguments)", args.size() - kSlowLogArgs + 1));
    } else if (args[i].size() > kSlowLogArgBytes) {
      cut.push_back(fmt::format("{}... ({} more bytes)", args[i].substr(0, kSlowLogArgBytes),
                                args[i].size() - kSlowLogArgBytes));
    } else {
      cut.emplace_back(args[i]);
    }
  }
  return cut;
}

}  // namespace

void SlowLog::Add(int64_t unix_s, int64_t duration_us, std::span<const std::string_view> args,
                  std::string_view peer_address, std::string_view client_name, size_t max_length) {
  entries_.push_front({next_id_++, unix_s, duration_us, CutArgs(args), std::string(peer_address),
                       std::string(client_name)});
  if (entries_.size() > max_length) entries_.resize(max_length);
}

}  // namespace cairn
