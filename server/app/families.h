#pragma once

// The list of all command families, by hand: no static initialiser registers anything behind one's back.

#include "server/engine/command_table.h"

namespace cairn {

/// Registers every built-in command.
void AddAllFamilies(CommandTable& table);

}  // namespace cairn
