"""Saves, rewrites and the append-only file: what they cost those who write meanwhile, and how fast they are.

Latency is open loop at a fixed rate, in the same run first idle, then during the event. The server may use both
cores; the client has core 1.
"""

import dataclasses
import functools
import os
import socket
import statistics
import tempfile
import time

from latency import Requests, total_us
from machine_rows import BUT_FOR_STOPS, record_machine, record_stops, with_and_without_stops
from rows import CLIENTS, LIB, OURS, Group, Row, benchmark, encode, fill, load, pipe
from watch import Watch

VALUE_BYTES = 64
SERIES_MS = 20
SLOW_SYNC_MS = 3000  # longer than the 2 s for which redis-server postpones its write


@dataclasses.dataclass
class Beside:
    """A background job and the load meanwhile."""
    requests: Requests   # of the whole load, which begins before the job and lasts longer if it can
    began: float         # of the job, monotonic clock
    ended: float
    extra: int           # bytes
    series: dict         # what plot.py draws: times in ms since the load began

    def took(self):
        return self.ended - self.began

    @functools.cached_property
    def in_job(self):
        """Requests beside the job."""
        return self.requests.beside(self.began, self.ended)


def during(peer, command, running_field, **options):
    """Starts `command` (BGSAVE, BGREWRITEAOF) under SETs."""
    before = peer.anonymous_bytes()
    watch = Watch(peer, command, running_field)
    watch.start()
    result = load(peer, **{"value_bytes": VALUE_BYTES, "clients": CLIENTS, "series_ms": SERIES_MS, **options})
    peak = watch.finish()
    zero = result.pop("began_s")
    series = {
        "job_ms": [round((watch.began - zero) * 1000), round((watch.ended - zero) * 1000)],
        "memory": [[round((at - zero) * 1000), size - before] for at, size in watch.memory],
        "latency": latency_series(result),
    }
    return Beside(result["requests"], watch.began, watch.ended, peak - before, series)


def latency_series(result):
    """Takes the series out of what cairn-load said."""
    return [[each["at_ms"], each["replies"], each["p50_us"], each["p99_us"], each["max_us"]] for each in result.pop("series")]


def check_saved(peer):
    if peer.info("rdb_last_bgsave_status") != "ok":
        raise RuntimeError(f"{peer.name}: the save failed")


def record_latency(run, name, label, figures):
    for field, value in figures.items():
        run.record(Row(f"SET {label}: {field[:-3].replace('_', '.')}", "us"), name, value)


def record_beside(run, name, label, what, idle, beside):
    """What a save makes of the writes beside it. `idle`: requests without it."""
    requests = beside.in_job
    for (but, meanwhile), (_, before) in zip(with_and_without_stops(requests), with_and_without_stops(idle)):
        run.record(Row(f"{label}: p99.9 of {what} above idle{but}", "us", 200, None, of_ratio=False), name,
                   max(0, meanwhile["p99_9_us"] - before["p99_9_us"]))
        run.record(Row(f"{label}: longest {what}{but}", "us", 2000, None, of_ratio=False), name, meanwhile["max_us"])
    record_stops(run, name, label, requests)


def record_longest(run, name, label, what, requests):
    """The longest wait, which may be 5 ms."""
    for but, figures in with_and_without_stops(requests):
        run.record(Row(f"{label}: longest {what}{but}", "us", 5000, None, of_ratio=False), name, figures["max_us"])
    record_stops(run, name, label, requests)


