"""Many clients in one turn of the loop, with io-uring and without: each gets its own replies, whatever its neighbours do; also one that
has shut down its side."""

import random
import socket
import struct
import unittest

from cairn_server import Server, read_to_end, request, wait_until

CLIENTS = 300  # more than one batch holds
PIPELINE = 20
BIG_BYTES = 200_000


def reset(connection):
    """Closes it so that the server's end breaks instead of ending."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


class SocketBatchTest(unittest.TestCase):

    def read(self, connection, count):
        data = b""
        while len(data) < count:
            piece = connection.recv(count - len(data))
            self.assertNotEqual(b"", piece, "the server closed a connection that did no wrong")
            data += piece
        return data

    def rounds(self, server, before_round):
        chance = random.Random(7)
        connections = [server.raw() for _ in range(CLIENTS)]
        with server.client() as control:
            for round_number in range(12):
                before_round(control, round_number)
                expected = {}
                for i, connection in enumerate(connections):
                    words = f"{round_number}-{i}-".encode() * 3
                    pipeline = request("SET", f"k{i}", words) + request("GET", f"k{i}") * PIPELINE
                    replies = b"+OK\r\n" + b"$%d\r\n%s\r\n" % (len(words), words) * PIPELINE
                    if i % 50 == 0:  # received into a place of its own, answered by reference
                        big = bytes([65 + i % 26]) * BIG_BYTES
                        pipeline += request("SET", f"b{i}", big) + request("GET", f"b{i}")
                        replies += b"+OK\r\n$%d\r\n%s\r\n" % (BIG_BYTES, big)
                    expected[i] = replies
                    connection.sendall(pipeline)
                gone = chance.sample(range(CLIENTS), 20)
                for i in gone[:10]:
                    reset(connections[i])
                for i in gone[10:]:
                    connections[i].close()
                for i, connection in enumerate(connections):
                    if i not in gone:
                        self.assertEqual(expected[i], self.read(connection, len(expected[i])), i)
                for i in gone:
                    connections[i] = server.raw()
            self.assertTrue(control.ping())
        for connection in connections:
            connection.close()

    def test_each_way(self):
        for way in ("yes", "no"):
            with self.subTest(way=way), Server(settings={"io-uring": way}) as server:
                self.rounds(server, lambda control, _: None)

    def test_changed_while_it_runs(self):
        with Server() as server:
            self.rounds(server, lambda control, number: control.config_set("io-uring", "no" if number % 2 else "yes"))

    def test_killed_by_a_neighbour(self):
        """The one that kills comes first in the turn; what the others sent in the same turn is not answered."""
        with Server() as server:
            for _ in range(20):
                killer, *victims = [server.raw() for _ in range(40)]
                for connection in victims:
                    connection.sendall(request("CLIENT", "SETNAME", "victim"))
                    self.read(connection, len(b"+OK\r\n"))
                killer.sendall(request("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
                for connection in victims:
                    try:
                        connection.sendall(request("INCR", "n"))
                    except OSError:
                        pass  # killed already
                self.assertRegex(killer.recv(64), rb":\d+\r\n")
                for connection in victims:
                    try:
                        while connection.recv(64):
                            pass
                    except ConnectionResetError:
                        pass
                    connection.close()
                killer.close()
            with server.client() as client:
                self.assertTrue(client.ping())

    def test_a_half_closed_client_gets_replies_that_wait_for_the_disk(self):
        for policy in ("always", "everysec"):
            with self.subTest(policy), Server(settings={"appendonly": "yes", "appendfsync": policy}) as server:
                for _ in range(20):
                    with server.raw() as connection:
                        connection.sendall(b"SET k v\r\n" * 20)
                        connection.shutdown(socket.SHUT_WR)
                        self.assertEqual(b"+OK\r\n" * 20, read_to_end(connection))
                wait_until(lambda: server.client().info("clients")["connected_clients"] <= 2, what="their ends")


if __name__ == "__main__":
    unittest.main()
