#pragma once

// Where the lines of the log go: a file or standard output, and syslog when asked. Both are called
// with the logger's lock held.

#include <memory>
#include <string>

#include "server/base/log.h"
#include "server/engine/settings.h"

namespace cairn {

/// Writes to settings.logfile (standard output when empty) and, with syslog-enabled, to syslog
/// under syslog-ident and syslog-facility.
std::unique_ptr<LogSink> NewLogSink(const Settings& settings);

}  // namespace cairn
