"""kill -9 at random moments, under each appendfsync policy and in the middle of a rewrite and a save.

Each client appends numbered records to a key of its own, pipelined, and notes when each was
acknowledged. After the kill and a restart the key must hold the records 1..m without a gap and without
one twice, and

  always       m >= the last acknowledged record: nothing acknowledged is ever lost;
  everysec, no the same, but for what a stalled disk kept from the kernel: no record lost may have been
               acknowledged more than MAX_LOST_S before the kill (docs/aof.md, "What a kill loses").

On a disk that keeps a write waiting (bench/slow_disk.cc) no lost record may be older than the disk kept one
waiting. CAIRN_KILL9_ROUNDS=1000 makes the campaign long; CAIRN_KILL9_PEER=redis runs it on redis-server as well
and prints its losses beside ours (nothing is asserted of it).
"""

import collections
import os
import random
import socket
import tempfile
import threading
import time
import unittest

import redis

from cairn_server import LIB_DIR, Server

ROUNDS = int(os.environ.get("CAIRN_KILL9_ROUNDS", "5"))
PEER = os.environ.get("CAIRN_KILL9_PEER", "")
CLIENTS = 4
PIPELINE = 16
RECORD = 8            # bytes of a record: its number, zero-padded
MAX_LOST_S = 0.5      # the bound of docs/aof.md: a sync or a write of the disk, on a machine that others keep busy
WAIT_S = 60.0
SLOW_DISK = os.path.join(LIB_DIR, "slow_disk.so")
SLOW_SYNC_MS = 500    # how long a sync takes there, and holds up the writes that begin meanwhile
SLOW_SLACK_S = 0.5    # threads that wake late on a busy machine
SLOW_SAVE_US = 250    # a key
REWRITE_EVERY = 10    # rounds; else each start replays all rounds before it


class Writer(threading.Thread):
    """Appends records to one key, PIPELINE at a time, until the connection breaks."""

    def __init__(self, port, key, pause_s):
        super().__init__(daemon=True)
        self.key = key.encode()
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=WAIT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.acknowledged = 0
        self.times = collections.deque(maxlen=1_000_000)  # when record i+1 was acknowledged
        self.pause_s = pause_s
        self.error = None

    def run(self):
        sent, pending = 0, b""
        try:
            while True:
                batch = b"".join(
                    b"*3\r\n$6\r\nAPPEND\r\n$%d\r\n%s\r\n$%d\r\n%0*d\r\n"
                    % (len(self.key), self.key, RECORD, RECORD, sent + i + 1)
                    for i in range(PIPELINE))
                sent += PIPELINE
                self.socket.sendall(batch)
                while self.acknowledged < sent:
                    data = self.socket.recv(65536)
                    if not data:
                        return
                    now = time.monotonic()
                    *lines, pending = (pending + data).split(b"\r\n")
                    for line in lines:
                        if not line.startswith(b":"):
                            self.error = line
                            return
                        self.acknowledged += 1
                        self.times.append(now)
                if self.pause_s:
                    time.sleep(self.pause_s)
        except OSError:
            return  # the kill
        finally:
            self.socket.close()


class Tally:
    def __init__(self):
        self.rounds = self.rounds_with_loss = self.acknowledged = self.lost = 0
        self.oldest_ms = 0.0

    def __str__(self):
        return (f"{self.rounds} kills, {self.acknowledged} acknowledged, {self.lost} lost in "
                f"{self.rounds_with_loss} rounds, the oldest {self.oldest_ms:.1f} ms before the kill")


def rewrite(client):
    """Makes the log short again, and waits for it."""
    client.bgrewriteaof()
    deadline = time.monotonic() + WAIT_S
    while (facts := client.info("persistence"))["aof_rewrite_in_progress"] or facts["aof_rewrite_scheduled"]:
        if time.monotonic() > deadline:
            raise RuntimeError("the rewrite does not end")
        time.sleep(0.005)


def campaign(test, binary, policy, rounds, seed, bound_s, prefix=(), seconds=(0.02, 0.4)):
    """Runs the campaign. bound_s: the largest age of a lost record; 0: none may be lost; None: count.

    prefix: words before the server's command. seconds: how long a round writes, from and to.
    """
    chance = random.Random(seed)
    tally = Tally()
    settings = {"appendonly": "yes", "appendfsync": policy, "auto-aof-rewrite-percentage": "0"}
    with Server(binary, settings, prefix=prefix) as server:
        for number in range(rounds):
            where = f"{binary} {policy} round {number} seed {seed}"
            server.client().flushall()
            if number % REWRITE_EVERY == REWRITE_EVERY - 1:
                rewrite(server.client())
            writers = [Writer(server.port, f"w{i}", 0.002 if i == 0 else 0) for i in range(CLIENTS)]
            for writer in writers:
                writer.start()
            time.sleep(chance.uniform(*seconds))  # when the kill comes, not waiting for an outcome
            killed = time.monotonic()
            server.kill()
            for writer in writers:
                writer.join(WAIT_S)
                test.assertFalse(writer.is_alive(), where)
                test.assertIsNone(writer.error, where)
            server.start()
            client = server.client()
            lost_here = 0
            for writer in writers:
                text = client.get(writer.key) or b""
                count = len(text) // RECORD
                wanted = b"".join(b"%0*d" % (RECORD, i + 1) for i in range(count))
                if binary == "cairn":
                    test.assertEqual(text, wanted, f"{where}: a gap or a record twice")
                tally.acknowledged += writer.acknowledged
                if count >= writer.acknowledged:
                    continue
                lost_here += writer.acknowledged - count
                age_s = killed - writer.times[count]
                tally.oldest_ms = max(tally.oldest_ms, age_s * 1000)
                if bound_s is not None:
                    test.assertLessEqual(age_s, bound_s,
                                         f"{where}: {writer.acknowledged - count} acknowledged "
                                         f"records lost, the first {age_s * 1000:.1f} ms old")
            tally.rounds += 1
            tally.lost += lost_here
            tally.rounds_with_loss += lost_here > 0
    disk = "slow disk, " if prefix else ""
    print(f"kill -9, {binary}, {disk}appendfsync {policy}: {tally}", flush=True)
    test.assertGreater(tally.acknowledged, 0)
    return tally


