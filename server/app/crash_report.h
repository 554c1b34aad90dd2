#pragma once

// Crash report: on SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT (failed CAIRN_CHECK) the log gets
// the signal, the address and a backtrace, then the signal's default action runs, so that core
// dumps and exit statuses stay what supervisors expect. Only async-signal-safe calls are made.

#include <string>

namespace cairn {

/// Installs the handlers. Reports go to `log_path`, or to standard error when it is empty.
void InstallCrashReport(const std::string& log_path);
/// Gives the signals their default actions back.
void RemoveCrashReport();

}  // namespace cairn
