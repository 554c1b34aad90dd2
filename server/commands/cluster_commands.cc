// CLUSTER and what belongs to it. This server has no cluster mode, so every one of them answers as
// a redis-server with cluster support disabled does; their specs are here because clients ask
// COMMAND.

#include <array>

#include "server/engine/command_context.h"

namespace cairn {

namespace {

/// HELP too: Redis looks at the mode first.
Status RefuseCluster(CommandContext&) {
  return Status::Client("ERR This instance has cluster support disabled");
}

constexpr CommandSpec kAskingSpec{
    .name = "asking",
    .arity = 1,
    .flags = kCmdFast,
    .acl = kAclConnection,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(1)",
    .summary = "Lets the next command use a slot that is being imported.",
    .handler = RefuseCluster,
};

constexpr CommandSpec kReadOnlySpec{
    .name = "readonly",
    .arity = 1,
    .flags = kCmdFast | kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(1)",
    .summary = "Lets a connection read from a replica of a cluster.",
    .handler = RefuseCluster,
};

constexpr CommandSpec kReadWriteSpec{
    .name = "readwrite",
    .arity = 1,
    .flags = kCmdFast | kCmdLoading | kCmdStale,
    .acl = kAclConnection,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(1)",
    .summary = "Ends what READONLY began.",
    .handler = RefuseCluster,
};

constexpr CommandSpec kClusterSpec{
    .name = "cluster",
    .arity = -2,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "That of the subcommand.",
    .summary = "Groups the commands about the cluster.",
};

constexpr CommandSpec kInfoSpec{
    .name = "info",
    .parent = "cluster",
    .arity = 2,
    .flags = kCmdStale,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(1)",
    .summary = "Describes the state of the cluster.",
    .tips = "nondeterministic_output",
    .handler = RefuseCluster,
};

constexpr CommandSpec kNodesSpec{
    .name = "nodes",
    .parent = "cluster",
    .arity = 2,
    .flags = kCmdStale,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(N) for N nodes.",
    .summary = "Describes the nodes as this one knows them.",
    .tips = "nondeterministic_output",
    .handler = RefuseCluster,
};

constexpr CommandSpec kShardsSpec{
    .name = "shards",
    .parent = "cluster",
    .arity = 2,
    .flags = kCmdStale,
    .group = "cluster",
    .since = "7.0.0",
    .complexity = "O(N) for N nodes.",
    .summary = "Maps hash slots to nodes, by shards.",
    .tips = "nondeterministic_output",
    .handler = RefuseCluster,
};

constexpr CommandSpec kSlotsSpec{
    .name = "slots",
    .parent = "cluster",
    .arity = 2,
    .flags = kCmdStale,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(N) for N nodes.",
    .summary = "Maps hash slots to nodes.",
    .tips = "nondeterministic_output",
    .history =
        "4.0.0|IDs of nodes.\n"
        "7.0.0|More about the network of nodes.",
    .deprecated_since = "7.0.0",
    .replaced_by = "`CLUSTER SHARDS`",
    .handler = RefuseCluster,
};

constexpr CommandSpec kLinksSpec{
    .name = "links",
    .parent = "cluster",
    .arity = 2,
    .flags = kCmdStale,
    .group = "cluster",
    .since = "7.0.0",
    .complexity = "O(N) for N nodes.",
    .summary = "Lists the connections between this node and the others.",
    .tips = "nondeterministic_output",
    .handler = RefuseCluster,
};

constexpr CommandSpec kMyidSpec{
    .name = "myid",
    .parent = "cluster",
    .arity = 2,
    .flags = kCmdStale,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(1)",
    .summary = "Tells this node's ID.",
    .handler = RefuseCluster,
};

constexpr CommandSpec kKeyslotSpec{
    .name = "keyslot",
    .parent = "cluster",
    .arity = 3,
    .flags = kCmdStale,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(N) for N bytes of the key.",
    .summary = "Tells the hash slot of a key.",
    .synopsis = "key:string",
    .handler = RefuseCluster,
};

constexpr CommandSpec kCountkeysinslotSpec{
    .name = "countkeysinslot",
    .parent = "cluster",
    .arity = 3,
    .flags = kCmdStale,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(1)",
    .summary = "Counts the keys of a hash slot.",
    .synopsis = "slot:integer",
    .handler = RefuseCluster,
};

constexpr CommandSpec kGetkeysinslotSpec{
    .name = "getkeysinslot",
    .parent = "cluster",
    .arity = 4,
    .flags = kCmdStale,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(log(N)) for N keys.",
    .summary = "Names keys of a hash slot.",
    .synopsis = "slot:integer count:integer",
    .tips = "nondeterministic_output",
    .handler = RefuseCluster,
};

constexpr CommandSpec kReplicasSpec{
    .name = "replicas",
    .parent = "cluster",
    .arity = 3,
    .flags = kCmdAdmin | kCmdStale,
    .group = "cluster",
    .since = "5.0.0",
    .complexity = "O(1)",
    .summary = "Lists the replicas of a primary.",
    .synopsis = "node-id",
    .tips = "nondeterministic_output",
    .handler = RefuseCluster,
};

constexpr CommandSpec kSlavesSpec{
    .name = "slaves",
    .parent = "cluster",
    .arity = 3,
    .flags = kCmdAdmin | kCmdStale,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(1)",
    .summary = "Lists the replicas of a primary.",
    .synopsis = "node-id",
    .tips = "nondeterministic_output",
    .deprecated_since = "5.0.0",
    .replaced_by = "`CLUSTER REPLICAS`",
    .handler = RefuseCluster,
};

constexpr CommandSpec kCountFailureReportsSpec{
    .name = "count-failure-reports",
    .parent = "cluster",
    .arity = 3,
    .flags = kCmdAdmin | kCmdStale,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(N) for N reports.",
    .summary = "Counts the nodes that take a node for failed.",
    .synopsis = "node-id",
    .tips = "nondeterministic_output",
    .handler = RefuseCluster,
};

constexpr CommandSpec kMeetSpec{
    .name = "meet",
    .parent = "cluster",
    .arity = -4,
    .flags = kCmdAdmin | kCmdStale | kCmdNoAsyncLoading,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(1)",
    .summary = "Makes another node known to this one.",
    .synopsis = "ip port:integer [cluster_bus_port:integer@4.0.0]",
    .history = "4.0.0|Argument `cluster_bus_port`.",
    .handler = RefuseCluster,
};

constexpr CommandSpec kForgetSpec{
    .name = "forget",
    .parent = "cluster",
    .arity = 3,
    .flags = kCmdAdmin | kCmdStale | kCmdNoAsyncLoading,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(1)",
    .summary = "Removes a node from the table of nodes.",
    .synopsis = "node-id",
    .handler = RefuseCluster,
};

constexpr CommandSpec kReplicateSpec{
    .name = "replicate",
    .parent = "cluster",
    .arity = 3,
    .flags = kCmdAdmin | kCmdStale | kCmdNoAsyncLoading,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(1)",
    .summary = "Makes this node a replica of another.",
    .synopsis = "node-id",
    .handler = RefuseCluster,
};

constexpr CommandSpec kFailoverSpec{
    .name = "failover",
    .parent = "cluster",
    .arity = -2,
    .flags = kCmdAdmin | kCmdStale | kCmdNoAsyncLoading,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(1)",
    .summary = "Has a replica take its primary's place.",
    .synopsis = "[options(FORCE|TAKEOVER)]",
    .handler = RefuseCluster,
};

constexpr CommandSpec kResetSpec{
    .name = "reset",
    .parent = "cluster",
    .arity = -2,
    .flags = kCmdAdmin | kCmdNoScript | kCmdStale,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(N) for N known nodes, and that of FLUSHALL.",
    .summary = "Makes this node forget the cluster.",
    .synopsis = "[hard_soft(HARD|SOFT)]",
    .handler = RefuseCluster,
};

constexpr CommandSpec kSaveconfigSpec{
    .name = "saveconfig",
    .parent = "cluster",
    .arity = 2,
    .flags = kCmdAdmin | kCmdStale | kCmdNoAsyncLoading,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(1)",
    .summary = "Writes the state of the cluster to disk.",
    .handler = RefuseCluster,
};

constexpr CommandSpec kBumpepochSpec{
    .name = "bumpepoch",
    .parent = "cluster",
    .arity = 2,
    .flags = kCmdAdmin | kCmdStale | kCmdNoAsyncLoading,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(1)",
    .summary = "Moves this node's configuration epoch on.",
    .tips = "nondeterministic_output",
    .handler = RefuseCluster,
};

constexpr CommandSpec kSetConfigEpochSpec{
    .name = "set-config-epoch",
    .parent = "cluster",
    .arity = 3,
    .flags = kCmdAdmin | kCmdStale | kCmdNoAsyncLoading,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(1)",
    .summary = "Sets the configuration epoch of a new node.",
    .synopsis = "config-epoch:integer",
    .handler = RefuseCluster,
};

constexpr CommandSpec kAddslotsSpec{
    .name = "addslots",
    .parent = "cluster",
    .arity = -3,
    .flags = kCmdAdmin | kCmdStale | kCmdNoAsyncLoading,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(N) for N slots.",
    .summary = "Gives hash slots to this node.",
    .synopsis = "slot:integer...",
    .handler = RefuseCluster,
};

constexpr CommandSpec kAddslotsrangeSpec{
    .name = "addslotsrange",
    .parent = "cluster",
    .arity = -4,
    .flags = kCmdAdmin | kCmdStale | kCmdNoAsyncLoading,
    .group = "cluster",
    .since = "7.0.0",
    .complexity = "O(N) for the slots of all ranges.",
    .summary = "Gives ranges of hash slots to this node.",
    .synopsis = "start-slot_end-slot{start-slot:integer end-slot:integer}...",
    .handler = RefuseCluster,
};

constexpr CommandSpec kDelslotsSpec{
    .name = "delslots",
    .parent = "cluster",
    .arity = -3,
    .flags = kCmdAdmin | kCmdStale | kCmdNoAsyncLoading,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(N) for N slots.",
    .summary = "Takes hash slots from this node.",
    .synopsis = "slot:integer...",
    .handler = RefuseCluster,
};

constexpr CommandSpec kDelslotsrangeSpec{
    .name = "delslotsrange",
    .parent = "cluster",
    .arity = -4,
    .flags = kCmdAdmin | kCmdStale | kCmdNoAsyncLoading,
    .group = "cluster",
    .since = "7.0.0",
    .complexity = "O(N) for the slots of all ranges.",
    .summary = "Takes ranges of hash slots from this node.",
    .synopsis = "start-slot_end-slot{start-slot:integer end-slot:integer}...",
    .handler = RefuseCluster,
};

constexpr CommandSpec kFlushslotsSpec{
    .name = "flushslots",
    .parent = "cluster",
    .arity = 2,
    .flags = kCmdAdmin | kCmdStale | kCmdNoAsyncLoading,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(1)",
    .summary = "Takes all hash slots from this node.",
    .handler = RefuseCluster,
};

constexpr CommandSpec kSetslotSpec{
    .name = "setslot",
    .parent = "cluster",
    .arity = -4,
    .flags = kCmdAdmin | kCmdStale | kCmdNoAsyncLoading,
    .group = "cluster",
    .since = "3.0.0",
    .complexity = "O(1)",
    .summary = "Binds a hash slot to a node, or says that it is moving.",
    .synopsis = "slot:integer subcommand(IMPORTING=node-id|MIGRATING=node-id|NODE=node-id|STABLE)",
    .handler = RefuseCluster,
};

constexpr CommandSpec kHelpSpec{
    .name = "help",
    .parent = "cluster",
    .arity = 2,
    .flags = kCmdLoading | kCmdStale,
    .group = "cluster",
    .since = "5.0.0",
    .complexity = "O(1)",
    .summary = "Lists the subcommands.",
    .handler = RefuseCluster,
};

constexpr std::array kClusterSpecs = {
    kAskingSpec,        kReadOnlySpec,      kReadWriteSpec, kClusterSpec,
    kInfoSpec,          kNodesSpec,         kShardsSpec,    kSlotsSpec,
    kLinksSpec,         kMyidSpec,          kKeyslotSpec,   kCountkeysinslotSpec,
    kGetkeysinslotSpec, kReplicasSpec,      kSlavesSpec,    kCountFailureReportsSpec,
    kMeetSpec,          kForgetSpec,        kReplicateSpec, kFailoverSpec,
    kResetSpec,         kSaveconfigSpec,    kBumpepochSpec, kSetConfigEpochSpec,
    kAddslotsSpec,      kAddslotsrangeSpec, kDelslotsSpec,  kDelslotsrangeSpec,
    kFlushslotsSpec,    kSetslotSpec,       kHelpSpec,
};
static_assert(ValidSpecs(kClusterSpecs));

}  // namespace

CommandFamily ClusterCommands() { return kClusterSpecs; }

}  // namespace cairn
