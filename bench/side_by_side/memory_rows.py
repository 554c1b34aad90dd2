"""Bytes of used_memory per item beyond an empty server. Tables double: --full repeats the keys at several sizes."""

from rows import Group, Row, encode, fill, missing_commands, pipe

KEYS = [  # label, value bytes, further words of SET, must hold, goal (bytes)
    ("16 B + 16 B", 16, (), 60, 46),
    ("16 B + 16 B with TTL", 16, (b"EX", b"100000"), 68, 54),
    ("16 B + 64 B", 64, (), None, 93),
    ("16 B + 100 B", 100, (), None, 128),
]


def run_keys(run):
    sizes = run.pick([20_000], [1_000_000], [1_000_000, 2_000_000, 4_000_000, 5_000_000, 6_000_000, 8_000_000])
    for keys in sizes:
        for label, value_bytes, more, bound, goal in KEYS:
            row = Row(f"key {label}, {keys / 1e6:g} M", "B/key", bound, goal, of_ratio=False)
            for name in run.names():
                peer = run.start(name)
                try:
                    empty = int(peer.info("used_memory"))
                    fill(peer, keys, value_bytes, more)
                    run.record(row, name, (int(peer.info("used_memory")) - empty) / keys)
                finally:
                    peer.stop()


def small_hash(i):
    return encode("HSET", f"user:{i:08d}", "name", f"n{i:08d}", "age", i % 90, "city", f"c{i % 1000:04d}", "score", i % 10_000,
                  "state", "ok")


TYPES = [  # label, command, request i, goal (bytes per item; None: no more than redis-server)
    ("hash of 1 M fields 16 B/16 B", "hset", lambda i: encode("HSET", "h", f"fld:{i:012d}", "v" * 16), 46),
    ("sorted set of 1 M members 16 B", "zadd", lambda i: encode("ZADD", "z", i * 7919 % 1_000_003, f"mem:{i:012d}"), 46),
    ("set of 1 M members 16 B", "sadd", lambda i: encode("SADD", "s", f"mem:{i:012d}"), 24),
    ("set of 1 M integers", "sadd", lambda i: encode("SADD", "n", i * 7919 % 1_000_003), 9),
    ("list of 1 M x 16 B", "rpush", lambda i: encode("RPUSH", "l", f"itm:{i:012d}"), 18),
    ("1 M hashes of 5 small fields", "hset", small_hash, 100),
    ("stream of 1 M entries", "xadd", lambda i: encode("XADD", "x", f"{1_700_000_000_000 + i}-0", "field", f"val:{i:012d}"), None),
]


def run_types(run):
    count = run.pick(20_000, 1_000_000)
    for label, command, request, goal in TYPES:
        row = Row(label, "B/item", 1.25 * goal, goal, of_ratio=False) if goal else Row(label, "B/item", 1.0)
        for name in run.names():
            peer = run.start(name)
            try:
                gap = missing_commands([peer], [command])
                if gap:
                    run.skip(row.name, gap)
                    break
                empty = int(peer.info("used_memory"))
                pipe(peer, map(request, range(count)), count)
                run.record(row, name, (int(peer.info("used_memory")) - empty) / count)
            finally:
                peer.stop()


GROUPS = [Group("memory-keys", run_keys), Group("memory-types", run_types)]
