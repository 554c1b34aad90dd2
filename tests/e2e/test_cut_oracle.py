"""Saves, rewrites and copies under every kind of write: what they wrote is the state at their cut.

DEBUG DIGEST is asked in the same batch as the command that cuts, with nobody else writing. Then, while the slowed
walker walks, random commands of all families change what is frozen: values of each type and size, RENAME, MOVE, COPY,
RESTORE, SWAPDB, FLUSHDB, FLUSHALL, transactions, scripts that name no keys, blocked clients, times to live that end,
eviction. The file must give the digest of the cut, to CairnKV and to redis-server 7.0.15.

CAIRN_CUT_ROUNDS=200 adds a campaign of so many rounds, each of a kind that is drawn; CAIRN_CUT_SEED repeats a run.
"""

import collections
import os
import random
import shutil
import subprocess
import tempfile
import threading
import unittest

import redis

from cairn_server import Server, wait_until

CAMPAIGN_ROUNDS = int(os.environ.get("CAIRN_CUT_ROUNDS", "0"))
SEED = int(os.environ.get("CAIRN_CUT_SEED", "0")) or random.randrange(1 << 30)
DATABASES = 4
NAMES = 250                 # of each kind in each database
BIG = 3000                  # members of a value that has nodes or pages of its own
SAVE_DELAY_US = 250         # a key: a walk of about a second
BIG_STRING = 1_500_000
DEBUG = {"enable-debug-command": "yes"}
ROOMY = {**DEBUG, "snapshot-retained-limit": 1 << 30}   # writers are not to wait for the slowed walker
SOON_MS = 10 ** 8           # what ends sooner than this is one of the short times to live
KINDS = ("string", "number", "hash", "set", "zset", "list", "stream", "hll", "geo")


