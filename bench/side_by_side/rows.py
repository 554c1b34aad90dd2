"""The vocabulary of ./dev compare: rows, the run that collects their figures, and the clients that load a server."""

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import tempfile

import scheduling
from latency import Requests
from peers import CLIENT_CORE, SERVER_CORE, Peer, on_client_core

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("CAIRN_BIN_DIR", os.path.join(ROOT, "build/release/bin"))
LIB = os.environ.get("CAIRN_LIB_DIR", os.path.join(ROOT, "build/release/lib"))
OURS, THEIRS = "cairn", "redis"
CLIENTS = 50


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table. `bound` is what must hold and `goal` what is reached for: of the ratio to `baseline`
    where `of_ratio`, else of our own figure."""
    name: str
    unit: str
    bound: float | None = None
    goal: float | None = None
    of_ratio: bool = True
    at_least: bool = False
    baseline: str = THEIRS  # whom the ratio is to

    def limit_text(self, limit):
        if limit is None:
            return ""
        return f"{'≥' if self.at_least else '≤'} {limit:.4g}{'x' if self.of_ratio else ' ' + self.unit}"


class Run:
    """One measurement of several servers: starts them, and keeps every figure by row and server in the order of rounds."""

    def __init__(self, binaries, options):
        self.binaries = binaries  # {name: path}
        self.quick, self.full, self.rounds = options.quick, options.full, options.rounds
        self.rows, self.figures, self.skipped = {}, {}, {}
        self.series = {}  # {label: {server: what plot.py draws}}, of the last round

    def names(self):
        return list(self.binaries)

    def pick(self, quick, normal, full=None):
        """A size by how thorough the run is."""
        return quick if self.quick else full if self.full and full is not None else normal

    def start(self, name, arguments=(), cores="0", environment=None):
        return Peer(name, self.binaries[name], arguments, cores, environment)

    def start_all(self, arguments=()):
        return [self.start(name, arguments) for name in self.binaries]

    def record(self, row, name, value):
        self.rows[row.name] = row
        self.figures.setdefault(row.name, {}).setdefault(name, []).append(value)

    def record_series(self, label, name, series):
        self.series.setdefault(label, {})[name] = series

    def skip(self, row_name, reason):
        """A row that cannot be measured: the table says why."""
        self.skipped[row_name] = reason


@dataclasses.dataclass(frozen=True)
class Group:
    name: str
    run: object  # (Run) -> None


def stop_all(peers):
    for peer in peers:
        peer.stop()


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
    """cairn-load on the client core; returns its JSON object, with a latency.Requests as "requests". At a fixed rate it and the
    server's loop are ahead of all others."""
    command = [os.path.join(BIN, "cairn-load"), "--port", peer.port]
    for name, value in options.items():
        command += ["--" + name.replace("_", "-"), value]
    ahead, prefix = contextlib.nullcontext(), []
    if options.get("rate") != 0:
        ahead, prefix = scheduling.ahead(peer.process.pid, SERVER_CORE), scheduling.client_prefix()
    with tempfile.NamedTemporaryFile() as log:
        with ahead:
            result = json.loads(on_client_core([*prefix, *command, "--log", log.name]))
        result["requests"] = Requests.of_log(log.name, result)
    return result


def encode(*words):
    """One request in RESP."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        data = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
    return b"".join(parts)


def pipe(peer, requests, count):
    """Sends `count` encoded requests through redis-cli --pipe. Raises when one of them was refused."""
    process = subprocess.Popen(["taskset", "-c", CLIENT_CORE, "redis-cli", "-p", str(peer.port), "--pipe"],
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    batch = []
    for request in requests:
        batch.append(request)
        if len(batch) == 10_000:
            process.stdin.write(b"".join(batch))
            batch.clear()
    process.stdin.write(b"".join(batch))
    out, _ = process.communicate()
    if f"errors: 0, replies: {count}" not in out.decode():
        raise RuntimeError(f"filling {peer.name} failed: {out.decode()[-300:]}")


def fill(peer, keys, value_bytes, more=()):
    """Keys key:%012d of 16 bytes, as redis-benchmark and cairn-load ask for them; every one is there afterwards."""
    head, tail = b"*%d\r\n$3\r\nSET\r\n$16\r\n" % (3 + len(more)), b"\r\n$%d\r\n%s\r\n" % (value_bytes, b"x" * value_bytes)
    tail += b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in more)
    pipe(peer, (b"%skey:%012d%s" % (head, i, tail) for i in range(keys)), keys)
    if int(peer.cli("DBSIZE")) != keys:
        raise RuntimeError(f"{peer.name} has {peer.cli('DBSIZE')} keys, not {keys}")


def missing_commands(peers, words):
    """Which of the commands which server does not know, as text; empty when all do."""
    gaps = [f"{peer.name} has no {word.upper()}" for peer in peers for word in words if not peer.knows(word)]
    return ", ".join(gaps)
