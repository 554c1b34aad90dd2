#pragma once

// Crash report: on SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT (failed CAIRN_CHECK) the log gets
// the signal, the address and a backtrace, then the signal's default action runs, so that core
// dumps and exit statuses stay what supervisors expect. Only async-signal-safe calls are made.
// A page of a mapped file (append-only files, chunk logs) that cannot be read is no crash: with or
// without reports the log gets a line that names the file, and the process ends with status 1, as
// where a read has failed.

#include <string>
#include <string_view>

namespace cairn {

/// Installs the handlers. Reports go to `log_path`, or to standard error when it is empty; the line
/// about a file goes where the log goes, which is standard output then.
void InstallCrashReport(const std::string& log_path);
/// Writes one line to the log and ends the process with status 1. May be called in a handler, once
/// one of the two others was called.
[[noreturn]] void EndFromHandler(std::string_view words);
/// Gives the signals their default actions back, but for files that cannot be read.
void RemoveCrashReport(const std::string& log_path);

}  // namespace cairn
