"""Replication where one thing ends in the middle of another: a link in a transaction, a wait, a backlog."""

import os
import signal
import socket
import time
import unittest

from cairn_server import request, wait_until
from test_replication import digest, follow, info, psync_of, start, wait_equal, wait_link

ID = b"a" * 40


def empty_copy() -> bytes:
    with start("redis") as server:
        server.client().execute_command("SAVE")
        with open(os.path.join(server.directory, "dump.rdb"), "rb") as file:
            return file.read()


class ScriptedPrimary:
    """A primary that says what it is told to."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(60)
        self.port = self._listener.getsockname()[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()

    def link(self) -> tuple[socket.socket, list[bytes]]:
        """The next link, and the PSYNC that it asks with."""
        link, _ = self._listener.accept()
        link.settimeout(60)
        return link, psync_of(link)


class Cuts(unittest.TestCase):
    def test_a_link_cut_inside_a_transaction_runs_nothing_twice(self):
        copy = empty_copy()
        ahead = request("SELECT", "0") + request("SET", "a", "0") + request("INCR", "a")
        opened = request("MULTI") + request("INCR", "b")
        for binary in ("redis", "cairn"):
            for pieces in ((ahead + opened,), (ahead, opened), (ahead + request("MULTI"), request("INCR", "b"))):
                with self.subTest(replica=binary, pieces=len(pieces)), ScriptedPrimary() as primary, \
                        start(binary) as replica:
                    follow(replica, primary)
                    link, _ = primary.link()
                    with link:
                        link.sendall(b"+FULLRESYNC %s 0\r\n$%d\r\n" % (ID, len(copy)) + copy)
                        wait_link(replica)
                        for piece in pieces:
                            link.sendall(piece)
                            time.sleep(0.2)
                        wait_until(lambda: replica.client().get("a") == b"1", 30, "what is ahead of the transaction")
                    link, asked = primary.link()
                    with link:
                        self.assertEqual(int(asked[2]) - 1, len(ahead))
                        stream = ahead + opened + request("EXEC")
                        link.sendall(b"+CONTINUE %s\r\n" % ID + stream[int(asked[2]) - 1:])
                        wait_until(lambda: replica.client().get("b") == b"1", 30, "the transaction")
                        self.assertEqual(replica.client().get("a"), b"1")

    def test_a_wait_that_is_over_does_not_end_the_next_command_that_blocks(self):
        for binary in ("redis", "cairn"):
            with self.subTest(primary=binary), start(binary) as primary, start("redis") as replica:
                follow(replica, primary)
                wait_link(replica)
                client = primary.client()
                client.set("k", "v")
                wait_equal(primary, replica)
                os.kill(replica.pid, signal.SIGSTOP)
                try:
                    client.set("k", "w")
                    # It was stopped in the middle of nothing: it has not acknowledged this.
                    self.assertEqual(client.execute_command("WAIT", 1, 50), 0)
                    blocked = primary.client()
                    with blocked.client() as pinned:
                        pinned.set("k", "x")
                        self.assertEqual(pinned.execute_command("WAIT", 1, 50), 0)
                        pinned.connection.send_command("BLPOP", "list", 0)
                        wait_until(lambda: primary.client().info("clients")["blocked_clients"] == 1, 30, "BLPOP")
                        os.kill(replica.pid, signal.SIGCONT)
                        wait_equal(primary, replica)
                        self.assertFalse(pinned.connection.can_read(timeout=0.5))
                        client.lpush("list", "e")
                        self.assertEqual(pinned.connection.read_response(), [b"list", b"e"])
                finally:
                    os.kill(replica.pid, signal.SIGCONT)

    def test_nobody_joins_a_copy_that_the_backlog_does_not_reach_back_to(self):
        with start("cairn", repl_backlog_ttl="1", rdb_key_save_delay="1000") as primary, start("cairn") as replica:
            client = primary.client()
            client.execute_command("DEBUG", "POPULATE", 8000)
            with socket.create_connection(("127.0.0.1", primary.port), timeout=60) as first:
                first.sendall(request("REPLCONF", "capa", "eof"))
                self.assertEqual(first.recv(16), b"+OK\r\n")
                first.sendall(request("PSYNC", "?", "-1"))
                wait_until(lambda: info(primary, "persistence")["rdb_bgsave_in_progress"] == 1, 30, "the copy")
            wait_until(lambda: info(primary)["repl_backlog_active"] == 0, 30, "the end of the backlog")
            self.assertEqual(info(primary, "persistence")["rdb_bgsave_in_progress"], 1)
            client.set("between", "1")
            follow(replica, primary)
            wait_link(replica)
            client.incr("after")
            wait_equal(primary, replica)
            self.assertEqual(digest(primary), digest(replica))


if __name__ == "__main__":
    unittest.main()
