#include "server/app/families.h"

namespace cairn {

// Each is defined at the end of the file of its name in server/commands.
CommandFamily ClientCommands();
CommandFamily CommandCommands();
CommandFamily ConfigCommands();
CommandFamily DatabaseCommands();
CommandFamily DebugCommands();
CommandFamily HashCommands();
CommandFamily HashReadCommands();
CommandFamily KeyCommands();
CommandFamily KeyDumpCommands();
CommandFamily KeyExpireCommands();
CommandFamily KeyScanCommands();
CommandFamily MemoryCommands();
CommandFamily PersistenceCommands();
CommandFamily ServerCommands();
CommandFamily SessionCommands();
CommandFamily SetCommands();
CommandFamily SetOperationCommands();
CommandFamily StringCommands();
CommandFamily StringEditCommands();
CommandFamily StringLcsCommands();
CommandFamily WaitCommands();

void AddAllFamilies(CommandTable& table) {
  for (CommandFamily family : {
           ClientCommands(),       CommandCommands(),   ConfigCommands(),     DatabaseCommands(),
           DebugCommands(),        HashCommands(),      HashReadCommands(),   KeyCommands(),
           KeyDumpCommands(),      KeyExpireCommands(), KeyScanCommands(),    MemoryCommands(),
           PersistenceCommands(),  ServerCommands(),    SessionCommands(),    SetCommands(),
           SetOperationCommands(), StringCommands(),    StringEditCommands(), StringLcsCommands(),
           WaitCommands(),
       }) {
    table.Add(family);
  }
}

}  // namespace cairn
