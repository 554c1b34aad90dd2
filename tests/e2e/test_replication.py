"""Replication, with redis-server as the peer in both directions and CairnKV of CairnKV: full and partial
resync under load, kill -9, promotion, failover, expiry, the gates of a replica.

What counts at the end is always the same: once the replica has the primary's offset, DEBUG DIGEST of both
must be equal.
"""

import os
import random
import re
import select
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import redis

from cairn_server import Server, wait_until

DEBUG = {"enable-debug-command": "yes", "repl-diskless-sync-delay": "0"}
# A primary's PING takes its replicas further than a dump of before, or than another replica that has just been promoted.
NO_PING = {"repl_ping_replica_period": "3600"}
PAIRS = (("cairn", "redis"), ("redis", "cairn"), ("cairn", "cairn"))
KEYS = 400


def start(binary, **settings) -> Server:
    """A server whose settings' underscores stand for dashes."""
    return Server(binary, settings={**DEBUG, **{name.replace("_", "-"): value for name, value in settings.items()}})


def follow(replica: Server, primary: Server) -> None:
    replica.client().execute_command("REPLICAOF", "127.0.0.1", primary.port)


def info(server: Server, section="replication") -> dict:
    return server.client().info(section)


def offset_of(server: Server) -> int:
    return info(server)["master_repl_offset"]


def wait_link(replica: Server, limit_s=60.0) -> None:
    wait_until(lambda: info(replica).get("master_link_status") == "up", limit_s, "the link")


def wait_equal(primary: Server, *replicas: Server, limit_s=60.0) -> None:
    """Waits until the replicas have all that the primary has. Nobody may write meanwhile.

    The keys with a short life go first: they would end between one digest and the other.
    """
    primary.client().delete(*[f"7:{number}" for number in range(KEYS)])
    def caught_up():
        here = offset_of(primary)
        return all(info(each).get("slave_repl_offset", offset_of(each)) >= here for each in replicas) \
            and offset_of(primary) == here
    for each in replicas:
        if info(each)["role"] == "slave":
            wait_link(each, limit_s)
    wait_until(caught_up, limit_s, "the replica's offset")


def digest(server: Server) -> bytes:
    return server.client().execute_command("DEBUG", "DIGEST")


class Load:
    """Random writes of all types from a thread, until it is left."""

    def __init__(self, server: Server, seed: int, pause_s=0.0):
        self.server, self.chance, self.pause_s = server, random.Random(seed), pause_s
        self.done = threading.Event()
        self.writes = 0
        self.failure = None
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        if self.failure:
            raise self.failure

    def run(self):
        try:
            client = self.server.client()
            while not self.done.is_set():
                pipe = client.pipeline(transaction=self.chance.random() < 0.3)
                for _ in range(self.chance.randint(1, 20)):
                    self.add(pipe)
                pipe.execute()
                self.writes += 1
                time.sleep(self.pause_s)
        except Exception as failure:  # handed to whoever leaves the block
            self.failure = failure

    def add(self, pipe):
        chance = self.chance
        kind = chance.randrange(10)
        key = f"{kind}:{chance.randrange(KEYS)}"
        value = chance.randbytes(chance.choice([1, 20, 300, 5000]))
        if kind == 0:
            pipe.set(key, value)
        elif kind == 1:
            pipe.incr(key)
        elif kind == 2:
            pipe.hset(key, chance.randrange(300), value[:200])
        elif kind == 3:
            pipe.zadd(key, {str(chance.randrange(300)): chance.random()})
        elif kind == 4:
            pipe.rpush(key, value[:100])
            pipe.ltrim(key, -200, -1)
        elif kind == 5:
            pipe.sadd(key, chance.randrange(1000))
            pipe.spop(key)
            pipe.sadd(key, chance.randrange(1000))
        elif kind == 6:
            pipe.xadd(key, {"f": value[:50]}, maxlen=100, approximate=False)
        elif kind == 7:
            pipe.set(key, value, px=chance.randint(1, 400))
        elif kind == 8:
            pipe.delete(f"{chance.randrange(8)}:{chance.randrange(KEYS)}")
        else:
            pipe.setrange(key, chance.randrange(3000), value[:50])


