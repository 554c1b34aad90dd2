"""A client whose replies, messages or lines of MONITOR pass client-output-buffer-limit in the midst of something, beside
redis-server: it is told nothing from then on, runs nothing more, and what is going on comes to its end.
"""

import unittest

from exchange import Connection, encode
from scenes import Scenes, peak_bytes, requests

from cairn_server import read_to_end, wait_until  # pylint: disable=wrong-import-order

MIB = 1 << 20
BYTES = 100_000
MANY = 1000     # messages of so many bytes: 100 MB
PATIENT = "normal 1mb 0 0 pubsub 1mb 0 0"


class OutputLimits(Scenes):
    def asked(self, server, *lines):
        """A connection on which `lines` were sent and, each, answered."""
        connection = Connection(server.port)
        self.addCleanup(connection.close)
        for line in lines:
            connection.send(requests(line))
            connection.reply()
        return connection

    def ended(self, server, *lines):
        """What a connection on which `lines` are sent at once is told until it is closed."""
        with server.raw(timeout_s=60) as connection:
            connection.sendall(requests(*lines))
            try:
                return read_to_end(connection)
            except ConnectionResetError:
                return b""

    def test_commands_behind_it_do_not_run(self):
        def scene(binary):
            server = self.server(binary, **{"client-output-buffer-limit": PATIENT})
            client = server.client()
            client.set("big", "x" * BYTES)
            told = self.ended(server, *["GET big"] * 12, "SET behind 1")
            return told, client.get("behind")
        self.both(scene, (b"", None))

    def test_a_transaction_runs_to_its_end(self):
        def scene(binary):
            server = self.server(binary, **{"client-output-buffer-limit": PATIENT})
            client = server.client()
            client.set("some", "x" * 10_000)
            before = peak_bytes(server.pid)
            self.ended(server, "MULTI", "SET first 1", *["GET some"] * 4000, "SET last 1", "EXEC", "SET behind 1")
            # A tenth of it are the requests; the replies are 40 MB.
            return client.mget("first", "last", "behind"), peak_bytes(server.pid) - before < 20 * MIB
        self.both(scene, ([b"1", b"1", None], True))

    def test_a_script_publishes(self):
        def scene(binary):
            server = self.server(binary, **{"client-output-buffer-limit": PATIENT})
            self.asked(server, "SUBSCRIBE c")
            client, before = server.client(), peak_bytes(server.pid)
            heard = client.eval(f"""local message, heard = string.rep('x', {BYTES}), 0
                                    for i = 1, {MANY} do heard = heard + redis.call('publish', 'c', message) end
                                    return heard""", 0)
            return heard, client.publish("c", "x"), peak_bytes(server.pid) - before < 20 * MIB
        self.both(scene, (MANY, 0, True))

    def test_a_script_is_monitored(self):
        def scene(binary):
            server = self.server(binary, **{"client-output-buffer-limit": PATIENT})
            self.asked(server, "MONITOR")
            client, before = server.client(), peak_bytes(server.pid)
            client.eval(f"local word = string.rep('x', {BYTES}) for i = 1, 150 do redis.call('echo', word) end", 0)
            wait_until(lambda: len(client.client_list()) == 1, what="the monitor's end")
            return peak_bytes(server.pid) - before < 10 * MIB
        self.both(scene, True)

    def test_the_listener_itself_publishes(self):
        """What it is told while its own replies are off is held apart, and counts all the same."""
        def scene(binary):
            server = self.server(binary, **{"client-output-buffer-limit": PATIENT})
            listener = self.asked(server, "HELLO 3", "SUBSCRIBE c")
            client, before = server.client(), peak_bytes(server.pid)
            script = f"local message = string.rep('x', {BYTES}) for i = 1, {MANY} do redis.call('publish', 'c', message) end"
            listener.send(requests("CLIENT REPLY OFF") + encode([b"EVAL", script.encode(), b"0"]) + requests("SET behind 1"))
            wait_until(lambda: len(client.client_list()) == 1, what="the listener's end")
            return client.get("behind"), peak_bytes(server.pid) - before < 20 * MIB
        self.both(scene, (None, True))


if __name__ == "__main__":
    unittest.main()
