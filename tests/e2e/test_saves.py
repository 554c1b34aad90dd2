"""Saves beside what else a server does: copies for replicas, FLUSHALL, many databases; and what INFO and the log
tell of saves and loads that take their time."""

import os
import random
import socket
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
        at_cut = self.start_slow_save(client)
        client.set("after the cut", "v")
        with Server("redis", {**DEBUG, "replicaof": f"127.0.0.1 {server.port}"}) as replica:
            copy = replica.client()
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

    def test_flushall_does_not_end_a_save(self):
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
        wait_until(lambda: persistence(client)["rdb_saves"] == 2, what="the save that follows")
        client.set("writes", "go on")
        server.kill()
        server.start()
        self.assertEqual(server.client().keys(), [b"writes"])

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

    def test_a_dump_that_cannot_be_looked_at_is_not_an_empty_one(self):
        server = self.start()
        server.client().set("k", "v")
        server.client().save()
        server.kill()
        dump = os.path.join(server.directory, "dump.rdb")
        os.rename(dump, dump + ".kept")
        os.symlink("dump.rdb", dump)   # ELOOP, for root as for anybody
        with self.assertRaises(RuntimeError):
            server.start()
        os.remove(dump)
        os.rename(dump + ".kept", dump)
        server.start()
        self.assertEqual(server.client().get("k"), b"v")


if __name__ == "__main__":
    unittest.main()
