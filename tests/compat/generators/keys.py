"""Keys of any type: expiry, renaming, copies, DUMP and RESTORE, databases. RANDOMKEY and SCAN answer with each
server's own choice; the scripts have them."""

from generator import ODD_SECONDS, OWN_KIND, SECONDS, UNIX_MS, UNIX_SECONDS, Call, Family

FAMILY = Family("keys", weight=25)
SOON_RUNS_OUT_S = 0.03
KINDS = {bytes([number]): kind for kind, numbers in {
    "string": [0], "list": [1, 10, 14, 18], "set": [2, 11], "zset": [3, 5, 12, 17], "hash": [4, 13, 16],
    "stream": [15, 19]}.items() for number in numbers}   # of RDB's types


@FAMILY.row(weight=4)
def one_key(chance):
    return [chance.pick([b"TYPE", b"PERSIST", b"EXISTS", b"DEL", b"UNLINK", b"TOUCH"]), chance.any_key()]


@FAMILY.row()
def several(chance):
    name = chance.pick([b"EXISTS", b"DEL", b"UNLINK", b"TOUCH"])
    return [name, *[chance.any_key() for _ in range(chance.count(1, 4))]]


@FAMILY.row(weight=3)
def expire(chance):
    name = chance.pick([b"EXPIRE", b"PEXPIRE", b"EXPIREAT", b"PEXPIREAT"])
    if chance.flip(0.2):
        when = chance.pick(ODD_SECONDS)
    elif name.endswith(b"AT"):
        when = chance.pick(UNIX_MS if name.startswith(b"P") else UNIX_SECONDS)
    else:
        when = chance.pick(SECONDS) + (b"000" if name.startswith(b"P") else b"")
    options = chance.words(b"NX", b"XX", b"GT", b"LT")[:chance.pick([0, 1, 1, 2])]
    return [name, chance.any_key(), when, *options]


@FAMILY.row(weight=0.05)
def expire_soon(chance):
    return Call([b"PEXPIRE", chance.any_key(), b"%d" % chance.count(1, 10)], pause_s=SOON_RUNS_OUT_S)


@FAMILY.row(weight=2, mode="near:20000")
def ttl(chance):
    return [chance.pick([b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME"]), chance.any_key()]


@FAMILY.row()
def rename(chance):
    return [chance.pick([b"RENAME", b"RENAMENX"]), *chance.two_keys()]


@FAMILY.row()
def copy(chance):
    options = [b"DB", chance.pick([b"0", b"1", b"15", b"16", b"-1", b"x"])] if chance.flip(0.3) else []
    return [b"COPY", *chance.two_keys(), *options, *chance.words(b"REPLACE")]


@FAMILY.row()
def move(chance):
    return [b"MOVE", chance.any_key(), chance.pick([b"0", b"1", b"2", b"15"], [b"16", b"-1", b"x"])]


@FAMILY.row()
def object_(chance):
    name = chance.pick([b"ENCODING", b"ENCODING", b"REFCOUNT", b"FREQ", b"BOGUS", b"encoding"])
    # A small integer that COPY made counts as not shared in Redis (docs/differences.md).
    return Call([b"OBJECT", name, chance.any_key()], "near:2147483646" if name == b"REFCOUNT" else "")


@FAMILY.row(weight=0.5)
def use(chance):
    """What differs is the size, or the second: only whether the key is there and how much of it is asked for."""
    if chance.flip():
        samples = [b"SAMPLES", chance.pick([b"0", b"5", b"-1", b"x"])] if chance.flip() else []
        return Call([b"MEMORY", b"USAGE", chance.any_key(), *samples], "type")
    return Call([b"OBJECT", b"IDLETIME", chance.any_key()], "near:100")


@FAMILY.row()
def restore(chance):
    """Mostly to a key of the kind that the payload begins with."""
    ttl = chance.pick([b"0", b"1000000", b"-1", b"x"])
    payload = chance.pick(chance.payloads)
    kind = KINDS.get(payload[:1]) if chance.flip(OWN_KIND) else None
    key = chance.key(kind) if kind else chance.any_key()
    return [chance.pick([b"RESTORE", b"RESTORE", b"RESTORE", b"RESTORE-ASKING"]), key, ttl, payload, *chance.words(b"REPLACE")]


@FAMILY.row(weight=0.3, mode="unordered")
def scan(chance):
    """All at once: other cursors are each server's own."""
    options = [b"MATCH", chance.pick([b"*", b"k?", b"[^k]*", b"list*", b""])] if chance.flip(0.4) else []
    options += [b"TYPE", chance.pick([b"string", b"list", b"hash", b"zset", b"stream", b"nosuch"])] if chance.flip(0.4) else []
    return [b"SCAN", b"0", b"COUNT", b"100000", *options]


@FAMILY.row(weight=0.3, mode="type")
def randomkey(_):
    return [b"RANDOMKEY"]


@FAMILY.row(weight=0.3, mode="unordered")
def keys(chance):
    return [b"KEYS", chance.pick([b"*", b"k?", b"k[0-3]", b"[^k]*", b"k1*", b"\\k*", b""])]


@FAMILY.row(weight=0.5)
def database(chance):
    return chance.random.choice([
        [b"SELECT", chance.pick([b"0", b"0", b"1", b"2"], [b"16", b"-1", b"x"])],
        [b"SELECT", b"0"], [b"DBSIZE"],
        # In a transaction it would come when somebody waits for several keys: see RandomRun._barred.
        Call([b"SWAPDB", b"0", chance.pick([b"1", b"2", b"0", b"16", b"x"])], alone=True),
    ])


@FAMILY.row(weight=0.02)
def flush(chance):
    return [chance.pick([b"FLUSHDB", b"FLUSHALL"]), *chance.words(b"ASYNC")]


@FAMILY.row(weight=0.3)
def digest(chance):
    return [b"DEBUG", b"DIGEST-VALUE", chance.any_key()] if chance.flip() else [b"DEBUG", b"DIGEST"]
