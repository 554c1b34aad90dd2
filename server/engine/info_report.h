#pragma once

// INFO's text: sections and fields as Redis 7.0 names and orders them, then CairnKV's own at the
// end of a section. Reads figures, changes nothing. Thread: executor.

#include <set>
#include <string>
#include <string_view>

namespace cairn {

class Engine;

/// The sections asked for, in Redis's order. Names are lower case; "all", "default" and
/// "everything" are understood.
std::string InfoReport(Engine& engine, const std::set<std::string>& sections);

}  // namespace cairn
