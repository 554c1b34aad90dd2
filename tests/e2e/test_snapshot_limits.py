"""Back-pressure of a running save: snapshot-retained-limit, snapshot-max-write-delay, the two policies,
snapshot-cpu-limit, and the progress that INFO shows. No fork in any of it.

The walker is slowed with rdb-key-save-delay where a test needs a save that lasts.
"""

import datetime
import glob
import os
import random
import shutil
import subprocess
import threading
import time
import unittest

import redis

from cairn_server import Server, wait_until

KEYS = 4000
VALUE_BYTES = 1000
LIMIT_BYTES = 1024 * 1024       # the least that snapshot-retained-limit takes
ONE_COMMAND_BYTES = 64 * 1024   # V5: what may come on top of the limit


def fill(client, keys=KEYS, size=VALUE_BYTES):
    with client.pipeline(transaction=False) as pipeline:
        for i in range(keys):
            pipeline.set(f"key:{i}", b"a" * size)
        pipeline.execute()


class Writer(threading.Thread):
    """Overwrites keys, one command at a time, until told to stop."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.client = server.client()
        self.written = 0
        self.error = None
        self.stopping = False

    def run(self):
        try:
            while not self.stopping:
                self.client.set(f"key:{self.written % KEYS}", b"b" * VALUE_BYTES)
                self.written += 1
        except redis.RedisError as error:
            self.error = error

    def stop(self):
        self.stopping = True
        self.join()


class SnapshotLimits(unittest.TestCase):
    def settings(self, **changes):
        return {"enable-debug-command": "yes", "snapshot-retained-limit": LIMIT_BYTES,
                "snapshot-max-write-delay": 60000,
                **{name.replace("_", "-"): value for name, value in changes.items()}}

    def info(self, client):
        return client.info("persistence")

    def test_writers_wait_readers_do_not_and_the_file_is_that_of_the_cut(self):
        with Server(settings=self.settings(rdb_key_save_delay=1000)) as server:
            client = server.client()
            fill(client)
            client.bgsave()
            writer = Writer(server)
            writer.start()
            wait_until(lambda: self.info(client)["snapshot_write_holds"] > 0, what="a writer that waits")
            held_at = writer.written
            read_while_held = 0
            while self.info(client)["rdb_bgsave_in_progress"]:
                held = client.info("clients")["blocked_clients"] > 0
                self.assertEqual(len(client.get("key:1")), VALUE_BYTES)
                read_while_held += held and client.info("clients")["blocked_clients"] > 0
            figures = self.info(client)
            wait_until(lambda: writer.written > held_at, what="the writer to go on")
            writer.stop()
            self.assertIsNone(writer.error)
            self.assertGreater(read_while_held, 0)
            self.assertGreater(held_at, LIMIT_BYTES // VALUE_BYTES // 2)
            self.assertGreater(figures["snapshot_write_held_usec"], 0)
            self.assertLessEqual(figures["snapshot_retained_bytes_peak"], LIMIT_BYTES + ONE_COMMAND_BYTES)
            self.assertGreater(figures["snapshot_retained_bytes_peak"], LIMIT_BYTES // 2)
            self.assertEqual(figures["snapshot_retained_bytes"], 0)
            self.assertEqual(figures["rdb_last_bgsave_status"], "ok")
            server.restart()
            again = server.client()
            self.assertEqual(again.dbsize(), KEYS)
            for i in range(KEYS):
                self.assertEqual(again.get(f"key:{i}"), b"a" * VALUE_BYTES)

    def test_big_strings_are_written_while_they_are_saved(self):
        size = 4 << 20
        contents = {f"big:{i}": random.Random(i).randbytes(size) for i in range(8)}
        contents["alike"] = b"a" * size                         # is compressed
        # The walker rests behind each few hundred keys: among others, they are not all written before the first change.
        others = {f"other:{i}": i for i in range(3000)}
        with Server(settings=self.settings(rdb_key_save_delay=300, snapshot_retained_limit=32 << 20)) as server:
            client = server.client()
            client.mset(others)
            client.mset(contents)
            client.bgsave()
            chance = random.Random(9)
            writes = 0
            while self.info(client)["rdb_bgsave_in_progress"]:
                for key in contents:
                    at = chance.randrange(size)
                    client.execute_command(*chance.choice([("SETRANGE", key, at, b"changed"), ("APPEND", key, b"longer"),
                                                           ("SETBIT", key, at * 8, 1), ("BITFIELD", key, "SET", "i64", at * 8, at)]))
                    writes += 1
            client.rename("big:0", "renamed")
            self.assertGreater(writes, 10)
            figures = self.info(client)
            self.assertEqual(figures["rdb_last_bgsave_status"], "ok")
            self.assertGreater(figures["snapshot_retained_bytes_peak"], 128 << 10)
            # What was copied and what not stays far below one copy of all.
            self.assertLess(figures["snapshot_retained_bytes_peak"], (32 << 20) + (1 << 20))
            self.assertEqual(figures["snapshot_retained_bytes"], 0)
            server.restart()
            again = server.client()
            self.assertEqual(again.dbsize(), len(contents) + len(others))
            for key, value in contents.items():
                self.assertTrue(again.get(key) == value, key)

    def test_pipelined_writes_and_transactions_keep_their_order_when_held(self):
        with Server(settings=self.settings(rdb_key_save_delay=1000)) as server:
            client = server.client()
            fill(client)
            client.bgsave()
            with client.pipeline(transaction=False) as pipeline:
                for i in range(2 * KEYS):
                    pipeline.set(f"key:{i % KEYS}", f"{i}".rjust(VALUE_BYTES))
                    pipeline.incr("counter")
                    if i % 100 == 0:
                        pipeline.get(f"key:{i % KEYS}")
                replies = pipeline.execute()
            expected = []
            for i in range(2 * KEYS):
                expected += [True, i + 1]
                if i % 100 == 0:
                    expected.append(f"{i}".rjust(VALUE_BYTES).encode())
            self.assertEqual(replies, expected)
            with client.pipeline(transaction=True) as transaction:
                transaction.set("key:0", "last")
                transaction.get("key:0")
                self.assertEqual(transaction.execute(), [True, b"last"])
            self.assertGreater(self.info(client)["snapshot_write_holds"], 0)
            server.wait_saved()

    def test_abort_gives_the_save_up_and_keeps_the_old_file(self):
        settings = self.settings(snapshot_over_limit_policy="abort", snapshot_max_write_delay=20)
        with Server(settings=settings) as server:
            client = server.client()
            fill(client)
            client.save()
            dump = os.path.join(server.directory, "dump.rdb")
            with open(dump, "rb") as file:
                before = file.read()
            client.config_set("rdb-key-save-delay", 2000)
            client.bgsave()
            writer = Writer(server)
            writer.start()
            wait_until(lambda: self.info(client)["rdb_last_bgsave_status"] == "err", what="the end of the save")
            went_on = writer.written
            wait_until(lambda: writer.written > went_on, what="writes after the abort")
            writer.stop()
            self.assertIsNone(writer.error)
            self.assertIn("The snapshot is given up", server.log())
            with open(dump, "rb") as file:
                self.assertEqual(file.read(), before)
            self.assertEqual(glob.glob(os.path.join(server.directory, "temp-*")), [])
            figures = self.info(client)
            self.assertEqual(figures["snapshot_retained_bytes"], 0)
            self.assertEqual(figures["snapshot_structure_bytes"], 0)
            client.config_set("rdb-key-save-delay", 0)
            client.bgsave()
            server.wait_saved()
            self.assertEqual(self.info(client)["rdb_last_bgsave_status"], "ok")

    def test_a_save_that_was_given_up_has_failed_and_the_rules_wait_before_the_next(self):
        settings = self.settings(snapshot_over_limit_policy="abort", snapshot_max_write_delay=20,
                                 rdb_key_save_delay=4000, save="1 1")
        with Server(settings=settings) as server:
            client = server.client()
            fill(client)
            wait_until(lambda: self.info(client)["rdb_bgsave_in_progress"], what="the save that is due")
            time.sleep(6)  # the wait is one from the end, not from the beginning
            writer = Writer(server)
            writer.start()
            wait_until(lambda: "The snapshot is given up" in server.log(), what="a save that is given up")
            client.config_set("rdb-key-save-delay", 0)
            client.config_set("snapshot-max-write-delay", 60000)  # however slow the next walk is
            wait_until(lambda: self.info(client)["rdb_last_bgsave_status"] == "err", what="its end")
            went_on = writer.written
            wait_until(lambda: self.info(client)["rdb_last_bgsave_status"] == "ok", what="the next save")
            writer.stop()
            self.assertIsNone(writer.error, "stop-writes-on-bgsave-error is not for this")
            self.assertGreater(writer.written, went_on)
            # By the clock of the log: whoever asks now and then may ask late.
            given_up = self.logged_at(server, "The snapshot is given up")[0]
            begun = [at for at in self.logged_at(server, "Background saving started") if at > given_up]
            self.assertGreater(min(begun) - given_up, 5.0)

    def logged_at(self, server, words):
        """When lines with the words were logged, in seconds."""
        return [datetime.datetime.strptime(" ".join(line.split()[1:5]), "%d %b %Y %H:%M:%S.%f").timestamp()
                for line in server.log().splitlines() if words in line]

    def test_throttle_lets_writers_go_on_when_waiting_is_in_vain(self):
        settings = self.settings(snapshot_over_limit_policy="throttle", snapshot_max_write_delay=20,
                                 rdb_key_save_delay=200_000)
        with Server(settings=settings) as server:
            client = server.client()
            fill(client)
            client.bgsave()
            writer = Writer(server)
            writer.start()
            wait_until(lambda: self.info(client)["snapshot_write_holds"] >= 3, what="three waits")
            went_on = writer.written
            wait_until(lambda: writer.written > went_on + 20, what="writes over the limit")
            self.assertEqual(self.info(client)["rdb_bgsave_in_progress"], 1)
            self.assertGreater(self.info(client)["snapshot_retained_bytes"], LIMIT_BYTES // 2)
            writer.stop()

    def test_progress_is_shown_while_a_save_runs(self):
        with Server(settings=self.settings(rdb_key_save_delay=500)) as server:
            client = server.client()
            fill(client)
            self.assertNotIn("snapshot_eta_seconds", self.info(client))
            client.bgsave()
            seen = wait_until(lambda: (lambda figures: figures if figures.get("snapshot_bytes_written") else None)(
                self.info(client)), what="progress")
            self.assertEqual(seen["current_save_keys_total"], KEYS)
            self.assertGreater(seen["current_save_keys_processed"], 0)
            self.assertGreater(seen["snapshot_keys_per_sec"], 0)
            self.assertGreaterEqual(seen["snapshot_eta_seconds"], 0)
            server.wait_saved()

    def test_cpu_limit_is_a_share_of_one_core(self):
        with Server(settings=self.settings(snapshot_cpu_limit=10)) as server:
            client = server.client()
            client.execute_command("DEBUG", "POPULATE", 400_000)
            spent_us, wall_us = self.walker_share(server, client)
            self.assertLess(spent_us, wall_us * 0.2)

    def walker_share(self, server, client):
        """CPU time of the walker thread and time of the clock, in us, of one BGSAVE."""
        def cpu_us():
            total = 0
            for task in glob.glob(f"/proc/{server.pid}/task/*"):
                with open(task + "/comm") as comm, open(task + "/schedstat") as schedstat:
                    if comm.read().strip() == "walker":
                        total += int(schedstat.read().split()[0]) // 1000
            return total
        before = cpu_us()
        client.bgsave()
        began = client.time()
        server.wait_saved()
        ended = client.time()
        return cpu_us() - before, (ended[0] - began[0]) * 1_000_000 + ended[1] - began[1]

    @unittest.skipUnless(shutil.which("strace"), "strace is not installed")
    def test_nothing_forks(self):
        with Server(settings=self.settings(appendonly="yes")) as server:
            client = server.client()
            fill(client)
            trace_path = os.path.join(server.directory, "trace")
            tracer = subprocess.Popen(["strace", "-f", "-e", "trace=process", "-o", trace_path, "-p", str(server.pid)],
                                      stderr=subprocess.PIPE)
            tracer.stderr.readline()  # "attached"
            try:
                client.bgsave()
                server.wait_saved()
                client.bgrewriteaof()
                wait_until(lambda: self.info(client)["aof_rewrite_in_progress"] == 0, what="the rewrite")
            finally:
                tracer.terminate()
                tracer.wait()
            with open(trace_path) as file:
                calls = [line for line in file
                         if any(word in line for word in ("fork(", "vfork(", "clone(", "clone3(", "execve("))]
            # A thread is cloned with CLONE_THREAD; a process is not.
            self.assertEqual([call for call in calls if "CLONE_THREAD" not in call], [])


if __name__ == "__main__":
    unittest.main()
