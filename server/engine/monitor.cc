#include "server/engine/monitor.h"

#include <fmt/format.h>

#include <algorithm>

#include "server/base/strings.h"
#include "server/engine/config.h"
#include "server/engine/engine.h"

namespace cairn {

namespace {

void RedactHello(std::vector<std::string_view>& args) {
  for (size_t i = 2; i < args.size(); ++i) {
    if (EqualsIgnoreCase(args[i], "setname")) {
      ++i;
    } else if (EqualsIgnoreCase(args[i], "auth") && i + 2 < args.size()) {
      args[i + 1] = args[i + 2] = kRedacted;
      i += 2;
    }
  }
}

void RedactMigrate(std::vector<std::string_view>& args) {
  // migrate host port key db timeout [options]; behind KEYS there are only keys.
  for (size_t i = 6; i < args.size() && !EqualsIgnoreCase(args[i], "keys"); ++i) {
    if (EqualsIgnoreCase(args[i], "auth") && i + 1 < args.size()) {
      args[++i] = kRedacted;
    } else if (EqualsIgnoreCase(args[i], "auth2") && i + 2 < args.size()) {
      args[i + 1] = args[i + 2] = kRedacted;
      i += 2;
    }
  }
}

}  // namespace

std::vector<std::string_view> RedactedArgs(const CommandSpec& spec,
                                           std::span<const std::string_view> args) {
  std::vector<std::string_view> shown(args.begin(), args.end());
  if (spec.name == "auth" && spec.parent.empty()) {
    // More than two words are a syntax error and no secret.
    if (shown.size() <= 3) std::fill(shown.begin() + 1, shown.end(), kRedacted);
  } else if (spec.name == "hello" && spec.parent.empty()) {
    RedactHello(shown);
  } else if (spec.name == "setuser" && spec.parent == "acl") {
    std::fill(shown.begin() + 2, shown.end(), kRedacted);
  } else if (spec.name == "set" && spec.parent == "config") {
    for (size_t i = 2; i + 1 < shown.size(); i += 2) {
      if (Config::IsSensitive(ToLower(shown[i]))) shown[i + 1] = kRedacted;
    }
  } else if (spec.name == "migrate" && spec.parent.empty()) {
    RedactMigrate(shown);
  }
  return shown;
}

void MonitorFeed::Join(Session& session) {
  if (session.monitor) return;
  session.monitor = true;
  monitors_.push_back(&session);
  engine_.UpdateObservation();
}

void MonitorFeed::Leave(Session& session) {
  if (!session.monitor) return;
  session.monitor = false;
  std::erase(monitors_, &session);
  engine_.UpdateObservation();
}

void MonitorFeed::Feed(uint32_t db, const Session* origin, const CommandSpec& spec,
                       std::span<const std::string_view> args) {
  if (monitors_.empty() || engine_.loading) return;
  const int64_t now_us = engine_.env.WallMicros();
  std::string line = fmt::format("+{}.{:06d} [{} ", now_us / 1000000, now_us % 1000000, db);
  if (origin == nullptr) {
    line += "lua";
  } else if (origin->unix_socket) {
    line += "unix:" + engine_.settings().unixsocket;
  } else {
    line += origin->peer_address;
  }
  line += ']';
  for (std::string_view arg : RedactedArgs(spec, args)) line += " " + QuoteRepr(arg);
  line += "\r\n";
  for (Session* monitor : monitors_) {
    // These are replies to MONITOR, as CLIENT REPLY sees it, no messages. Its own QUIT comes too
    // late.
    if (monitor->reply_mode == ReplyMode::kOff || monitor->reply_mode == ReplyMode::kSkipThis ||
        !monitor->TakesOutput())
      continue;
    monitor->PushBuffer().Append(line);
    engine_.OutputAdded(*monitor);
  }
}

}  // namespace cairn
