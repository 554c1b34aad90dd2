"""IMPORT whose bytes go to a replica: a transaction over many turns (ckpt_spread_import.h), in which others are served, may
end it, and may copy the run at any point."""

import threading
import unittest

import redis

from cairn_server import Server, wait_until

SIDE = 24 << 20          # bytes of one tensor: two dozen turns
NAMES = ("a", "b", "c")
TURNS_SEEN = 5           # of an IMPORT's 72


def pattern(seed: int) -> bytes:
    """Bytes of which no two chunks are alike."""
    block = bytes((seed * 31 + i * 7) % 251 for i in range(4096))
    return b"".join(i.to_bytes(8, "little") + block[8:] for i in range(SIDE // 4096))


class SpreadImports(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.bytes = {name: pattern(i) for i, name in enumerate(NAMES)}

    def start(self, **settings):
        server = Server(settings={"repl-diskless-sync-delay": "0", "repl-backlog-size": "1mb",
                                  "client-output-buffer-limit": "replica 0 0 0",
                                  "enable-debug-command": "yes", **settings}, tensors=True)
        self.addCleanup(server.close)
        return server.start()

    def follow(self, primary):
        replica = self.start(replicaof=f"127.0.0.1 {primary.port}")
        wait_until(lambda: replica.client().info("replication").get("master_link_status") == "up", what="the link")
        return replica

    def save(self, client, run, step, *more, count=len(NAMES)):
        words = ["CKPT.SAVE", run, step, count]
        for name in NAMES[:count]:
            words += [name, "U8", "SHAPE", 1, SIDE, "BLOB", self.bytes[name]]
        return client.execute_command(*words, *more)

    def export(self, server):
        """A file "file" with all tensors, and no run."""
        client = server.client()
        self.save(client, "source", 1)
        client.execute_command("CKPT.EXPORT", "source", 1, "FORMAT", "safetensors", "TO", "file")
        client.delete("source")

    def import_file(self, server, meanwhile, done=False, timeout_ms=60000, within=False):
        """IMPORT into a fresh run, with meanwhile(tx) called when some of its bytes are in. Returns its error, or with
        `done` what it answered. On a busy machine it may be over too soon, or with `within` before meanwhile has come to
        its end: then all is tried again, and with `within` what failed as well, for its answer may have been on its way."""
        failures = 0
        for _ in range(50):
            if not server.running():
                server.start()
            server.client().delete("run")
            server.client().execute_command("CKPT.CREATE", "run", "TIMEOUT", timeout_ms)
            outcome = []
            thread = threading.Thread(target=self.send_import, args=(server.client(), outcome))
            thread.start()
            wait_until(lambda: outcome or any(t[b"received_bytes"] > 0 for t in self.open(server)), what="a piece")
            caught = [] if outcome else self.open(server)
            failed = None
            try:
                if caught:
                    meanwhile(caught[0][b"tx"])
            except (AssertionError, redis.RedisError) as error:
                failed = error
            late = within and bool(outcome)
            thread.join()
            if caught and not late and isinstance(outcome[0], dict) == done:
                if failed is None:
                    return outcome[0]
                failures += 1
                if not within or failures == 5:
                    raise failed
        self.fail("it was always over before others could see it")

    def send_import(self, client, outcome):
        try:
            reply = client.execute_command("CKPT.IMPORT", "run", 7, "FORMAT", "safetensors", "FROM", "file")
            outcome.append(dict(zip(reply[::2], reply[1::2])))
        except (redis.ResponseError, redis.ConnectionError) as error:
            outcome.append(error)

    def open(self, server, run="run"):
        try:
            reply = server.client().execute_command("CKPT.STATUS", run)
        except redis.ResponseError:
            return []
        return [dict(zip(t[::2], t[1::2])) for t in reply[reply.index(b"open") + 1]]

    def live(self, server):
        return [t[b"step"] for t in self.open(server) if t[b"state"] in (b"open", b"preparing")]

    def digest(self, server, run="run"):
        return server.client().execute_command("DEBUG", "DIGEST-VALUE", run)

    def received(self, server, run="run"):
        return sum(t[b"received_bytes"] for t in self.open(server, run))

    def wait_applied(self, primary, replica):
        sent = primary.client().info("replication")["master_repl_offset"]
        wait_until(lambda: replica.client().info("replication")["master_repl_offset"] >= sent, what="the stream")

    def assert_same(self, primary, replica, run="run"):
        self.wait_applied(primary, replica)
        self.assertEqual(self.digest(primary, run), self.digest(replica, run))

    def assert_whole(self, server, step, run="run"):
        client = server.client()
        reply = client.execute_command("CKPT.VERIFY", run, step, "DEEP")
        self.assertEqual(dict(zip(reply[::2], reply[1::2]))[b"bad"], [])
        for name, data in self.bytes.items():
            self.assertEqual(client.execute_command("CKPT.LOAD", run, step, name)[-1], data)

    def test_a_replica_gets_what_was_imported_and_saved(self):
        primary = self.start()
        self.export(primary)
        replica = self.follow(primary)
        outcome = []
        self.send_import(primary.client(), outcome)
        self.assertEqual(outcome[0][b"tensors"], len(NAMES))
        self.save(primary.client(), "saved", 3, "TAG", "best", "TX", "t")
        self.save(primary.client(), "saved", 3, "TX", "t")
        for run, step in (("run", 7), ("saved", b"@best")):
            self.assert_same(primary, replica, run)
            self.assert_whole(replica, step, run)
        self.assertEqual(self.open(primary), [])

    def test_others_are_served_between_its_turns(self):
        primary = self.start()
        self.export(primary)
        self.follow(primary)
        other, served = primary.client(), 0
        for _ in range(50):   # a machine that is busy hides it for a while
            outcome, served = [], 0
            thread = threading.Thread(target=self.send_import, args=(primary.client(), outcome))
            thread.start()
            while not outcome:
                began = any(t[b"received_bytes"] > 0 for t in self.open(primary))
                served += 1 if began and other.ping() else 0
            thread.join()
            if served > TURNS_SEEN:
                break
            other.delete("run")
        self.assertGreater(served, TURNS_SEEN)

    def test_others_may_end_it(self):
        primary = self.start()
        self.export(primary)
        replica = self.follow(primary)
        client = primary.client()
        ends = {
            "CKPTABORTED": lambda tx: client.execute_command("CKPT.ABORT", "run", tx),
            "CKPTFENCED": lambda tx: client.execute_command("CKPT.BEGIN", "run", 8, "ATTEMPT", 1),
            "no such run": lambda tx: client.delete("run"),
        }
        for word, end in ends.items():
            with self.subTest(word):
                self.assertRegex(str(self.import_file(primary, end)), "^" + word)
                self.wait_applied(primary, replica)
                left = [8] if word == "CKPTFENCED" else []
                self.assertEqual((self.live(primary), self.live(replica)), (left, left))

    def test_who_comes_to_it_midway_has_all_of_it(self):
        primary = self.start()
        self.export(primary)
        first = self.follow(primary)
        replicas = [first]
        # By full copies, of some point within.
        self.import_file(primary, lambda _: replicas.append(self.follow(primary)), done=True)
        for replica in replicas:
            self.assert_same(primary, replica)
            self.assert_whole(replica, 7)

    def test_a_kill_leaves_it_open_and_the_file_says_so(self):
        primary = self.start(appendonly="yes", appendfsync="always")
        self.export(primary)
        replica = self.follow(primary)
        self.import_file(primary, lambda _: primary.kill(), timeout_ms=600)
        replica.close()
        primary.start()
        client = primary.client()
        self.assertEqual(client.execute_command("CKPT.LIST", "run"), [])
        self.assertEqual([t[b"step"] for t in self.open(primary)], [7])
        # It is in nobody's way.
        tx = client.execute_command("CKPT.BEGIN", "run", 7, "RANK", 0, "WORLD", 2)
        client.execute_command("CKPT.ABORT", "run", tx)
        wait_until(lambda: all(t[b"state"] == b"expired" for t in self.open(primary)), what="its TIMEOUT")
        client.execute_command("CKPT.IMPORT", "run", 7, "FORMAT", "safetensors", "FROM", "file")
        self.assert_whole(primary, 7)

    def test_a_client_that_goes_leaves_it_to_its_timeout(self):
        primary = self.start()
        self.export(primary)
        self.follow(primary)
        client = primary.client()

        def kill_it(_):
            for other in client.client_list():
                if other["cmd"] == "ckpt.import":
                    client.client_kill_filter(_id=other["id"])

        self.import_file(primary, kill_it, timeout_ms=400)
        wait_until(lambda: all(t[b"state"] == b"expired" for t in self.open(primary)), what="its TIMEOUT")
        self.assertEqual(client.execute_command("CKPT.LIST", "run"), [])

    def test_others_may_not_touch_it(self):
        primary = self.start()
        self.export(primary)
        replica = self.follow(primary)
        call = primary.client().execute_command
        answers = {}

        def touch(tx):
            answers.clear()
            tx = tx.decode()
            self.assertTrue(tx.startswith("import-"))
            for words in (f"DECLARE run {tx} RANK 0 1 more weights U8 SHAPE 1 1", f"PUT run {tx} RANK 0 a AT 0 BLOB x",
                          f"PREPARE run {tx} RANK 0", f"COMMIT run {tx}", f"STATE run {tx} RANK 0 s KIND user BLOB x"):
                try:
                    call(*("CKPT." + words).split())
                except redis.ResponseError as error:
                    answers[words.split()[0]] = str(error).split()[0]
            answers["RESUME"] = call("CKPT.RESUME", "run", "RANK", 0)
            answers["BEGIN"] = call("CKPT.BEGIN", "run", 7, "RANK", 0, "WORLD", 2) != tx.encode()
            call("COPY", "run", "copy")

        self.import_file(primary, touch, done=True, within=True)
        busy = dict.fromkeys(("DECLARE", "PUT", "PREPARE", "COMMIT", "STATE"), "CKPTBUSY")
        self.assertEqual(answers, {**busy, "RESUME": [], "BEGIN": True})
        for run in ("run", "copy"):
            self.assert_same(primary, replica, run)
        self.assert_whole(replica, 7)

    def test_an_older_state_of_it_is_not_gone_on_with(self):
        primary = self.start()
        self.export(primary)
        replica = self.follow(primary)
        client = primary.client()

        def put_back(_):
            with client.pipeline(transaction=True) as pipeline:
                pipeline.copy("run", "older")
                pipeline.execute()
            wait_until(lambda: not self.open(primary) or self.received(primary) > self.received(primary, "older"),
                       what="more of it")
            client.rename("older", "run")

        error = str(self.import_file(primary, put_back))
        self.assertRegex(error, "^CKPTINCOMPLETE rank 0 lacks bytes")
        self.wait_applied(primary, replica)
        self.assertEqual((self.live(primary), self.live(replica)), ([], []))

    def test_its_names_are_nobody_elses(self):
        with self.assertRaisesRegex(redis.ResponseError, "^names that begin with 'import-' are IMPORT's$"):
            self.start().client().execute_command("CKPT.BEGIN", "run", 7, "TX", "import-7")

    def test_a_failover_leaves_it_to_the_new_primary(self):
        primary = self.start()
        self.export(primary)
        replica = self.follow(primary)
        client = primary.client()

        def fail_over(_):
            client.client_pause(10_000, all=False)    # if it has not ended by now it stays so; else all is tried again
            if self.open(primary):
                client.execute_command("FAILOVER")
            else:
                client.client_unpause()

        error = self.import_file(primary, fail_over)
        self.assertIsInstance(error, redis.ResponseError)
        wait_until(lambda: replica.client().info("replication")["role"] == "master", what="the failover")
        wait_until(lambda: primary.client().info("replication").get("master_link_status") == "up", what="the link")
        call = replica.client().execute_command
        tx = self.open(replica)[0][b"tx"]
        with self.assertRaisesRegex(redis.ResponseError, "^CKPTBUSY"):
            call("CKPT.PUT", "run", tx, "RANK", 0, "a", "AT", 0, "BLOB", "x")
        # The step is free, and who saves it is followed.
        self.save(replica.client(), "run", 7)
        call("CKPT.ABORT", "run", tx)
        self.wait_applied(replica, primary)
        self.assertEqual(self.live(primary), [])
        self.assert_whole(primary, 7)
        self.assertNotIn("CRITICAL", primary.log())

    def test_what_cannot_be_committed_is_refused_before_it_begins(self):
        primary = self.start()
        self.export(primary)
        self.follow(primary)
        client = primary.client()
        self.save(client, "run", 7, "TAG", "x", count=1)
        client.execute_command("CKPT.TAG", "run", "y", 7, "PIN")
        outcome = []
        self.send_import(client, outcome)
        self.assertRegex(str(outcome[0]), "^CKPTBUSY the version of step 7 is pinned")
        client.delete("run")
        client.execute_command("CKPT.CREATE", "run", "MAXCONCURRENT", 64)
        for step in range(64):
            client.execute_command("CKPT.BEGIN", "run", step)
        self.send_import(client, outcome)
        self.assertRegex(str(outcome[1]), "^CKPTBUSY 64 transactions of this run are open")
        self.assertEqual(len(self.open(primary)), 64)


if __name__ == "__main__":
    unittest.main()
