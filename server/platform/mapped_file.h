#pragma once

// What a fault is about, for handlers of SIGBUS: a page of a mapped file that the disk refuses, or
// that lies behind the end of a file that somebody has shortened, is the error of a read that had
// no call to return it from. The kernel's own list of mappings is asked, so nobody has to register
// what they map, and what a loaded module mapped is known too.

#include <csignal>

namespace cairn {

/// The path of the mapped file that could not be read where the SIGBUS of `info` came from, as
/// /proc/self/maps has it, in memory that stays; null when the fault is about anything else, or
/// nobody can tell. For one fault of the process: other threads that ask meanwhile wait for ever,
/// so end the process. Async-signal-safe. Source: proc(5), sigaction(2).
const char* UnreadableFile(const siginfo_t& info);

/// From now on a SIGBUS about such a file calls `end` with its path, which ends the process by what
/// is async-signal-safe; any other has its default action.
void HandleUnreadableFiles(void (*end)(const char* path));

}  // namespace cairn
