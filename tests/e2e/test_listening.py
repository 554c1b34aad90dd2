"""Where a server listens: several addresses, IPv6, unix sockets, ports in use, addresses changed while it runs, and for how many; beside redis-server."""

import os
import socket
import stat
import subprocess
import time
import unittest

import redis

from cairn_server import BINARIES, Server, free_port

NOWHERE = "192.0.2.1"  # RFC 5737: no machine has it
START_LIMIT_S = 20.0
MOST_FILES = 100
RESERVED_FILES = 32
IN_OWN_WORDS = ("oO0O", "Redis version=", "CairnKV version=", "WARNING")


def answers(address, port, family=socket.AF_INET):
    """Whether a server says PONG there."""
    try:
        with socket.socket(family) as probe:
            probe.settimeout(5)
            probe.connect((address, port))
            probe.sendall(b"PING\r\n")
            return probe.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
        return True
    except OSError:
        return False


class ListeningTest(unittest.TestCase):

    def start(self, binary="cairn", settings=None, **options):
        server = Server(binary, settings, **options)
        self.addCleanup(server.close)
        return server.start()

    def failed_start(self, binary, *words):
        """(exit status, the warnings in its log) of a start that fails."""
        run = subprocess.run([BINARIES[binary], "--save", "", *words], capture_output=True, text=True,
                             timeout=START_LIMIT_S, check=False)
        warnings = [line.split(" # ")[1] for line in run.stdout.splitlines() if " # " in line]
        return run.returncode, [line for line in warnings if not line.startswith(IN_OWN_WORDS)]

    def test_a_client_that_is_written_to_is_not_idle(self):
        """`timeout` counts from the last byte in either direction."""
        for binary in ("redis", "cairn"):
            with self.subTest(server=binary):
                server = self.start(binary, {"timeout": "2"})
                other = server.client()
                with socket.create_connection(("127.0.0.1", server.port), timeout=30) as waits:
                    waits.sendall(b"BLPOP list 0\r\n")
                    time.sleep(4)  # blocked clients are not idle; from their answer on they are
                    other.lpush("list", "e")
                    self.assertEqual(waits.recv(64), b"*2\r\n$4\r\nlist\r\n$1\r\ne\r\n")
                    time.sleep(1)
                    waits.sendall(b"PING\r\n")
                    self.assertEqual(waits.recv(64), b"+PONG\r\n")

    def test_clients_that_come_and_go_do_not_lock_a_busy_server(self):
        for binary in ("redis", "cairn"):
            with self.subTest(server=binary):
                server = self.start(binary, {"maxclients": "20", "busy-reply-threshold": "50"})
                with socket.create_connection(("127.0.0.1", server.port), timeout=30) as script:
                    script.sendall(b'EVAL "while true do end" 0\r\n')
                    time.sleep(0.3)
                    for _ in range(60):
                        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as other:
                            other.sendall(b"PING\r\n")
                            self.assertTrue(other.recv(64).startswith(b"-BUSY"))
                    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as other:
                        other.sendall(b"SCRIPT KILL\r\n")
                        self.assertEqual(other.recv(64), b"+OK\r\n")
                    self.assertIn(b"Script killed by user", script.recv(200))

    def test_several_addresses(self):
        server = self.start(settings={"bind": "127.0.0.1 127.0.0.2 -192.0.2.1"})
        self.assertTrue(answers("127.0.0.1", server.port))
        self.assertTrue(answers("127.0.0.2", server.port))
        self.assertFalse(answers("127.0.0.3", server.port))

    def test_names_and_optional_addresses(self):
        for binary in ("redis", "cairn"):
            server = self.start(binary, {"bind": f"localhost -{NOWHERE}"})
            self.assertTrue(answers("127.0.0.1", server.port), binary)
            self.assertIn(f"listening socket {NOWHERE}:{server.port}: bind: Cannot assign", server.log(), binary)

    @unittest.skipUnless(has_ipv6(), "this machine has no IPv6")
    def test_ipv6(self):
        server = self.start(settings={"bind": "127.0.0.1 ::1"})
        self.assertTrue(answers("::1", server.port, socket.AF_INET6))
        client = redis.Redis(host="::1", port=server.port)
        self.assertTrue(client.client_list()[0]["addr"].startswith("[::1]:"))

    def test_a_start_that_cannot_listen(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = str(taken.getsockname()[1])
            other = str(free_port())
            for words in (["--bind", "127.0.0.2", "-" + NOWHERE, "127.0.0.1", "--port", port],
                          ["--bind", "127.0.0.2", "-127.0.0.1", "--port", port],
                          ["--bind", "-*", "--port", port],
                          ["--bind", "localhost", "--port", port],
                          ["--bind", "127.1", "--port", port],
                          ["--bind", "-" + NOWHERE, "--port", other],
                          ["--bind", "2001:db8::1", "--port", other],
                          ["--bind", "fe80::1%lo", "--port", other],
                          ["--bind", "-nosuch.invalid", "127.0.0.2", "--port", other],
                          ["--port", "0", "--unixsocket", "/nosuch/socket"],
                          ["--port", "0", "--unixsocket", "/tmp/" + "x" * 103],
                          ["--bind", "127.0.0.1", "--port", port],
                          ["--bind", NOWHERE, "--port", str(free_port())],
                          ["--port", "0"]):
                with self.subTest(words=words):
                    ours = self.failed_start("cairn", *words)
                    self.assertNotEqual(0, ours[0])
                    self.assertEqual(self.failed_start("redis", *words), ours)

    def test_tls_is_refused_and_not_left_out(self):
        """redis-server misses a certificate, ours misses TLS: neither starts without."""
        for words in (["--tls-port", str(free_port())], ["--tls-replication", "yes"], ["--tls-cluster", "yes"]):
            said = [self.failed_start(binary, "--port", str(free_port()), *words) for binary in ("redis", "cairn")]
            self.assertEqual(*[(status, warnings[-1]) for status, warnings in said])

    def test_the_permissions_of_a_unix_socket(self):
        for binary in ("redis", "cairn"):
            server = self.start(binary, {"unixsocketperm": "750"}, unix=True)
            self.assertEqual(0o750, stat.S_IMODE(os.stat(server.unix_path).st_mode), binary)
            self.assertTrue(server.client(unix=True).ping())
            server.stop()
            self.assertFalse(os.path.exists(server.unix_path), binary)

    def test_files_have_the_mode_that_the_umask_leaves(self):
        for binary in ("redis", "cairn"):
            server = self.start(binary, {"appendonly": "yes"})
            server.client().save()
            names = ("dump.rdb", "appendonlydir", "appendonlydir/appendonly.aof.manifest")
            modes = [stat.S_IMODE(os.stat(os.path.join(server.directory, name)).st_mode) for name in names]
            mask = os.umask(0o077)
            os.umask(mask)
            self.assertEqual([0o666 & ~mask & 0o644, 0o777 & ~mask & 0o755, 0o666 & ~mask & 0o644], modes, binary)
            server.stop()

    def test_addresses_that_cannot_be_had(self):
        """CONFIG SET refuses them in Redis's words, and the server goes on where it was."""
        errors = {}
        for binary in ("redis", "cairn"):
            server = self.start(binary)
            client = server.client()
            with socket.socket() as taken:
                taken.bind(("127.0.0.1", 0))
                taken.listen()
                for name, value in (("bind", NOWHERE), ("bind", "127.0.0.1 " + NOWHERE),
                                    ("tls-port", free_port()), ("tls-replication", "yes"), ("tls-cluster", "yes"),
                                    ("port", taken.getsockname()[1])):
                    with self.assertRaises(redis.ResponseError) as refused:
                        client.config_set(name, value)
                    errors.setdefault(binary, []).append(str(refused.exception))
            self.assertEqual({"bind": "127.0.0.1"}, client.config_get("bind"))
            self.assertEqual({"port": str(server.port)}, client.config_get("port"))
            self.assertTrue(client.ping())
            if binary == "cairn":
                self.assertTrue(answers("127.0.0.1", server.port))
        self.assertEqual(errors["redis"], errors["cairn"])

    def test_another_port_and_other_addresses(self):
        for binary in ("redis", "cairn"):
            server = self.start(binary)
            client = server.client()
            port = free_port()
            client.config_set("port", port)
            self.assertTrue(client.ping(), "a connection stays when the port goes")
            self.assertTrue(answers("127.0.0.1", port))
            self.assertFalse(answers("127.0.0.1", server.port))
            client.execute_command("CONFIG", "SET", "bind", "127.0.0.2")
            self.assertTrue(answers("127.0.0.2", port))
            self.assertFalse(answers("127.0.0.1", port))

    def listening_inode(self, port):
        """The kernel's number of the socket that listens on 127.0.0.1."""
        with open("/proc/net/tcp", encoding="ascii") as table:
            rows = [line.split() for line in table]
        return [row[9] for row in rows if row[1] == f"0100007F:{port:04X}" and row[3] == "0A"]

    def test_other_addresses_leave_the_unix_socket_alone(self):
        """Whoever waits there is served, and its file needs no second making, which may fail by then."""
        for binary in ("redis", "cairn"):
            with self.subTest(server=binary):
                server = self.start(binary, unix=True)
                client = server.client(unix=True)
                client.ping()
                before = os.stat(server.unix_path).st_ino
                port = free_port()
                client.config_set("port", port)
                client.config_set("bind", "127.0.0.2")
                client.config_set("bind", "127.0.0.1")
                with socket.socket() as taken:
                    taken.bind(("127.0.0.1", 0))
                    taken.listen()
                    listens = self.listening_inode(port)
                    with self.assertRaises(redis.ResponseError):
                        client.config_set("port", taken.getsockname()[1])
                    if binary == "cairn":  # redis-server listens anew
                        self.assertEqual(listens, self.listening_inode(port), "the port stays open meanwhile")
                    with self.assertRaises(redis.ResponseError):
                        client.config_set("bind", NOWHERE)
                self.assertTrue(answers("127.0.0.1", port))
                self.assertEqual(before, os.stat(server.unix_path).st_ino)
                self.assertTrue(server.client(unix=True).ping())

    def test_nowhere_for_a_while(self):
        """No address, or port 0: whoever is connected stays, and may bring the server back."""
        for binary in ("redis", "cairn"):
            server = self.start(binary)
            client = server.client()
            for name, nowhere, back in (("bind", "", "127.0.0.1"), ("port", "0", str(server.port))):
                with self.subTest(binary=binary, name=name):
                    self.assertTrue(client.config_set(name, nowhere))
                    self.assertEqual({name: nowhere}, client.config_get(name))
                    self.assertFalse(answers("127.0.0.1", server.port))
                    self.assertTrue(client.config_set(name, back))
                    self.assertTrue(answers("127.0.0.1", server.port))

    def test_maxclients_fits_the_limit_on_open_files(self):
        # A hard limit holds for those who may not raise it: the test needs the means to be one of them.
        prefix = ["prlimit", f"--nofile={MOST_FILES}:{MOST_FILES}", "setpriv", "--bounding-set=-sys_resource"]
        if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("no setpriv with the right to drop a capability")
        with Server(prefix=prefix) as server:
            client = server.client()
            self.assertEqual({"maxclients": str(MOST_FILES - RESERVED_FILES)}, client.config_get("maxclients"))
            with self.assertRaisesRegex(redis.ResponseError, "not able to handle .* try with 68"):
                client.config_set("maxclients", 5000)


if __name__ == "__main__":
    unittest.main()
