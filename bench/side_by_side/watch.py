"""Watches a server while it is measured, without being felt.

Starting redis-cli every 50 ms to look at INFO takes 5-8 ms of a core each time; on two cores that is what a client
then measures as the server's latency (found with `perf sched timehist`: every wait of the server or the load
generator above 1 ms during a save was for a redis-cli of ours). So: one connection, one small question at a time,
from a thread that gives way to everybody.
"""

import os
import socket
import threading
import time

LEAST_URGENT = 19  # nice
POLL_S = 0.02
SAMPLE_S = 0.05


class Control:
    """A plain connection for a few commands. Replies: status lines, integers, bulk strings."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def ask(self, *words):
        parts = [f"*{len(words)}\r\n".encode()]
        for word in words:
            data = str(word).encode()
            parts.append(b"$%d\r\n%s\r\n" % (len(data), data))
        self.socket.sendall(b"".join(parts))
        line = self.file.readline().decode().rstrip("\r\n")
        if line.startswith("-") or not line:
            raise RuntimeError(line or "the connection was closed")
        if not line.startswith("$"):
            return line[1:]
        return self.file.read(int(line[1:]) + 2)[:-2].decode()

    def persistence(self, field):
        for line in self.ask("INFO", "persistence").splitlines():
            if line.startswith(field + ":"):
                return line.split(":", 1)[1]
        raise KeyError(field)

    def close(self):
        self.file.close()
        self.socket.close()


class Watch(threading.Thread):
    """Waits `delay_s`, gives a command that starts a background job and waits for its end, then samples anonymous
    memory until stopped. `began` and `ended` are of the monotonic clock; `memory` is [(time, bytes)]."""

    def __init__(self, peer, command, running_field, delay_s=0.5):
        super().__init__(daemon=True)
        self.peer, self.command, self.running_field, self.delay_s = peer, command, running_field, delay_s
        self.memory, self.error = [], None
        self.began = self.ended = None
        self.stopping = threading.Event()

    def run(self):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LEAST_URGENT)
        try:
            control = Control(self.peer.port)
            try:
                self._watch(control)
            finally:
                control.close()
        except (OSError, RuntimeError, KeyError, ValueError) as error:
            self.error = error

    def _watch(self, control):
        start = time.monotonic()
        next_sample = start
        while not self.stopping.is_set() or self.ended is None:
            now = time.monotonic()
            if now >= next_sample:
                self.memory.append((now, self.peer.anonymous_bytes()))
                next_sample = now + SAMPLE_S
            if self.began is None and now - start >= self.delay_s:
                self.began = time.monotonic()
                control.ask(self.command)
            elif self.began is not None and self.ended is None and control.persistence(self.running_field) == "0":
                self.ended = time.monotonic()
            time.sleep(POLL_S)

    def finish(self):
        """Ends the samples; raises what went wrong. Returns the peak of the memory."""
        self.stopping.set()
        self.join()
        if self.error is not None:
            raise RuntimeError(f"watching {self.peer.name}: {self.error}")
        return max(size for _, size in self.memory)
