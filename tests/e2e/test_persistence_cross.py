"""Files of CairnKV read by redis-server 7.0.15 and its check tools, and the reverse: dump.rdb and appendonlydir.

The data: values of every type, encoding and size class, keys with bytes of all kinds, times to live, several databases.
Both sides must agree on DEBUG DIGEST, on every remaining time and on what the check tools say.
"""

import glob
import os
import random
import shutil
import subprocess
import unittest

from cairn_server import BIN_DIR, Server, wait_until

SETTINGS = {"enable-debug-command": "yes"}
AOF = {**SETTINGS, "appendonly": "yes", "appendfsync": "always", "auto-aof-rewrite-percentage": "0"}
MIXED = random.Random(7).randbytes(300_000)
FAR_MS = 4102444800123  # 2100-01-01


def fill(client):
    """Values of all kinds into three databases."""
    with client.pipeline(transaction=False) as pipeline:
        for database in (0, 1, 15):
            pipeline.execute_command("SELECT", database)
            fill_database(pipeline, database)
        pipeline.execute_command("SELECT", 0)
        pipeline.execute()


def fill_database(client, database):
    for number in (0, 1, -1, 9999, 10000, 127, 128, -32769, 2**31, 2**63 - 1, -2**63):
        client.set(f"n{number}", number)
    for size in (0, 1, 19, 20, 44, 45, 63, 64, 16383, 16384, 300000):
        client.set(f"same{size}", b"s" * size)                                  # compresses
        client.set(f"mixed{size}", MIXED[:size])
    # Long enough to grow by chunks when the block they came in is full.
    client.set("mixed in chunks", MIXED * 5)
    client.append("mixed in chunks", MIXED[:1000])
    client.setrange("mixed in chunks", 700_000, b"inside")
    client.set("same in chunks", b"s" * 1_500_000)
    client.append("same in chunks", b"s" * 400_000)
    if database == 0:
        # Longer than any buffer that a file is read or written through.
        client.set("mixed, long", MIXED * 11)
        client.set("same, long", b"s" * 3_400_000)
    client.set(b"\x00\r\n\xff", b"\xff\r\n\x00", pxat=FAR_MS + database)
    client.set(b"", b"of the empty key", ex=10**6)
    client.set("gone", "v", pxat=1)
    for i in range(2000):
        client.set(f"many:{i}", f"value {i}", ex=(10**6 if i % 3 == 0 else None))
    fill_hashes_and_sets(client)


def fill_hashes_and_sets(client):
    """Each encoding, and the sizes at which they change."""
    client.hset("hash small", mapping={"a": 1, "": "", b"\x00\xff": -300, "long": "l" * 64})
    client.hset("hash of a long value", mapping={"a": 1, "long": MIXED[:65]})
    client.hset("hash of a blob", mapping={"blob": MIXED[:100_000], "n": 2**40})
    client.hset("hash 512", mapping={f"f{i}": i for i in range(512)})
    client.hset("hash big", mapping={f"field:{i}": f"value {i * i}" for i in range(3000)})
    client.sadd("set of shorts", *range(-5, 300, 7))
    client.sadd("set of longs", 1, 2**20, -2**40)
    client.sadd("set 513", *range(513))
    client.sadd("set small", "a", "", b"\x00\xff", 7)
    client.sadd("set big", *[f"member:{i}" for i in range(3000)], *range(1000))
    client.pexpireat("set big", FAR_MS)


def edit_hashes_and_sets(client):
    """Every write command of the two types that leaves a trace in the AOF."""
    client.hset("hash small", "a", 2)
    client.hset("hash big", mapping={"field:7": "changed", "new": MIXED[:2000]})
    client.execute_command("HMSET", "hash 512", "one", "more")
    client.hsetnx("hash new", "f", "v")
    client.hincrby("hash small", "n", 10)
    client.hincrbyfloat("hash small", "f", 0.1)
    client.hdel("hash big", *[f"field:{i}" for i in range(100, 200)])
    client.hdel("hash of a long value", "a", "long")
    client.sadd("set of shorts", 10**12)
    client.sadd("set of longs", "no integer")
    client.srem("set 513", *range(100))
    client.spop("set big")
    client.spop("set big", 50)
    client.spop("set small", 4)
    client.smove("set 513", "set moved", 200)
    client.sinterstore("set inter", "set 513", "set big")
    client.sunionstore("set union", "set 513", "set of shorts")
    client.sdiffstore("set diff", "set big", "set 513")
    client.copy("hash big", "hash copied")
    client.rename("set union", "set renamed")


