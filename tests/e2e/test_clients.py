"""The clients that people use, against the real server: redis-py, redis-cli, redis-benchmark.

What a single command answers is compared in tests/compat; here it is whether whole clients find what they expect.
"""

import os
import re
import subprocess
import threading
import unittest

import redis

from cairn_server import Server, wait_until

CLIENT_LIMIT_S = 60.0


class RedisPyTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.server = Server(unix=True, settings={"enable-debug-command": "yes"})
        cls.server.start()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def setUp(self):
        self.client = self.connect()
        self.client.flushall()

    def connect(self, **options):
        client = self.server.client(**options)
        self.addCleanup(client.close)
        return client

    def test_values_of_every_kind(self):
        for value, back in ((b"\x00\xff\r\n", b"\x00\xff\r\n"), ("text ä", "text ä".encode()), (7, b"7"), (1.5, b"1.5"),
                            (b"", b""), (b"x" * 3_000_000, b"x" * 3_000_000)):
            with self.subTest(value=str(value)[:20]):
                self.assertTrue(self.client.set("k", value))
                self.assertEqual(back, self.client.get("k"))

    def test_decoded_replies(self):
        client = self.connect(decode_responses=True)
        client.mset({"a": "1", "b": "ä"})
        self.assertEqual(["1", "ä", None], client.mget("a", "b", "c"))
        self.assertEqual({"maxmemory": "0"}, client.config_get("maxmemory"))
        self.assertEqual("string", client.type("a"))

    def test_a_pipeline(self):
        with self.client.pipeline(transaction=False) as pipeline:
            for i in range(5000):
                pipeline.set(f"k{i}", i)
                pipeline.incr(f"k{i}")
            replies = pipeline.execute()
        self.assertEqual([True, 1] + [True, 5000], replies[:2] + replies[-2:])
        self.assertEqual(5000, self.client.dbsize())

    def test_a_pipeline_with_an_error_in_it(self):
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.set("a", "text").incr("a").get("a")
            replies = pipeline.execute(raise_on_error=False)
        self.assertEqual(True, replies[0])
        self.assertIsInstance(replies[1], redis.ResponseError)
        self.assertEqual(b"text", replies[2])

    def test_a_transaction(self):
        with self.client.pipeline() as pipeline:
            self.assertEqual([True, 2, [b"2"]], pipeline.set("a", 1).incr("a").mget("a").execute())

    def test_a_transaction_that_somebody_disturbs(self):
        """WATCH: the optimistic increment that redis-py's manual shows, with four threads at it."""
        def increment():
            client = self.server.client()
            for _ in range(50):
                client.transaction(lambda pipe: self.add_one(pipe), "counter")
            client.close()

        threads = [threading.Thread(target=increment) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(CLIENT_LIMIT_S)
        self.assertEqual(b"200", self.client.get("counter"))

    @staticmethod
    def add_one(pipe):
        value = int(pipe.get("counter") or 0)
        pipe.multi()
        pipe.set("counter", value + 1)

    def test_a_watch_that_fails(self):
        with self.client.pipeline() as pipeline:
            pipeline.watch("a")
            self.connect().set("a", "other")
            pipeline.multi()
            pipeline.set("a", "mine")
            with self.assertRaises(redis.WatchError):
                pipeline.execute()
        self.assertEqual(b"other", self.client.get("a"))

    def test_iteration_finds_every_key_once_while_others_come_and_go(self):
        names = {f"key:{i}".encode() for i in range(3000)}
        self.client.mset({name: b"v" for name in names})
        found = []
        for at, name in enumerate(self.client.scan_iter(match="key:*", count=50)):
            found.append(name)
            self.client.set(f"new:{at}", "v")
        self.assertEqual(names, set(found))

    def test_expiry(self):
        self.client.set("a", 1, ex=1000)
        self.assertTrue(0 < self.client.ttl("a") <= 1000)
        self.client.set("b", 1, px=20)
        wait_until(lambda: self.client.get("b") is None, what="the end of b")
        self.assertTrue(self.client.persist("a"))
        self.assertEqual(-1, self.client.ttl("a"))

    def test_errors_have_their_classes(self):
        self.client.set("a", "text")
        with self.assertRaisesRegex(redis.ResponseError, "not an integer"):
            self.client.incr("a")
        with self.assertRaisesRegex(redis.ResponseError, "unknown command"):
            self.client.execute_command("NOSUCH")
        self.client.config_set("requirepass", "secret")
        try:
            with self.assertRaises(redis.AuthenticationError):
                self.connect().ping()
            with self.assertRaisesRegex(redis.RedisError, "WRONGPASS"):
                self.connect(password="wrong").ping()
            self.assertTrue(self.connect(password="secret").ping())
            self.assertTrue(self.connect(username="default", password="secret").ping())
        finally:
            self.client.config_set("requirepass", "")

    def test_a_blocking_pool(self):
        pool = redis.BlockingConnectionPool(host="127.0.0.1", port=self.server.port, max_connections=3, timeout=20)
        client, done = redis.Redis(connection_pool=pool), []

        def work():
            for _ in range(50):
                client.incr("counter")
            done.append(True)

        threads = [threading.Thread(target=work) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(CLIENT_LIMIT_S)
        self.assertEqual(10, len(done))
        self.assertEqual(b"500", self.client.get("counter"))
        self.assertLessEqual(int(self.client.info("clients")["connected_clients"]), 3 + 1)
        pool.disconnect()

    def test_the_unix_socket(self):
        client = self.connect(unix=True)
        client.set("a", "b")
        self.assertEqual(b"b", self.client.get("a"))

    def test_databases_and_names(self):
        client = self.connect(db=3, client_name="worker")
        client.set("a", 1)
        self.assertIsNone(self.client.get("a"))
        self.assertEqual("worker", client.client_getname())
        mine = [each for each in self.client.client_list() if each["name"] == "worker"]
        self.assertEqual(["3"], [each["db"] for each in mine])
        self.assertEqual({"db3": {"keys": 1, "expires": 0, "avg_ttl": 0}}, self.client.info("keyspace"))

    def test_a_killed_client_connects_again(self):
        client = self.connect()
        client.ping()
        self.client.client_kill_filter(_type="normal", skipme=True)
        self.assertTrue(client.ping())

    def test_info_is_understood(self):
        info = self.client.info("everything")
        for name in ("redis_version", "used_memory", "connected_clients", "total_commands_processed", "role", "uptime_in_seconds"):
            self.assertIn(name, info)
        self.assertEqual("7.0.15", info["redis_version"])
        self.client.get("a")
        stats = self.client.info("latencystats")["latency_percentiles_usec_get"]
        self.assertEqual({"p50", "p99", "p99.9"}, set(stats))
        self.assertTrue(all(value > 0 for value in stats.values()))
        self.assertGreaterEqual(self.client.info("commandstats")["cmdstat_get"]["calls"], 1)

    def test_the_clock_goes_on_within_a_batch(self):
        """What follows a slow command sees the time that it took."""
        with self.client.pipeline(transaction=False) as pipeline:
            pipeline.set("a", 1, px=100)
            pipeline.execute_command("DEBUG", "SLEEP", "0.2")
            pipeline.get("a")
            self.assertEqual([True, b"OK", None], pipeline.execute())

    def test_dump_and_restore(self):
        self.client.set("a", "x" * 1000, ex=1000)
        self.client.restore("b", 0, self.client.dump("a"))
        self.assertEqual(b"x" * 1000, self.client.get("b"))


class RedisCliTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.server.start()
        cls.server.client().mset({f"key:{i}": "v" * i for i in range(200)})

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def cli(self, *words, text=None, status=0):
        """Returns what redis-cli prints."""
        ended = subprocess.run(["redis-cli", "-h", "127.0.0.1", "-p", str(self.server.port), *words], input=text,
                               capture_output=True, timeout=CLIENT_LIMIT_S, check=False)
        self.assertEqual(status, ended.returncode, ended.stderr + ended.stdout)
        return ended.stdout.decode()

    def test_commands_in_a_pipe(self):
        said = self.cli(text=b"SET a 1\nINCR a\nGET a\nGET nosuch\nINCR key:5\nMULTI\nGET a\nEXEC\n")
        self.assertEqual(["OK", "2", "2", "", "ERR value is not an integer or out of range", "", "OK", "QUEUED", "2"],
                         said.splitlines())

    def test_one_command(self):
        self.assertEqual("PONG\n", self.cli("PING"))
        self.assertEqual("\"v\"\n", self.cli("--no-raw", "GET", "key:1"))
        self.assertEqual("(integer) 1\n", self.cli("--no-raw", "EXISTS", "key:1"))
        self.assertEqual("v\n", self.cli("-3", "GET", "key:1"))
        self.assertEqual("1# \"maxmemory\" => \"0\"\n", self.cli("-3", "--no-raw", "CONFIG", "GET", "maxmemory"))
        self.assertEqual("{\"maxmemory\":\"0\"}\n", self.cli("-3", "--json", "CONFIG", "GET", "maxmemory"))
        self.assertEqual("1\n", self.cli("-n", "4", "-r", "1", "INCR", "n"))
        self.cli("-n", "4", "FLUSHDB")

    def test_help_comes_from_command_docs(self):
        """redis-cli builds its help and hints from COMMAND DOCS."""
        self.assertIn("key value [NX|XX] [GET] [EX seconds|PX milliseconds|", self.cli("help", "set"))

    def test_scan(self):
        names = self.cli("--scan", "--pattern", "key:1*").split()
        self.assertEqual({f"key:{i}" for i in range(200) if str(i).startswith("1")}, set(names))
        self.assertEqual(len(names), len(set(names)))

    def test_big_keys(self):
        said = self.cli("--bigkeys")
        self.assertIn("Biggest string found", said)
        self.assertIn("'\"key:199\"' has 199 bytes", said)
        said = self.cli("--memkeys")
        self.assertRegex(said, r"Biggest string found .*key:19\d")

    def test_mass_insertion(self):
        commands = b"".join(b"*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$1\r\nx\r\n" % (len(name), name)
                            for name in (b"mass:%d" % i for i in range(20000)))
        said = self.cli("--pipe", text=commands)
        self.assertIn("errors: 0, replies: 20000", said)
        self.assertEqual(20000, sum(1 for _ in self.server.client().scan_iter("mass:*", count=1000)))
        said = self.cli("--pipe", text=b"NOSUCH a\r\nSET a 1\r\n", status=1)
        self.assertIn("errors: 1, replies: 2", said)

    def test_latency(self):
        # Without a terminal it measures for a second and prints one line of figures.
        said = self.cli("--latency", "--raw", "-i", "1")
        self.assertRegex(said, r"^\d+ \d+ \d+\.\d+ \d+\n$")

    def test_stat_and_info(self):
        self.assertIn("redis_version:7.0.15", self.cli("INFO", "server"))

    def test_save_the_dataset_elsewhere(self):
        """redis-cli --rdb is a replica for as long as one copy takes."""
        path = os.path.join(self.server.directory, "copy.rdb")
        self.server.client().set("carried", "along")
        ended = subprocess.run(["redis-cli", "-p", str(self.server.port), "--rdb", path], capture_output=True,
                               timeout=CLIENT_LIMIT_S, check=False)
        self.assertEqual(0, ended.returncode, ended.stderr)
        checked = subprocess.run(["redis-check-rdb", path], capture_output=True, timeout=CLIENT_LIMIT_S, check=False)
        self.assertEqual(0, checked.returncode, checked.stdout)
        with open(path, "rb") as file:
            self.assertIn(b"carried\x05along", file.read())

    def test_save_the_functions_elsewhere(self):
        path = os.path.join(self.server.directory, "functions.rdb")
        client = self.server.client()
        client.set("stays", "here")
        client.function_load("#!lua name=carried\nredis.register_function('f', function() return 1 end)")
        ended = subprocess.run(["redis-cli", "-p", str(self.server.port), "--functions-rdb", path], capture_output=True,
                               timeout=CLIENT_LIMIT_S, check=False)
        self.assertEqual(0, ended.returncode, ended.stderr)
        with Server("redis", {"dbfilename": "functions.rdb"}, directory=self.server.directory) as reader:
            self.assertIn("'carried'", str(reader.client().function_list()))
            self.assertEqual(0, reader.client().dbsize())


class RedisBenchmarkTest(unittest.TestCase):

    def run_benchmark(self, server, *words):
        ended = subprocess.run(["redis-benchmark", "-p", str(server.port), "-n", "2000", "-q", *words],
                               capture_output=True, timeout=CLIENT_LIMIT_S, check=False)
        said = ended.stdout.decode().replace("\r", "\n")
        self.assertEqual(0, ended.returncode, said + ended.stderr.decode())
        self.assertNotIn("rror", said.replace("ERROR: failed to fetch CONFIG", ""))
        return re.findall(r"^(\S.*?): ([\d.]+) requests per second", said, re.M)

    def test_tests_of_strings(self):
        with Server() as server:
            names = [name for name, _ in self.run_benchmark(server, "-t", "ping,set,get,incr,mset", "-r", "100")]
            for name in ("PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "MSET (10 keys)"):
                self.assertTrue(any(name in each for each in names), (name, names))
            self.assertGreater(server.client().dbsize(), 100)

    def test_pipelines_and_several_threads(self):
        with Server() as server:
            self.run_benchmark(server, "-t", "set,get", "-P", "16", "-c", "20", "--threads", "2", "-d", "1000")
            self.assertEqual(1000, len(server.client().get("key:__rand_int__")))


if __name__ == "__main__":
    unittest.main()
