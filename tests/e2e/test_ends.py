"""What reaches a client at the edges of its connection: after it has shut down its side, in silence it asked for, beyond
the limit on open files, and on a replica whose script takes too long."""

import socket
import subprocess
import unittest

import redis

from cairn_server import Server, wait_until

MOST_FILES = 100
RESERVED_FILES = 32
SLOW_SCRIPT = ("local before = redis.call('get', 'x'); local t = redis.call('time')[1]; "
               "while redis.call('time')[1] - t < 3 do end; return {before, redis.call('get', 'x')}")


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

    def test_reply_off_and_skip_silence_refusals_and_queued(self):
        cases = ((b"CLIENT REPLY SKIP\r\nNOSUCH\r\nPING\r\n", b"+PONG\r\n"),
                 (b"CLIENT REPLY SKIP\r\nGET\r\nPING\r\n", b"+PONG\r\n"),
                 (b"CLIENT REPLY SKIP\r\nRESET\r\nPING\r\n", b"+PONG\r\n"),
                 (b"CLIENT REPLY OFF\r\nMULTI\r\nPING\r\nGET\r\nEXEC\r\nCLIENT REPLY ON\r\n", b"+OK\r\n"))
        for name in ("cairn", "redis"):
            with Server(name) as server:
                for sent, answer in cases:
                    with self.subTest(name, sent=sent), server.raw() as connection:
                        connection.sendall(sent + b"ECHO end\r\n")
                        connection.shutdown(socket.SHUT_WR)
                        self.assertEqual(answer + b"$3\r\nend\r\n", read_to_end(connection))

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

    def test_a_script_on_a_replica_is_not_interrupted_by_its_primary(self):
        with Server() as primary, Server(settings={"busy-reply-threshold": "50"}) as replica:
            primary.client().set("x", 0)
            replica.client().execute_command("REPLICAOF", "127.0.0.1", primary.port)
            wait_until(lambda: replica.client().get("x") == b"0", what="the copy")
            with replica.raw() as connection:
                connection.sendall(b"*3\r\n$4\r\nEVAL\r\n$%d\r\n%s\r\n$1\r\n0\r\n" %
                                   (len(SLOW_SCRIPT), SLOW_SCRIPT.encode()) + b"ECHO behind\r\n" * 20)

                def busy():
                    try:
                        replica.client().get("x")
                    except redis.exceptions.ResponseError as error:
                        return "BUSY" in str(error)
                    return False
                wait_until(busy, what="the script to be over its time")
                for i in range(1, 50):
                    primary.client().set("x", i)
                want = b"*2\r\n$1\r\n0\r\n$1\r\n0\r\n" + b"$6\r\nbehind\r\n" * 20
                data = b""
                while len(data) < len(want) and (piece := connection.recv(65536)):
                    data += piece
                self.assertEqual(want, data)
            wait_until(lambda: replica.client().get("x") == b"49", what="the rest of the stream")


if __name__ == "__main__":
    unittest.main()
