#include "server/app/families.h"

namespace cairn {

// Each is defined at the end of the file of its name in server/commands.
CommandFamily BitCommands();
CommandFamily ClientCommands();
CommandFamily CommandCommands();
CommandFamily ConfigCommands();
CommandFamily DatabaseCommands();
CommandFamily DebugCommands();
CommandFamily GeoCommands();
CommandFamily GeoSearchCommands();
CommandFamily HashCommands();
CommandFamily HashReadCommands();
CommandFamily HyperLogLogCommands();
CommandFamily KeyCommands();
CommandFamily KeyDumpCommands();
CommandFamily KeyExpireCommands();
CommandFamily KeyScanCommands();
CommandFamily ListCommands();
CommandFamily ListMoveCommands();
CommandFamily MemoryCommands();
CommandFamily ModuleCommands();
CommandFamily PersistenceCommands();
CommandFamily ServerCommands();
CommandFamily SessionCommands();
CommandFamily SetCommands();
CommandFamily SetOperationCommands();
CommandFamily SortedSetCombineCommands();
CommandFamily SortedSetCommands();
CommandFamily SortedSetPopCommands();
CommandFamily SortedSetRangeCommands();
CommandFamily StreamCommands();
CommandFamily StreamGroupCommands();
CommandFamily StreamInfoCommands();
CommandFamily StreamReadCommands();
CommandFamily StringCommands();
CommandFamily StringEditCommands();
CommandFamily StringLcsCommands();
CommandFamily WaitCommands();

void AddAllFamilies(CommandTable& table) {
  for (CommandFamily family : {BitCommands(),
                               ClientCommands(),
                               CommandCommands(),
                               ConfigCommands(),
                               DatabaseCommands(),
                               DebugCommands(),
                               GeoCommands(),
                               GeoSearchCommands(),
                               HashCommands(),
                               HashReadCommands(),
                               HyperLogLogCommands(),
                               KeyCommands(),
                               KeyDumpCommands(),
                               KeyExpireCommands(),
                               KeyScanCommands(),
                               ListCommands(),
                               ListMoveCommands(),
                               MemoryCommands(),
                               ModuleCommands(),
                               PersistenceCommands(),
                               ServerCommands(),
                               SessionCommands(),
                               SetCommands(),
                               SetOperationCommands(),
                               SortedSetCombineCommands(),
                               SortedSetCommands(),
                               SortedSetPopCommands(),
                               SortedSetRangeCommands(),
                               StreamCommands(),
                               StreamGroupCommands(),
                               StreamInfoCommands(),
                               StreamReadCommands(),
                               StringCommands(),
                               StringEditCommands(),
                               StringLcsCommands(),
                               WaitCommands()}) {
    table.Add(family);
  }
}

}  // namespace cairn
