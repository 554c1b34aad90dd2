"""How long the loop stands still for the removal of a big value: DEL and whatever else ends one.

Time on CPU of the thread that serves commands, from before the command is sent until its reply and one PING behind it
are there: waiting for a core, which on two cores is most of what a client sees, does not count. What is left to the
timers is a figure of its own: the same thread's time in the 100 ms behind it, which have one turn of the cron.
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
NOTHING = ("STRLEN", "other")
BOUND_MS = 1
SETTLE_S = 0.3
BEHIND_S = 0.1


def loop_ms(peer):
    """CPU time so far of the main thread, which runs the commands in both servers, in ms."""
    with open(f"/proc/{peer.process.pid}/task/{peer.process.pid}/schedstat") as file:
        return int(file.read().split()[0]) / 1e6


def held_ms(peer, control, command, during_save):
    """The hold of one removal of a fresh copy of the source, and the time spent behind it."""
    control.ask("SET", "other", "x")
    control.ask("COPY", "source", "victim", "REPLACE")
    if command[0] == "EXISTS":
        control.ask("DEBUG", "SET-ACTIVE-EXPIRE", "0")
        control.ask("PEXPIRE", "victim", 1)
    time.sleep(SETTLE_S)
    if during_save:
        control.ask("BGSAVE")
    before = loop_ms(peer)
    control.ask(*command)
    control.ask("PING")
    held = loop_ms(peer) - before
    control.ask("DEBUG", "SET-ACTIVE-EXPIRE", "1")
    time.sleep(BEHIND_S)
    behind = loop_ms(peer) - before - held
    while control.persistence("rdb_bgsave_in_progress") != "0":
        time.sleep(0.02)
    if command[0] in ("DEL", "UNLINK", "EVAL", "EXISTS") and control.ask("EXISTS", "victim") != "0":
        raise RuntimeError(f"{peer.name}: {command[0]} removed nothing")
    return held, behind


def removals_of(run, name, label, request, count):
    size = f"{count // 1_000_000} M" if count >= 1_000_000 else f"{count // 1000} k"
    peer = run.start(name, cores="0,1")
    try:
        pipe(peer, map(request, range(count)), count)
        control = Control(peer.port)
        control.ask("EVAL", "return 1", "0")  # makes the interpreter
        for during_save in (False, True):
            held, behind = zip(*(held_ms(peer, control, command, during_save) for command in REMOVALS))
            what = f"removal of {label.format(size)}{', during BGSAVE' if during_save else ''}"
            run.record(Row(f"{what}: longest hold", "ms", BOUND_MS, of_ratio=False), name, max(held))
            run.record(Row(f"{what}: timers in the {BEHIND_S * 1000:g} ms behind it", "ms"), name, max(behind))
        # What the machine alone makes of it: as many requests that remove nothing.
        idle = max(held_ms(peer, control, NOTHING, False)[0] for _ in REMOVALS)
        run.record(Row(f"no removal, beside {label.format(size)}: longest hold", "ms"), name, idle)
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
