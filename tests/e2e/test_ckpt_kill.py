"""kill -9 of the server, of a rank, or of both, at random moments of a job whose ranks save checkpoints (C11): LATEST
always loads, verifies and has the bytes of its step; nothing that was acknowledged is lost; and the next attempt goes on.

CAIRN_CKPT_KILL_ROUNDS: how many kills with chunk logs and how many without (5 when not given); CAIRN_CKPT_KILL_LOGS: yes or
no, one of them alone. CAIRN_CKPT_KILL_SEED repeats a run of moments.
"""

import collections
import multiprocessing
import os
import random
import time
import unittest

import redis

import ckpt_rank
from cairn_server import TENSOR_MODULE, Server, wait_until

ROUNDS = int(os.environ.get("CAIRN_CKPT_KILL_ROUNDS", "5"))
LOGS = os.environ.get("CAIRN_CKPT_KILL_LOGS", "")
SEED = int(os.environ.get("CAIRN_CKPT_KILL_SEED", str(time.time_ns() % 1_000_000)))
FORKS = multiprocessing.get_context("fork")    # an interpreter that has all modules, in a millisecond


class CheckpointKill(unittest.TestCase):
    logs = "yes"

    def setUp(self):
        self.server = Server(settings={"appendonly": "yes", "appendfsync": "always",
                                       "loadmodule": f"{TENSOR_MODULE} chunk-logs {self.logs} codecs yes"}).start()
        self.addCleanup(self.server.close)
        self.checked = 0    # versions, each to the byte
        self.acknowledged = os.path.join(self.server.directory, "acknowledged")
        for name in (self.acknowledged, self.acknowledged + ".ends"):
            open(name, "w", encoding="ascii").close()
        self.client().execute_command("CKPT.CREATE", "run", "KEEP", 3)

    def client(self):
        return self.server.client()

    def start_ranks(self, world, attempt):
        ranks = [FORKS.Process(target=ckpt_rank.work, args=(self.server.port, "run", rank, world, attempt, self.acknowledged))
                 for rank in range(world)]
        for rank in ranks:
            rank.start()
        return ranks

    def last_acknowledged(self):
        with open(self.acknowledged, encoding="ascii") as lines:
            return max([int(line) for line in lines if line.endswith("\n")], default=0)

    def ends_of_ranks(self):
        with open(self.acknowledged + ".ends", encoding="ascii") as ends:
            return "".join(ends.readlines()[-6:])

    def check_latest(self, least):
        """Every byte of every version is that of its step."""
        call = self.client().execute_command
        rows = call("CKPT.LIST", "run")
        self.assertGreaterEqual(rows[0][1] if rows else 0, least, "an acknowledged checkpoint is lost")
        for row in rows:
            fields = dict(zip(row[::2], row[1::2]))
            step, world = fields[b"step"], fields[b"world"]
            verdict = call("CKPT.VERIFY", "run", step, "DEEP")
            self.assertEqual(verdict[1], 1, verdict)
            self.assertEqual(call("CKPT.LOAD", "run", step, "w", "RANGE", 0, 1 << 30), ckpt_rank.sharded(step))
            for rank in range(world):
                self.assertEqual(call("CKPT.LOAD", "run", step, f"own.{rank}", "RANGE", 0, 1 << 30),
                                 ckpt_rank.own(step, rank))
                state = call("CKPT.STATEGET", "run", step, "RANK", rank)
                self.assertEqual(state[0][5], str(step).encode())
            self.checked += 1
        return rows[0][1] if rows else 0

    def test_latest_loads_whoever_is_killed_and_when(self):
        if LOGS not in ("", self.logs):
            self.skipTest(f"CAIRN_CKPT_KILL_LOGS={LOGS}")
        chance = random.Random(SEED)
        print(f"CAIRN_CKPT_KILL_SEED={SEED}, chunk-logs {self.logs}")
        reached, killed = 0, collections.Counter()
        for attempt in range(1, ROUNDS + 1):
            world = chance.choice([1, 2, 3])
            ranks = self.start_ranks(world, attempt)
            # Into the middle of the work: after a commit of this attempt, then anywhere.
            try:
                wait_until(lambda: self.last_acknowledged() > reached, what="a commit of the new attempt", limit_s=120)
            except AssertionError:
                self.fail(f"no commit of attempt {attempt}, step {reached} was the last; its ranks: "
                          f"{[rank.exitcode for rank in ranks]}\n{self.ends_of_ranks()}")
            # Under a save or a rewrite, which move payloads to the chunk log and name them from there.
            job = chance.choice(["BGSAVE SCHEDULE", "BGREWRITEAOF", None])
            if job:
                try:
                    self.client().execute_command(*job.split())
                except redis.ResponseError as error:    # one that the server has begun itself will do
                    self.assertIn("already in progress", str(error))
            time.sleep(chance.random() * 0.5)
            victim = chance.choice(["server", "rank", "both"])
            killed[victim] += 1
            if victim != "server":
                chance.choice(ranks).kill()
            if victim != "rank":
                self.server.kill()
                # Whatever the next one does with chunks, it reads what this one has written.
                self.server.settings["blob-arena-reserve"] = chance.choice(["0", "200mb"])
                self.server.settings["loadmodule"] = (f"{TENSOR_MODULE} chunk-logs {chance.choice(['yes', 'no'])} "
                                                      f"codecs {chance.choice(['yes', 'yes', 'no'])}")
                self.server.start()
            else:
                # The others must not commit without it, nor hang on it: the next attempt fences them.
                self.client().execute_command("CKPT.BEGIN", "run", 1 << 40, "RANK", 0, "WORLD", 1, "ATTEMPT", attempt + 1)
            for rank in ranks:
                rank.join(60)
                if rank.is_alive():
                    rank.kill()
                    self.fail(f"a rank of attempt {attempt} hangs after the kill of {victim}")
            reached = self.check_latest(self.last_acknowledged())
        print(f"{ROUNDS} kills {dict(killed)}, chunk-logs {self.logs}, {reached} checkpoints, {self.checked} versions checked, "
              "0 wrong loads")

    def test_a_killed_rank_does_not_commit(self):
        """A rank that dies before its vote keeps the step from being visible; the survivors are told."""
        call = self.client().execute_command
        tx = call("CKPT.BEGIN", "run", 5, "RANK", 0, "WORLD", 2, "TIMEOUT", 1500)
        call("CKPT.PREPARE", "run", tx, "RANK", 0)
        began = time.monotonic()
        with self.assertRaises(redis.ResponseError) as caught:
            call("CKPT.COMMIT", "run", tx, "WAIT", 60000)
        self.assertRegex(str(caught.exception), "CKPTTIMEOUT|CKPTINCOMPLETE")
        self.assertLess(time.monotonic() - began, 30)
        self.assertEqual(call("CKPT.LIST", "run"), [])

    def test_a_client_that_dies_in_the_middle_of_a_put(self):
        call = self.client().execute_command
        tx = call("CKPT.BEGIN", "run", 5).decode()
        call("CKPT.DECLARE", "run", tx, "RANK", 0, 1, "w", "weights", "U8", "SHAPE", 1, 1_000_000)
        with self.server.raw() as plain:
            words = ["CKPT.PUT", "run", tx, "RANK", "0", "w", "AT", "0", "BLOB"]
            head = f"*{len(words) + 1}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
            plain.sendall(head.encode() + b"$1000000\r\n" + b"x" * 500_000)
        reply = call("CKPT.OFFSET", "run", tx, "RANK", 0, "w")
        self.assertEqual(reply[5], 0)
        self.assertEqual(call("CKPT.PUT", "run", tx, "RANK", 0, "w", "AT", 0, "BLOB", b"y" * 1_000_000), 1_000_000)


class CheckpointKillInline(CheckpointKill):
    """The same where every byte lies in RDB files and the append-only file."""
    logs = "no"


if __name__ == "__main__":
    unittest.main()