def fill(server: Server, seed: int, rounds: int) -> None:
    load = Load(server, seed)
    client = server.client()
    for _ in range(rounds):
        pipe = client.pipeline(transaction=False)
        for _ in range(50):
            load.add(pipe)
        pipe.execute()


class FullResync(unittest.TestCase):
    def both_ways(self, **settings):
        for number, (above, below) in enumerate(PAIRS):
            with self.subTest(primary=above, replica=below), \
                    start(above, **settings) as primary, start(below) as replica:
                fill(primary, 10 + number, 60)
                replica.client().set("old", "goes")
                with Load(primary, 20 + number, pause_s=0.002):
                    follow(replica, primary)
                    wait_link(replica)
                    time.sleep(0.5)
                wait_equal(primary, replica)
                self.assertEqual(digest(primary), digest(replica))
                self.assertIsNone(replica.client().get("old"))
                self.assertEqual(info(primary)["connected_slaves"], 1)
                self.assertEqual(info(primary)["slave0"]["state"], "online")
                self.assertEqual(info(primary, "stats")["sync_full"], 1)

    def test_streamed_with_a_mark(self):
        self.both_ways(repl_diskless_sync="yes")

    def test_by_length(self):
        self.both_ways(repl_diskless_sync="no")

    def test_big_values_in_the_stream(self):
        """Of more than what is received into memory whose pages may still be on their way."""
        with start("cairn") as primary, start("cairn") as replica:
            follow(replica, primary)
            wait_link(replica)
            sizes = (300_000, 3_000_000, 30_000_000)
            for size in sizes:
                primary.client().set(f"big:{size}", b"x" * size)
            wait_equal(primary, replica)
            for size in sizes:
                self.assertEqual(replica.client().strlen(f"big:{size}"), size)

    def test_several_databases_and_a_transaction_in_flight(self):
        for above, below in PAIRS:
            with self.subTest(primary=above, replica=below), start(above) as primary, start(below) as replica:
                for db in range(4):
                    primary.client(db=db).set("k", db)
                follow(replica, primary)
                wait_link(replica)
                for db in (3, 1, 2):
                    pipe = primary.client(db=db).pipeline()
                    pipe.incr("n")
                    pipe.rpush("l", "a", "b")
                    pipe.lpop("l")
                    pipe.execute()
                wait_equal(primary, replica)
                self.assertEqual(digest(primary), digest(replica))

    def test_a_chain(self):
        with start("cairn") as top, start("cairn") as middle, start("redis") as low, start("cairn") as lowest:
            fill(top, 3, 40)
            follow(middle, top)
            wait_link(middle)
            with Load(top, 4, pause_s=0.002):
                follow(low, middle)
                wait_link(low)
                follow(lowest, middle)
                wait_link(lowest)
                time.sleep(0.3)
            wait_equal(top, middle, low, lowest)
            self.assertEqual({digest(each) for each in (top, middle, low, lowest)}, {digest(top)})
            self.assertEqual(len({offset_of(each) for each in (top, middle, low, lowest)}), 1)
            self.assertEqual(len({info(each)["master_replid"] for each in (top, middle, low, lowest)}), 1)

    def test_memory_of_the_stream_is_told(self):
        for here in ("redis", "cairn"):
            with self.subTest(here), start(here) as primary, start("cairn") as replica:
                client = primary.client()
                self.assertEqual(0, client.memory_stats()["replication.backlog"])
                follow(replica, primary)
                wait_link(replica)
                client.set("k", "v" * 300_000)

                def same():
                    told, stats = client.info("memory"), client.memory_stats()
                    return told["mem_clients_slaves"] == stats["clients.slaves"] and (told, stats)
                # The memory of a connection may change from one question to the other, when the replica acknowledges.
                told, stats = wait_until(same, what="the same figure from both")
                self.assertEqual(told["mem_replication_backlog"], stats["replication.backlog"])
                self.assertGreater(stats["replication.backlog"], 300_000)
                self.assertGreater(stats["overhead.total"], stats["replication.backlog"])

    def test_what_a_stopped_replica_holds_is_told_and_goes_with_it(self):
        for here in ("redis", "cairn"):
            with self.subTest(here), start(here) as primary, start("cairn") as replica:
                client = primary.client()
                follow(replica, primary)
                wait_link(replica)
                # Its connection has buffers in the kernel at both ends.
                os.kill(replica.pid, signal.SIGSTOP)
                try:
                    for _ in range(60):
                        client.set("k", "v" * 1_000_000)
                    [line] = client.client_list(_type="replica")
                    self.assertGreater(int(line["omem"]), 20_000_000)
                    self.assertGreater(int(line["oll"]), 1)
                    self.assertGreater(int(line["tot-mem"]), 20_000_000)
                    self.assertGreater(client.info("memory")["mem_not_counted_for_evict"], 20_000_000)
                    client.client_kill_filter(_type="slave")
                    wait_until(lambda: info(primary)["connected_slaves"] == 0)
                    # Nothing is written meanwhile.
                    wait_until(lambda: client.info("memory")["mem_total_replication_buffers"] < 4_000_000)
                finally:
                    os.kill(replica.pid, signal.SIGCONT)

    def test_redis_cli_takes_a_dump(self):
        with start("cairn") as primary, tempfile.TemporaryDirectory() as folder:
            fill(primary, 5, 20)
            path = os.path.join(folder, "dump.rdb")
            subprocess.run(["redis-cli", "-p", str(primary.port), "--rdb", path], check=True,
                           capture_output=True, timeout=60)
            with Server("redis", settings={**DEBUG, "dbfilename": "dump.rdb"}, directory=folder) as loaded:
                # Keys with a short life may be gone on either side.
                for server in (primary, loaded):
                    server.client().delete(*[f"7:{number}" for number in range(KEYS)])
                self.assertEqual(digest(primary), digest(loaded))

    def test_who_wants_the_file_alone_is_let_go_behind_it(self):
        for capabilities in (b"", b" capa eof"):
            with self.subTest(capabilities), start("cairn", repl_diskless_sync="yes") as primary:
                primary.client().set("k", "v")
                with socket.create_connection(("127.0.0.1", primary.port), 60) as link:
                    link.sendall(b"REPLCONF rdb-only 1" + capabilities + b"\r\n")
                    self.assertEqual(b"+OK\r\n", link.recv(100))
                    link.sendall(b"PSYNC ? -1\r\n")
                    self.assertIn(b"REDIS00", b"".join(iter(lambda: link.recv(65536), b"")))
                wait_until(lambda: info(primary)["connected_slaves"] == 0)

    def test_who_says_late_that_it_wants_the_file_alone_has_the_stream_kept_for_it(self):
        with start("cairn", repl_diskless_sync="yes", repl_backlog_size="16kb") as primary:
            primary.client().set("k", "v")
            with socket.create_connection(("127.0.0.1", primary.port), 60) as link:
                link.sendall(b"REPLCONF capa eof capa psync2\r\n")
                self.assertEqual(b"+OK\r\n", link.recv(100))
                link.sendall(b"PSYNC ? -1\r\n")
                copy = b""
                while not (mark := re.search(rb"\$EOF:(.{40})\r\n", copy)) or copy.count(mark[1]) < 2:
                    copy += link.recv(65536)
                link.sendall(b"REPLCONF rdb-only 1 getack *\r\n")  # is not answered
                for number in range(100):
                    primary.client().set(number, "x" * 8192)
                link.sendall(b"REPLCONF ACK 0\r\n")
                self.assertIn(b"x" * 8192, link.recv(65536, socket.MSG_WAITALL))

    def test_a_replica_that_is_killed_comes_back(self):
        for above, below in PAIRS:
            with self.subTest(primary=above, replica=below), start(above) as primary, start(below) as replica:
                fill(primary, 6, 40)
                replica.settings["replicaof"] = f"127.0.0.1 {primary.port}"
                replica.restart()
                with Load(primary, 7, pause_s=0.002):
                    for _ in range(3):
                        time.sleep(0.3)
                        replica.restart()
                    wait_link(replica)
                wait_equal(primary, replica)
                self.assertEqual(digest(primary), digest(replica))

    def test_a_primary_that_is_killed_comes_back(self):
        with start("cairn", appendonly="yes", appendfsync="always") as primary, start("cairn") as replica:
            follow(replica, primary)
            wait_link(replica)
            fill(primary, 8, 20)
            primary.restart()
            wait_until(lambda: info(replica)["master_link_status"] == "up" and
                       info(primary)["connected_slaves"] == 1, 60, "the new link")
            primary.client().set("after", "restart")
            wait_equal(primary, replica)
            self.assertEqual(digest(primary), digest(replica))

    def test_clients_are_answered_while_it_loads(self):
        with start("cairn") as primary, start("cairn", key_load_delay="500") as replica:
            pipe = primary.client().pipeline(transaction=False)
            for number in range(4000):
                pipe.set(f"k{number}", os.urandom(1000))
            pipe.execute()
            follow(replica, primary)
            client = replica.client()
            wait_until(lambda: client.info("persistence")["loading"] == 1, what="the load")
            with self.assertRaisesRegex(redis.exceptions.BusyLoadingError, "LOADING|loading"):
                client.get("k1")
            wait_link(replica)
            wait_equal(primary, replica)
            self.assertEqual(digest(primary), digest(replica))