def edit(client):
    """Every write command that leaves a trace in the AOF."""
    client.append("same1", "tail")
    client.setrange("mixed, long", 3_200_000, b"inside")
    client.set("long of the log", MIXED[1:] * 11)
    client.setrange("mixed20", 30, "padded")
    client.incr("n1")
    client.decrby("n0", 5)
    client.incrbyfloat("n9999", 0.1)
    client.getdel("many:1")
    client.getset("many:2", "other")
    client.getex("many:4", pxat=FAR_MS)
    client.getex("many:3", persist=True)
    client.pexpireat("many:5", FAR_MS)
    client.persist("many:6")
    client.expire("many:7", -1)
    client.rename("many:8", "renamed")
    client.copy("many:9", "copied", destination_db=3)
    client.move("many:10", 1 + 1)
    client.mset({"m1": 1, "m2": b"\x00"})
    client.msetnx({"m3": 1, "m4": 2})
    client.delete("many:11", "many:12")
    client.unlink("many:14")
    client.execute_command("RESTORE", "restored", 0, client.dump("mixed300000"))
    client.execute_command("SET", "with get", "v", "GET", "EX", 10**6)
    edit_hashes_and_sets(client)
    client.swapdb(1, 15)
    with client.pipeline(transaction=True) as pipeline:
        pipeline.set("in multi", 1).incr("in multi").expireat("in multi", FAR_MS // 1000).execute()


def picture(client):
    """What must be equal: of each key in each database the value's digest and the time of expiry; one digest of all.

    Not the encoding: a short string that was appended to is `raw` until it is loaded again.
    """
    result = {}
    for database in range(16):
        client.execute_command("SELECT", database)
        client.exists("gone")  # removes it where it still stands, expired: the digest would count it
        keys = client.keys("*")
        with client.pipeline(transaction=False) as pipeline:
            for key in keys:
                pipeline.execute_command("DEBUG", "DIGEST-VALUE", key).execute_command("PEXPIRETIME", key)
            replies = pipeline.execute()
        result |= {(database, key): pair for key, pair in zip(keys, zip(replies[::2], replies[1::2]))}
    client.execute_command("SELECT", 0)
    result["digest"] = client.execute_command("DEBUG", "DIGEST")
    return result


def check_tool(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


class CrossCases:
    """writer and reader are names of servers; the classes below choose."""

    writer = reader = ""

    def check_rdb(self, path):
        raise NotImplementedError

    def check_aof(self, manifest):
        raise NotImplementedError

    def read_by_the_other(self, settings, directory, wanted):
        with Server(self.reader, settings, directory=directory) as reader:
            found = picture(reader.client(single_connection_client=True))
            other = {name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)}
            if other:
                some = sorted(other, key=repr)[:8]
                self.fail(f"{len(other)} differ, such as (read, written) "
                          f"{[(name, str(found.get(name))[:80], str(wanted.get(name))[:80]) for name in some]}")

    def test_dump_rdb(self):
        for settings in ({}, {"rdbcompression": "no"}, {"rdbchecksum": "no"}):
            with self.subTest(**settings), Server(self.writer, {**SETTINGS, **settings}) as writer:
                client = writer.client(single_connection_client=True)
                fill(client)
                edit(client)
                wait_until(lambda: client.exists("gone") == 0)
                client.save()
                wanted = picture(client)
                writer.kill()
                self.check_rdb(os.path.join(writer.directory, "dump.rdb"))
                self.read_by_the_other(SETTINGS, writer.directory, wanted)

    def test_dump_rdb_of_a_background_save(self):
        with Server(self.writer, SETTINGS) as writer:
            client = writer.client(single_connection_client=True)
            fill(client)
            before = client.info("persistence")["rdb_saves"]
            client.bgsave()
            wait_until(lambda: client.info("persistence")["rdb_saves"] > before)
            # redis-server counts a save when it begins.
            wait_until(lambda: client.info("persistence")["rdb_bgsave_in_progress"] == 0)
            wanted = picture(client)
            writer.kill()
            self.check_rdb(os.path.join(writer.directory, "dump.rdb"))
            self.read_by_the_other(SETTINGS, writer.directory, wanted)

    def test_append_only_file_of_commands(self):
        self.check_append_only(AOF, rewrite=False)

    def test_append_only_file_after_a_rewrite(self):
        self.check_append_only(AOF, rewrite=True)

    def test_append_only_file_rewritten_without_preamble(self):
        self.check_append_only({**AOF, "aof-use-rdb-preamble": "no"}, rewrite=True)

    def check_append_only(self, settings, rewrite):
        with Server(self.writer, settings) as writer:
            client = writer.client(single_connection_client=True)
            fill(client)
            if rewrite:
                self.rewrite(client)
            edit(client)
            wanted = picture(client)
            writer.kill()
            manifest = os.path.join(writer.directory, "appendonlydir", "appendonly.aof.manifest")
            self.check_aof(manifest)
            self.read_by_the_other(settings, writer.directory, wanted)

    @staticmethod
    def rewrite(client):
        client.bgrewriteaof()
        def done():
            info = client.info("persistence")
            return not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]
        wait_until(done)
        if client.info("persistence")["aof_last_bgrewrite_status"] != "ok":
            raise AssertionError("the rewrite failed")

    def test_torn_tail(self):
        """The last command of the AOF is cut: the reader drops it and keeps the rest."""
        with Server(self.writer, AOF) as writer:
            client = writer.client(single_connection_client=True)
            client.set("kept", "v")
            wanted = picture(client)
            client.set("torn", "v" * 100)
            writer.kill()
            [increment] = glob.glob(os.path.join(writer.directory, "appendonlydir", "*.incr.aof"))
            with open(increment, "rb+") as file:
                # Behind the last command may stand a line of the writer's own: cut inside the command.
                content = file.read()
                file.truncate(content.rindex(b"v" * 100) + 50)
            self.read_by_the_other(AOF, writer.directory, wanted)


