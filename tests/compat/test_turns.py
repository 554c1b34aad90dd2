"""A client that is held (it waits for a key, or clients are paused) and is let go by another's command within one turn of the
server: what it sent first is run and answered first. Beside redis-server.
"""

import time
import unittest

from exchange import Connection
from scenes import Scenes, requests

MANY = 200      # more requests than the dispatcher takes at a time


class Turns(Scenes):
    def scene(self, binary, hold, first, freeing, then):
        """Of a client that sends `first`, which is held, and then `then` while another's `freeing` lets it go: its replies, and
        what y is in the end. `hold(control)` is called before.
        """
        server = self.server(binary, **{"enable-debug-command": "yes"})
        control = server.client()
        sleeper, freer, client = (Connection(server.port) for _ in range(3))
        for connection in (sleeper, freer, client):
            self.addCleanup(connection.close)
        hold(control)
        client.send(requests(*first))
        time.sleep(0.2)     # on a slow machine the scene may be missed: the replies are the same
        sleeper.send(requests("DEBUG SLEEP 0.3"))
        time.sleep(0.1)     # what comes now comes in one turn, the freer's first
        freer.send(requests(freeing) + requests("PING") * MANY)
        client.send(requests(then))
        return [str(client.reply()[1]) for _ in range(len(first) + 1)], control.get("y")

    def compare(self, *scene):
        ours, theirs = self.scene("cairn", *scene), self.scene("redis", *scene)
        self.assertEqual(ours, theirs)
        self.assertEqual(ours[1], b"2")

    def test_one_that_waits_for_a_key(self):
        self.compare(lambda control: None, ["BLPOP k 0", "SET y 1"], "RPUSH k v", "GETSET y 2")

    def test_one_that_is_paused(self):
        self.compare(lambda control: control.client_pause(600_000, all=False), ["SET y 1"], "CLIENT UNPAUSE", "GETSET y 2")


if __name__ == "__main__":
    unittest.main()
