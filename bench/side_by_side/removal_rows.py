"""How long the loop stands still for the removal of a big value: DEL and whatever else ends one.

Time on CPU of the thread that serves commands, from before the command is sent until its reply and one PING behind it
are there: waiting for a core, which on two cores is most of what a client sees, does not count. Freeing that goes on
elsewhere, or later in slices, does not count either; the slices' length is server/app/server.cc's and tested in
tests/unit/keyspace.
"""

import time

from memory_rows import small_hash
from rows import Group, Row, encode, pipe
from watch import Control

TYPES = [  # label, request i
    ("a hash of {} fields", lambda i: encode("HSET", "source", f"fld:{i:012d}", "v" * 16)),
    ("a sorted set of {} members", lambda i: encode("ZADD", "source", i * 7919 % 1_000_003, f"mem:{i:012d}")),
    ("a set of {} members", lambda i: encode("SADD", "source", f"mem:{i:012d}")),
    ("a set of {} integers", lambda i: encode("SADD", "source", i * 7919 % 1_000_003)),
    ("a list of {} items", lambda i: encode("RPUSH", "source", f"itm:{i:012d}")),
    ("a stream of {} entries", lambda i: encode("XADD", "source", f"{1_700_000_000_000 + i}-0", "field", f"val:{i:012d}")),
]
REMOVALS = [
    ("DEL", "victim"),
    ("UNLINK", "victim"),
    ("SET", "victim", "x"),
    ("RENAME", "other", "victim"),
    ("EXISTS", "victim"),  # past its time
    ("EVAL", "return redis.call('del', KEYS[1])", "1", "victim"),
]
BOUND_MS = 1
SETTLE_S = 0.3


def loop_ms(peer):
    """CPU time so far of the main thread, which runs the commands in both servers, in ms."""
    with open(f"/proc/{peer.process.pid}/task/{peer.process.pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e6


def held_ms(peer, control, command, during_save):
    """The hold of one removal of a fresh copy of the source."""
    control.ask("SET", "other", "x")
    control.ask("COPY", "source", "victim", "REPLACE")
    if command[0] == "EXISTS":
        control.ask("PEXPIRE", "victim", 1)
    time.sleep(SETTLE_S)
    if during_save:
        control.ask("BGSAVE")
    before = loop_ms(peer)
    control.ask(*command)
    control.ask("PING")
    held = loop_ms(peer) - before
    while control.persistence("rdb_bgsave_in_progress") != "0":
        time.sleep(0.02)
    if command[0] in ("DEL", "UNLINK", "EVAL", "EXISTS") and control.ask("EXISTS", "victim") != "0":
        raise RuntimeError(f"{peer.name}: {command[0]} removed nothing")
    return held


def removals_of(run, name, label, request, count):
    size = f"{count // 1_000_000} M" if count >= 1_000_000 else f"{count // 1000} k"
    peer = run.start(name, cores="0,1")
    try:
        pipe(peer, map(request, range(count)), count)
        control = Control(peer.port)
        control.ask("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        for during_save in (False, True):
            longest = max(held_ms(peer, control, command, during_save) for command in REMOVALS)
            row = Row(f"removal of {label.format(size)}{', during BGSAVE' if during_save else ''}: longest hold", "ms", BOUND_MS,
                      of_ratio=False)
            run.record(row, name, longest)
        control.close()
    finally:
        peer.stop()


def flush_of(run, name, count):
    peer = run.start(name, cores="0,1")
    try:
        pipe(peer, map(small_hash, range(count)), count)
        control = Control(peer.port)
        before = loop_ms(peer)
        control.ask("FLUSHDB", "ASYNC")
        control.ask("PING")
        run.record(Row(f"FLUSHDB ASYNC of {count / 1e6:g} M small hashes: hold", "ms", BOUND_MS, of_ratio=False), name,
                   loop_ms(peer) - before)
        control.close()
    finally:
        peer.stop()


def run_removal(run):
    # Above and just below what DEL frees in place.
    for count in run.pick([20_000], [250_000, 1_000_000]):
        for label, request in TYPES:
            for _ in range(run.rounds):
                for name in run.names():
                    removals_of(run, name, label, request, count)
    for _ in range(run.rounds):
        for name in run.names():
            flush_of(run, name, run.pick(20_000, 1_000_000))


GROUPS = [Group("removal", run_removal)]