class Kill9Test(unittest.TestCase):
    def run_policy(self, policy, bound_s):
        seed = random.randrange(1 << 30)
        tally = campaign(self, "cairn", policy, ROUNDS, seed, bound_s)
        if bound_s == 0:
            self.assertEqual(tally.lost, 0)
        if PEER:
            campaign(self, PEER, policy, ROUNDS, seed, None)

    def test_always_loses_nothing(self):
        self.run_policy("always", 0)

    def test_everysec_loses_nothing_that_the_kernel_could_take(self):
        self.run_policy("everysec", MAX_LOST_S)

    def test_no_loses_nothing_that_the_kernel_could_take(self):
        self.run_policy("no", MAX_LOST_S)


class Kill9OnASlowDiskTest(unittest.TestCase):
    def run_policy(self, policy):
        if not os.path.exists(SLOW_DISK):
            self.skipTest("slow_disk.so is not built")
        seed = random.randrange(1 << 30)
        with tempfile.NamedTemporaryFile() as switch:
            prefix = ["env", f"LD_PRELOAD={SLOW_DISK}", f"SLOW_DISK_SWITCH={switch.name}",
                      f"SLOW_DISK_SYNC_MS={SLOW_SYNC_MS}"]
            rounds, seconds = max(2, ROUNDS // 10), (1.0, 2.2)  # two syncs, or half of one
            campaign(self, "cairn", policy, rounds, seed, SLOW_SYNC_MS / 1000 + SLOW_SLACK_S, prefix, seconds)
            if PEER:
                campaign(self, PEER, policy, rounds, seed, None, prefix, seconds)

    def test_everysec_loses_no_more_than_the_disk_kept_waiting(self):
        self.run_policy("everysec")


class KillDuringSaveTest(unittest.TestCase):
    KEYS = 20_000    # a save takes five seconds and more, and is killed long before

    def fill(self, server):
        client = server.client()
        pipe = client.pipeline(transaction=False)
        for i in range(self.KEYS):
            pipe.set(f"k{i}", f"v{i}")
        pipe.execute()

    def check_all(self, server, extra):
        client = server.client()
        self.assertEqual(client.dbsize(), self.KEYS + (1 if extra else 0))
        pipe = client.pipeline(transaction=False)
        for i in range(0, self.KEYS, 97):
            pipe.get(f"k{i}")
        self.assertEqual(pipe.execute(), [b"v%d" % i for i in range(0, self.KEYS, 97)])
        if extra:
            self.assertGreaterEqual(int(client.get("extra")), extra)

    def wait_for(self, client, field, value):
        deadline = time.monotonic() + WAIT_S
        while client.info("persistence")[field] != value:
            self.assertLess(time.monotonic(), deadline, field)
            time.sleep(0.005)

    def test_in_the_middle_of_a_rewrite(self):
        settings = {"appendonly": "yes", "appendfsync": "always", "rdb-key-save-delay": SLOW_SAVE_US}
        with Server("cairn", settings) as server:
            self.fill(server)
            for number in range(3):
                client = server.client()
                client.bgrewriteaof()
                self.wait_for(client, "aof_rewrite_in_progress", 1)
                for i in range(200):
                    client.set("extra", 1000 * number + i)
                server.kill()
                server.start()
                self.check_all(server, 1000 * number + 199)
                left = os.listdir(os.path.join(server.directory, "appendonlydir"))
                self.assertEqual([name for name in left if name.startswith("temp-")], [])

    def test_in_the_middle_of_a_save(self):
        settings = {"appendonly": "no", "rdb-key-save-delay": SLOW_SAVE_US}
        with Server("cairn", settings) as server:
            self.fill(server)
            server.client().config_set("rdb-key-save-delay", 0)
            server.client().save()
            for _ in range(3):
                client = server.client()
                client.config_set("rdb-key-save-delay", SLOW_SAVE_US)
                client.set("extra", 1)
                client.bgsave()
                self.wait_for(client, "rdb_bgsave_in_progress", 1)
                server.kill()
                server.start()
                self.check_all(server, 0)  # the old file is in force, whole
                left = os.listdir(server.directory)
                self.assertEqual([name for name in left if name.startswith("temp-")], [])


if __name__ == "__main__":
    unittest.main()
