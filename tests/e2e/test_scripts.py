"""Scripts against the real server: clients' own uses of them (redis-py's Lock, register_script, pipelines), and what happens
while one runs too long."""

import glob
import os
import signal
import threading
import time
import unittest

import redis

from cairn_server import Server

LIMIT_S = 60.0


def until(condition, what):
    deadline = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true")
        time.sleep(0.005)


class ScriptsTest(unittest.TestCase):

    def setUp(self):
        self.server = Server(settings={"busy-reply-threshold": "100", "appendonly": "yes"})
        self.server.__enter__()
        self.addCleanup(self.server.__exit__, None, None, None)
        self.client = self.connect()

    def connect(self):
        client = redis.Redis(port=self.server.port, decode_responses=True, socket_timeout=LIMIT_S)
        self.addCleanup(client.connection_pool.disconnect)
        return client

    def run_apart(self, *words):
        """Starts a command on a connection of its own; [] gets its reply or error once it is there."""
        client, said = self.connect(), []

        def run():
            try:
                said.append(client.execute_command(*words))
            except redis.RedisError as error:
                said.append(error)
        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join)
        return said

    def is_busy(self):
        try:
            return self.client.ping() is None
        except redis.exceptions.BusyLoadingError:
            raise
        except redis.ResponseError as error:
            return str(error).startswith("BUSY")

    def test_lock(self):
        inside, turns = [], []

        def work(number):
            client = self.connect()
            with client.lock("door", timeout=30, blocking_timeout=LIMIT_S, sleep=0.002):
                inside.append(number)
                self.assertEqual([number], inside)
                turns.append(number)
                inside.remove(number)
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(list(range(8)), sorted(turns))
        lock = self.client.lock("x", timeout=10)
        self.assertTrue(lock.acquire())
        self.assertTrue(lock.extend(100))
        self.assertGreater(self.client.ttl("x"), 100)
        self.assertTrue(lock.reacquire())
        self.client.set("x", "another's")
        with self.assertRaises(redis.exceptions.LockError):
            lock.release()

    def test_registered_scripts_and_pipelines(self):
        multiply = self.client.register_script("return redis.call('get', KEYS[1]) * ARGV[1]")
        self.client.set("number", 6)
        self.assertEqual(42, multiply(keys=["number"], args=[7]))
        self.client.script_flush()
        self.assertEqual(42, multiply(keys=["number"], args=[7]))  # loads it again after NOSCRIPT
        with self.client.pipeline() as pipe:
            pipe.set("number", 5)
            multiply(keys=["number"], args=[3], client=pipe)
            pipe.eval("return {KEYS[1], ARGV[1]}", 1, "k", "a")
            self.assertEqual([True, 15, ["k", "a"]], pipe.execute())

    def test_a_script_too_long_is_killed(self):
        said = self.run_apart("EVAL", "while true do end", "0")
        until(self.is_busy, "BUSY")
        with self.assertRaisesRegex(redis.ResponseError, "BUSY.*SCRIPT KILL"):
            self.client.get("x")
        with self.assertRaisesRegex(redis.ResponseError, "BUSY"):
            self.client.execute_command("SHUTDOWN")
        fresh = self.connect()
        self.assertTrue(fresh.script_kill())
        until(lambda: said, "the end of the script")
        self.assertRegex(str(said[0]), "Script killed by user with SCRIPT KILL\\.\\.\\. script:")
        self.assertTrue(self.client.ping())
        self.assertRaisesRegex(redis.ResponseError, "No scripts in execution", self.client.script_kill)

    def test_kill_sent_with_the_script(self):
        # Both may be read in one turn of the loop.
        for _ in range(5):
            said = self.run_apart("EVAL", "while true do pcall(function() while true do end end) end", "0")
            killer = self.connect()

            def killed():
                try:
                    return killer.script_kill()
                except redis.ResponseError as error:
                    self.assertRegex(str(error), "No scripts in execution|BUSY")
                    return False
            until(killed, "a kill")
            until(lambda: said, "the end of the script")

    def test_a_pipeline_waits_behind_its_script(self):
        with self.client.pipeline(transaction=False) as pipe:
            pipe.eval("local n = 0 while n < 30000000 do n = n + 1 end return 'over'", 0)
            pipe.set("after", "1")
            pipe.get("after")
            self.assertEqual(["over", True, "1"], pipe.execute())

    def test_clients_come_and_go_meanwhile(self):
        said = self.run_apart("EVAL", "while true do end", "0")
        until(self.is_busy, "BUSY")
        for _ in range(50):
            client = self.connect()
            with self.assertRaises(redis.ResponseError):
                client.get("x")
            client.connection_pool.disconnect()
        self.client.script_kill()
        until(lambda: said, "the end of the script")
        until(lambda: len(self.client.client_list()) < 40, "closed connections")

    def test_replies_to_writes_ahead_of_it_leave_behind_it(self):
        # Whoever ran the script is gone by then, so that nobody else looks how far the log has come.
        with self.server.raw(timeout_s=LIMIT_S) as writer, self.server.raw() as runner:
            os.kill(self.server.pid, signal.SIGSTOP)
            writer.sendall(b"SET before 1\r\n")
            runner.sendall(b'EVAL "while true do end" 0\r\n')
            os.kill(self.server.pid, signal.SIGCONT)
            until(self.is_busy, "BUSY")
            runner.close()
            self.client.script_kill()
            self.assertEqual(b"+OK\r\n", writer.recv(64))
            writer.sendall(b"PING\r\n")
            self.assertEqual(b"+PONG\r\n", writer.recv(64))

    def test_no_save_begins_inside_of_a_script(self):
        self.client.config_set("save", "1 1")
        self.client.set("before", "1")
        until(self.is_saved, "a save")
        saved_at = self.dump_written_at()
        # While it runs a save is due, by the rule and by whoever asks.
        said = self.run_apart("EVAL", "redis.call('set', 'first', 1) local n = 0 while n < 120000000 do n = n + 1 end redis.call('set', 'last', 1)", "0")
        until(self.is_busy, "BUSY")
        began, refused = time.monotonic(), 0
        while time.monotonic() < began + 1.5:
            written_at = self.dump_written_at()    # ahead of the question: the answer shows that the script still ran
            try:
                self.client.bgsave()
                break  # it is over already
            except redis.ResponseError as error:
                self.assertRegex(str(error), "BUSY")
            self.assertEqual(saved_at, written_at)
            refused += 1
            time.sleep(0.05)
        self.assertGreater(refused, 0)
        until(lambda: said, "the end of the script")
        until(lambda: self.dump_written_at() > saved_at, "a save")
        with open(os.path.join(self.server.directory, "dump.rdb"), "rb") as file:
            dump = file.read()
        self.assertIn(b"first", dump)
        self.assertIn(b"last", dump)

    def is_saved(self):
        figures = self.client.info("persistence")
        return figures["rdb_changes_since_last_save"] == 0 and figures["rdb_bgsave_in_progress"] == 0

    def dump_written_at(self):
        return os.stat(os.path.join(self.server.directory, "dump.rdb")).st_mtime_ns

    def test_one_that_wrote_is_not_killed_and_nosave_ends_the_server(self):
        self.client.set("before", "1")
        self.run_apart("EVAL", "redis.call('set','half','1') while true do end", "0")
        until(self.is_busy, "BUSY")
        with self.assertRaisesRegex(redis.ResponseError, "UNKILLABLE"):
            self.client.script_kill()
        with self.assertRaises(redis.ConnectionError):
            self.client.execute_command("SHUTDOWN", "NOSAVE")
        until(lambda: not self.server.running(), "the end of the server")
        log = b""
        for path in glob.glob(os.path.join(self.server.directory, "*", "*.aof")):
            with open(path, "rb") as file:
                log += file.read()
        self.assertIn(b"before", log)
        self.assertNotIn(b"half", log)

    def test_effects_are_one_transaction_in_the_log(self):
        self.client.eval("for i = 1,3 do redis.call('incr', KEYS[1]) end", 1, "counter")
        self.server.kill()
        self.server.start()
        self.assertEqual("3", self.connect().get("counter"))


if __name__ == "__main__":
    unittest.main()
