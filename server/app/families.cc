#include "server/app/families.h"

namespace cairn {

// Each is defined at the end of the file of its name in server/commands.
CommandFamily DatabaseCommands();
CommandFamily KeyCommands();
CommandFamily KeyDumpCommands();
CommandFamily KeyExpireCommands();
CommandFamily KeyScanCommands();
CommandFamily StringCommands();
CommandFamily StringEditCommands();
CommandFamily PersistenceCommands();
CommandFamily SessionCommands();
CommandFamily StringLcsCommands();

void AddAllFamilies(CommandTable& table) {
  for (CommandFamily family :
       {DatabaseCommands(), KeyCommands(), KeyDumpCommands(), KeyExpireCommands(), KeyScanCommands(),
        StringCommands(), StringEditCommands(), StringLcsCommands(), PersistenceCommands(), SessionCommands()}) {
    table.Add(family);
  }
}

}  // namespace cairn
