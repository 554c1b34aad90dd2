#include "server/app/families.h"

namespace cairn {

// Each is defined at the end of the file of its name in server/commands.
CommandFamily AclCommands();
CommandFamily BitCommands();
CommandFamily ClientCommands();
CommandFamily ClientTrackingCommands();
CommandFamily CommandCommands();
CommandFamily ConfigCommands();
CommandFamily DatabaseCommands();
CommandFamily DebugCommands();
CommandFamily HashCommands();
CommandFamily HashReadCommands();
CommandFamily HyperLogLogCommands();
CommandFamily KeyCommands();
CommandFamily KeyDumpCommands();
CommandFamily KeyExpireCommands();
CommandFamily KeyScanCommands();
CommandFamily LatencyCommands();
CommandFamily MemoryCommands();
CommandFamily PersistenceCommands();
CommandFamily PubsubCommands();
CommandFamily ServerCommands();
CommandFamily SessionCommands();
CommandFamily SetCommands();
CommandFamily SetOperationCommands();
CommandFamily SlowlogCommands();
CommandFamily StringCommands();
CommandFamily StringEditCommands();
CommandFamily StringLcsCommands();
CommandFamily WaitCommands();

void AddAllFamilies(CommandTable& table) {
  for (CommandFamily family :
       {AclCommands(),     BitCommands(),         ClientCommands(),       ClientTrackingCommands(),
        CommandCommands(), ConfigCommands(),      DatabaseCommands(),     DebugCommands(),
        HashCommands(),    HashReadCommands(),    HyperLogLogCommands(),  KeyCommands(),
        KeyDumpCommands(), KeyExpireCommands(),   KeyScanCommands(),      LatencyCommands(),
        MemoryCommands(),  PersistenceCommands(), PubsubCommands(),       ServerCommands(),
        SessionCommands(), SetCommands(),         SetOperationCommands(), SlowlogCommands(),
        StringCommands(),  StringEditCommands(),  StringLcsCommands(),    WaitCommands()}) {
    table.Add(family);
  }
}

}  // namespace cairn
