"""What reaches a client at the edges of its connection: after it has shut down its side, and near the limit on open files."""

import socket
import subprocess
import unittest

import redis

from cairn_server import Server, wait_until

MOST_FILES = 100
RESERVED_FILES = 32


def read_to_end(connection):
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


class EndsTest(unittest.TestCase):

    def test_a_half_closed_client_gets_replies_that_wait_for_the_disk(self):
        for policy in ("always", "everysec"):
            with self.subTest(policy), Server(settings={"appendonly": "yes", "appendfsync": policy}) as server:
                for _ in range(20):
                    with server.raw() as connection:
                        connection.sendall(b"SET k v\r\n" * 20)
                        connection.shutdown(socket.SHUT_WR)
                        self.assertEqual(b"+OK\r\n" * 20, read_to_end(connection))
                wait_until(lambda: server.client().info("clients")["connected_clients"] <= 2, what="their ends")

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