class CairnToRedisTest(CrossCases, unittest.TestCase):
    writer, reader = "cairn", "redis"

    def check_rdb(self, path):
        outcome = check_tool("/usr/bin/redis-check-rdb", path)
        self.assertEqual(outcome.returncode, 0, outcome.stdout)
        self.assertIn("RDB looks OK", outcome.stdout)

    def check_aof(self, manifest):
        increments = glob.glob(os.path.join(os.path.dirname(manifest), "*.incr.aof"))
        with open(max(increments, key=os.path.getmtime), "rb") as file:
            self.assertTrue(file.read().endswith(b"###"), "a killed server leaves the padding of its file")
        outcome = check_tool("/usr/bin/redis-check-aof", manifest)
        self.assertEqual(outcome.returncode, 0, outcome.stdout)
        self.assertIn("is valid", outcome.stdout)


class RedisToCairnTest(CrossCases, unittest.TestCase):
    writer, reader = "redis", "cairn"

    def check_rdb(self, path):
        outcome = check_tool(os.path.join(BIN_DIR, "cairn-check"), "rdb", path)
        self.assertEqual(outcome.returncode, 0, outcome.stdout + outcome.stderr)

    def check_aof(self, manifest):
        outcome = check_tool(os.path.join(BIN_DIR, "cairn-check"), "aof", os.path.dirname(manifest))
        self.assertEqual(outcome.returncode, 0, outcome.stdout + outcome.stderr)


class CairnToCairnTest(CrossCases, unittest.TestCase):
    """What we write we read, and our own check tool agrees, also with what it must refuse."""

    writer = reader = "cairn"
    check_rdb = RedisToCairnTest.check_rdb
    check_aof = RedisToCairnTest.check_aof

    def test_the_check_tool_refuses_a_flipped_bit(self):
        with Server("cairn", SETTINGS) as writer:
            client = writer.client(single_connection_client=True)
            fill(client)
            client.save()
            path = os.path.join(writer.directory, "dump.rdb")
            broken = path + ".broken"
            shutil.copy(path, broken)
            with open(broken, "rb+") as file:
                file.seek(os.path.getsize(path) // 2)
                byte = file.read(1)
                file.seek(-1, os.SEEK_CUR)
                file.write(bytes([byte[0] ^ 1]))
            self.assertEqual(check_tool(os.path.join(BIN_DIR, "cairn-check"), "rdb", path).returncode, 0)
            self.assertNotEqual(check_tool(os.path.join(BIN_DIR, "cairn-check"), "rdb", broken).returncode, 0)


if __name__ == "__main__":
    unittest.main()
