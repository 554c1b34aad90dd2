"""maxmemory-clients: the clients that take most memory are closed, those that asked to be spared are not."""

import contextlib
import socket
import unittest

import redis

from cairn_server import Server, wait_until

MIB = 1024 * 1024


def stuffed(server, size):
    """A connection in the middle of a large argument, which the server has to hold."""
    peer = socket.create_connection(("127.0.0.1", server.port))
    with contextlib.suppress(ConnectionError):  # it may be closed while we send
        peer.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % (size * 2) + b"x" * size)
    return peer


def is_closed(peer):
    peer.settimeout(60)
    try:
        return peer.recv(1) == b""
    except ConnectionError:
        return True


def queued_bytes(client):
    return max(int(line["tot-mem"]) for line in client.client_list())


class ClientEvictionTest(unittest.TestCase):
    def test_the_greediest_goes_first(self):
        for name in ("cairn", "redis"):
            with self.subTest(name), Server(name, {"maxmemory-clients": "10mb"}) as server:
                client = server.client()
                small = stuffed(server, 2 * MIB)
                wait_until(lambda: queued_bytes(client) > MIB)
                large = stuffed(server, 9 * MIB)
                self.assertTrue(is_closed(large))
                wait_until(lambda: client.info("stats")["evicted_clients"] == 1)
                self.assertEqual(2, len(client.client_list()))
                small.close()
                large.close()

    def test_spared_on_request(self):
        for name in ("cairn", "redis"):
            with self.subTest(name), Server(name, {"maxmemory-clients": "4mb"}) as server:
                control = server.client()
                control.client_no_evict("ON")
                spared = redis.Connection(port=server.port)
                spared.connect()
                spared.send_command("CLIENT", "NO-EVICT", "ON")
                spared.read_response()
                spared.send_command("MULTI")
                spared.read_response()
                for _ in range(6):
                    spared.send_command("SET", "k", b"x" * MIB)
                    self.assertEqual(b"QUEUED", spared.read_response())
                self.assertEqual(0, control.info("stats")["evicted_clients"])
                # What it takes counts all the same: others have to go.
                other = socket.create_connection(("127.0.0.1", server.port))
                with contextlib.suppress(ConnectionError):
                    other.sendall(b"PING\r\n" * 10)
                wait_until(lambda: control.info("stats")["evicted_clients"] > 0)
                other.close()
                spared.send_command("EXEC")
                self.assertEqual([b"OK"] * 6, spared.read_response())

    def test_queued_commands_and_unread_replies_count(self):
        for name in ("cairn", "redis"):
            with self.subTest(name), Server(name, {"maxmemory-clients": "3mb"}) as server:
                control = server.client()
                control.client_no_evict("ON")
                with self.assertRaises(redis.ConnectionError):
                    pipe = redis.Redis(port=server.port).pipeline()
                    greedy = redis.Connection(port=server.port)
                    greedy.connect()
                    greedy.send_command("MULTI")
                    greedy.read_response()
                    for _ in range(100):
                        greedy.send_command("SET", "k", b"x" * 100_000)
                        greedy.read_response()
                    pipe.reset()
                control.rpush("l", *[b"y" * 1000] * 1000)
                reader = socket.create_connection(("127.0.0.1", server.port))
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                reader.sendall(b"LRANGE l 0 -1\r\n" * 20)
                wait_until(lambda: control.info("stats")["evicted_clients"] == 2)
                reader.close()

    def test_values_that_replies_refer_to_count(self):
        for name in ("cairn", "redis"):
            with self.subTest(name), Server(name, {"maxmemory-clients": "8mb"}) as server:
                control = server.client()
                control.client_no_evict("ON")
                control.set("big", b"x" * 400_000)
                reader = socket.create_connection(("127.0.0.1", server.port))
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                reader.sendall(b"GET big\r\n" * 100)
                wait_until(lambda: control.info("stats")["evicted_clients"] == 1)
                reader.close()

    def test_as_a_share_of_maxmemory_and_at_run_time(self):
        for name in ("cairn", "redis"):
            with self.subTest(name), Server(name, {"maxmemory": "100mb"}) as server:
                control = server.client()
                control.client_no_evict("ON")
                big = stuffed(server, 6 * MIB)
                wait_until(lambda: queued_bytes(control) > 5 * MIB)
                control.config_set("maxmemory-clients", "50%")
                control.ping()
                self.assertEqual(0, control.info("stats")["evicted_clients"])
                control.config_set("maxmemory-clients", "3%")
                self.assertTrue(is_closed(big))
                self.assertEqual(1, control.info("stats")["evicted_clients"])
                self.assertEqual("3%", control.config_get("maxmemory-clients")["maxmemory-clients"])
                self.assertIn("id=", "\n".join(line for line in server.log().splitlines() if "Evicting client" in line))
                big.close()


if __name__ == "__main__":
    unittest.main()
