#pragma once

// What CLIENT LIST and CLIENT INFO say of a session, and the rules for its name. Reads sessions,
// changes none but for the name; commands and the log use it. Thread: executor.

#include <string>
#include <string_view>

#include "server/base/status.h"
#include "server/engine/session.h"

namespace cairn {

/// One line without its end, the fields and their order as Redis 7.0 has them. `command` is the
/// command the session is busy with or ran last (nullptr: none); `argument_bytes` what its
/// arguments hold now. Cost: O(queued commands) for the memory fields.
std::string ClientLine(const Session& session, int64_t now_ms, const CommandSpec* command,
                       size_t argument_bytes);

/// CLIENT SETNAME's rule: printable bytes without spaces; an empty name takes the name away.
Status SetClientName(Session& session, std::string_view name);

}  // namespace cairn
