"""Transactions whose time is over end by the clock alone, and a replica hears of it from its primary (C9)."""

import time
import unittest

from cairn_server import Server, wait_until

TIMEOUT_MS = 400
LONG_TIMEOUT_MS = 1500    # where something has to be done before it is over
LATEST_S = 30.0


class Sweep(unittest.TestCase):
    def start(self, **settings):
        server = Server(settings={"repl-diskless-sync-delay": "0", **settings}, tensors=True)
        self.addCleanup(server.close)
        return server.start()

    def listen(self, server):
        listener = server.client().pubsub()
        self.addCleanup(listener.close)
        listener.subscribe("__ckpt__:run")
        self.assertEqual(listener.get_message(timeout=10)["type"], "subscribe")
        return listener

    def told(self, listener, within_s):
        patience = time.monotonic() + within_s
        while time.monotonic() < patience:
            message = listener.get_message(timeout=0.05)
            if message is not None and message["data"].startswith(b"expired"):
                return message["data"]
        return None

    def begin(self, server, timeout_ms=TIMEOUT_MS):
        call = server.client().execute_command
        tx = call("CKPT.BEGIN", "run", 7, "TIMEOUT", timeout_ms)
        call("CKPT.DECLARE", "run", tx, "RANK", 0, 1, "w", "weights", "U8", "SHAPE", 1, 3)
        call("CKPT.PUT", "run", tx, "RANK", 0, "w", "AT", 0, "BLOB", b"abc")
        return tx

    def states(self, server):
        reply = server.client().execute_command("CKPT.STATUS", "run")
        return [tx[2 * [word for word in tx[::2]].index(b"state") + 1] for tx in reply[11]]

    def test_nobody_asks_and_it_is_told_and_replicated(self):
        primary, replica = self.start(appendonly="yes"), self.start()
        replica.client().execute_command("REPLICAOF", "127.0.0.1", primary.port)
        wait_until(lambda: replica.client().info("replication").get("master_link_status") == "up", what="the link")
        listeners = [self.listen(primary), self.listen(replica)]
        began_s = time.monotonic()
        tx = self.begin(primary)
        for listener in listeners:
            self.assertEqual(self.told(listener, LATEST_S), b"expired 7 " + tx)
        self.assertGreaterEqual(time.monotonic() - began_s, TIMEOUT_MS / 1000)
        self.assertEqual(self.states(primary), [b"expired"])
        self.assertEqual(self.states(replica), [b"expired"])
        # What the log says is what it loads.
        primary.kill()
        primary.start()
        self.assertEqual(self.states(primary), [b"expired"])

    def test_a_replica_decides_nothing_until_it_is_promoted(self):
        primary, replica = self.start(), self.start()
        replica.client().execute_command("REPLICAOF", "127.0.0.1", primary.port)
        wait_until(lambda: replica.client().info("replication").get("master_link_status") == "up", what="the link")
        listener = self.listen(replica)
        tx = self.begin(primary, LONG_TIMEOUT_MS)
        wait_until(lambda: replica.client().exists("run") and len(self.states(replica)) == 1, what="the run")
        primary.kill()
        self.assertIsNone(self.told(listener, LONG_TIMEOUT_MS / 1000 + 0.5))
        replica.client().execute_command("REPLICAOF", "NO", "ONE")
        self.assertEqual(self.told(listener, LATEST_S), b"expired 7 " + tx)

    def test_its_time_begins_anew_after_a_restart(self):
        server = self.start(appendonly="yes", appendfsync="always")
        tx = self.begin(server, LONG_TIMEOUT_MS)
        server.kill()
        server.start()
        self.assertEqual(self.told(self.listen(server), LATEST_S), b"expired 7 " + tx)


if __name__ == "__main__":
    unittest.main()
