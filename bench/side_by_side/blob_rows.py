"""Values of 64 MiB over TCP and the unix socket, and tensors of the same bytes.

The client is a plain socket with large reads and writes, because a library's copies would cost more than any server.
redis-server has no tensors: its SET and GET of the same bytes stand in the tensor rows.
"""

import os
import socket
import time

from peers import CLIENT_CORE
from rows import LIB, OURS, Group, Row, stop_all


class BlobClient:
    """One connection that sends and receives big bulk strings without copies of its own."""

    def __init__(self, peer, unix, size):
        if unix:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(peer.unix_path)
        else:
            self.socket = socket.create_connection(("127.0.0.1", peer.port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray(size + 64)

    def send(self, words):
        self.socket.sendall(b"*%d\r\n" % len(words))
        for word in words:
            self.socket.sendall(b"$%d\r\n" % len(word))
            self.socket.sendall(word)
            self.socket.sendall(b"\r\n")

    def expect_ok(self):
        line = self.socket.recv(256)
        if line != b"+OK\r\n":
            raise RuntimeError(f"not +OK: {line!r}")

    def receive(self, size):
        """A bulk string of `size` bytes; a view of it."""
        head = b"$%d\r\n" % size
        view, filled, wanted = memoryview(self.buffer), 0, len(head) + size + 2
        while filled < wanted:
            got = self.socket.recv_into(view[filled:wanted])
            if got == 0:
                raise RuntimeError("the server closed the connection")
            filled += got
            if filled >= len(head) and view[:len(head)] != head:
                raise RuntimeError(f"not a bulk string of {size} bytes: {bytes(view[:80])!r}")
        return view[len(head):len(head) + size]


def words_of(kind, name, size, payload):
    """(writing words, reading words) of a plain or a tensor value."""
    if kind == "TENSOR." and name == OURS:
        shape = [b"F32", b"SHAPE", b"1", b"%d" % (size // 4), b"BLOB"]
        return [b"TENSOR.SET", b"t", *shape, payload], [b"TENSOR.GET", b"t", b"BLOB"]
    return [b"SET", b"blob", payload], [b"GET", b"blob"]


def timed(peer, action, repeat, size):
    """(GB/s, ms of server CPU per value) of `repeat` calls, after two to warm up."""
    action()
    action()
    used, began = peer.cpu_ns(), time.monotonic()
    for _ in range(repeat):
        action()
    took, used = time.monotonic() - began, peer.cpu_ns() - used
    return size * repeat / 1e9 / took, used / 1e6 / repeat


def measure(run, peer, kind, unix, size, payload):
    client = BlobClient(peer, unix, size)
    write, read = words_of(kind, peer.name, size, payload)
    way = "unix" if unix else "TCP"
    repeat = run.pick(2, 10)

    def store():
        client.send(write)
        client.expect_ok()

    def fetch():
        client.send(read)
        client.receive(size)

    goals = {("", "SET", "TCP"): 2.8, ("", "SET", "unix"): 3.8, ("", "GET", "TCP"): 2.9, ("", "GET", "unix"): 4.6}
    for verb, action in (("SET", store), ("GET", fetch)):
        rate, cpu_ms = timed(peer, action, repeat, size)
        run.record(Row(f"{kind}{verb} {size >> 20} MiB, {way}", "GB/s", 1.0, None, at_least=True), peer.name, rate)
        run.record(Row(f"{kind}{verb} {size >> 20} MiB, {way}: CPU", "ms/value", 1.0), peer.name, cpu_ms)
        goal = goals.get((kind, verb, way))
        if goal and peer.name == OURS:
            run.record(Row(f"{verb} {size >> 20} MiB, {way}: our rate", "GB/s", None, goal, of_ratio=False, at_least=True), peer.name, rate)
    client.send(read)
    if client.receive(size) != payload:
        raise RuntimeError(f"{peer.name}: the bytes read are not those written")


def run_blobs(run, kind):
    size = run.pick(4, 64) << 20
    payload = os.urandom(1 << 20) * (size >> 20)
    module = os.path.join(LIB, "tensor.so")
    if kind == "TENSOR." and not os.path.exists(module):
        run.skip("TENSOR.SET and TENSOR.GET 64 MiB", f"module not there: {module}")
        return
    os.sched_setaffinity(0, {int(CLIENT_CORE)})
    peers = [run.start(name, ("--loadmodule", module) if kind == "TENSOR." and name == OURS else ()) for name in run.names()]
    try:
        for unix in (False, True):
            for _ in range(run.rounds):
                for peer in peers:
                    measure(run, peer, kind, unix, size, payload)
    finally:
        stop_all(peers)
        os.sched_setaffinity(0, set(range(os.cpu_count())))


GROUPS = [Group("blobs", lambda run: run_blobs(run, "")), Group("tensors", lambda run: run_blobs(run, "TENSOR."))]
