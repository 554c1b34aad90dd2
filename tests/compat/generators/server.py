"""What surrounds the data: CLIENT, CONFIG, COMMAND, HELLO, RESET; only what both servers answer alike at any moment."""

from generator import Call, Family

FAMILY = Family("server", weight=5)
NAMES = [b"", b"me", b"with space", b"x" * 100, b"new\nline"]
SETTINGS = [b"hz", b"maxmemory-samples", b"lfu-log-factor", b"slowlog-max-len", b"list-compress-depth",
            b"latency-tracking", b"nosuch", b"daemonize", b"repl-timeout", b"slave-priority"]
# Not those of lists: where a small list meets them differs (docs/differences.md).
LIMITS = [b"hash-max-listpack-entries", b"hash-max-listpack-value", b"hash-max-ziplist-entries", b"set-max-intset-entries",
          b"zset-max-listpack-entries", b"zset-max-listpack-value", b"zset-max-ziplist-value", b"hll-sparse-max-bytes",
          b"stream-node-max-entries", b"stream-node-max-bytes"]
VALUES = [b"0", b"1", b"10", b"-1", b"yes", b"no", b"abc", b"", b"1kb", b"100000000000000000000"]
REQUESTS = [[b"GET", b"a"], [b"SET", b"a", b"b", b"GET"], [b"MSET", b"a", b"1", b"b"], [b"MGET", b"a", b"b"], [b"PING"],
            [b"NOSUCH", b"a"], [b"COPY", b"a", b"b"], [b"OBJECT", b"ENCODING", b"a"], [b"LCS", b"a", b"b"], [b"GET"],
            [b"EXISTS", b"a", b"b", b"c"], [b"RENAME", b"a", b"b"], [b"object", b"freq", b"x"],
            [b"SORT", b"a", b"BY", b"x", b"STORE", b"d"], [b"ZUNION", b"2", b"a", b"b"], [b"XREAD", b"STREAMS", b"a", b"0"],
            [b"MIGRATE", b"h", b"1", b"", b"0", b"1", b"KEYS", b"a", b"b"], [b"BITFIELD", b"a", b"GET", b"u8", b"0"]]


@FAMILY.row(weight=2)
def names(chance):
    return chance.random.choice([[b"CLIENT", b"SETNAME", chance.pick(NAMES)], [b"CLIENT", b"GETNAME"]])


@FAMILY.row(mode="tracking")
def client(chance):
    return [b"CLIENT", *chance.random.choice([
        [b"NO-EVICT", chance.pick([b"on", b"off", b"x"])], [b"UNPAUSE"], [b"PAUSE", b"0"], [b"KILL", b"ID", b"0"],
        [b"KILL", b"ID", b"99999999"], [b"UNBLOCK", b"99999999"], [b"REPLY", b"ON"], [b"BOGUS"], [b"GETREDIR"]])]


@FAMILY.row(weight=2, mode="client")
def info(chance):
    return [b"CLIENT", *chance.random.choice([
        [b"INFO"], [b"LIST", b"ID", chance.client()], [b"LIST", b"ID", b"0", b"99999999"], [b"LIST", b"ID"],
        [b"LIST", b"TYPE", chance.pick([b"pubsub", b"replica", b"master", b"x"])]])]


@FAMILY.row(weight=0.2)
def kill(chance):
    """Never by the type `normal` or by local address: the run's own connection for control would be among them."""
    return [b"CLIENT", b"KILL", *chance.random.choice([
        [b"ID", chance.client()], [b"ADDR", chance.client(b"addr")], [chance.client(b"addr")],
        [b"ID", chance.client(), b"SKIPME", chance.pick([b"yes", b"no", b"x"])], [b"USER", b"alice"], [b"USER", b"nosuch"],
        [b"TYPE", b"pubsub"], [b"TYPE", b"replica"], [b"TYPE", b"x"], [b"ID", b"x"], [b"ID", chance.client(), b"USER", b"bob"],
        [b"127.0.0.1:1"], [b"ADDR"], []])]


@FAMILY.row(weight=0.5)
def unblock(chance):
    return [b"CLIENT", b"UNBLOCK", chance.pick([chance.client()], [chance.client()], [b"x", b"-1"]),
            *chance.random.choice([[], [b"TIMEOUT"], [b"ERROR"], [b"x"]])]


@FAMILY.row(weight=0.5)
def limit(chance):
    """Values stay as they are; the next write may turn them into another encoding."""
    return [b"CONFIG", b"SET", chance.pick(LIMITS), chance.pick([b"0", b"1", b"3", b"8", b"64", b"128", b"512", b"-1", b"4000", b"x"])]


@FAMILY.row(weight=2)
def config(chance):
    name = chance.pick(SETTINGS)
    if chance.flip():
        return [b"CONFIG", b"GET", name]
    return [b"CONFIG", b"SET", name, chance.pick(VALUES)]


