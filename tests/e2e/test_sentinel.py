"""CairnKV under Debian's redis-sentinel: three of them watch a primary and two replicas, agree that it is gone, and promote one.

redis-py's Sentinel client finds the primary, as an application would.
"""

import os
import subprocess
import tempfile
import time
import unittest

import redis
from redis.sentinel import Sentinel

from cairn_server import BINARIES, Server, free_port, wait_until

NAME = "watched"
SENTINELS, QUORUM = 3, 2
FAILOVER_LIMIT_S = 60.0
# A sentinel pings once a second, and has no answer yet of a primary it has only just heard of: with a limit of one second
# it takes a healthy one for dead, and fails over once more.
DOWN_AFTER_MS = 3000


class Watcher:
    """One sentinel process. It rewrites its configuration, so that has a directory of its own."""

    def __init__(self, primary: Server):
        self.port = free_port()
        self._directory = tempfile.TemporaryDirectory(prefix="cairn-test-")
        path = os.path.join(self._directory.name, "sentinel.conf")
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"port {self.port}\nbind 127.0.0.1\ndir {self._directory.name}\n"
                       f"sentinel monitor {NAME} 127.0.0.1 {primary.port} {QUORUM}\n"
                       f"sentinel down-after-milliseconds {NAME} {DOWN_AFTER_MS}\nsentinel failover-timeout {NAME} 5000\n")
        self.process = subprocess.Popen([BINARIES["redis"], path, "--sentinel"], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)

    def ready(self) -> bool:
        """Whether it knows all others and both replicas: then it can judge."""
        try:
            state = redis.Redis(host="127.0.0.1", port=self.port).sentinel_master(NAME)
        except redis.RedisError:
            return False
        return state["num-other-sentinels"] == SENTINELS - 1 and state["num-slaves"] == 2

    def close(self):
        self.process.kill()
        self.process.wait()
        self._directory.cleanup()


class Failover(unittest.TestCase):
    def start(self, **settings) -> Server:
        server = Server(settings={"repl-diskless-sync-delay": "0", **settings})
        self.addCleanup(server.close)
        return server.start()

    def test_a_killed_primary_is_replaced_and_comes_back_as_a_replica(self):
        primary = self.start()
        replicas = [self.start(replicaof=f"127.0.0.1 {primary.port}") for _ in range(2)]
        for each in replicas:
            wait_until(lambda server=each: server.client().info("replication").get("master_link_status") == "up",
                       what="the link")
        watchers = [Watcher(primary) for _ in range(SENTINELS)]
        for each in watchers:
            self.addCleanup(each.close)
        wait_until(lambda: all(each.ready() for each in watchers), FAILOVER_LIMIT_S, "the sentinels")

        sentinel = Sentinel([("127.0.0.1", each.port) for each in watchers], socket_timeout=5)
        self.assertEqual(sentinel.discover_master(NAME), ("127.0.0.1", primary.port))
        application = sentinel.master_for(NAME, socket_timeout=5)
        application.mset({f"key:{number}": number for number in range(1000)})
        self.assertEqual(application.wait(2, 10_000), 2)

        primary.kill()
        self.assertTrue(wait_until(lambda: self.writes(application), FAILOVER_LIMIT_S, "a new primary"))
        promoted = self.promoted(sentinel, replicas)
        self.assertEqual(application.get("key:999"), b"999", "nothing acknowledged by both replicas is lost")
        self.assertEqual(promoted.client().role()[0], b"master")

        primary.start()
        for each in (primary, *replicas):
            wait_until(lambda server=each: self.in_place(server, sentinel, replicas), FAILOVER_LIMIT_S,
                       "its place under the new primary")
            wait_until(lambda server=each: self.has_the_write(server), what="what was written since")

    @staticmethod
    def promoted(sentinel, replicas) -> Server:
        """The replica that is the primary by what the sentinels say now."""
        return next(each for each in replicas if each.port == sentinel.discover_master(NAME)[1])

    @staticmethod
    def writes(application) -> bool:
        try:
            return application.set("after", "yes")
        except redis.RedisError:
            time.sleep(0.1)
            return False

    # A sentinel closes the connections of a server that it gives another role: an error is not an answer yet.

    @staticmethod
    def in_place(server: Server, sentinel, replicas) -> bool:
        try:
            primary = Failover.promoted(sentinel, replicas)
            role = server.client().role()
        except redis.ConnectionError:    # also of sentinels that doubt a primary which is slow to answer
            return False
        if server is primary:
            return role[0] == b"master"
        return role[0] == b"slave" and role[2] == primary.port and role[3] == b"connected"

    @staticmethod
    def has_the_write(server: Server) -> bool:
        try:
            return server.client().get("after") == b"yes"
        except redis.ConnectionError:
            return False


if __name__ == "__main__":
    unittest.main()
