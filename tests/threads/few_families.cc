// AddAllFamilies of the binary that runs under ThreadSanitizer: what its tests ask for. All of them
// are three times as many files to compile.

#include "server/app/families.h"

namespace cairn {

CommandFamily ConfigCommands();
CommandFamily DatabaseCommands();
CommandFamily KeyExpireCommands();
CommandFamily ListCommands();
CommandFamily ListMoveCommands();
CommandFamily PersistenceCommands();
CommandFamily PubsubCommands();
CommandFamily SessionCommands();
CommandFamily StringCommands();

void AddAllFamilies(CommandTable& table) {
  for (CommandFamily family : {ConfigCommands(), DatabaseCommands(), KeyExpireCommands(),
                               ListCommands(), ListMoveCommands(), PersistenceCommands(),
                               PubsubCommands(), SessionCommands(), StringCommands()}) {
    table.Add(family);
  }
}

}  // namespace cairn