def record_flood(run, name, label, what, calm, flood):
    """What a save makes of a flood of writes, and how much of it goes on. `calm`: requests of one without a save."""
    requests = flood.in_job
    for but, figures in with_and_without_stops(calm):
        run.record(Row(f"a flood without a save ({label}): longest {what}{but}", "us"), name, figures["max_us"])
    record_longest(run, name, f"{label} in a flood", what, requests)
    last = requests.answered[-1] / 1e9  # of the save, or of the load if the save lasts longer
    without = calm.per_second(calm.answered[0] / 1e9, calm.answered[-1] / 1e9)
    kept = 100 * requests.per_second(flood.began, last) / without
    run.record(Row(f"{label} in a flood: throughput kept", "%", 90, None, of_ratio=False, at_least=True), name, kept)
    running = 1 - total_us(requests.stops) / 1e6 / (last - flood.began)
    if requests.core_stops is not None and running > 0:
        run.record(Row(f"{label} in a flood: throughput kept{BUT_FOR_STOPS}", "%", 90, None, of_ratio=False, at_least=True), name, kept / running)


def extra_bound_mib(keys):
    """17 B per key, the cap of snapshot-retained-limit, and 8 MiB."""
    return keys * 17 / 2**20 + 64 + 8


def snapshot_of(run, name, keys, rate):
    size = f"{keys / 1e6:g} M"
    peer = run.start(name, cores="0,1")
    try:
        fill(peer, keys, VALUE_BYTES)
        record_machine(run, name)
        idle = load(peer, rate=rate, seconds=run.pick(2, 5), keys=keys, value_bytes=VALUE_BYTES, clients=CLIENTS)["requests"]
        saving = during(peer, "BGSAVE", "rdb_bgsave_in_progress", rate=rate, seconds=run.pick(3, 6, 15), keys=keys)
        run.record_series(f"BGSAVE of {size}, {rate} SET/s", name, saving.series)
        check_saved(peer)
        record_latency(run, name, f"{rate}/s, {size}, idle", idle.figures())
        record_latency(run, name, f"{rate}/s, {size}, during BGSAVE", saving.in_job.figures())
        bound = extra_bound_mib(keys)
        record_beside(run, name, f"BGSAVE of {size}", "SET", idle, saving)
        run.record(Row(f"BGSAVE of {size}: extra memory", "MiB", bound, None, of_ratio=False), name, saving.extra / 2**20)
        run.record(Row(f"BGSAVE of {size}: duration", "s", 1.0), name, saving.took())
        stop_us = int(peer.info("snapshot_last_cut_usec" if name == OURS else "latest_fork_usec"))
        run.record(Row(f"BGSAVE of {size}: stop for the cut or fork", "us", 100, None, of_ratio=False), name, stop_us)

        calm = load(peer, rate=0, seconds=run.pick(2, 5), keys=keys, value_bytes=VALUE_BYTES, clients=CLIENTS)["requests"]
        flood = during(peer, "BGSAVE", "rdb_bgsave_in_progress", rate=0, seconds=run.pick(3, 6, 12), keys=keys)
        run.record_series(f"BGSAVE of {size}, SET flood", name, flood.series)
        check_saved(peer)
        record_flood(run, name, f"BGSAVE of {size}", "SET", calm, flood)
        run.record(Row(f"BGSAVE of {size} in a flood: extra memory", "MiB", bound, None, of_ratio=False), name, flood.extra / 2**20)
        # The table's seconds are for 5 M keys and two cores that the client shares.
        run.record(Row(f"BGSAVE of {size} in a flood: duration", "s", keys / 1e6, keys / 2e6, of_ratio=False), name, flood.took())
        save_and_load(run, name, peer, keys)
    finally:
        peer.stop()


def save_and_load(run, name, peer, keys):
    size = f"{keys / 1e6:g} M"
    used_before, began = peer.cpu_ns(), time.monotonic()
    peer.cli("SAVE", timeout=300)
    run.record(Row(f"SAVE of {size}, idle", "keys/s"), name, keys / (time.monotonic() - began))
    run.record(Row(f"SAVE of {size}, idle: CPU", "us/key", None, 0.3, of_ratio=False), name,
               (peer.cpu_ns() - used_before) / 1000 / keys)
    run.record(Row(f"SAVE of {size}: file", "MB"), name, os.path.getsize(os.path.join(peer.directory, "dump.rdb")) / 1e6)
    began = time.monotonic()
    peer.cli("DEBUG", "RELOAD", "NOSAVE", timeout=300)
    took = time.monotonic() - began
    if int(peer.cli("DBSIZE")) != keys:
        raise RuntimeError(f"{peer.name} lost keys in a reload")
    run.record(Row(f"load of an RDB of {size}", "keys/s", 2.0, None, at_least=True), name, keys / took)
    run.record(Row(f"load of an RDB of {size}: rate", "M keys/s", None, 4, of_ratio=False, at_least=True), name, keys / took / 1e6)