class PartialResync(unittest.TestCase):
    def test_cut_links_lose_nothing(self):
        for above, below in PAIRS:
            with self.subTest(primary=above, replica=below), \
                    start(above, repl_backlog_size="32mb") as primary, start(below) as replica:
                fill(primary, 11, 40)
                follow(replica, primary)
                wait_link(replica)
                with Load(primary, 12, pause_s=0.002):
                    for cuts, side in enumerate((primary, replica) * 3, 1):
                        time.sleep(0.2)
                        kind = "replica" if side is primary else "master"
                        wait_until(lambda: side.client().execute_command("CLIENT", "KILL", "TYPE", kind) > 0
                                   or None, 30, "a link to cut")
                        # A replica shows the old link as up until it has found its end.
                        wait_until(lambda: info(primary, "stats")["sync_partial_ok"] >= cuts, what="a new link")
                        wait_link(replica)
                wait_equal(primary, replica)
                self.assertEqual(digest(primary), digest(replica))
                stats = info(primary, "stats")
                self.assertEqual(stats["sync_full"], 1)
                self.assertGreaterEqual(stats["sync_partial_ok"], 6)

    def test_a_backlog_that_is_too_short_leads_to_a_full_copy(self):
        with start("cairn", repl_backlog_size="16kb") as primary, start("cairn") as replica:
            follow(replica, primary)
            wait_link(replica)
            replica.client().execute_command("REPLICAOF", "127.0.0.1", 1)
            for number in range(200):
                primary.client().set(f"k{number}", "v" * 2000)
            follow(replica, primary)
            wait_link(replica)
            wait_equal(primary, replica)
            self.assertEqual(digest(primary), digest(replica))
            self.assertEqual(info(primary, "stats")["sync_full"], 2)

    def test_the_others_follow_a_promoted_replica_without_a_full_copy(self):
        for others in ("cairn", "redis"):
            with self.subTest(others=others), start("cairn", **NO_PING) as old, start("cairn", **NO_PING) as new, \
                    start(others) as other:
                for replica in (new, other):
                    follow(replica, old)
                    wait_link(replica)
                fill(old, 13, 20)
                wait_equal(old, new, other)
                new.client().execute_command("REPLICAOF", "NO", "ONE")
                new.client().set("written", "later")
                for replica in (old, other):
                    follow(replica, new)
                    wait_link(replica)
                wait_equal(new, old, other)
                self.assertEqual({digest(each) for each in (old, new, other)}, {digest(new)})
                self.assertEqual(info(new, "stats")["sync_full"], 0)
                self.assertEqual(info(new, "stats")["sync_partial_ok"], 2)

    def test_a_restart_with_a_save_keeps_the_history(self):
        for above, below in (("cairn", "cairn"), ("cairn", "redis"), ("redis", "cairn")):
            with self.subTest(primary=above, replica=below), \
                    start(above, **NO_PING) as primary, start(below) as replica:
                fill(primary, 14, 10)
                follow(replica, primary)
                wait_link(replica)
                primary.client().set("a", 1)
                wait_equal(primary, replica)
                for server in (primary, replica):
                    # Killed: redis-server's orderly end asks for acknowledgements, bytes that its dump lacks.
                    server.client().save()
                    server.kill()
                    if server is replica:
                        replica.settings["replicaof"] = f"127.0.0.1 {primary.port}"
                    server.start()
                    wait_link(replica)
                    wait_equal(primary, replica)
                self.assertEqual(digest(primary), digest(replica))
                self.assertEqual(info(primary, "stats")["sync_full"], 0)

    def test_keys_that_a_start_drops_go_from_the_replicas_too(self):
        """They go on from where the dump ends, and a replica ends no key by itself."""
        for above, below in PAIRS:
            with self.subTest(primary=above, replica=below), \
                    start(above, **NO_PING) as primary, start(below) as replica:
                follow(replica, primary)
                wait_link(replica)
                primary.client().execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
                for database in (0, 5):
                    client = primary.client(db=database)
                    client.set("ends", "v", px=1)
                    client.set("stays", "v")
                wait_equal(primary, replica)
                self.assertEqual(replica.client().dbsize(), 2)
                primary.client().save()
                primary.kill()
                primary.start()
                wait_link(replica)
                wait_equal(primary, replica)
                self.assertEqual(info(primary, "persistence")["rdb_last_load_keys_expired"], 2)
                self.assertEqual([replica.client(db=database).dbsize() for database in (0, 5)], [1, 1])
                self.assertEqual(info(primary, "stats")["sync_full"], 0)


