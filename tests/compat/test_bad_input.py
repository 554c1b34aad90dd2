"""What a server has to survive: limits that are hit, clients that misbehave. Same words, same connections closed.

Malformed requests, half-closed sockets, unknown commands, wrong arity and types are in the scripts; settings that are
wrong in test_settings.py.
"""

import socket
import time
import unittest

from exchange import Closed, Connection, Pair, encode
from scenes import peak_bytes
from servers import BothServers

CLOSED_LIMIT_S = 20.0
MIB = 1 << 20


def own_address():
    """An address of this machine that is not the loopback, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; only chooses the way out
            address = probe.getsockname()[0]
        except OSError:
            return None
    return None if address.startswith("127.") else address


class BadInputTest(unittest.TestCase):

    def both(self, settings=None):
        servers = BothServers(settings)
        servers.__enter__()
        self.addCleanup(servers.close)
        return servers

    def pair(self, servers, resp=2):
        pair = Pair(servers.ports, resp)
        self.addCleanup(pair.close)
        return pair

    def ask(self, pair, *words):
        """Returns both raw replies, ours first; they must be equal."""
        pair.send(encode([word if isinstance(word, bytes) else word.encode() for word in words]))
        ours, theirs = pair.replies()
        self.assertEqual(theirs[0], ours[0], words)
        return theirs[0]

    def info(self, pair, field):
        pair.send(encode([b"INFO", b"all"]))
        texts = [reply[1][1].decode() for reply in pair.replies()]
        return [[line.split(":")[1] for line in text.splitlines() if line.startswith(field + ":")] for text in texts]

    def assert_alive(self, servers):
        self.assertEqual(b"+PONG\r\n", self.ask(self.pair(servers), "PING"))

    def ends(self, servers, data, head=()):
        """What both say to these bytes on a new connection, up to the end; the ends must be equal."""
        pair = self.pair(servers)
        for words in head:
            self.ask(pair, *words)
        pair.send(data)
        ours, theirs = pair.rests()
        self.assertEqual(theirs, ours, data[:80])
        return theirs

    # -------------------------------------------------------------------------------- before authentication

    def test_small_limits_before_authentication(self):
        servers = self.both({"requirepass": "secret"})
        for data in (b"*11\r\n", b"*10\r\n$4\r\n", b"*1\r\n$16385\r\n", b"*1\r\n$16384\r\n", b"*1048577\r\n",
                     b"*1\r\n$-1\r\n", b"PING\r\n", b"*1\r\n$4\r\nPING\r\n", b"A" * 70000, b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n",
                     b"*" + b"1" * 70000, b"*1\r\n$" + b"1" * 70000):
            with self.subTest(data[:20]):
                self.ends(servers, data)
        for data in (b"*11\r\n", b"*1\r\n$16385\r\n"):
            with self.subTest(authenticated=data):
                self.assertIn(b"stays open", self.ends(servers, data, [("AUTH", "secret")]))
        self.assert_alive_with_password(servers)

    def assert_alive_with_password(self, servers):
        pair = self.pair(servers)
        self.ask(pair, "AUTH", "secret")
        self.assertEqual(b"+PONG\r\n", self.ask(pair, "PING"))

    def test_authentication(self):
        servers = self.both({"requirepass": "secret"})
        pair = self.pair(servers)
        for words in (("GET", "a"), ("AUTH",), ("AUTH", "wrong"), ("AUTH", "default", "wrong"), ("AUTH", "nobody", "secret"),
                      ("AUTH", "a", "b", "c"), ("MULTI",), ("EXEC",), ("HELLO", "2", "AUTH", "default", "wrong"),
                      ("RESET",), ("NOSUCH",), ("CLIENT", "SETNAME", "x"), ("COMMAND",), ("QUIT", "x"),
                      ("AUTH", "secret"), ("GET", "a"), ("AUTH", "wrong"), ("GET", "a"), ("RESET",), ("GET", "a"),
                      ("AUTH", "default", "secret"), ("GET", "a"), ("CONFIG", "SET", "requirepass", ""), ("AUTH", "x"),
                      ("RESET",), ("GET", "a")):
            with self.subTest(words):
                self.ask(pair, *words)

    def test_hello_needs_authentication(self):
        servers = self.both({"requirepass": "secret"})
        pair = self.pair(servers)
        self.assertIn(b"NOAUTH", self.ask(pair, "HELLO", "3"))
        self.assertIn(b"NOAUTH", self.ask(pair, "HELLO"))
        self.assertIn(b"WRONGPASS", self.ask(pair, "HELLO", "3", "AUTH", "default", "x", "SETNAME", "n"))

    # -------------------------------------------------------------------------------- limits

    def test_small_replies_are_under_every_limit(self):
        servers = self.both({"client-output-buffer-limit": "normal 1 1 1"})
        pair = self.pair(servers)
        self.assertEqual(b"+OK\r\n", self.ask(pair, "SET", "big", b"x" * 16000))
        self.ask(pair, "GET", "big")
        self.ask(pair, "APPEND", "big", b"x" * 64000)
        pair.send(encode([b"GET", b"big"]))
        self.assertEqual([(b"closed", b"")] * 2, [reply[1] for reply in pair.replies()])
        self.ask(self.pair(servers), "CONFIG", "SET", "client-output-buffer-limit", "normal 0 0 0")
        self.ask(self.pair(servers), "GET", "big")

    def test_a_reply_nobody_reads(self):
        servers = self.both({"client-output-buffer-limit": "normal 1mb 0 0"})
        pair = self.pair(servers)
        self.ask(pair, "SET", "big", b"x" * (4 * MIB))
        lazy = self.pair(servers)
        lazy.send(encode([b"GET", b"big"]) * 32)
        self.until_ended(lazy)
        self.assert_alive(servers)

    def test_a_reply_nobody_reads_for_a_while(self):
        servers = self.both({"client-output-buffer-limit": "normal 0 1mb 1"})
        pair = self.pair(servers)
        self.ask(pair, "SET", "big", b"x" * (4 * MIB))
        lazy = self.pair(servers)
        lazy.send(encode([b"GET", b"big"]) * 32)
        self.until_ended(lazy)
        self.assert_alive(servers)

    def test_a_reply_without_end(self):
        """Few members, drawn more often than memory holds: the limit ends the reply while it is made, not afterwards."""
        servers = self.both({"client-output-buffer-limit": "normal 1mb 0 0"})
        before = peak_bytes(servers.ours.pid)
        for resp in (2, 3):
            pair = self.pair(servers, resp)
            for words in (("HSET", "h", "f", "v"), ("SADD", "s", "m"), ("ZADD", "z", "1", "m"), ("DEL", "behind")):
                self.ask(pair, *words)
            for words in (b"HRANDFIELD h -20000000", b"HRANDFIELD h -20000000 WITHVALUES", b"SRANDMEMBER s -20000000",
                          b"ZRANDMEMBER z -20000000", b"ZRANDMEMBER z -20000000 WITHSCORES"):
                with self.subTest(words, resp=resp):
                    drawn = self.pair(servers, resp)
                    drawn.send(encode(words.split()))
                    self.assertEqual([(b"closed", b"")] * 2, [reply[1] for reply in drawn.replies()])
            # A transaction runs to its end all the same.
            drawn = self.pair(servers, resp)
            for words in (("MULTI",), ("SRANDMEMBER", "s", "-20000000"), ("SET", "behind", "1")):
                self.ask(drawn, *words)
            drawn.send(encode([b"EXEC"]))
            self.assertEqual([(b"closed", b"")] * 2, [reply[1] for reply in drawn.replies()])
            self.ask(pair, "GET", "behind")
        self.assertLess(peak_bytes(servers.ours.pid), before + 64 * MIB)

    def test_a_message_over_the_limit(self):
        """It is not sent, even to one who would take it at once."""
        servers = self.both({"client-output-buffer-limit": "pubsub 100kb 0 0"})
        listener, sender = self.pair(servers), self.pair(servers)
        self.ask(listener, "SUBSCRIBE", "c")
        self.assertEqual(b":1\r\n", self.ask(sender, "PUBLISH", "c", b"m" * 150000))
        self.assertEqual([(b"closed", b"")] * 2, [reply[1] for reply in listener.replies()])
        self.assertEqual(b":0\r\n", self.ask(sender, "PUBLISH", "c", "m"))

    def test_names_of_keys_without_end(self):
        servers = self.both({"client-output-buffer-limit": "normal 1mb 0 0"})
        self.ask(self.pair(servers), "DEBUG", "POPULATE", "200000", "k" * 100, "1")
        before = peak_bytes(servers.ours.pid)
        pair = self.pair(servers)
        pair.send(encode([b"KEYS", b"*"]))
        self.assertEqual([(b"closed", b"")] * 2, [reply[1] for reply in pair.replies()])
        self.assertLess(peak_bytes(servers.ours.pid), before + 8 * MIB)
        # Nor does a reply that nobody is sent end its client.
        silent = self.pair(servers)
        silent.send(encode([b"CLIENT", b"REPLY", b"OFF"]) + encode([b"KEYS", b"*"]) + encode([b"CLIENT", b"REPLY", b"ON"]))
        self.assertEqual([b"+OK\r\n"] * 2, [reply[0] for reply in silent.replies()])
        silent.send(encode([b"CLIENT", b"REPLY", b"SKIP"]) + encode([b"KEYS", b"*"]) + encode([b"PING"]))
        self.assertEqual([b"+PONG\r\n"] * 2, [reply[0] for reply in silent.replies()])

    def until_ended(self, pair):
        """Both servers close the connection although nothing is read from it."""
        control = self.pair_of(pair)
        deadline = time.monotonic() + CLOSED_LIMIT_S
        left = [1, 1]
        while left != [0, 0]:
            self.assertLess(time.monotonic(), deadline, f"still connected: {left}")
            for side in (0, 1):
                control.sides[side].send(encode([b"CLIENT", b"LIST", b"TYPE", b"normal"]))
                lines = control.sides[side].reply()[1][1].splitlines()
                left[side] = sum(1 for line in lines if b"cmd=get" in line or b" cmd=NULL" in line)
            time.sleep(0.02)

    def pair_of(self, pair):
        other = Pair([side.port for side in pair.sides], 2)
        self.addCleanup(other.close)
        return other

    def test_a_request_that_does_not_end(self):
        servers = self.both({"client-query-buffer-limit": "1mb"})
        # Redis does not count the words it has split off already (docs/differences.md).
        with Connection.to(servers.ours.port) as connection:
            connection.send(b"*1000000\r\n" + b"$8\r\naaaaaaaa\r\n" * 150000)
            self.assertEqual((b"", True), connection.rest(CLOSED_LIMIT_S))
        # One big argument that does not come to its end.
        self.ends(servers, b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$4194304\r\n" + b"x" * (2 * MIB))
        # An inline request without a line end, more than a line may have.
        self.ends(servers, b"SET a " + b"x" * (2 * MIB))
        # What is queued in MULTI counts too.
        head = [("MULTI",)] + [("SET", "a", b"x" * 400000)] * 2
        self.ends(servers, encode([b"SET", b"a", b"x" * 400000]), head)
        self.assert_alive(servers)

    def test_a_longer_argument_than_allowed(self):
        servers = self.both({"proto-max-bulk-len": "1mb"})
        self.assertIn(b"invalid bulk length", self.ends(servers, b"*1\r\n$1048577\r\n"))
        pair = self.pair(servers)
        self.ask(pair, "SET", "a", b"x" * MIB)
        self.ask(pair, "APPEND", "a", "y")
        self.ask(pair, "SETRANGE", "a", "1048576", "y")
        self.ask(pair, "STRLEN", "a")

    def test_too_many_clients(self):
        servers = self.both({"maxclients": "4"})
        kept = [self.pair(servers) for _ in range(4)]
        for pair in kept:
            self.ask(pair, "PING")
        more = self.pair(servers)
        ours, theirs = more.rests()
        self.assertEqual(b"-ERR max number of clients reached\r\n", theirs)
        self.assertEqual(theirs, ours)
        for values in self.info(kept[0], "rejected_connections"):
            self.assertEqual(["1"], values)
        kept.pop().close()
        deadline = time.monotonic() + CLOSED_LIMIT_S
        for port in servers.ports:
            self.until_served(port, deadline)

    def until_served(self, port, deadline):
        while True:
            connection = Connection(port)
            connection.send(encode([b"PING"]))
            try:
                if connection.reply()[0] == b"+PONG\r\n":
                    return
            except Closed:
                pass
            finally:
                connection.close()
            self.assertLess(time.monotonic(), deadline)

    def test_an_idle_client_is_closed(self):
        servers = self.both({"timeout": "1"})
        pair = self.pair(servers)
        self.ask(pair, "PING")
        for side in pair.sides:
            rest, closed = side.rest(CLOSED_LIMIT_S)
            self.assertEqual((b"", True), (rest, closed))
        self.assert_alive(servers)

    def test_out_of_memory(self):
        servers = self.both({"maxmemory": "1"})
        pair = self.pair(servers)
        for words in (("SET", "a", "1"), ("GET", "a"), ("DEL", "a"), ("MULTI",), ("SET", "a", "1"), ("EXEC",),
                      ("APPEND", "a", "1"), ("INCR", "a"), ("EXPIRE", "a", "1"), ("GETSET", "a", "1"), ("MULTI",),
                      ("GET", "a"), ("EXEC",), ("SETRANGE", "a", "1", "x"), ("RENAME", "a", "b"), ("COPY", "a", "b"),
                      ("CONFIG", "SET", "maxmemory", "0"), ("SET", "a", "1")):
            with self.subTest(words):
                self.ask(pair, *words)

    # -------------------------------------------------------------------------------- strangers

    def test_protected_mode(self):
        address = own_address()
        if address is None:
            self.skipTest("this machine has no address but the loopback")
        servers = self.both({"bind": f"127.0.0.1 {address}"})
        said = []
        for port in servers.ports:
            with socket.create_connection((address, port), timeout=CLOSED_LIMIT_S) as stranger:
                data = b""
                while chunk := stranger.recv(65536):
                    data += chunk
                said.append(data)
        self.assertTrue(said[1].startswith(b"-DENIED "), said[1])
        self.assertEqual(said[1], said[0])
        self.assert_alive(servers)

    def test_a_browser(self):
        servers = self.both()
        for data in (b"POST / HTTP/1.1\r\nHost: x\r\n\r\nFLUSHALL\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                     b"HEAD / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", b"\x00" * 100 + b"\r\n"):
            with self.subTest(data[:20]):
                self.ends(servers, data)
        self.assert_alive(servers)

    def test_connections_that_break_off(self):
        """In the middle of requests and of replies; nothing of them stays."""
        servers = self.both()
        keeper = self.pair(servers)
        self.ask(keeper, "SET", "big", b"x" * (8 * MIB))
        whole = encode([b"SET", b"k", b"v" * 200000])
        for at in (1, 3, 10, 25, 40, 60000, 150000, len(whole) - 1):
            pair = self.pair(servers)
            pair.send(whole[:at])
            pair.close()
        for _ in range(8):
            pair = self.pair(servers)
            pair.send(encode([b"GET", b"big"]))
            pair.close()
        deadline = time.monotonic() + CLOSED_LIMIT_S
        while self.info(keeper, "connected_clients") != [["1"], ["1"]]:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        self.assertEqual(b":0\r\n", self.ask(keeper, "EXISTS", "k"))


class GuardedCommandsTest(unittest.TestCase):
    """DEBUG, MODULE and protected settings without leave."""

    def test_the_same_refusals(self):
        settings = {"enable-debug-command": "no", "enable-protected-configs": "no"}
        with BothServers(settings) as servers:
            pair = Pair(servers.ports, 2)
            for words in ((b"DEBUG", b"SLEEP", b"0"), (b"DEBUG",), (b"DEBUG", b"NOSUCH"),
                          (b"CONFIG", b"SET", b"dir", b"/tmp"), (b"CONFIG", b"SET", b"dbfilename", b"x"),
                          (b"CONFIG", b"SET", b"port", b"1", b"dbfilename", b"x")):
                with self.subTest(words):
                    pair.send(encode(list(words)))
                    ours, theirs = pair.replies()
                    self.assertEqual(theirs[0], ours[0])
            pair.close()


if __name__ == "__main__":
    unittest.main()