def run_snapshot(run):
    for _ in range(run.rounds):
        for name in run.names():
            snapshot_of(run, name, run.pick(50_000, 1_000_000, 5_000_000), run.pick(2_000, 10_000))


def run_many_keys(run):
    """The same at 20 M keys, which take minutes a round, and get one. Only in a full run."""
    if not run.full:
        return
    for name in run.names():
        snapshot_of(run, name, 20_000_000, 10_000)


BIG_VALUES = (("hash", "hash"), ("sorted set", "zset"), ("list", "list"), ("stream", "stream"))  # kind, cairn-load's --into


def run_big_value(run, kind, into):
    """The same beside writes to one value of many elements, which a save has to read while it is changed."""
    count, rate = run.pick(10_000, 500_000, 5_000_000), run.pick(2_000, 10_000)
    label = f"BGSAVE of a {kind} of {count / 1e6:g} M"
    options = {"keys": count, "into": into, "clients": CLIENTS, "value_bytes": 16}
    for name in [each for _ in range(run.rounds) for each in run.names()]:
        peer = run.start(name, cores="0,1")
        try:
            pipe(peer, elements(kind, count), count if kind == "stream" else count // 100)
            record_machine(run, name)
            idle = load(peer, rate=rate, seconds=run.pick(2, 5), **options)["requests"]
            saving = during(peer, "BGSAVE", "rdb_bgsave_in_progress", rate=rate, seconds=run.pick(3, 6, 12), **options)
            check_saved(peer)
            run.record_series(f"{label}, {rate} writes a second", name, saving.series)
            record_beside(run, name, label, "write", idle, saving)
            for field, value in idle.figures().items():
                run.record(Row(f"{label}: its writes, idle: {field[:-3].replace('_', '.')}", "us"), name, value)
            run.record(Row(f"{label}: its writes: p99.9", "us"), name, saving.in_job.figures()["p99_9_us"])
            run.record(Row(f"{label}: extra memory", "MiB", extra_bound_mib(count), None, of_ratio=False), name, saving.extra / 2**20)
            run.record(Row(f"{label}: duration", "s", 1.0), name, saving.took())

            calm = load(peer, rate=0, seconds=run.pick(2, 4), **options)["requests"]
            flood = during(peer, "BGSAVE", "rdb_bgsave_in_progress", rate=0, seconds=run.pick(3, 6, 12), **options)
            check_saved(peer)
            run.record_series(f"{label}, flood of writes", name, flood.series)
            record_longest(run, name, f"{label}: flood without a save", "write", calm)
            record_flood(run, name, label, "write", calm, flood)
            run.record(Row(f"{label} in a flood: extra memory", "MiB", extra_bound_mib(count), None, of_ratio=False), name, flood.extra / 2**20)
            run.record(Row(f"{label} in a flood: duration", "s"), name, flood.took())
        finally:
            peer.stop()


def run_rewrite(run):
    keys = run.pick(50_000, 1_000_000)
    for _ in range(run.rounds):
        for name in run.names():
            peer = run.start(name, ("--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"), cores="0,1")
            try:
                fill(peer, keys, VALUE_BYTES)
                began = time.monotonic()
                peer.cli("DEBUG", "LOADAOF", timeout=300)
                run.record(Row("load of an append-only file of SETs", "commands/s", None, 3.3e6, of_ratio=False, at_least=True), name,
                           keys / (time.monotonic() - began))
                rate = run.pick(2_000, 5_000)
                rewrite = during(peer, "BGREWRITEAOF", "aof_rewrite_in_progress", rate=rate, seconds=run.pick(3, 8), keys=keys)
                run.record_series(f"BGREWRITEAOF of {keys / 1e6:g} M, {rate} SET/s", name, rewrite.series)
                if peer.info("aof_last_bgrewrite_status") != "ok":
                    raise RuntimeError(f"{name}: the rewrite failed")
                record_latency(run, name, "during rewrite", rewrite.in_job.figures())
                record_longest(run, name, "rewrite", "SET", rewrite.in_job)
                run.record(Row("rewrite: duration", "s"), name, rewrite.took())
            finally:
                peer.stop()


def run_fsync(run):
    """Throughput, as the disk counts; and CPU time where it does not wait."""
    keys = run.pick(5_000, 100_000)
    limits = {("always", 1): (3.0, None), ("always", 16): (3.0, None)}
    for name in [each for _ in range(run.rounds) for each in run.names()]:
        for policy in ("off", "always", "everysec", "no"):
            settings = () if policy == "off" else ("--appendonly", "yes", "--appendfsync", policy)
            label = "no append-only file" if policy == "off" else f"appendfsync {policy}"
            peer = run.start(name, settings, cores="0,1")
            try:
                for pipeline in (1, 16):
                    requests = run.pick(2_000, 100_000 if policy == "always" or pipeline == 1 else 800_000)
                    us, rate = benchmark(peer, requests, pipeline, ["SET", "key:__rand_int__", "x" * VALUE_BYTES], keys=keys)
                    bound, goal = limits.get((policy, pipeline), (None, None))
                    run.record(Row(f"{label}, P={pipeline}", "requests/s", bound, goal, at_least=True), name, rate)
                    goal_us = 0.23 if (policy, pipeline) == ("everysec", 16) else None
                    run.record(Row(f"{label}, P={pipeline}: CPU", "us/request", None, goal_us), name, us)
            finally:
                peer.stop()
        record_everysec(run, name, keys)


def record_everysec(run, name, keys):
    """What appendfsync everysec leaves of the rate without a file. Both servers run, and are asked in turns: rates of a minute ago say
    little here. Rewrites have rows of their own."""
    without = run.start(name, cores="0,1")
    try:
        with_file = run.start(name, ("--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"), cores="0,1")
        try:
            for pipeline in (1, 16):
                requests = run.pick(2_000, 100_000 if pipeline == 1 else 800_000)
                shares = []
                for _ in range(run.pick(1, 7)):
                    rates = [benchmark(peer, requests, pipeline, ["SET", "key:__rand_int__", "x" * VALUE_BYTES], keys=keys)[1]
                             for peer in (without, with_file)]
                    shares.append(100 * rates[1] / rates[0])
                run.record(Row(f"appendfsync everysec, P={pipeline}, of the rate without a file", "%", 95, None, of_ratio=False, at_least=True),
                           name, statistics.median(shares))
        finally:
            with_file.stop()
    finally:
        without.stop()


def run_slow_disk(run):
    """everysec while each sync takes SLOW_SYNC_MS longer and holds the writes up (bench/slow_disk.cc)."""
    keys, rate = run.pick(5_000, 100_000), run.pick(2_000, 5_000)
    for name in [each for _ in range(run.rounds) for each in run.names()]:
        with tempfile.TemporaryDirectory(prefix="compare-") as directory:
            switch = os.path.join(directory, "slow")
            peer = run.start(name, ("--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"), cores="0,1",
                             environment={"LD_PRELOAD": os.path.join(LIB, "slow_disk.so"), "SLOW_DISK_SWITCH": switch,
                                          "SLOW_DISK_SYNC_MS": str(SLOW_SYNC_MS)})
            try:
                options = {"rate": rate, "keys": keys, "value_bytes": VALUE_BYTES, "clients": CLIENTS}
                load(peer, seconds=1, **options)
                idle = load(peer, seconds=run.pick(2, 5), **options)
                with open(switch, "w", encoding="ascii"):
                    pass
                slow = load(peer, seconds=run.pick(8, 15), series_ms=SERIES_MS, **options)
                os.remove(switch)
                label = f"everysec, syncs of {SLOW_SYNC_MS / 1000:g} s"
                zero = slow.pop("began_s")
                run.record_series(f"{label}, {rate} SET/s", name, {"job_ms": [0, round((time.monotonic() - zero) * 1000)], "memory": [],
                                                                  "latency": latency_series(slow)})
                record_latency(run, name, f"{rate}/s, everysec, idle disk", idle["requests"].figures())
                record_latency(run, name, f"{rate}/s, {label}", slow["requests"].figures())
                record_longest(run, name, label, "SET", slow["requests"])
            finally:
                peer.stop()


def elements(kind, count):
    """Requests that build one big value of `count` elements, 100 at a time."""
    for first in range(0, count, 100):
        numbers = range(first, first + 100)
        if kind == "hash":
            yield encode("HSET", "big", *(word for i in numbers for word in (f"field:{i:010d}", f"value:{i:010d}")))
        elif kind == "set":
            yield encode("SADD", "big", *(f"member:{i:09d}" for i in numbers))
        elif kind == "stream":
            for i in numbers:
                yield encode("XADD", "big", "*", "value", f"value:{i:010d}")
        elif kind == "sorted set":
            yield encode("ZADD", "big", *(word for i in numbers for word in (i * 7 % count, f"member:{i:09d}")))
        else:
            yield encode("RPUSH", "big", *(f"element:{i:08d}" for i in numbers))


# A list of 0.5 M is read in 10 to 20 ms: too little to stand for itself.
RELOADS = 5


def seconds_of(peer, *words):
    """How long the server takes to answer +OK, over a connection that it knows: starting redis-cli takes longer than some loads."""
    with socket.create_connection(("127.0.0.1", peer.port)) as wire, wire.makefile("rb") as replies:
        for request in (("PING",), words):
            began = time.monotonic()
            wire.sendall(encode(*request))
            reply = replies.readline()
        took = time.monotonic() - began
    if reply != b"+OK\r\n":
        raise RuntimeError(f"{peer.name} answers {words} with {reply}")
    return took


def run_loading(run):
    """How fast big values of each type are read back; those of small keys stand in the snapshot rows."""
    count = run.pick(10_000, 500_000, 5_000_000)
    for _ in range(run.rounds):
        for name in run.names():
            for kind in ("hash", "set", "sorted set", "list"):
                peer = run.start(name, cores="0,1")
                try:
                    pipe(peer, elements(kind, count), count // 100)
                    peer.cli("SAVE", timeout=300)
                    digest = peer.cli("DEBUG", "DIGEST")
                    for _ in range(RELOADS):
                        took = seconds_of(peer, "DEBUG", "RELOAD", "NOSAVE")
                        run.record(Row(f"load of a {kind} of {count / 1e6:g} M", "elements/s", 1.0, 2.0, at_least=True), name, count / took)
                    if peer.cli("DEBUG", "DIGEST") != digest:
                        raise RuntimeError(f"{name} read another {kind} than it had written")
                finally:
                    peer.stop()


# One group each: a full run of all four takes longer than a quiet machine can be had at a time.
BIG_VALUE_GROUPS = [Group(f"big-values-{into}", functools.partial(run_big_value, kind=kind, into=into)) for kind, into in BIG_VALUES]
GROUPS = [Group("loading", run_loading), Group("snapshot", run_snapshot), Group("many-keys", run_many_keys), *BIG_VALUE_GROUPS, Group("rewrite", run_rewrite),
          Group("fsync", run_fsync), Group("slow-disk", run_slow_disk)]