class Gates(unittest.TestCase):
    def test_lines_of_a_replica(self):
        for above, below in PAIRS:
            with self.subTest(primary=above, replica=below), start(above) as primary, start(below) as replica:
                primary.client().set("k", "v")
                follow(replica, primary)
                wait_link(replica)
                wait_equal(primary, replica)
                client = replica.client()
                self.assertEqual(client.get("k"), b"v")
                with self.assertRaisesRegex(redis.exceptions.ReadOnlyError,
                                            "You can't write against a read only replica."):
                    client.set("k", "w")
                client.config_set("replica-read-only", "no")
                client.set("own", "write")
                client.delete("own")
                client.execute_command("REPLICAOF", "127.0.0.1", 1)
                self.assertEqual(client.get("k"), b"v")
                client.config_set("replica-serve-stale-data", "no")
                with self.assertRaisesRegex(redis.exceptions.ResponseError,
                                            "Link with MASTER is down and replica-serve-stale-data is set to 'no'"):
                    client.get("k")
                self.assertEqual(client.info("replication")["master_link_status"], "down")

    def test_a_script_of_a_replica_sees_no_change_and_those_behind_it_are_answered(self):
        """The replica answers others while its script is over its time; what the primary sends waits."""
        script = "local a = redis.call('GET', 'k') " \
                 "for i = 1, 20000000 do " \
                 "if i % 1000 == 0 and redis.call('GET', 'k') ~= a then return 'changed' end end return a"
        for above, below in PAIRS:
            with self.subTest(primary=above, replica=below), start(above) as primary, \
                    start(below, lua_time_limit="50") as replica:
                owner = primary.client()
                owner.set("k", "0")
                follow(replica, primary)
                wait_link(replica)
                wait_equal(primary, replica)
                with replica.raw(timeout_s=60) as caller, replica.raw(timeout_s=60) as other, other.makefile("rb") as replies:
                    caller.sendall(b"*3\r\n$4\r\nEVAL\r\n$%d\r\n%s\r\n$1\r\n0\r\n"
                                   % (len(script), script.encode()) + b"PING\r\n" * 3)

                    def is_busy():
                        other.sendall(b"GET k\r\n")
                        said = replies.readline()
                        if not said.startswith(b"-BUSY"):
                            self.assertTrue(said.startswith(b"$"), said)
                            replies.readline()
                        return said.startswith(b"-BUSY")
                    # Or it is over already.
                    wait_until(lambda: is_busy() or select.select([caller], [], [], 0)[0], what="the script")
                    for number in range(100):
                        owner.set("k", number)
                    is_busy()
                    wanted = b"$1\r\n0\r\n" + b"+PONG\r\n" * 3
                    seen = b""
                    while len(seen) < len(wanted) and (piece := caller.recv(64)):
                        seen += piece
                    self.assertEqual(wanted, seen)
                wait_equal(primary, replica)
                self.assertEqual(b"99", replica.client().get("k"))

    def test_a_primary_wants_enough_replicas(self):
        with start("cairn", min_replicas_to_write="1") as primary, start("cairn") as replica:
            client = primary.client()
            with self.assertRaisesRegex(redis.exceptions.ResponseError, "Not enough good replicas to write"):
                client.set("k", "v")
            self.assertIsNone(client.get("k"))
            follow(replica, primary)
            wait_link(replica)
            wait_until(lambda: info(primary)["min_slaves_good_slaves"] == 1)
            wait_until(lambda: _accepts(client), what="writes")
            replica.kill()
            wait_until(lambda: not _accepts(client), what="refusal")

    def test_passwords(self):
        for above, below in PAIRS:
            with self.subTest(primary=above, replica=below), \
                    start(above, requirepass="secret") as primary, start(below, masterauth="wrong") as replica:
                owner = primary.client(password="secret")
                owner.set("k", "v")
                follow(replica, primary)
                time.sleep(0.3)
                self.assertEqual(info(replica)["master_link_status"], "down")
                replica.client().config_set("masterauth", "secret")
                wait_link(replica)
                wait_until(lambda: replica.client().get("k") == b"v")

    def test_expiry_is_the_primarys(self):
        for above, below in PAIRS:
            with self.subTest(primary=above, replica=below), start(above) as primary, start(below) as replica:
                follow(replica, primary)
                wait_link(replica)
                writer = primary.client()
                writer.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
                writer.set("k", "v", px=50)
                wait_until(lambda: replica.client().dbsize() == 1)
                wait_until(lambda: replica.client().get("k") is None, what="the end of the key")
                self.assertEqual(replica.client().dbsize(), 1)  # not seen, and still there
                self.assertEqual(replica.client().exists("k"), 0)
                self.assertIsNone(writer.get("k"))
                wait_until(lambda: replica.client().dbsize() == 0, what="the primary's DEL")
                # A command of the primary's meets a key past its time as the primary met it.
                writer.set("n", 5, px=100)
                writer.incr("n")
                time.sleep(0.2)
                writer.set("n", 1)
                wait_equal(primary, replica)
                self.assertEqual(digest(primary), digest(replica))

    def test_eviction_is_the_primarys(self):
        with start("cairn", maxmemory="20mb", maxmemory_policy="allkeys-random") as primary, \
                start("cairn", maxmemory="10mb", maxmemory_policy="allkeys-random") as replica:
            follow(replica, primary)
            wait_link(replica)
            client = primary.client()
            for start_at in range(0, 30000, 1000):
                pipe = client.pipeline(transaction=False)
                for number in range(start_at, start_at + 1000):
                    pipe.set(f"k{number}", "v" * 1000)
                pipe.execute()
            self.assertGreater(client.info("stats")["evicted_keys"], 0)
            wait_equal(primary, replica)
            # A client that asks takes memory too, for which the primary may evict once more.
            wait_until(lambda: digest(primary) == digest(replica), what="the same keys")
            self.assertEqual(replica.client().info("stats")["evicted_keys"], 0)


