"""What scenes of several servers and clients, run on CairnKV and on redis-server, have in common."""

import os
import signal
import threading
import unittest

import redis

from exchange import encode
from servers import Server

from cairn_server import wait_until  # pylint: disable=wrong-import-order

SETTINGS = {"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}
HELD_S = 0.4        # what is not answered by then is held


def requests(*lines):
    """The bytes of commands without spaces in their words."""
    return b"".join(encode([word.encode() for word in line.split()]) for line in lines)


def peak_bytes(pid):
    """The most memory that the process has had resident."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) * 1024


class Asking:
    """A command on a connection of its own, which waits for the reply as long as it takes."""

    def __init__(self, server, *words):
        self.client = server.client(socket_timeout=60, retry=None)
        self.reply = None
        self.thread = threading.Thread(target=self._ask, args=words, daemon=True)
        self.thread.start()

    def _ask(self, *words):
        try:
            self.reply = self.client.execute_command(*words)
        except redis.RedisError as error:
            self.reply = str(error)

    def held(self):
        self.thread.join(HELD_S)
        return self.thread.is_alive()

    def answer(self):
        self.thread.join(60)
        return self.reply


class Scenes(unittest.TestCase):
    def server(self, binary, **settings):
        server = Server(binary, {**SETTINGS, **settings})
        self.addCleanup(server.close)
        return server.start()

    def pair(self, binary):
        """A primary and a replica that has come up with it, each with a client."""
        primary = self.server(binary)
        replica = self.server(binary, replicaof=f"127.0.0.1 {primary.port}")
        clients = primary.client(), replica.client()
        wait_until(lambda: clients[1].info("replication")["master_link_status"] == "up", what="the replica")
        return primary, replica, *clients

    def stopped(self, server):
        """The process does not run until resumed (or the test is over)."""
        os.kill(server.pid, signal.SIGSTOP)
        self.addCleanup(os.kill, server.pid, signal.SIGCONT)

    def both(self, scene, expected):
        for binary in ("redis", "cairn"):
            with self.subTest(binary=binary):
                self.assertEqual(scene(binary), expected)
