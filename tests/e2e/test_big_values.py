"""Big values from many connections into memory that is not there yet: what waits for pages must always go on."""

import random
import socket
import threading
import time
import unittest

from cairn_server import Server, request

CLIENTS = 6
ROUNDS = 12
LIMIT_S = 60
SIZES = (200_000, 262_143, 262_144, 262_145, 524_288, 1_500_000, 4_194_304)


class Client(threading.Thread):
    """Sends several SETs ahead in pieces that split headers and values anywhere, then reads all replies and the values back."""

    def __init__(self, port, number, seed):
        super().__init__(daemon=True)
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S)
        self.reader = self.socket.makefile("rb")
        self.number, self.chance, self.failed, self.done = number, random.Random(seed), None, False

    def run(self):
        try:
            for _ in range(ROUNDS):
                self.round()
            self.done = True
        except Exception as error:  # told by the test, which owns the thread
            self.failed = error

    def round(self):
        values = {b"%d:%d" % (self.number, i): self.chance.randbytes(64) * (self.chance.choice(SIZES) // 64 + 1)
                  for i in range(self.chance.randint(1, 5))}
        sender = threading.Thread(target=self.send, args=(b"".join(request(b"SET", *item) for item in values.items()),))
        sender.start()
        for _ in values:
            self.expect(b"+OK\r\n")
        sender.join()
        for name, value in values.items():
            self.socket.sendall(request(b"GET", name))
            self.expect(b"$%d\r\n" % len(value))
            if self.reader.read(len(value)) != value:
                raise AssertionError(f"{name} came back otherwise")
            self.expect(b"\r\n")
        self.socket.sendall(request(b"DEL", *values) + request(b"MEMORY", b"PURGE"))  # so that the next pages are cold again
        self.expect(b":%d\r\n" % len(values))
        self.expect(b"+OK\r\n")

    def send(self, data):
        at = 0
        while at < len(data):
            size = self.chance.choice((7, 1000, 70_000, 300_000, 2_000_000))
            self.socket.sendall(data[at:at + size])
            at += size

    def expect(self, line):
        got = self.reader.readline()
        if got != line:
            raise AssertionError(f"{got[:80]!r} where {line!r} was due")


class BigValuesTest(unittest.TestCase):
    def test_many_clients_and_cold_memory(self):
        seed = random.SystemRandom().randrange(2 ** 32)
        with Server("cairn", {}) as server:
            clients = [Client(server.port, number, seed + number) for number in range(CLIENTS)]
            for client in clients:
                client.start()
            for client in clients:
                client.join(LIMIT_S)
            self.assertEqual([(client.failed, client.done) for client in clients], [(None, True)] * CLIENTS, f"seed {seed}")

    def test_a_reserve_is_fetched_at_the_start_and_with_config_set(self):
        def await_retained(client, fits):
            for _ in range(600):
                retained = client.info("memory")["blob_arena_retained_bytes"]
                if fits(retained):
                    return
                time.sleep(0.05)
            self.fail(f"{retained} bytes retained")

        with Server("cairn", {"blob-arena-reserve": "40mb"}) as server:
            client = server.client()
            await_retained(client, lambda retained: retained == 40 << 20)
            with open(f"/proc/{client.info('server')['process_id']}/status", encoding="ascii") as status:
                resident = next(int(line.split()[1]) for line in status if line.startswith("RssAnon:"))
            self.assertGreater(resident, 40 << 10)
            used = client.info("memory")["used_memory"]
            self.assertLess(used, 40 << 20)
            client.set("k", b"v" * (8 << 20))
            await_retained(client, lambda retained: retained == 32 << 20)
            client.config_set("blob-arena-reserve", "400mb")
            await_retained(client, lambda retained: retained == 392 << 20)
            client.config_set("maxmemory", "100mb")   # what free memory may be, used or not
            await_retained(client, lambda retained: retained <= 256 << 20)

    def test_an_argument_that_no_memory_holds(self):
        with Server(settings={"proto-max-bulk-len": 2**63 - 1}) as server:
            for size in (2**46 + 1, 2**47, 2**62 - 1, 2**62, 2**63 - 64, 2**63 - 3, 2**63 - 1):
                with self.subTest(size=size), server.raw() as plain:
                    plain.sendall(b"*2\r\n$3\r\nGET\r\n$%d\r\nabc" % size)
                    reply = b""
                    while part := plain.recv(256):
                        reply += part
                    self.assertEqual(b"-ERR Protocol error: invalid bulk length\r\n", reply)
            self.assertTrue(server.client().ping())

    def test_a_client_that_goes_away_in_the_middle(self):
        with Server("cairn", {}) as server:
            for size in (300_000, 64 << 20):
                for _ in range(20):
                    with socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT_S) as gone:
                        gone.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\nbegin" % size)
            client = server.client()
            self.assertTrue(client.set("k", b"v" * 1_000_000))
            self.assertEqual(client.dbsize(), 1)


if __name__ == "__main__":
    unittest.main()