@FAMILY.row(weight=2)
def keys_of_a_request(chance):
    return [b"COMMAND", chance.pick([b"GETKEYS", b"GETKEYSANDFLAGS"]), *chance.random.choice(REQUESTS)]


@FAMILY.row(weight=0.3)
def hello(chance):
    return Call([b"HELLO", chance.pick([b"2", b"3", b"3", b"4", b"x"])], "hello")


@FAMILY.row(weight=0.3)
def reset(_):
    return [b"RESET"]


@FAMILY.row(weight=0.5)
def cluster(chance):
    return chance.random.choice([
        [b"ASKING"], [b"READONLY"], [b"READWRITE"], [b"CLUSTER", b"INFO"], [b"CLUSTER", b"KEYSLOT", chance.any_key()],
        [b"CLUSTER", b"SLOTS"], [b"CLUSTER", b"GETKEYSINSLOT", chance.number(), b"1"], [b"CLUSTER", b"BOGUS"]])


CONTAINERS = [b"ACL", b"CLIENT", b"CLUSTER", b"COMMAND", b"CONFIG", b"FUNCTION", b"LATENCY", b"MEMORY", b"MODULE", b"OBJECT", b"PUBSUB",
              b"SCRIPT", b"SLOWLOG", b"XGROUP", b"XINFO"]


@FAMILY.row(weight=0.7, mode="type")
def own_words(chance):
    """What each server says in its own words or of itself."""
    return chance.random.choice([
        [chance.pick(CONTAINERS), b"HELP"], [chance.pick(CONTAINERS), b"HELP"], [b"CLIENT", b"ID"], [b"LASTSAVE"], [b"TIME"],
        [b"ROLE"], [b"LOLWUT"], [b"MEMORY", b"DOCTOR"], [b"MEMORY", b"STATS"], [b"MEMORY", b"MALLOC-STATS"], [b"LATENCY", b"DOCTOR"],
        [b"LATENCY", b"HISTOGRAM"], [b"SLOWLOG", b"GET", chance.number()], [b"SLOWLOG", b"LEN"], [b"COMMAND", b"COUNT"],
        [b"COMMAND", b"DOCS", b"get", b"nosuch"]])


@FAMILY.row(weight=1)
def said_alike(chance):
    return chance.random.choice([
        [b"LATENCY", b"LATEST"], [b"LATENCY", b"RESET"], [b"LATENCY", b"HISTORY", b"command"], [b"LATENCY", b"GRAPH", b"nosuch"],
        [b"SLOWLOG", b"RESET"], [b"MEMORY", b"PURGE"], [b"MODULE", b"LIST"], [b"CONFIG", b"RESETSTAT"], [b"CONFIG", b"REWRITE"],
        [b"ACL", b"LOAD"], [b"ACL", b"SAVE"], [b"REPLICAOF", b"NO", b"ONE"], [b"SLAVEOF", b"no", b"one"], [b"FAILOVER"],
        [b"FAILOVER", b"ABORT"], [b"WAIT", b"0", b"0"], [b"WAIT", chance.pick([b"1", b"0", b"-1", b"x"]), b"1"], [b"CLUSTER", b"RESET"],
        [b"COMMAND", b"INFO", b"nosuch"], [b"DEBUG", b"SLEEP", b"0"],
        [b"DEBUG", b"NOSUCH"], [b"MODULE", b"UNLOAD", b"nosuch"], [b"MODULE", b"LOAD", b"nosuch"]])


@FAMILY.row(weight=0.5, mode="unordered")
def about_commands(chance):
    name = chance.pick(chance.commands).name
    return [b"COMMAND", *chance.random.choice([
        [b"INFO", name], [b"INFO", name, b"get"], [b"LIST", b"FILTERBY", b"PATTERN", chance.pick([b"*get*", b"x*", b"config|*", b""])],
        [b"LIST", b"FILTERBY", b"ACLCAT", chance.pick([b"hash", b"stream", b"nosuch"])],
        [b"LIST", b"FILTERBY", b"MODULE", b"nosuch"]])]


@FAMILY.row(weight=0.3, mode="fields")
def info_of_server(chance):
    """INFO has its own tests; here that it answers at any moment."""
    return [b"INFO", chance.pick([b"server", b"clients", b"memory", b"persistence", b"stats", b"replication", b"cpu", b"nosuch"])]


@FAMILY.row(weight=0.1)
def leave(_):
    return Call([b"QUIT"], alone=True)


@FAMILY.row(weight=0.15)
def save(chance):
    """Whether one runs already is chance; commands go on meanwhile, and what they change stays out of the file."""
    return Call([chance.pick([b"BGSAVE", b"BGSAVE", b"BGREWRITEAOF", b"SAVE"])], mode="ignore", alone=True)


@FAMILY.row(weight=0.1)
def reload(chance):
    """All keys go through a file, in half of the runs: afterwards the order of small hashes may be that of a hash table,
    as a big one that has become small is read back as a small one."""
    return Call([b"DEBUG", b"RELOAD"], alone=True) if chance.reloads else [b"PING"]