def _accepts(client) -> bool:
    try:
        return bool(client.set("k", "v"))
    except redis.exceptions.ResponseError:
        return False


class Waiting(unittest.TestCase):
    def test_wait_counts_acknowledgements(self):
        for below in ("cairn", "redis"):
            with self.subTest(replica=below), start("cairn") as primary, start(below) as replica:
                client = primary.client()
                client.set("k", "v")
                self.assertEqual(client.execute_command("WAIT", 0, 0), 0)
                self.assertEqual(client.execute_command("WAIT", 1, 50), 0)
                follow(replica, primary)
                wait_link(replica)
                client.set("k", "w")
                began = time.monotonic()
                self.assertEqual(client.execute_command("WAIT", 1, 20000), 1)
                self.assertLess(time.monotonic() - began, 10)
                self.assertEqual(replica.client().get("k"), b"w")
                self.assertEqual(client.execute_command("WAIT", 2, 100), 1)
                pipe = client.pipeline()
                pipe.set("k", "x")
                pipe.execute_command("WAIT", 1, 1000)
                self.assertIn(pipe.execute()[1], (0, 1))
                with self.assertRaisesRegex(redis.exceptions.ResponseError, "WAIT cannot be used with replica"):
                    replica.client().execute_command("WAIT", 0, 0)

    def test_acknowledged_writes_are_on_the_replica_after_kill(self):
        with start("cairn") as primary, start("cairn", appendonly="yes") as replica:
            follow(replica, primary)
            wait_link(replica)
            client = primary.client()
            for number in range(30):
                client.set(f"k{number}", number)
                self.assertEqual(client.execute_command("WAIT", 1, 20000), 1)
            primary.kill()
            replica.client().execute_command("REPLICAOF", "NO", "ONE")
            self.assertEqual([replica.client().get(f"k{n}") for n in range(30)],
                             [b"%d" % n for n in range(30)])