class Writes:
    """Random commands of all families."""

    def __init__(self, seed):
        self.chance = random.Random(seed)

    def name(self, kind=None):
        return f"{kind or self.chance.choice(KINDS)}:{self.chance.randrange(NAMES)}"

    def text(self):
        size = self.chance.choice((1, 8, 30, 70, 700, 5000, 20_000))
        return self.chance.randbytes(size) if self.chance.random() < 0.5 else b"t" * size

    def member(self, most=BIG):
        return self.chance.randrange(most)

    def fill(self, pipe):
        """One value of each kind and size class in each database."""
        for database in range(DATABASES):
            pipe.execute_command("SELECT", database)
            for kind in KINDS:
                for number in range(NAMES):
                    for words in self.change(kind, f"{kind}:{number}"):
                        pipe.execute_command(*words)
            pipe.execute_command("SET", "string:big", self.chance.randbytes(BIG_STRING))
            pipe.execute_command("HSET", "hash:big", *(word for i in range(BIG) for word in (f"f{i}", f"value {i}")))
            pipe.execute_command("SADD", "set:big", *(f"m{i}" for i in range(BIG)))
            pipe.execute_command("ZADD", "zset:big", *(word for i in range(BIG) for word in (i % 700, f"m{i}")))
            pipe.execute_command("RPUSH", "list:big", *(f"element {i}" for i in range(BIG)))
            for i in range(1, 600):
                pipe.execute_command("XADD", "stream:big", f"{i}-1", "f", f"value {i}", "i", i)
            pipe.execute_command("XGROUP", "CREATE", "stream:big", "g", "0")
            pipe.execute_command("XREADGROUP", "GROUP", "g", "alice", "COUNT", 200, "STREAMS", "stream:big", ">")
        pipe.execute_command("SELECT", 0)

    def change(self, kind, name):
        """A command or two of a type."""
        chance, member = self.chance, self.member
        big = name.endswith("big")
        most = BIG if big else chance.choice((4, 40, 400))
        if kind == "string":
            at = chance.randrange(BIG_STRING if big else 6000)
            yield chance.choice((
                ("SET", name, self.text(), "KEEPTTL") if not big else ("SETRANGE", name, at, "changed"),
                ("APPEND", name, self.text()), ("SETRANGE", name, at, self.text()), ("SETBIT", name, at * 8, 1),
                ("BITFIELD", name, "SET", "i64", at * 8, at), ("GETDEL", name) if not big else ("STRLEN", name)))
        elif kind == "number":
            yield chance.choice((("INCR", name), ("INCRBYFLOAT", name, 0.5), ("DECRBY", name, 7), ("APPEND", name, "1"),
                                 ("SET", name, chance.randrange(10 ** 6))))
        elif kind == "hash":
            yield chance.choice((("HSET", name, f"f{member(most)}", self.text()), ("HDEL", name, f"f{member(most)}"),
                                 ("HINCRBY", name, "n", 3), ("HSET", name, *(str(i) for i in range(40)))))
        elif kind == "set":
            yield chance.choice((("SADD", name, f"m{member(most)}"), ("SADD", name, member(most)), ("SREM", name, f"m{member(most)}"),
                                 ("SPOP", name, 3), ("SMOVE", name, self.name("set"), f"m{member(most)}")))
        elif kind == "zset":
            yield chance.choice((("ZADD", name, member(most), f"m{member(most)}"), ("ZREM", name, f"m{member(most)}"),
                                 ("ZINCRBY", name, 1.5, f"m{member(most)}"), ("ZPOPMIN", name, 2),
                                 ("ZREMRANGEBYRANK", name, 5, 9)))
        elif kind == "list":
            yield chance.choice((("RPUSH", name, self.text()[:200]), ("LPUSH", name, member()), ("LPOP", name, 2),
                                 ("LSET", name, 0, self.text()[:100]), ("LINSERT", name, "BEFORE", "element 7", "in"),
                                 ("LREM", name, 1, f"element {member()}"), ("LMOVE", name, self.name("list"), "LEFT", "RIGHT")))
        elif kind == "stream":
            yield ("XADD", name, "MAXLEN", "~", 700, "*", "f", self.text()[:100], "n", member())
            yield chance.choice((("XGROUP", "CREATE", name, "g", "0"), ("XDEL", name, f"{member(600)}-1"),
                                 ("XREADGROUP", "GROUP", "g", chance.choice(("alice", "bob")), "COUNT", 5, "STREAMS", name, ">"),
                                 ("XACK", name, "g", f"{member(600)}-1"), ("XTRIM", name, "MAXLEN", 590),
                                 ("XAUTOCLAIM", name, "g", "bob", 0, "0", "COUNT", 5), ("XGROUP", "DELCONSUMER", name, "g", "bob")))
        elif kind == "hll":
            yield ("PFADD", name, *(chance.randrange(10 ** 6) for _ in range(20)))
        else:
            yield ("GEOADD", name, chance.uniform(-179, 179), chance.uniform(-80, 80), f"m{member(most)}")

    def across(self, dumps):
        """A command that moves, copies, replaces or ends values of whatever type."""
        chance, database = self.chance, self.chance.randrange(DATABASES)
        one = self.name() if chance.random() < 0.9 else f"{chance.choice(KINDS[:1] + KINDS[2:7])}:big"
        other = self.name(one.split(":")[0])
        dice = chance.randrange(24)
        if dice < 3:
            yield ("RENAME", one, other)
        elif dice < 5:
            yield ("COPY", one, other, "DB", database, "REPLACE")
        elif dice < 7:
            yield ("MOVE", one, database)
        elif dice < 9 and dumps:
            yield ("RESTORE", other, 0, chance.choice(dumps), "REPLACE")
        elif dice < 11:
            yield (chance.choice(("DEL", "UNLINK")), one, other)
        elif dice < 13:
            yield ("PEXPIRE", one, chance.randint(1, 30))
        elif dice < 14:
            yield ("PEXPIRE", one, SOON_MS * 10)
        elif dice < 15:
            yield ("PERSIST", one)
        elif dice < 16:
            yield ("SWAPDB", 0, database)
        elif dice < 17:
            yield ("SORT", one, "ALPHA", "STORE", self.name("list"))
        elif dice < 18:
            yield ("SUNIONSTORE", self.name("set"), self.name("set"), "set:big")
        elif dice < 19:
            yield ("ZRANGESTORE", self.name("zset"), "zset:big", 0, 300)
        elif dice < 21:
            # The keys are known to the script alone.
            yield ("EVAL", "redis.call('SET', 'string:' .. ARGV[1], ARGV[2]); redis.call('RPUSH', 'list:big', ARGV[2]);"
                           "return redis.call('DEL', 'hash:' .. ARGV[1])", 0, chance.randrange(NAMES), self.text()[:100])
        elif dice < 23:
            yield ("MULTI",)
            for _ in range(3):
                kind = chance.choice(KINDS)
                yield from self.change(kind, self.name(kind))
            yield ("RENAME", one, other)
            yield ("EXEC",)
        elif chance.random() < 0.05:
            yield ("FLUSHALL",) if chance.random() < 0.3 else ("FLUSHDB", chance.choice(("ASYNC", "SYNC")))
        else:
            yield ("SELECT", database)

    def batch(self, pipe, dumps):
        for _ in range(40):
            if self.chance.random() < 0.7:
                kind = self.chance.choice(KINDS)
                name = f"{kind}:big" if kind not in ("number", "hll", "geo") and self.chance.random() < 0.2 else self.name(kind)
                commands = self.change(kind, name)
            else:
                commands = self.across(dumps)
            for words in commands:
                pipe.execute_command(*words)


