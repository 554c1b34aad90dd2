"""MIGRATE: keys on their way between CairnKV and redis-server 7.0.15, in all directions, and what goes wrong there."""

import socket
import threading
import time
import unittest

import redis

from cairn_server import Server, free_port, wait_until

SETTINGS = {"enable-debug-command": "yes"}
PAIRS = [("cairn", "redis"), ("redis", "cairn"), ("cairn", "cairn")]
IOERR = "IOERR error or timeout {} to target instance"


def fill(client):
    client.set("text", b"\x00\r\n\xff", ex=1000)
    client.set("number", 12345)
    client.set("big", "x" * 300_000)
    client.rpush("list", *range(1000))
    client.hset("hash", mapping={f"f{i}": i for i in range(600)})
    client.sadd("set", "a", "b", 1)
    client.zadd("zset", {f"m{i}": i for i in range(300)})
    client.xadd("stream", {"f": "v"}, id="1-1")
    return ["text", "number", "big", "list", "hash", "set", "zset", "stream"]


def error_of(call, *words):
    """The error line that a command is answered with."""
    try:
        call(*words)
    except redis.RedisError as error:
        return str(error)
    return None


class MigrateTest(unittest.TestCase):
    def migrate(self, source, target, *words):
        return source.client().execute_command("MIGRATE", "127.0.0.1", target.port, *words)

    def test_one_key_and_many(self):
        for here, there in PAIRS:
            with self.subTest(f"{here} to {there}"), Server(here, SETTINGS) as source, Server(there, SETTINGS) as target:
                client, other = source.client(), target.client()
                keys = fill(client)
                digests = client.execute_command("DEBUG", "DIGEST-VALUE", *keys)
                self.assertEqual(b"OK", self.migrate(source, target, "text", 0, 5000))
                self.assertEqual(0, client.exists("text"))
                self.assertTrue(990 < other.ttl("text") <= 1000)
                self.assertEqual(1, client.info("stats")["migrate_cached_sockets"])
                self.assertEqual(b"OK", self.migrate(source, target, "", 0, 5000, "KEYS", *keys))
                self.assertEqual(0, client.dbsize())
                self.assertEqual(digests, other.execute_command("DEBUG", "DIGEST-VALUE", *keys))

    def test_copy_replace_and_database(self):
        for here, there in PAIRS:
            with self.subTest(f"{here} to {there}"), Server(here) as source, Server(there) as target:
                client, other = source.client(), target.client()
                client.mset({"a": "new", "b": "only here"})
                other.set("a", "old")
                self.assertEqual("ERR Target instance replied with error: BUSYKEY Target key name already exists.",
                                 "ERR " + error_of(self.migrate, source, target, "a", 0, 5000).removeprefix("ERR "))
                # The first key is refused, the second goes.
                self.assertIsNotNone(error_of(self.migrate, source, target, "", 0, 5000, "KEYS", "a", "b"))
                self.assertEqual((1, 0), (client.exists("a"), client.exists("b")))
                self.assertEqual(b"OK", self.migrate(source, target, "a", 0, 5000, "COPY", "REPLACE"))
                self.assertEqual((b"new", b"new"), (client.get("a"), other.get("a")))
                self.assertEqual(b"OK", self.migrate(source, target, "a", 3, 5000))
                self.assertEqual(b"OK", self.migrate(target, source, "a", 0, 5000))
                self.assertEqual(b"new", client.get("a"))
                other.select(3)
                self.assertEqual(b"new", other.get("a"))
                self.assertIn("DB index is out of range", error_of(self.migrate, source, target, "a", 99, 5000))
                self.assertEqual(b"new", client.get("a"))

    def test_passwords(self):
        for here, there in PAIRS:
            settings = {"user": ["default on >word ~* &* +@all", "mover on >secret ~* +restore +select"]}
            with self.subTest(f"{here} to {there}"), Server(here) as source, Server(there, settings) as target:
                client = source.client()
                client.mset({"a": 1, "b": 2, "c": 3})
                self.assertIn("NOAUTH", error_of(self.migrate, source, target, "a", 0, 5000))
                self.assertIn("WRONGPASS", error_of(self.migrate, source, target, "a", 0, 5000, "AUTH", "none"))
                self.assertEqual(3, client.dbsize())
                self.assertEqual(b"OK", self.migrate(source, target, "a", 0, 5000, "AUTH", "word"))
                self.assertEqual(b"OK", self.migrate(source, target, "b", 0, 5000, "AUTH2", "mover", "secret"))
                self.assertEqual(1, client.dbsize())

    def test_the_target_went_away_and_came_back(self):
        """The connection that was kept is found dead; one more attempt is made, and only one."""
        with Server("cairn") as source, Server("redis") as target:
            client = source.client()
            client.mset({"a": 1, "b": 2})
            self.assertEqual(b"OK", self.migrate(source, target, "a", 0, 5000))
            target.kill()
            target.start()
            self.assertEqual(b"OK", self.migrate(source, target, "b", 0, 5000))
            client.set("c", 3)
            target.kill()
            self.assertEqual(IOERR.format("writing"), error_of(self.migrate, source, target, "c", 0, 1000))
            self.assertEqual(b"3", client.get("c"))

    def test_a_silent_target_costs_the_timeout(self):
        for name in ("cairn", "redis"):
            with self.subTest(name), Server(name) as source, socket.create_server(("127.0.0.1", 0)) as silent:
                client = source.client()
                client.set("a", 1)
                began = time.monotonic()
                self.assertEqual(IOERR.format("reading"), error_of(
                    client.execute_command, "MIGRATE", "127.0.0.1", silent.getsockname()[1], "a", 0, 300))
                self.assertLess(0.29, time.monotonic() - began)
                self.assertEqual(b"1", client.get("a"))

    def test_a_target_that_breaks_off(self):
        """After the first key was taken: that one is gone here, the other is not, and the error says so."""
        for name in ("cairn", "redis"):
            with self.subTest(name), Server(name) as source, socket.create_server(("127.0.0.1", 0)) as listener:
                def take_one():
                    peer, _ = listener.accept()
                    with peer:
                        peer.recv(65536)
                        peer.sendall(b"+OK\r\n+OK\r\n")  # SELECT, RESTORE
                thread = threading.Thread(target=take_one)
                thread.start()
                client = source.client()
                client.mset({"a": 1, "b": 2})
                self.assertEqual(IOERR.format("reading"), error_of(
                    client.execute_command, "MIGRATE", "127.0.0.1", listener.getsockname()[1], "", 0, 3000, "KEYS", "a", "b"))
                thread.join()
                self.assertEqual([None, b"2"], client.mget("a", "b"))

    def test_lines_without_a_target(self):
        """The same words as redis-server's for all that needs no server on the other side."""
        refused = free_port()
        with Server("cairn") as ours, Server("redis") as theirs:
            for server in (ours, theirs):
                server.client().mset({"a": 1, "": "empty"})
            for words in (["127.0.0.1", refused, "a", 0, 500], ["127.0.0.1", refused, "none", 0, 500],
                          ["no.such.host.invalid", 1, "a", 0, 500], ["127.0.0.1", "x", "none", 0, 500],
                          ["127.0.0.1", refused, "a", 0, 500, "KEYS", "a"], ["127.0.0.1", refused, "", 0, 500],
                          ["127.0.0.1", refused, "", 0, 500, "KEYS"], ["127.0.0.1", refused, "", 0, 500, "KEYS", "none"],
                          ["127.0.0.1", refused, "a", "x", 500], ["127.0.0.1", refused, "a", 0, "x"],
                          ["127.0.0.1", refused, "a", 0, 500, "AUTH"], ["127.0.0.1", refused, "a", 0, 500, "AUTH2", "x"],
                          ["127.0.0.1", refused, "a", 0, 500, "COPY", "BOGUS"], ["127.0.0.1", refused, "a"],
                          ["127.0.0.1", -1, "a", 0, 500], ["", refused, "a", 0, 500]):
                with self.subTest(words=words):
                    said = []
                    for server in (theirs, ours):
                        try:
                            said.append(server.client().execute_command("MIGRATE", *words))
                        except redis.RedisError as error:
                            said.append(str(error))
                    self.assertEqual(said[0], said[1])

    def test_the_log_holds_the_removal(self):
        """A restart does not bring back what has moved."""
        with Server("cairn", {"appendonly": "yes", "appendfsync": "always"}) as source, Server("redis") as target:
            client = source.client()
            client.mset({"a": 1, "b": 2, "c": 3})
            self.assertEqual(b"OK", self.migrate(source, target, "", 0, 5000, "KEYS", "a", "none", "b"))
            source.kill()
            source.start()
            self.assertEqual([b"c"], source.client().keys())

    def test_passwords_are_not_shown(self):
        with Server("cairn", {"slowlog-log-slower-than": "0"}) as source:
            client = source.client()
            client.execute_command("MIGRATE", "127.0.0.1", 1, "none", 0, 100, "AUTH2", "name", "secret")
            shown = repr(client.execute_command("SLOWLOG", "GET"))
            self.assertIn("MIGRATE", shown)
            self.assertNotIn("secret", shown)

    def test_kept_connections_are_closed(self):
        """Ten seconds after their last use."""
        with Server("cairn") as source, Server("redis") as target:
            client, other = source.client(), target.client()
            client.set("a", 1)
            before = len(other.client_list())
            self.migrate(source, target, "a", 0, 5000)
            self.assertEqual(before + 1, len(other.client_list()))
            wait_until(lambda: len(other.client_list()) == before)


if __name__ == "__main__":
    unittest.main()