class Handover(unittest.TestCase):
    def test_failover_swaps_the_roles_without_losing_a_write(self):
        for above, below in PAIRS:
            with self.subTest(primary=above, replica=below), start(above) as primary, start(below) as replica:
                fill(primary, 15, 10)
                follow(replica, primary)
                wait_link(replica)
                written = 0
                client = primary.client()
                stop = threading.Event()

                def write():
                    nonlocal written
                    while not stop.is_set():
                        try:
                            client.incr("counter")
                            written += 1
                        except redis.exceptions.ReadOnlyError:
                            return

                writer = threading.Thread(target=write)
                writer.start()
                try:
                    time.sleep(0.2)
                    self.assertEqual(primary.client().execute_command("FAILOVER", "TIMEOUT", 30000), b"OK")
                    wait_until(lambda: info(replica)["role"] == "master", what="the new primary")
                    wait_until(lambda: info(primary)["role"] == "slave", what="the old one as replica")
                    wait_link(primary)
                finally:
                    stop.set()
                    writer.join()
                self.assertEqual(info(primary)["master_failover_state"], "no-failover")
                wait_equal(replica, primary)
                self.assertEqual(int(replica.client().get("counter")), written)
                self.assertEqual(digest(primary), digest(replica))
                self.assertEqual(info(replica, "stats")["sync_full"], 0)

    def test_failover_that_cannot_be_is_given_up(self):
        with start("cairn") as primary, start("redis") as replica:
            follow(replica, primary)
            wait_link(replica)
            client = primary.client()
            # A replica that does not answer never catches up.
            replica.client().execute_command("DEBUG", "SLEEP", "0")
            os.kill(replica.pid, 19)
            try:
                client.set("k", "v")
                client.execute_command("FAILOVER")
                self.assertEqual(info(primary)["master_failover_state"], "waiting-for-sync")
                with self.assertRaisesRegex(redis.exceptions.ResponseError, "FAILOVER already in progress"):
                    client.execute_command("FAILOVER")
                with self.assertRaisesRegex(redis.exceptions.ResponseError, "not allowed while failing over"):
                    client.execute_command("REPLICAOF", "127.0.0.1", 1)
                client.execute_command("FAILOVER", "ABORT")
                self.assertTrue(client.set("k", "w"))
                client.execute_command("FAILOVER", "TIMEOUT", 300)
                wait_until(lambda: info(primary)["master_failover_state"] == "no-failover", what="the end")
                self.assertTrue(client.set("k", "x"))
            finally:
                os.kill(replica.pid, 18)


