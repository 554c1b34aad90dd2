"""Server CPU time per request. All servers are up at once and each row alternates them, round by round."""

from rows import Group, Row, benchmark, encode, fill, missing_commands, pipe, stop_all

KEYS, QUICK_KEYS = 1_000_000, 20_000
REQUESTS = {1: 150_000, 16: 800_000, 64: 1_500_000}


def halfway(goal):
    """What must hold where redis-server is 1 and the goal is `goal`: half of the way at least."""
    return (1 + goal) / 2


# command, what must hold and what is the final goal by pipeline, as ratios to redis-server (16 B, then 1 KiB).
STRINGS = [
    ("GET", lambda value: ["GET", "key:__rand_int__"], {1: (0.92, 0.76), 16: (0.45, 0.28), 64: (0.38, 0.19)}, {16: (None, 0.27)}),
    ("SET", lambda value: ["SET", "key:__rand_int__", value], {1: (0.92, 0.76), 16: (0.45, 0.34), 64: (0.38, 0.24)},
     {16: (None, 0.31)}),
    ("INCR", lambda value: ["INCR", "num:__rand_int__"], {1: (1.0, None), 16: (1.0, None), 64: (halfway(0.24), 0.24)}, None),
    ("MSET of 10", lambda value: ["MSET"] + ["key:__rand_int__", value] * 10,
     {1: (1.0, None), 16: (halfway(0.22), 0.22), 64: (1.0, None)}, {}),
]


def measure(run, peers, row, requests, pipeline, words, keys):
    for _ in range(run.rounds):
        for peer in peers:
            us, _ = benchmark(peer, requests, pipeline, words, keys=keys)
            run.record(row, peer.name, us)


def check_hits(peer):
    """A bench of GET must not measure misses."""
    if int(peer.info("keyspace_misses")) != 0:
        raise RuntimeError(f"{peer.name} answered GET with null {peer.info('keyspace_misses')} times")


def run_strings(run, size, command, words, limits):
    keys = run.pick(QUICK_KEYS, KEYS)
    peers = run.start_all()
    try:
        for peer in peers:
            fill(peer, keys, size)
        for pipeline in (1, 16, 64):
            requests = run.pick(20_000, REQUESTS[pipeline]) // (5 if command.startswith("MSET") else 1)
            bound, goal = limits.get(pipeline, (None, None))
            row = Row(f"{command} {'16 B' if size == 16 else '1 KiB'}, P={pipeline}", "us/request", bound, goal)
            measure(run, peers, row, requests, pipeline, words("x" * size), keys)
        if command == "GET":
            for peer in peers:
                check_hits(peer)
    finally:
        stop_all(peers)


VALUE = "v" * 16
# name, command, how many requests to fill with, the filling request i, pipeline, words, most requests, goal
TYPES = [
    ("HSET into 1 M fields", "hset", 1, lambda i: encode("HSET", "h", f"fld:{i:012d}", VALUE), 64,
     ["HSET", "h", "fld:__rand_int__", VALUE], None, 0.40),
    ("SADD into 1 M members", "sadd", 1, lambda i: encode("SADD", "s", f"mem:{i:012d}"), 64,
     ["SADD", "s", "mem:__rand_int__"], None, 0.38),
    ("SPOP", "spop", 0, None, 64, ["SPOP", "s"], 0.5, None),
    ("ZADD into 1 M members", "zadd", 1, lambda i: encode("ZADD", "z", i * 7919 % 1_000_003, f"mem:{i:012d}"), 64,
     ["ZADD", "z", "__rand_int__", "mem:__rand_int__"], 0.5, 0.34),
    ("ZPOPMIN", "zpopmin", 0, None, 64, ["ZPOPMIN", "z"], 0.5, None),
    ("LPUSH", "lpush", 0, None, 64, ["LPUSH", "l", VALUE], None, 0.50),
    ("LPOP", "lpop", 0, None, 64, ["LPOP", "l"], None, 0.50),
    ("LRANGE of 100", "lrange", 0.0001, lambda i: encode("RPUSH", "short", VALUE), 16, ["LRANGE", "short", 0, 99], 0.2, 0.38),
    ("XADD", "xadd", 0, None, 64, ["XADD", "x", "*", "field", VALUE], 0.5, None),
]


def run_types(run):
    keys = run.pick(QUICK_KEYS, KEYS)
    peers = run.start_all()
    try:
        for name, command, filled, filling, pipeline, words, share, goal in TYPES:
            row = Row(f"{name}, P={pipeline}", "us/request", halfway(goal) if goal else 1.0, goal)
            gap = missing_commands(peers, [command])
            if gap:
                run.skip(row.name, gap)
                continue
            count = 100 if filled == 0.0001 else int(filled * keys)
            for peer in peers if count else ():
                pipe(peer, map(filling, range(count)), count)
            # A share of the keys over all rounds, so that nothing that is popped runs dry.
            requests = keys if share is None else int(keys * share) // run.rounds
            measure(run, peers, row, requests, pipeline, list(map(str, words)), keys)
    finally:
        stop_all(peers)


TEN_CALLS = "for i=1,5 do redis.call('SET',KEYS[1],i) redis.call('GET',KEYS[1]) end return 1"
SCRIPTS = [
    ("EVAL return 1", ["EVAL", "return 1", "0"], 1),
    ("EVAL of 10 calls", ["EVAL", TEN_CALLS, "1", "key:__rand_int__"], 4),
]


def run_scripts(run):
    peers = run.start_all()
    try:
        for name, words, cost in SCRIPTS:
            row = Row(f"{name}, P=16", "us/request", 1.0, None)
            gap = missing_commands(peers, ["eval"])
            if gap:
                run.skip(row.name, gap)
                continue
            measure(run, peers, row, run.pick(20_000, REQUESTS[16]) // (2 * cost), 16, words, QUICK_KEYS)
    finally:
        stop_all(peers)


def string_groups():
    """One group per command and size, short enough to be measured apart."""
    for command, words, limits, limits_of_1k in STRINGS:
        for size, rules in ((16, limits), (1024, limits_of_1k)):
            if rules is not None:
                yield Group(f"speed-{size}-{command.split()[0].lower()}",
                            lambda run, args=(size, command, words, rules): run_strings(run, *args))


GROUPS = [*string_groups(), Group("speed-types", run_types), Group("speed-scripts", run_scripts)]
