#pragma once

// client-output-buffer-limit as a judgement of one session: how much of its output counts, and its
// end when that is too much. Asked whenever output was added (after each command, each of EXEC,
// each message and line of MONITOR), by the commands whose reply alone may outgrow any memory, and
// as time passes for the soft limits. Thread: executor.

#include "server/engine/session.h"
#include "server/engine/settings.h"

namespace cairn {

class Engine;

/// Says whether the session's unsent output has passed its class's limit, the soft one for long
/// enough. From then on it runs no command and is told nothing more; whoever flushes its connection
/// closes it. What is going on comes to its end before: the rest of EXEC, a script, the count of
/// receivers of a message. False without a connection, and of the primary's.
bool IsOverOutputLimit(Engine& engine, Session& session);

/// Bytes of the unsent output that count.
uint64_t CountedOutput(const Session& session);

/// IsOverOutputLimit after each command: what is small for every limit, as nearly all output, costs
/// a compare.
inline void JudgeOutput(Engine& engine, Session& session) {
  if (session.output.size() > kReplyBufferInitialBytes) [[unlikely]]
    IsOverOutputLimit(engine, session);
}

/// The same in the middle of a reply: says whether it is to stop. One that is not going to be sent
/// (CLIENT REPLY OFF, SKIP) closes nobody.
bool StopsReply(Engine& engine, Session& session);

}  // namespace cairn
