"""What ./dev compare measures: groups of rows, each run on one server at a time."""

import dataclasses
import json
import os
import re
import threading
import time

from peers import CLIENT_CORE, on_client_core

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("CAIRN_BIN_DIR", os.path.join(ROOT, "build/release/bin"))
LIB = os.environ.get("CAIRN_LIB_DIR", os.path.join(ROOT, "build/release/lib"))
CLIENTS = 50


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table. `bound` is what the issue demands: of the ratio to redis, or of our figure."""
    name: str
    unit: str
    bound: float | None = None
    bound_is_ratio: bool = True
    at_least: bool = False

    def bound_text(self):
        if self.bound is None:
            return ""
        return f"{'≥' if self.at_least else '≤'} {self.bound:g}{'x' if self.bound_is_ratio else ' ' + self.unit}"


@dataclasses.dataclass(frozen=True)
class Group:
    name: str
    run: object  # (start, peer_name, quick) -> [(Row, value)]


def benchmark(peer, requests, pipeline, words, clients=CLIENTS, keys=None):
    """redis-benchmark on the client core; returns (server us of CPU per request, requests per second)."""
    command = ["redis-benchmark", "-p", peer.port, "-c", clients, "-n", requests, "-P", pipeline, "-q"]
    if keys:
        command += ["-r", keys]
    before = peer.cpu_ns()
    out = on_client_core(command + words)
    used_ns = peer.cpu_ns() - before
    rates = re.findall(r"([0-9.]+) requests per second", out)
    if not rates:
        raise RuntimeError("redis-benchmark gave no figure: " + out[-300:])
    return used_ns / 1000 / requests, float(rates[-1])


def load(peer, **options):
    """cairn-load on the client core; returns its JSON object."""
    command = [os.path.join(BIN, "cairn-load"), "--port", peer.port]
    for name, value in options.items():
        command += ["--" + name.replace("_", "-"), value]
    return json.loads(on_client_core(command))


def fill(peer, keys, value_bytes):
    """Keys key:%012d of 16 bytes, random values, by DEBUG-free pipelined SETs."""
    on_client_core(["redis-benchmark", "-p", peer.port, "-n", keys * 3, "-P", 64, "-c", CLIENTS, "-r", keys, "-q",
                    "-d", value_bytes, "SET", "key:__rand_int__", "x" * value_bytes])


SPEED = [  # name, words, bounds by pipeline
    ("GET", lambda size: ["GET", "key:__rand_int__"], {1: 0.92, 16: 0.45, 64: 0.38}),
    ("SET", lambda size: ["SET", "key:__rand_int__", "x" * size], {1: 0.92, 16: 0.45, 64: 0.38}),
    ("INCR", lambda size: ["INCR", "counter:__rand_int__"], {}),
    ("MSET of 10", lambda size: ["MSET"] + ["key:__rand_int__", "x" * size] * 10, {}),
]


def run_speed(start, _name, quick):
    keys = 20_000 if quick else 1_000_000
    for size in (16, 1024):
        peer = start()
        try:
            fill(peer, keys, size)
            for command, words, bounds in SPEED:
                if command == "INCR" and size != 16:
                    continue
                for pipeline in (1, 16, 64):
                    requests = 20_000 if quick else {1: 200_000, 16: 1_000_000, 64: 2_000_000}[pipeline]
                    if command.startswith("MSET"):
                        requests //= 5
                    us, _ = benchmark(peer, requests, pipeline, words(size), keys=keys)
                    bound = bounds.get(pipeline) if size == 16 else None
                    yield Row(f"{command} {size} B, P={pipeline}", "us/request", bound), us
        finally:
            peer.stop()


def run_memory(start, _name, quick):
    keys = 100_000 if quick else 1_000_000
    for label, words, bound in [
            ("16 B + 16 B", ["SET", "key:__rand_int__", "y" * 16], 60),
            ("16 B + 16 B with TTL", ["SET", "key:__rand_int__", "y" * 16, "EX", "100000"], 68),
            ("16 B + 100 B", ["SET", "key:__rand_int__", "y" * 100], None)]:
        peer = start()
        try:
            empty = int(peer.info("used_memory"))
            benchmark(peer, keys * 4, 64, words, keys=keys)
            count = int(peer.cli("DBSIZE"))
            yield Row(f"memory of a key {label}", "B/key", bound, False), (int(peer.info("used_memory")) - empty) / count
        finally:
            peer.stop()


class MemoryPeak(threading.Thread):
    """Samples anonymous memory until stopped."""

    def __init__(self, peer):
        super().__init__(daemon=True)
        self.peer, self.peak, self.running = peer, 0, True

    def run(self):
        while self.running:
            self.peak = max(self.peak, self.peer.anonymous_bytes())
            time.sleep(0.01)

    def stop(self):
        self.running = False
        self.join()
        return self.peak


def wait_info(peer, field, value, deadline_s=300):
    deadline = time.monotonic() + deadline_s
    while peer.info(field) != value:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{field} did not become {value}")
        time.sleep(0.05)


def during(peer, command, running_field, keys, seconds, rate):
    """Starts `command` (BGSAVE, BGREWRITEAOF) under SETs; returns (load figures, peak bytes, seconds it took)."""
    before = peer.anonymous_bytes()
    peak = MemoryPeak(peer)
    result = {}
    driver = threading.Thread(target=lambda: result.update(
        load(peer, rate=rate, seconds=seconds, keys=keys, value_bytes=64, clients=CLIENTS)))
    peak.start()
    driver.start()
    time.sleep(0.5)
    began = time.monotonic()
    peer.cli(command)
    wait_info(peer, running_field, "0")
    took = time.monotonic() - began
    driver.join()
    return result, peak.stop() - before, took


def run_snapshot(start, _name, quick):
    keys = 50_000 if quick else 5_000_000
    rate = 2_000 if quick else 10_000
    peer = start(cores="0,1")
    try:
        fill(peer, keys, 64)
        idle = load(peer, rate=rate, seconds=2 if quick else 5, keys=keys, value_bytes=64, clients=CLIENTS)
        saving, extra, took = during(peer, "BGSAVE", "rdb_bgsave_in_progress", keys, 4 if quick else 15, rate)
        if peer.info("rdb_last_bgsave_status") != "ok":
            raise RuntimeError("the save failed")
        for label, figures in (("idle", idle), ("during BGSAVE", saving)):
            for field in ("p50_us", "p99_us", "p99_9_us", "max_us"):
                yield Row(f"SET {rate}/s {label}: {field[:-3]}", "us"), figures[field]
        yield Row("BGSAVE under writes: p99.9 above idle", "us", 500, False), max(0, saving["p99_9_us"] - idle["p99_9_us"])
        yield Row("BGSAVE under writes: extra memory", "MiB"), extra / 2**20
        yield Row("BGSAVE under writes: duration", "s", 1.0), took
        size = os.path.getsize(os.path.join(peer.directory, "dump.rdb"))
        began = time.monotonic()
        peer.cli("SAVE", timeout=300)
        yield Row("SAVE idle: MB/s", "MB/s"), size / 1e6 / (time.monotonic() - began)
        began = time.monotonic()
        peer.cli("DEBUG", "RELOAD", "NOSAVE", timeout=300)
        yield Row("load of an RDB: keys/s", "keys/s"), int(peer.cli("DBSIZE")) / (time.monotonic() - began)
    finally:
        peer.stop()


def run_rewrite(start, _name, quick):
    keys = 50_000 if quick else 1_000_000
    peer = start(("--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"), cores="0,1")
    try:
        fill(peer, keys, 64)
        saving, _, took = during(peer, "BGREWRITEAOF", "aof_rewrite_in_progress", keys, 3 if quick else 8, 5_000)
        for field in ("p50_us", "p99_us", "p99_9_us", "max_us"):
            yield Row(f"SET during rewrite: {field[:-3]}", "us"), saving[field]
        yield Row("rewrite: duration", "s"), took
    finally:
        peer.stop()


def run_fsync(start, _name, quick):
    for policy, bound in (("always", 2.0), ("everysec", None), ("no", None)):
        peer = start(("--appendonly", "yes", "--appendfsync", policy), cores="0,1")
        try:
            for pipeline in (1, 16):
                requests = 2_000 if quick else 100_000
                _, rate = benchmark(peer, requests, pipeline, ["SET", "key:__rand_int__", "x" * 64], keys=100_000)
                yield Row(f"appendfsync {policy}, P={pipeline}", "requests/s", bound if pipeline == 1 else None, True, True), rate
        finally:
            peer.stop()


def blob_rate(peer, unix, commands, bytes_each, repeat):
    """GB/s of redis-py commands that carry `bytes_each` one way, over TCP or the unix socket."""
    import redis
    client = redis.Redis(unix_socket_path=peer.unix_path) if unix else redis.Redis(port=peer.port)
    for command in commands:
        client.execute_command(*command)
    began = time.monotonic()
    for _ in range(repeat):
        for command in commands:
            client.execute_command(*command)
    return bytes_each * repeat * len(commands) / 1e9 / (time.monotonic() - began)


def run_blobs(start, name, quick):
    size = (4 if quick else 64) << 20
    repeat = 2 if quick else 8
    payload = os.urandom(1 << 20) * (size >> 20)
    os.sched_setaffinity(0, {int(CLIENT_CORE)})
    module = ("--loadmodule", os.path.join(LIB, "tensor.so")) if name == "cairn" else ()
    peer = start(module)
    try:
        for unix, way in ((False, "TCP"), (True, "unix")):
            yield Row(f"SET 64 MiB, {way}", "GB/s"), blob_rate(peer, unix, [("SET", "blob", payload)], size, repeat)
            yield Row(f"GET 64 MiB, {way}", "GB/s"), blob_rate(peer, unix, [("GET", "blob")], size, repeat)
            # redis-server has no tensors: its SET and GET of the same bytes stand in the tensor rows.
            write = ("TENSOR.SET", "t", "F32", "SHAPE", 1, size // 4, "BLOB", payload) if module else ("SET", "t", payload)
            read = ("TENSOR.GET", "t", "BLOB") if module else ("GET", "t")
            yield Row(f"TENSOR.SET 64 MiB, {way}", "GB/s", 1.0, True, True), blob_rate(peer, unix, [write], size, repeat)
            yield Row(f"TENSOR.GET 64 MiB, {way}", "GB/s", 1.0, True, True), blob_rate(peer, unix, [read], size, repeat)
    finally:
        peer.stop()
        os.sched_setaffinity(0, set(range(os.cpu_count())))


GROUPS = [Group("speed", run_speed), Group("memory", run_memory), Group("snapshot", run_snapshot),
          Group("rewrite", run_rewrite), Group("fsync", run_fsync), Group("blobs", run_blobs)]
