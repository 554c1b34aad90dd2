"""What INFO counts of commands that wait, beside redis-server: a call when the waiting begins, whether it failed when it ends."""

import unittest

from scenes import Asking, Scenes

from cairn_server import wait_until  # pylint: disable=wrong-import-order


class Waiting(Scenes):
    def counted(self, client):
        figures = client.info("commandstats").get("cmdstat_blpop", {"calls": 0, "failed_calls": 0})
        return figures["calls"], figures["failed_calls"]

    def waits(self, server, client):
        """A client that waits for the list "l", and its id."""
        asking = Asking(server, "BLPOP", "l", "0")
        wait_until(lambda: client.info("clients")["blocked_clients"] == 1, what="one that waits")
        return asking, next(one["id"] for one in client.client_list() if one["flags"] == "b")

    def test_a_call_counts_when_it_begins(self):
        def scene(binary):
            server = self.server(binary)
            client = server.client()
            waits, _ = self.waits(server, client)
            figures = client.info("everything")
            of_all = sum(figure["calls"] for name, figure in figures.items() if name.startswith("cmdstat_"))
            seen = [figures["total_commands_processed"] == of_all, self.counted(client)]
            client.rpush("l", "x")
            return seen + [waits.answer(), self.counted(client)]
        self.both(scene, [True, (1, 0), (b"l", b"x"), (1, 0)])

    def test_one_whose_time_is_over_has_not_failed(self):
        def scene(binary):
            client = self.server(binary).client()
            return client.blpop("l", 0.01), self.counted(client)
        self.both(scene, (None, (1, 0)))

    def test_one_that_is_unblocked_has(self):
        def scene(binary):
            server = self.server(binary)
            client = server.client()
            seen = []
            for error in (False, True):
                waits, client_id = self.waits(server, client)
                seen += [client.client_unblock(client_id, error), waits.answer(), self.counted(client)]
            return seen
        self.both(scene, [True, None, (1, 1), True, "UNBLOCKED client unblocked via CLIENT UNBLOCK", (2, 2)])


if __name__ == "__main__":
    unittest.main()
