"""What tests that ask both servers the same question share."""

import unittest

from exchange import Pair, encode
from servers import BothServers

SHOWN = 40


def as_map(tree):
    """A map reply (RESP3) as a dict of bytes to trees."""
    items = tree[1]
    return {items[i][1]: items[i + 1] for i in range(0, len(items), 2)}


class Asked(unittest.TestCase):
    """Two servers and one RESP3 connection to both for all tests of a class."""

    settings = None

    @classmethod
    def setUpClass(cls):
        cls.servers = BothServers(cls.settings)
        cls.servers.__enter__()
        cls.pair = Pair(cls.servers.ports, 3)

    @classmethod
    def tearDownClass(cls):
        cls.pair.close()
        cls.servers.close()

    def ask(self, *words):
        """Returns the trees of both replies, ours first."""
        self.pair.send(encode([word.encode() if isinstance(word, str) else word for word in words]))
        return [reply[1] for reply in self.pair.replies()]

    def fail_with(self, differences):
        """Fails if there are any, and shows the first of them."""
        self.assertEqual([], differences[:SHOWN], f"{len(differences)} differences")
