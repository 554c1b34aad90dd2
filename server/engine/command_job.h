#pragma once

// CommandJob: a command in two halves, for work that would keep the executor too long. The first
// half runs on a worker over bytes that nobody changes, while the client is suspended and all
// others are served; the second half is an ordinary run of the same command, with replies and
// effects.
//
//   handler --CommandContext::RunLater--> working --JobRunner::OnWorked--> deferred
//                                           |                                 |
//                                           | client gone, or shutdown        |
//                                           Dispatcher::RunDeferred v v
//                                        dropped                           Finish (may RunLater
//                                        again)
//
// Thread: as each function says; the object is made and destroyed on the executor.

#include "server/base/status.h"

namespace cairn {

class CommandContext;

class CommandJob {
 public:
  virtual ~CommandJob() = default;
  /// Thread: a worker. Sees only what the job holds: no session, no keyspace.
  virtual void Work() = 0;
  /// Once, after Work, with the arguments of the first half, unless the client is gone. What the
  /// first half saw of the keyspace may have changed since. Thread: executor.
  virtual Status Finish(CommandContext& ctx) = 0;
};

}  // namespace cairn
