#pragma once

// The signals that end the process, as they come while an end is under way already and the loop
// does not turn (it saves): a SIGINT after another, or after a SIGTERM, does not wait for that.
// Handlers have nothing but globals to read, so there is one of this in a process. Thread: main.

namespace cairn {

/// Puts itself in front of the handlers that SIGINT and SIGTERM have. `rdb_temp_path`: the file of
/// a save on the main thread, removed when the process ends in the midst of it; relative to where
/// the process works.
void InstallShutdownSignals(const char* rdb_temp_path);
/// The shutdown was given up: the next SIGINT asks for another.
void ForgetShutdownSignals();
/// All is saved: what comes from now on comes too late.
void IgnoreShutdownSignals();

}  // namespace cairn