def psync_of(link: socket.socket) -> list:
    """Answers what a replica says first on `link`. Its PSYNC, or nothing when it went."""
    with link.makefile("rb") as lines:
        while header := lines.readline():
            words = [lines.read(int(lines.readline()[1:]) + 2)[:-2] for _ in range(int(header[1:]))]
            if words[0].upper() == b"PSYNC":
                return words
            link.sendall(b"+PONG\r\n" if words[0].upper() == b"PING" else b"+OK\r\n")
    return []


class DamagedPrimary:
    """A primary whose copies are damaged RDB files."""

    COPY = b"REDIS0010\xfe\x00\x00\x01a\x01b\xc3damaged"

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _accept(self):
        while True:
            try:
                link, _ = self._listener.accept()
            except OSError:
                return
            with link:
                if psync_of(link):
                    link.sendall(b"+FULLRESYNC %s 100\r\n$%d\r\n" % (b"a" * 40, len(self.COPY)) + self.COPY)


def promoted(replica: Server) -> bool:
    """False while it loads: then it is not to be promoted."""
    try:
        return replica.client().execute_command("REPLICAOF", "NO", "ONE") is not None
    except redis.exceptions.BusyLoadingError:
        return False


class Files(unittest.TestCase):
    def test_the_log_of_a_replica_holds_what_it_received(self):
        for above in ("cairn", "redis"):
            with self.subTest(primary=above), start(above) as primary, start("cairn", appendonly="yes") as replica:
                fill(primary, 16, 30)
                follow(replica, primary)
                wait_link(replica)
                fill(primary, 17, 30)
                wait_equal(primary, replica)
                wait_until(lambda: info(replica, "persistence")["aof_rewrite_in_progress"] == 0, what="the base")
                replica.client().execute_command("REPLICAOF", "NO", "ONE")
                primary.client().flushall()
                before = digest(replica)
                replica.stop()
                replica.start()
                self.assertEqual(digest(replica), before)

    def test_a_replica_promoted_after_a_copy_that_did_not_load_writes_its_log_anew(self):
        with DamagedPrimary() as primary, start("cairn", appendonly="yes") as replica:
            replica.client().set("old", "1")
            before = info(replica, "persistence")["aof_rewrites"]
            follow(replica, primary)
            wait_until(lambda: "Failed trying to load the MASTER synchronization DB" in replica.log(), what="the copy")
            wait_until(lambda: promoted(replica), what="a turn without a load")
            replica.client().set("acknowledged", "1")
            self.assertEqual(info(replica, "persistence")["aof_enabled"], 1)
            wait_until(lambda: info(replica, "persistence")["aof_rewrites"] == before + 1, what="the base")
            replica.kill()
            replica.start()
            self.assertEqual(replica.client().keys(), [b"acknowledged"])

    def test_no_copy_is_left_behind(self):
        with start("cairn") as primary, start("cairn", rdb_del_sync_files="yes") as replica:
            fill(primary, 18, 20)
            for _ in range(2):
                follow(replica, primary)
                wait_link(replica)
                replica.client().execute_command("REPLICAOF", "NO", "ONE")
                replica.client().set("k", "v")
            wait_until(lambda: info(primary)["connected_slaves"] == 0)
            for server in (primary, replica):
                self.assertEqual([name for name in os.listdir(server.directory) if name.endswith(".rdb")], [])


if __name__ == "__main__":
    unittest.main()