class Blocked:
    """A client that waits at lists and takes what comes, until it is left."""

    def __init__(self, server):
        self.client = server.client()
        self.stopping = False
        self.thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        self.thread.join()

    def run(self):
        while not self.stopping:
            try:
                self.client.execute_command("BLMPOP", 0.05, 3, "list:1", "list:2", "list:3", "LEFT")
            except redis.ResponseError:
                pass  # of another type just now


def digest(client):
    return client.execute_command("DEBUG", "DIGEST")


class Reader:
    """A server that loads files of another and tells their digest."""

    def __init__(self, test, binary):
        self.server = Server(binary, DEBUG)
        self.server.start()
        test.addCleanup(self.server.close)

    def digest_of(self, path):
        shutil.copyfile(path, os.path.join(self.server.directory, "dump.rdb"))
        client = self.server.client()
        client.execute_command("DEBUG", "RELOAD", "NOSAVE")
        return digest(client)


class Cuts(unittest.TestCase):
    """Rounds of each kind; the classes below say how many."""

    def start(self, **settings):
        server = Server(settings={**ROOMY, **{name.replace("_", "-"): value for name, value in settings.items()}})
        server.start()
        self.addCleanup(server.close)
        return server

    def info(self, client):
        return client.info("persistence")

    def prepare(self, client, writes):
        """Nothing with a short time to live may be there at the cut: whether it counts would hang on the clock."""
        pipe = client.pipeline(transaction=False)
        writes.fill(pipe)
        pipe.execute(raise_on_error=False)
        for database in range(16):
            client.execute_command("SELECT", database)
            keys = client.keys("*")
            for key in keys:
                pipe.pttl(key)
            short = [key for key, left_ms in zip(keys, pipe.execute()) if 0 <= left_ms < SOON_MS]
            if short:
                client.delete(*short)
        client.execute_command("SELECT", 0)
        dumps = [client.dump(f"{kind}:big") for kind in ("hash", "set", "zset", "list", "stream")] + [client.dump("hash:1")]
        return [dump for dump in dumps if dump]

    def cut(self, client, command):
        """The digest at the cut."""
        with client.pipeline(transaction=False) as pipe:
            pipe.execute_command("DEBUG", "DIGEST")
            pipe.execute_command(command)
            at_cut, started = pipe.execute()
        self.assertTrue(started)
        return at_cut

    def write_while(self, server, client, writes, dumps, running):
        writer = server.client()
        writer.response_callbacks.clear()   # which know no QUEUED
        count = 0
        while self.info(client)[running]:
            self.write(writer, writes, dumps)
            count += 1
        return count

    def write(self, writer, writes, dumps):
        pipe = writer.pipeline(transaction=False)
        writes.batch(pipe, dumps)
        pipe.execute(raise_on_error=False)

    def reader(self, binary):
        if binary not in self.readers:
            self.readers[binary] = Reader(self, binary)
        return self.readers[binary]

    def setUp(self):
        self.readers = {}

    def check_file(self, path, wanted, where):
        checked = subprocess.run(["redis-check-rdb", path], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(checked.returncode, 0, f"{where}: {checked.stdout}")
        for binary in ("cairn", "redis"):
            self.assertEqual(self.reader(binary).digest_of(path), wanted, f"{where}, read by {binary}")

    # Each kind of round: starts what it needs, and returns what runs the round of a number and a name.

    def saves(self, squeeze=lambda client, number: None):
        server = self.start()
        client = server.client(single_connection_client=True)
        writes = Writes(SEED)

        def run(number, where):
            client.config_set("maxmemory", 0)
            dumps = self.prepare(client, writes)
            client.config_set("rdb-key-save-delay", SAVE_DELAY_US)
            wanted = self.cut(client, "BGSAVE")
            squeeze(client, number)
            with Blocked(server):
                batches = self.write_while(server, client, writes, dumps, "rdb_bgsave_in_progress")
            figures = self.info(client)
            self.assertEqual(figures["rdb_last_bgsave_status"], "ok", where)
            self.assertEqual(figures["snapshot_retained_bytes"], 0, where)
            self.assertEqual(figures["snapshot_structure_bytes"], 0, where)
            self.check_file(os.path.join(server.directory, "dump.rdb"), wanted, where)
            self.assertGreater(batches, 2, where)
            return client
        return run

    def saves_while_keys_are_evicted(self):
        before = []

        def squeeze(client, number):
            client.config_set("maxmemory-policy", ("allkeys-random", "allkeys-lru", "allkeys-lfu")[number % 3])
            before.append(client.info("stats")["evicted_keys"])
            client.config_set("maxmemory", client.info("memory")["used_memory"] * 3 // 4)
        save = self.saves(squeeze)

        def run(number, where):
            evicted = save(number, where).info("stats")["evicted_keys"]
            self.assertGreater(evicted, before[-1], where)
        return run

    def rewrites(self):
        server = self.start(appendonly="yes", auto_aof_rewrite_percentage="0")
        client = server.client(single_connection_client=True)
        writes = Writes(SEED)

        def run(number, where):
            client.config_set("aof-use-rdb-preamble", ("yes", "no")[number % 2])
            dumps = self.prepare(client, writes)
            client.config_set("rdb-key-save-delay", SAVE_DELAY_US)
            self.cut(client, "BGREWRITEAOF")
            with Blocked(server):
                self.write_while(server, client, writes, dumps, "aof_rewrite_in_progress")
            client.config_set("rdb-key-save-delay", 0)
            self.assertEqual(self.info(client)["aof_last_bgrewrite_status"], "ok", where)
            self.prepare(client, writes)
            wanted = digest(client)
            client.execute_command("DEBUG", "LOADAOF")
            self.assertEqual(digest(client), wanted, where)
            for binary in ("redis", "cairn"):
                with tempfile.TemporaryDirectory() as copy:
                    shutil.copytree(os.path.join(server.directory, "appendonlydir"), os.path.join(copy, "appendonlydir"))
                    with Server(binary, {**DEBUG, "appendonly": "yes"}, directory=copy) as reader:
                        self.assertEqual(digest(reader.client()), wanted, f"{where}, read by {binary}")
        return run

    def three_views(self):
        """A rewrite, a copy for a replica and a SAVE, each of its own cut."""
        server = self.start(appendonly="yes", auto_aof_rewrite_percentage="0", repl_diskless_sync_delay="0")
        client = server.client(single_connection_client=True)
        writes = Writes(SEED)

        def attempt(delay_us, where):
            """False: a walk was over before the others had begun."""
            dumps = self.prepare(client, writes)
            client.config_set("rdb-key-save-delay", delay_us)
            self.cut(client, "BGREWRITEAOF")
            with Server("redis", {**DEBUG, "replicaof": f"127.0.0.1 {server.port}"}) as replica:
                with Blocked(server):
                    writer = server.client()
                    writer.response_callbacks.clear()
                    wait_until(lambda: self.info(client)["rdb_bgsave_in_progress"], what=f"the copy for the replica, {where}")
                    for _ in range(5):
                        self.write(writer, writes, dumps)
                self.prepare(client, writes)
                # The walks slow each key that they write; this one goes on beside both at full speed.
                client.config_set("rdb-key-save-delay", 0)
                wanted = self.cut(client, "SAVE")
                figures = self.info(client)
                if (figures["aof_rewrite_in_progress"], figures["rdb_bgsave_in_progress"]) != (1, 1):
                    return False
                with Blocked(server):
                    self.write_while(server, client, writes, dumps, "aof_rewrite_in_progress")
                self.check_file(os.path.join(server.directory, "dump.rdb"), wanted, where)
                self.prepare(client, writes)
                here = digest(client)
                wait_until(lambda: replica.client().info("replication")["master_link_status"] == "up", what=f"the link, {where}")
                offset = client.info("replication")["master_repl_offset"]
                wait_until(lambda: replica.client().info("replication")["slave_repl_offset"] >= offset, what=f"the replica, {where}")
                self.assertEqual(digest(replica.client()), here, where)
            client.execute_command("DEBUG", "LOADAOF")
            self.assertEqual(digest(client), here, where)
            return True

        def run(_, where):
            for slower in (1, 4, 16):    # as a busy machine asks for
                if attempt(slower * SAVE_DELAY_US, where):
                    return
                wait_until(lambda: not self.info(client)["aof_rewrite_in_progress"] and
                           not self.info(client)["rdb_bgsave_in_progress"], what=f"the end of the walks, {where}")
            self.fail(f"the three never were there at once, {where}")
        return run

    def run_rounds(self, kind, count):
        run = kind()
        for number in range(count):
            run(number, f"round {number}, CAIRN_CUT_SEED={SEED}")


class CutOracle(Cuts):
    def test_a_save_has_the_state_of_its_cut(self):
        self.run_rounds(self.saves, 2)

    def test_the_same_while_keys_are_evicted(self):
        self.run_rounds(self.saves_while_keys_are_evicted, 2)

    def test_a_rewrite_loses_and_repeats_nothing(self):
        self.run_rounds(self.rewrites, 2)

    def test_three_views_at_once(self):
        self.run_rounds(self.three_views, 1)


if CAMPAIGN_ROUNDS > 0:
    class Campaign(Cuts):
        """Rounds of all kinds, each kind on a server that goes on from one of its rounds to the next."""

        def test_rounds_of_all_kinds(self):
            kinds = {kind.__name__: kind() for kind in (self.saves, self.saves_while_keys_are_evicted, self.rewrites, self.three_views)}
            chance, counts = random.Random(SEED), collections.Counter()
            for number in range(CAMPAIGN_ROUNDS):
                kind = chance.choice(list(kinds))
                kinds[kind](counts[kind], f"round {number}, {kind}, CAIRN_CUT_SEED={SEED}")
                counts[kind] += 1
                print(f"{number + 1} rounds: {dict(counts)}", flush=True)


if __name__ == "__main__":
    unittest.main()
