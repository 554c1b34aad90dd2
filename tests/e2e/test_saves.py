"""Saves beside what else a server does: copies for replicas, FLUSHALL, many databases, a new dir; and what INFO and the log
tell of saves and loads that take their time."""

import os
import random
import shutil
import socket
import tempfile
import threading
import unittest

import redis

from cairn_server import Server, wait_until

DEBUG = {"enable-debug-command": "yes", "repl-diskless-sync-delay": "0"}
KEYS = 3000
SLOW_US = 2500     # a key: the walk takes over 7 s


def digest(client):
    return client.execute_command("DEBUG", "DIGEST")


def persistence(client):
    return client.info("persistence")


def fill(client, keys=KEYS, size=1000):
    with client.pipeline(transaction=False) as pipeline:
        for i in range(keys):
            pipeline.set(f"key:{i}", random.Random(i).randbytes(size))
        pipeline.execute()


class Saves(unittest.TestCase):
    def start(self, **settings):
        server = Server(settings={**DEBUG, **{name.replace("_", "-"): value for name, value in settings.items()}})
        server.start()
        self.addCleanup(server.close)
        return server

    def start_slow_save(self, client):
        client.config_set("rdb-key-save-delay", SLOW_US)
        at_cut = digest(client)
        client.bgsave()
        client.config_set("rdb-key-save-delay", 0)   # of what begins later
        return at_cut

    def test_a_replica_gets_its_copy_while_a_save_runs(self):
        server = self.start()
        client = server.client()
        fill(client)
        with Server("redis", DEBUG) as replica:
            copy = replica.client()
            at_cut = self.start_slow_save(client)
            client.set("after the cut", "v")
            copy.execute_command("REPLICAOF", "127.0.0.1", server.port)
            wait_until(lambda: copy.info("replication")["master_link_status"] == "up", what="the link")
            seen = persistence(client)
            self.assertEqual(seen["rdb_bgsave_in_progress"], 1, "the save was to outlast the copy")
            self.assertLess(seen["current_save_keys_processed"], KEYS)
            client.set("key:7", "changed")
            offset = client.info("replication")["master_repl_offset"]
            wait_until(lambda: copy.info("replication")["slave_repl_offset"] >= offset, what="the stream")
            self.assertEqual(digest(copy), digest(client))
        wait_until(lambda: "Background saving: " in server.log(), what="a line of progress")
        server.wait_saved()
        self.assertEqual(persistence(client)["rdb_saves"], 1)
        self.assertGreater(persistence(client)["rdb_changes_since_last_save"], 0)
        server.restart()
        self.assertEqual(digest(server.client()), at_cut)

    def test_a_replica_that_does_not_read_holds_nothing(self):
        server = self.start()
        client = server.client()
        fill(client, keys=2000, size=20_000)
        used = client.info("memory")["used_memory"]
        with socket.create_connection(("127.0.0.1", server.port)) as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.sendall(b"PSYNC ? -1\r\n")
            wait_until(lambda: client.info("stats")["sync_full"] == 1, what="the copy")
            server.wait_saved()
            for i in range(2000):
                client.set(f"key:{i}", b"n" * 20_000)
            figures = persistence(client)
            self.assertEqual((figures["snapshot_retained_bytes"], figures["snapshot_structure_bytes"]), (0, 0))
            # The stream that waits for it counts, up to what its output buffer may hold; not a second dataset.
            self.assertLess(client.info("memory")["used_memory"] - client.info("memory")["mem_total_replication_buffers"], used * 1.3)

    def test_flushall_does_not_end_a_save_without_save_rules(self):
        server = self.start(save="")
        client = server.client()
        fill(client)
        at_cut = self.start_slow_save(client)
        client.flushall()
        self.assertEqual(client.dbsize(), 0)
        self.assertEqual(persistence(client)["rdb_bgsave_in_progress"], 1)
        client.set("writes", "go on")
        server.wait_saved()
        self.assertGreater(persistence(client)["rdb_changes_since_last_save"], KEYS)
        server.kill()
        server.start()
        self.assertEqual(digest(server.client()), at_cut)

    def test_what_flushall_threw_away_does_not_come_back(self):
        server = self.start(save="3600 1000000")
        client = server.client()
        fill(client)
        self.start_slow_save(client)
        client.flushall()
        client.set("writes", "go on")   # no MISCONF, which redis-server gave for a save that FLUSHALL had ended
        figures = persistence(client)
        self.assertEqual((figures["rdb_bgsave_in_progress"], figures["rdb_last_bgsave_status"]), (0, "ok"))
        server.kill()
        server.start()
        self.assertEqual(server.client().keys(), [])

    def test_the_log_moves_with_dir_at_its_next_rewrite(self):
        server = self.start(appendonly="yes", enable_protected_configs="yes")
        client = server.client()
        client.set("a", 1)
        old, new = server.directory, tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, new)
        client.config_set("dir", new)
        client.set("b", 2)
        client.execute_command("DEBUG", "LOADAOF")   # from where it is
        self.assertEqual(client.mget("a", "b"), [b"1", b"2"])
        for _ in range(2):
            client.bgrewriteaof()
            client.set("c", 3)
            wait_until(lambda: not any(persistence(client)[figure] for figure in
                                       ("aof_rewrite_in_progress", "aof_rewrite_scheduled")), what="the rewrite")
        self.assertEqual(persistence(client)["aof_last_bgrewrite_status"], "ok")
        client.set("d", 4)
        server.kill()
        for directory, found in ((new, [b"1", b"2", b"3", b"4"]), (old, [b"1", b"2", None, None])):
            server.directory = directory
            server.start()
            self.assertEqual(server.client().mget("a", "b", "c", "d"), found)
            server.kill()

    def test_a_rewrite_brings_back_a_log_whose_directory_was_removed(self):
        server = self.start(appendonly="yes")
        client = server.client()
        client.set("a", 1)
        shutil.rmtree(os.path.join(server.directory, "appendonlydir"))
        client.set("b", 2)
        client.bgrewriteaof()
        wait_until(lambda: persistence(client)["aof_rewrite_in_progress"] == 0, what="the rewrite")
        self.assertEqual(persistence(client)["aof_last_bgrewrite_status"], "ok")
        client.set("c", 3)
        server.kill()
        server.start()
        self.assertEqual(server.client().mget("a", "b", "c"), [b"1", b"2", b"3"])

    def test_more_databases_than_a_snapshot_has_places(self):
        server = self.start(databases=70_000)
        client = server.client(db=69_999)
        client.set("k", "v")
        client.bgsave()
        server.wait_saved()
        client.execute_command("FLUSHALL")
        client.execute_command("DEBUG", "RELOAD", "NOSAVE")
        self.assertEqual(client.get("k"), b"v")

    def test_a_load_shows_how_far_it_is(self):
        for settings in ({"appendonly": "yes"}, {}):
            with self.subTest(**settings), Server(settings={**DEBUG, **settings}) as server:
                client = server.client()
                fill(client)
                if settings:
                    client.bgrewriteaof()
                    wait_until(lambda: persistence(client)["aof_rewrites"] == 1, what="the rewrite")
                    # What was moved to a new increment beside it is not what is looked for here.
                    wait_until(lambda: not persistence(client)["aof_rewrite_in_progress"], what="its end")
                else:
                    client.save()
                server.kill()
                server.settings |= {"key-load-delay": SLOW_US, "loading-process-events-interval-bytes": 4096}
                starting = threading.Thread(target=server.start)
                starting.start()
                try:
                    seen = wait_until(lambda: self.loading(server), what="the load")
                    self.assertGreater(seen["loading_total_bytes"], KEYS * 1000)
                    self.assertGreater(seen["loading_loaded_bytes"], 0)
                    # What the server that saved had in use then.
                    self.assertGreater(seen["loading_rdb_used_mem"], KEYS * 1000)
                    self.assertLess(seen["loading_rdb_used_mem"], KEYS * 1000 + (64 << 20))
                    self.assertLess(seen["loading_loaded_perc"], 100)
                    self.assertGreaterEqual(seen["loading_eta_seconds"], 0)
                    wait_until(lambda: "Loading: " in server.log(), what="a line of progress")
                finally:
                    starting.join()
                self.assertEqual(server.client().dbsize(), KEYS)

    def loading(self, server):
        try:
            figures = persistence(server.client())
        except redis.ConnectionError:
            return None
        return figures if figures["loading"] and figures.get("loading_loaded_bytes") else None

    def refuses_without(self, server, name, words):
        """A start that cannot look at what it has written is refused, changes nothing, and loads all the next time."""
        path = os.path.join(server.directory, name)
        server.kill()
        os.rename(path, path + ".kept")
        os.symlink(os.path.basename(name), path)   # ELOOP, for root as for anybody
        with self.assertRaises(RuntimeError):
            server.start()
        self.assertEqual(server.process.returncode, 1)
        self.assertIn(words, server.log())
        self.assertTrue(os.path.islink(path))
        os.remove(path)
        os.rename(path + ".kept", path)
        server.start()
        self.assertEqual(server.client().get("k"), b"v")

    def test_a_dump_that_cannot_be_looked_at_is_not_an_empty_one(self):
        server = self.start()
        server.client().set("k", "v")
        server.client().save()
        self.refuses_without(server, "dump.rdb", "dump.rdb: Too many levels of symbolic links")

    def shortened_while_it_is_read(self, size, values, delay_us=10_000, **settings):
        """The log of a start whose append-only file somebody cuts to so many bytes."""
        server = self.start(appendonly="yes", appendfsync="always", **settings)
        server.kill()
        shutil.rmtree(os.path.join(server.directory, "appendonlydir"))
        path = os.path.join(server.directory, "appendonly.aof")
        with open(path, "wb") as file:
            for i in range(values):
                file.write(b"*3\r\n$3\r\nSET\r\n$3\r\n%03d\r\n$65536\r\n%s\r\n" % (i, b"v" * 65536))
        server.settings["key-load-delay"] = delay_us
        server.settings["loading-process-events-interval-bytes"] = "1024"
        path = os.path.join(server.directory, "appendonlydir", "appendonly.aof")

        def shorten():
            wait_until(lambda: self.loading(server), what="a load that runs")
            os.truncate(path, size)
        shortens = threading.Thread(target=shorten)
        shortens.start()
        with self.assertRaises(RuntimeError):
            server.start()
        shortens.join()
        self.assertEqual(server.process.returncode, 1)
        self.assertEqual(os.path.getsize(path), size)
        return server.log()

    def test_an_append_only_file_that_gets_shorter_while_it_is_read(self):
        """No SIGBUS, and no torn end that would be cut: a start that is refused."""
        log = self.shortened_while_it_is_read(16 << 20, values=300)
        self.assertIn("Unrecoverable error reading the append only file", log)
        self.assertIn("appendonly.aof: the file got shorter", log)

    def test_nor_does_it_when_all_of_it_was_asked_for_before(self):
        """It is shorter than what is asked for at a time: the touch of a page is the first that learns."""
        for reports in ("yes", "no"):
            with self.subTest(crash_log_enabled=reports):
                log = self.shortened_while_it_is_read(4096, values=60, delay_us=50_000, crash_log_enabled=reports)
                self.assertRegex(log.splitlines()[-1], r"^\d+:M \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d\.\d{3} # Unrecoverable error reading "
                                 r"/.*/appendonlydir/appendonly\.aof: a page of it.*the file got shorter\. Exiting\.$")
                # On the clock of the other lines.
                minutes = [int(line.split()[4][3:5]) for line in log.splitlines()[-2:]]
                hours = [line.split()[4][:2] for line in log.splitlines()[-2:]]
                self.assertTrue(hours[0] == hours[1] or 59 in minutes, log)
                self.assertNotIn("crashed by signal", log)

    def test_nor_is_an_append_only_file(self):
        """redis-server 7.0.15 begins empty without a look at the manifest, or at the one file of versions before 7."""
        server = self.start(appendonly="yes", appendfsync="always")
        server.client().set("k", "v")
        self.refuses_without(server, "appendonlydir", "appendonlydir: File exists")
        directory = os.path.join(server.directory, "appendonlydir")
        for name in sorted(name for name in os.listdir(directory) if not name.endswith(".reserve")):
            with self.subTest(name):
                self.refuses_without(server, f"appendonlydir/{name}", "Too many levels of symbolic links")
        server.kill()
        shutil.rmtree(directory)
        with open(os.path.join(server.directory, "appendonly.aof"), "wb") as file:
            file.write(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n")
        self.refuses_without(server, "appendonly.aof", "Too many levels of symbolic links")


if __name__ == "__main__":
    unittest.main()
