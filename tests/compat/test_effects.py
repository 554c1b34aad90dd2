"""What CairnKV and redis-server 7.0.15 tell their replicas of the same commands, and write to their append-only files:
effects/*.script (see effects.py).
"""

import glob
import os
import unittest

from effects import SETTINGS, EffectsScript, ReplicaLink, compared, effects_of_log, logged, without_positions
from exchange import encode
from servers import BothServers, Server

from cairn_server import wait_until  # pylint: disable=wrong-import-order

LOGGING = {"appendonly": "yes", "auto-aof-rewrite-percentage": "0"}
BUSY = ["aof_rewrite_in_progress", "aof_rewrite_scheduled"]


class EffectsTest(unittest.TestCase):
    """One test a script; each has its own two servers."""

    def check(self, path):
        with BothServers({**SETTINGS, **LOGGING}) as servers:
            script = EffectsScript(path, servers.ports)
            script.run()
            servers.ours.stop()
            servers.theirs.stop()
            logs = [effects_of_log(logged(server)) for server in (servers.ours, servers.theirs)]
        print(f"{script.exchanges} exchanges, {script.effects.seen} effects", end=" ", flush=True)
        self.assertEqual(0, len(script.differences), "\n".join([""] + script.differences))
        self.assertIsNone(compared(without_positions(logs[0]), logs[1]), "the append-only files")
        self.assertGreater(min(script.effects.seen, len(logs[1])), 0)


class LogTest(unittest.TestCase):
    def started_again_with_its_log(self, server):
        """Ends the server by SIGKILL, once the log has its base, and starts it from there. Returns a client of database 3."""
        client = server.client(db=3)
        wait_until(lambda: not any(client.info("persistence")[name] for name in BUSY), what="the first base")
        server.settings["appendonly"] = "yes"
        server.restart()
        return server.client(db=3)

    def test_names_its_database_though_replicas_know_it(self):
        """A log that begins while replicas read the stream, which goes on without a SELECT."""
        for binary in ("redis", "cairn"):
            with self.subTest(binary=binary), Server(binary, SETTINGS) as server:
                link = ReplicaLink(server.port)
                self.addCleanup(link.close)
                client = server.client(db=3)
                client.set("a", "1")
                client.config_set("appendonly", "yes")
                client.set("b", "2")
                told = link.effects_until(encode([b"SET", b"b", b"2"]))
                self.assertEqual(told, [encode([b"SELECT", b"3"]), encode([b"SET", b"a", b"1"])])
                self.assertEqual(self.started_again_with_its_log(server).mget("a", "b"), [b"1", b"2"])

    def test_stays_when_it_was_begun_by_a_rewrite(self):
        for binary in ("redis", "cairn"):
            with self.subTest(binary=binary), Server(binary, SETTINGS) as server:
                client = server.client(db=3)
                client.set("a", "1")
                with client.pipeline(transaction=False) as pipeline:  # in one turn: the rewrite is under way
                    pipeline.execute_command("BGREWRITEAOF").config_set("appendonly", "yes").set("b", "2").execute()
                wait_until(lambda: not any(client.info("persistence")[name] for name in BUSY), what="the first base")
                self.assertEqual(client.info("persistence")["aof_enabled"], 1)
                client.set("c", "3")
                self.assertEqual(self.started_again_with_its_log(server).mget("a", "b", "c"), [b"1", b"2", b"3"])


def declare_tests():
    here = os.path.dirname(os.path.abspath(__file__))
    for path in sorted(glob.glob(os.path.join(here, "effects", "*.script"))):
        name = os.path.basename(path)[:-len(".script")]
        setattr(EffectsTest, f"test_{name}", lambda self, path=path: self.check(path))


declare_tests()

if __name__ == "__main__":
    unittest.main()
