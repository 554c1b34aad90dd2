"""A replica that is over its own maxmemory, under each kind of policy, with replica-ignore-maxmemory yes and no; beside
redis-server. What it does alone, and what becomes of the primary's writes, its own append-only file and its replica.
"""

import unittest

import redis

from servers import Server

from cairn_server import wait_until  # pylint: disable=wrong-import-order

SETTINGS = {"enable-debug-command": "yes", "repl-diskless-sync-delay": "0"}
POLICIES = ("noeviction", "allkeys-lru", "volatile-ttl")
STAYING, ENDING = 20, 5         # keys without a time to live, and with one
OOM = "OOM command not allowed when used memory > 'maxmemory'."


def follows(replica, primary):
    def is_there():
        state = replica.info("replication")
        return state["master_link_status"] == "up" and state["slave_repl_offset"] >= primary.info("replication")["master_repl_offset"]
    wait_until(is_there, what="the replica")


class Chain:
    """A primary, a replica that clients may write to, and a replica of that one."""

    def __init__(self, test, binary):
        self.test = test
        self.primary_server = self.start(binary)
        self.server = self.start(binary, self.primary_server, **{"replica-read-only": "no", "appendonly": "yes"})
        self.sub_server = self.start(binary, self.server)
        self.primary, self.replica, self.sub = (server.client() for server in (self.primary_server, self.server, self.sub_server))

    def start(self, binary, primary=None, **settings):
        follows_whom = {"replicaof": f"127.0.0.1 {primary.port}"} if primary else {}
        server = Server(binary, {**SETTINGS, **settings, **follows_whom})
        self.test.addCleanup(server.close)
        return server.start()

    def settle(self):
        follows(self.replica, self.primary)
        follows(self.sub, self.replica)

    def ask(self, *words):
        """A reply of the replica, or the error's text."""
        try:
            return self.replica.execute_command(*words)
        except redis.ResponseError as error:
            return str(error)

    def evicted(self):
        return self.replica.info("stats")["evicted_keys"]

    def run(self, policy, ignores):
        """What is seen at the replica alone, and behind it what the primary's writes have come to."""
        self.replica.config_set("maxmemory", 0)
        self.primary.flushall()
        for i in range(STAYING):
            self.primary.set(f"stays:{i}", "v" * 100)
        for i in range(ENDING):
            self.primary.set(f"ends:{i}", "v", ex=1000)
        self.settle()
        before = self.evicted()
        self.replica.config_set("maxmemory-policy", policy)
        self.replica.config_set("replica-ignore-maxmemory", ignores)
        self.replica.config_set("maxmemory", 1)
        alone = [self.ask("EXISTS", "stays:1"), self.ask("DBSIZE"), self.ask("SET", "own", "1"), self.ask("EXISTS", "own"),
                 self.ask("DBSIZE"), self.evicted() - before]
        held = self.replica.dbsize()
        self.primary.set("late", "v")
        self.primary.incr("number")
        self.primary.eval("return redis.call('SET', 'by script', '1')", 0)
        with self.primary.pipeline(transaction=True) as transaction:
            transaction.set("in transaction", "1").rpush("list", "1", "2").execute()
        self.settle()
        came = self.ask("EXISTS", "late", "number", "by script", "in transaction", "list")
        elsewhere = [self.primary.dbsize(), self.sub.dbsize(), self.sub.info("stats")["evicted_keys"]]
        self.replica.config_set("maxmemory", 0)
        held = self.replica.dbsize() - held
        digest = self.ask("DEBUG", "DIGEST")
        self.ask("DEBUG", "LOADAOF")
        return alone, elsewhere, {"came": came, "more": held, "in its file": self.ask("DEBUG", "DIGEST") == digest}


class ReplicaMemory(unittest.TestCase):
    def test_a_replica_over_its_maxmemory(self):
        chains = {binary: Chain(self, binary) for binary in ("cairn", "redis")}
        for policy in POLICIES:
            for ignores in ("yes", "no"):
                with self.subTest(policy=policy, ignores=ignores):
                    (alone, elsewhere, ours), (their_alone, their_elsewhere, theirs) = (
                        chain.run(policy, ignores) for chain in chains.values())
                    self.assertEqual(alone, their_alone)
                    self.assertEqual(elsewhere, their_elsewhere)
                    if ignores == "yes":
                        self.assertEqual(alone, [1, STAYING + ENDING, True, 1, STAYING + ENDING + 1, 0])
                        self.assertEqual(ours, {"came": 5, "more": 5, "in its file": True})
                        self.assertEqual(ours, theirs)
                        continue
                    left = {"noeviction": STAYING + ENDING, "allkeys-lru": 0, "volatile-ttl": STAYING}[policy]
                    self.assertEqual(alone, [int(left > 0), left, OOM, 0, left, STAYING + ENDING - left])
                    # docs/differences.md: redis-server refuses what its primary sends, and goes on as if it had not.
                    came = 0 if policy == "allkeys-lru" else 5
                    self.assertEqual(ours, {"came": came, "more": came, "in its file": True})
                    self.assertEqual(theirs["came"], 0)
        self.assertNotIn("-OOM", chains["cairn"].server.log())
        self.assertIn("This replica is sending an error to its master: '-OOM", chains["redis"].server.log())


if __name__ == "__main__":
    unittest.main()
