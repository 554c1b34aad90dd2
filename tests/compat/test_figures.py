"""What INFO counts of saves, loads and look-ups, beside redis-server."""

import os
import socket
import time
import unittest

import redis
from scenes import Scenes, requests

from cairn_server import wait_until  # pylint: disable=wrong-import-order

RULES = "3600 1000000"      # so that a failed save may have writes refused


class Figures(Scenes):
    def asked(self, client, *words):
        try:
            return client.execute_command(*words)
        except redis.RedisError as error:
            return str(error).split()[0] if str(error) else "ERR"

    def test_saves_that_fail(self):
        """One that a client waits for changes nothing but the count; one in the background has writes refused."""
        def scene(binary):
            server = self.server(binary, save=RULES, **{"enable-protected-configs": "yes"})
            client = server.client()
            seen = []

            def look(*words):
                reply = self.asked(client, *words)
                wait_until(lambda: client.info("persistence")["rdb_bgsave_in_progress"] == 0, what="the end of the save")
                figures = client.info("persistence")
                seen.append((reply, figures["rdb_last_bgsave_status"], figures["rdb_saves"], figures["rdb_last_bgsave_time_sec"] >= 0,
                             self.asked(client, "SET", "k", "v")))
            look("SAVE")
            gone = os.path.join(server.directory, "gone")
            os.mkdir(gone)
            client.config_set("dir", gone)
            os.rmdir(gone)
            for words in (["SAVE"], ["SHUTDOWN", "SAVE"], ["BGSAVE"], ["SAVE"]):
                look(*words)
            client.config_set("dir", server.directory)
            look("SAVE")
            return seen
        self.both(scene, [(True, "ok", 1, False, True), ("ERR", "ok", 2, False, True), ("Errors", "ok", 2, False, True),
                          (True, "err", 3, True, "MISCONF"), ("ERR", "err", 4, True, "MISCONF"), (True, "ok", 5, True, True)])

    def test_clients_are_counted(self):
        """By what they are: waiting, held by a pause, replicas, and no more once they are gone."""
        def scene(binary):
            server = self.server(binary)
            client = server.client()
            seen = []

            def beside(figure, number, *words):
                with socket.create_connection(("127.0.0.1", server.port), 60) as other:
                    other.sendall(requests(*words))
                    wait_until(lambda: client.info()[figure] == number, what=f"{figure}: {number}")
                    seen.append([client.info()[name] for name in ("connected_clients", "blocked_clients", "connected_slaves")])
                wait_until(lambda: client.info()["connected_clients"] == 1, what="its end")
                seen.append(client.info()["blocked_clients"])

            beside("connected_clients", 2, "PING")
            beside("blocked_clients", 1, "BLPOP list 0")
            client.client_pause(60_000, all=False)
            beside("blocked_clients", 1, "SET k v")
            client.client_unpause()
            beside("connected_slaves", 1, "PSYNC ? -1")
            return seen
        self.both(scene, [[2, 0, 0], 0, [2, 1, 0], 0, [2, 1, 0], 0, [1, 0, 1], 0])

    def test_peaks_of_clients_outlive_them(self):
        size = 1_000_000

        def scene(binary):
            server = self.server(binary)
            client = server.client()
            client.set("big", "x" * size)
            wait_until(lambda: client.info("clients")["client_recent_max_input_buffer"] > 0, what="a look at the clients")
            seen = []
            for name, sent in (("input", b"*2\r\n$4\r\nECHO\r\n$%d\r\n" % size + b"x" * (size - 1)),
                               ("output", requests("GET big") * 30)):
                figure = f"client_recent_max_{name}_buffer"
                with socket.create_connection(("127.0.0.1", server.port), 60) as other:
                    other.sendall(sent)
                    wait_until(lambda: client.info("clients")[figure] >= size, what=figure)
                wait_until(lambda: client.info("clients")["connected_clients"] == 1, what="its end")
                seen.append(client.info("clients")[figure] >= size)
            return seen
        self.both(scene, [True, True])

    def test_each_load_counts_for_itself(self):
        def scene(binary):
            server = self.server(binary, save=RULES, appendonly="yes", **{"enable-debug-command": "yes"})
            client = server.client()
            client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
            client.mset({str(i): i for i in range(10)})
            seen = []
            for words in (["RELOAD"], ["RELOAD"], ["RELOAD", "NOSAVE"], ["LOADAOF"]):
                client.set("gone", "1", px=1)
                time.sleep(0.01)
                client.execute_command("DEBUG", *words)
                figures = client.info("persistence")
                seen.append([figures[name] for name in ("rdb_last_load_keys_loaded", "rdb_last_load_keys_expired",
                                                        "rdb_changes_since_last_save")])
            return seen
        self.both(scene, [[10, 1, 0], [10, 1, 0], [10, 1, 1], [0, 0, 0]])

    def test_what_flushall_saves_is_no_change(self):
        def scene(binary):
            client = self.server(binary, save=RULES).client()
            client.mset({str(i): i for i in range(10)})
            client.flushall()
            return client.info("persistence")["rdb_changes_since_last_save"]
        self.both(scene, 0)

    def test_what_expires_or_is_evicted_is_no_change(self):
        def scene(binary):
            client = self.server(binary, save=RULES).client()
            client.set("looked at", "1", px=1)
            client.set("found", "1", px=1)
            time.sleep(0.01)
            client.get("looked at")
            wait_until(lambda: client.info("stats")["expired_keys"] == 2, what="the end of both keys")
            seen = [client.info("persistence")["rdb_changes_since_last_save"]]
            client.mset({str(i): "x" * 1000 for i in range(100)})
            client.config_set("maxmemory-policy", "allkeys-random")
            client.config_set("maxmemory", "1")
            wait_until(lambda: client.info("stats")["evicted_keys"] == 100, what="the end of all keys")
            return seen + [client.info("persistence")["rdb_changes_since_last_save"]]
        self.both(scene, [2, 102])

    def test_what_a_start_replays_counts_as_changed(self):
        def scene(binary):
            server = self.server(binary, save=RULES, appendonly="yes", **{"aof-use-rdb-preamble": "no"})
            client = server.client()
            client.rpush("list", *range(5))
            client.set("key", "1")
            server.kill()
            server.start()
            return server.client().info("persistence")["rdb_changes_since_last_save"]
        self.both(scene, 6)

    def test_loadaof_inside_exec(self):
        """What the transaction wrote before is not in the files yet: it is gone until they are loaded again."""
        def scene(binary):
            server = self.server(binary, appendonly="yes", appendfsync="always", **{"enable-debug-command": "yes"})
            client = server.client()
            client.set("a", "1")
            with client.pipeline(transaction=True) as transaction:
                transaction.set("b", "1").execute_command("DEBUG", "LOADAOF")
                replies = transaction.mget("a", "b").set("c", "1").execute()
            server.restart()
            return replies, server.client().mget("a", "b", "c")
        self.both(scene, ([True, b"OK", [b"1", None], True], [b"1"] * 3))

    def test_scan_by_type_looks_keys_up(self):
        def scene(binary):
            client = self.server(binary, **{"enable-debug-command": "yes", "notify-keyspace-events": "Em"}).client()
            client.execute_command("DEBUG", "SET-ACTIVE-EXPIRE", "0")
            heard = client.pubsub()
            heard.subscribe("__keyevent@0__:keymiss")
            heard.get_message(timeout=60)
            client.mset({"s1": 1, "s2": 2})
            client.rpush("l1", 1)
            seen = []
            for words in ([], ["TYPE", "list"], ["TYPE", "nosuch"], ["TYPE", "string", "MATCH", "l*"]):
                client.rpush("l2", 1)
                client.pexpire("l2", 1)
                time.sleep(0.01)
                client.config_resetstat()
                client.execute_command("SCAN", "0", *words)
                figures = client.info("stats")
                seen.append([figures[name] for name in ("keyspace_hits", "keyspace_misses", "expired_keys")])
            client.publish("__keyevent@0__:keymiss", "end")
            missed = []
            while not missed or missed[-1] != b"end":
                missed.append(heard.get_message(timeout=60)["data"])
            return seen, missed
        self.both(scene, ([[0, 0, 1], [3, 1, 1], [3, 1, 1], [1, 1, 1]], [b"l2"] * 3 + [b"end"]))


if __name__ == "__main__":
    unittest.main()
