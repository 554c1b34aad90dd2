"""Replies that wait for the append-only file all leave, whoever else looks how far it has come.

A lost wake-up does not show in one write: here one client writes and waits, write after write, while others keep the loop
looking. Before the look told those who were held, everysec lost one in 160,000.
"""

import multiprocessing
import unittest

from cairn_server import Server

WRITES = 60_000
READERS = 3
FORKS = multiprocessing.get_context("fork")


def read_on(server):
    with server.raw() as plain:
        try:
            while True:
                plain.sendall(b"*1\r\n$4\r\nPING\r\n")
                if not plain.recv(64):
                    return
        except OSError:
            return


class HeldRepliesTest(unittest.TestCase):
    def test_everysec(self):
        self.check("everysec", WRITES)

    def test_no(self):
        self.check("no", WRITES)

    def test_always(self):
        self.check("always", WRITES // 20)    # each waits for the disk

    def check(self, policy, writes):
        with Server(settings={"appendonly": "yes", "appendfsync": policy}) as server:
            readers = [FORKS.Process(target=read_on, args=(server,), daemon=True) for _ in range(READERS)]
            for reader in readers:
                reader.start()
            self.addCleanup(lambda: [reader.kill() for reader in readers])
            with server.raw(timeout_s=60) as writer:
                for count in range(1, writes + 1):
                    writer.sendall(b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n")
                    self.assertEqual(writer.recv(64), b":%d\r\n" % count)


if __name__ == "__main__":
    unittest.main()
