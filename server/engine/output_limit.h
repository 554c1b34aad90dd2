#pragma once

// client-output-buffer-limit as a judgement of one session: how much of its output counts, and its
// end when that is too much. Asked at the end of each turn, and by the commands whose reply may
// outgrow any memory before a turn ends. Thread: executor.

#include "server/engine/session.h"
#include "server/engine/settings.h"

namespace cairn {

class Engine;

/// Closes the session when its unsent output has passed its class's limit, the soft one for long
/// enough; says whether it is closing. Without a connection nothing is done.
bool CloseIfOverOutputLimit(Engine& engine, Session& session);

/// The same in the middle of a reply: says whether it is to stop. One that is not going to be sent
/// (CLIENT REPLY OFF, SKIP) closes nobody.
bool StopsReply(Engine& engine, Session& session);

}  // namespace cairn
