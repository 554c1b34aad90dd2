"""The table of CLIENT TRACKING beside redis-server: a limit that is lowered holds at once, without a command that reads."""

import unittest

from exchange import Connection, encode
from servers import BothServers

KEYS = 250


class TrackingTable(unittest.TestCase):
    def test_a_lower_limit(self):
        with BothServers() as servers:
            for port in servers.ports:
                with self.subTest(port=port), Connection.to(port) as reader, Connection.to(port) as other:
                    for words in [b"HELLO 3", b"CLIENT TRACKING ON", *(b"GET key%d" % n for n in range(KEYS))]:
                        reader.send(encode(words.split()))
                        reader.reply()
                    other.send(encode(b"CONFIG SET tracking-table-max-keys 1".split()))
                    other.reply()
                    told = {reader.reply()[1][1][1][1][0][1] for _ in range(KEYS - 1)}
                    self.assertEqual(len(told), KEYS - 1)
                    other.send(encode([b"INFO", b"stats"]))
                    self.assertIn(b"\r\ntracking_total_keys:1\r\n", other.reply()[1][1])


if __name__ == "__main__":
    unittest.main()
