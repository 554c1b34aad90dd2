"""Saves while full: what the walker gives back is room again, and no key is evicted in its place."""

import random
import unittest

from cairn_server import Server, wait_until

KEYS = 500_000
BATCH = 10_000
SLACK = 4 << 20


def counted(client):
    memory = client.info("memory")
    return memory["used_memory"] - memory["mem_not_counted_for_evict"]


class EvictionDuringSaves(unittest.TestCase):
    def write(self, client, numbers, letter):
        for first in range(0, len(numbers), BATCH):
            pipe = client.pipeline(transaction=False)
            for number in numbers[first:first + BATCH]:
                pipe.set(f"k:{number}", letter * 60)
            pipe.execute()

    def test_overwrites_of_the_same_size_evict_nothing(self):
        chance = random.Random(3)
        with Server(settings={"maxmemory-policy": "allkeys-lru", "save": ""}) as server:
            client = server.client()
            self.write(client, range(KEYS), "v")
            client.config_set("maxmemory", counted(client) + SLACK)
            for _ in range(3):
                wait_until(lambda: not client.info("persistence")["rdb_bgsave_in_progress"])
                client.execute_command("BGSAVE")
                self.write(client, [chance.randrange(KEYS) for _ in range(100_000)], "w")
            wait_until(lambda: not client.info("persistence")["rdb_bgsave_in_progress"])
            self.assertEqual(client.info("stats")["evicted_keys"], 0)


if __name__ == "__main__":
    unittest.main()
