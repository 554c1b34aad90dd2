"""Function libraries in files that CairnKV and redis-server 7.0.15 write and read, and functions that run too long."""

import os
import shutil
import threading
import unittest

import redis

from cairn_server import Server, wait_until

SOURCES = [
    "#!lua name=counting\nlocal step = 2\nredis.register_function('more', function(keys) return redis.call('incrby', keys[1], step) end)",
    "#!lua name=reading\nredis.register_function{function_name='look', callback=function(keys) return redis.call('get', keys[1]) end, "
    "flags={'no-writes'}, description='reads a key'}\n-- " + "x" * 3000,
]
PAIRS = [("cairn", "redis"), ("redis", "cairn"), ("cairn", "cairn")]


def load(client):
    for source in SOURCES:
        client.execute_command("FUNCTION", "LOAD", source)
    client.set("n", 5)


def listed(client):
    """FUNCTION LIST WITHCODE as a set of texts: the order is each server's own."""
    return sorted(repr([library[1], library[7], sorted(map(repr, library[5]))])
                  for library in client.execute_command("FUNCTION", "LIST", "WITHCODE"))


class FunctionFilesTest(unittest.TestCase):
    def check(self, client, expected, value):
        self.assertEqual(expected, listed(client))
        self.assertEqual(value + 2, client.execute_command("FCALL", "more", 1, "n"))
        self.assertEqual(b"%d" % (value + 2), client.execute_command("FCALL_RO", "look", 1, "n"))

    def hand_over(self, here, there, settings, write):
        with Server(here, settings) as source:
            client = source.client()
            load(client)
            expected = listed(client)
            write(client)
            source.stop()
            with Server(there, settings) as target:
                target.stop()
                for name in ("dump.rdb", "appendonlydir"):
                    path = os.path.join(source.directory, name)
                    copy = os.path.join(target.directory, name)
                    if os.path.isdir(path):
                        shutil.rmtree(copy, ignore_errors=True)
                        shutil.copytree(path, copy)
                    elif os.path.exists(path):
                        shutil.copy(path, copy)
                target.start()
                self.check(target.client(), expected, 5)

    def test_in_a_dump(self):
        for here, there in PAIRS:
            with self.subTest(f"{here} to {there}"):
                self.hand_over(here, there, {}, lambda client: client.save())

    def test_in_the_log_as_loaded(self):
        for here, there in PAIRS:
            with self.subTest(f"{here} to {there}"):
                self.hand_over(here, there, {"appendonly": "yes"}, lambda client: None)

    def test_in_a_rewritten_log_of_either_form(self):
        def rewrite(client):
            client.bgrewriteaof()
            wait_until(lambda: not client.info("persistence")["aof_rewrite_in_progress"])

        for preamble in ("yes", "no"):
            for here, there in PAIRS:
                with self.subTest(f"{here} to {there}, preamble {preamble}"):
                    self.hand_over(here, there, {"appendonly": "yes", "aof-use-rdb-preamble": preamble}, rewrite)

    def test_payloads_of_function_dump(self):
        for here, there in PAIRS:
            with self.subTest(f"{here} to {there}"), Server(here) as source, Server(there) as target:
                load(source.client())
                payload = source.client().execute_command("FUNCTION", "DUMP")
                target.client().set("n", 1)
                target.client().execute_command("FUNCTION", "RESTORE", payload)
                self.check(target.client(), listed(source.client()), 1)
                if here == there:
                    self.assertEqual(payload, target.client().execute_command("FUNCTION", "DUMP"))

    def test_debug_reload(self):
        with Server("cairn", {"enable-debug-command": "yes"}) as server:
            client = server.client()
            load(client)
            expected = listed(client)
            client.execute_command("DEBUG", "RELOAD")
            self.check(client, expected, 5)

    def test_after_a_kill(self):
        """What was answered is in the log."""
        with Server("cairn", {"appendonly": "yes", "appendfsync": "always"}) as server:
            load(server.client())
            expected = listed(server.client())
            server.kill()
            server.start()
            self.check(server.client(), expected, 5)


class LongFunctionTest(unittest.TestCase):
    SOURCE = ("#!lua name=long\nredis.register_function('spin', function() while true do end end)\n"
              "redis.register_function('writes', function(keys) redis.call('set', keys[1], 1) while true do end end)")

    def test_kill_and_stats(self):
        for name in ("cairn", "redis"):
            with self.subTest(name), Server(name, {"busy-reply-threshold": "50"}) as server:
                control = server.client()
                control.execute_command("FUNCTION", "LOAD", self.SOURCE)
                said = []

                def spin():
                    try:
                        redis.Redis(port=server.port).execute_command("FCALL", "spin", 1, "key", "arg")
                    except redis.RedisError as error:
                        said.append(str(error))
                thread = threading.Thread(target=spin)
                thread.start()

                def is_busy():
                    try:
                        control.ping()
                    except redis.RedisError as error:
                        return "FUNCTION KILL" in str(error)
                    return False
                wait_until(is_busy)
                stats = control.execute_command("FUNCTION", "STATS")
                running = stats[1]
                self.assertEqual([b"name", b"spin", b"command", [b"FCALL", b"spin", b"1", b"key", b"arg"]], running[:4])
                self.assertGreaterEqual(running[5], 50)
                with self.assertRaisesRegex(redis.RedisError, "FUNCTION KILL"):
                    control.execute_command("SCRIPT", "KILL")
                self.assertEqual(b"OK", control.execute_command("FUNCTION", "KILL"))
                thread.join()
                self.assertIn("killed by user", said[0])
                self.assertIsNone(control.execute_command("FUNCTION", "STATS")[1])


if __name__ == "__main__":
    unittest.main()
