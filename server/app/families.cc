#include "server/app/families.h"

namespace cairn {

// Each is defined at the end of the file of its name in server/commands, server/scripting or
// server/replication.
CommandFamily AclCommands();
CommandFamily BitCommands();
CommandFamily ClientCommands();
CommandFamily ClientTrackingCommands();
CommandFamily ClusterCommands();
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
CommandFamily LatencyCommands();
CommandFamily ListCommands();
CommandFamily ListMoveCommands();
CommandFamily MemoryCommands();
CommandFamily MigrateCommands();
CommandFamily ModuleCommands();
CommandFamily PersistenceCommands();
CommandFamily PubsubCommands();
CommandFamily ReplicationCommands();
CommandFamily ScriptCommands();
CommandFamily ServerCommands();
CommandFamily SessionCommands();
CommandFamily SetCommands();
CommandFamily SetOperationCommands();
CommandFamily SlowlogCommands();
CommandFamily SortCommands();
CommandFamily SortedSetCombineCommands();
CommandFamily SortedSetCommands();
CommandFamily SortedSetPopCommands();
CommandFamily SortedSetRangeCommands();
CommandFamily StreamClaimCommands();
CommandFamily StreamCommands();
CommandFamily StreamGroupCommands();
CommandFamily StreamInfoCommands();
CommandFamily StreamReadCommands();
CommandFamily StringCommands();
CommandFamily StringEditCommands();
CommandFamily StringLcsCommands();

void AddAllFamilies(CommandTable& table) {
  for (CommandFamily family : {AclCommands(),
                               BitCommands(),
                               ClientCommands(),
                               ClientTrackingCommands(),
                               ClusterCommands(),
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
                               LatencyCommands(),
                               ListCommands(),
                               ListMoveCommands(),
                               MemoryCommands(),
                               MigrateCommands(),
                               ModuleCommands(),
                               PersistenceCommands(),
                               PubsubCommands(),
                               ReplicationCommands(),
                               ScriptCommands(),
                               ServerCommands(),
                               SessionCommands(),
                               SetCommands(),
                               SetOperationCommands(),
                               SlowlogCommands(),
                               SortCommands(),
                               SortedSetCombineCommands(),
                               SortedSetCommands(),
                               SortedSetPopCommands(),
                               SortedSetRangeCommands(),
                               StreamClaimCommands(),
                               StreamCommands(),
                               StreamGroupCommands(),
                               StreamInfoCommands(),
                               StreamReadCommands(),
                               StringCommands(),
                               StringEditCommands(),
                               StringLcsCommands()}) {
    table.Add(family);
  }
}

}  // namespace cairn
