"""A disk that fills while a checkpoint is pushed: the command that has no room is told, its transaction stays, everything
else goes on, and with room the same push ends. On a small tmpfs, which needs the right to mount one."""

import os
import os
import random
import shutil
import subprocess
import tempfile
import unittest

import redis

from cairn_server import TENSOR_MODULE, Server, wait_until

MIB = 1 << 20
DISK_MIB = 192
PIECE = 4 * MIB
PIECES = 64              # more than the disk holds
SETTINGS = {"loadmodule": TENSOR_MODULE, "appendonly": "yes", "auto-aof-rewrite-percentage": "0"}


def piece(number: int) -> bytes:
    return random.Random(number).randbytes(PIECE)


class DiskFull(unittest.TestCase):
    def setUp(self):
        self.directory = tempfile.mkdtemp(prefix="cairn-test-")
        self.addCleanup(shutil.rmtree, self.directory, True)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", self.directory],
                                 capture_output=True, check=False)
        if mounted.returncode != 0:
            self.skipTest("no tmpfs can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "--lazy", self.directory], check=False)

    def grow(self):
        subprocess.run(["mount", "-o", f"remount,size={PIECES * PIECE // MIB + DISK_MIB}m", self.directory], check=True)

    def push(self, call, tx, first, end=PIECES) -> int:
        """PUTs pieces from `first` on. Returns the number of the one that had no room, or `end`."""
        for number in range(first, end):
            try:
                call("CKPT.PUT", "run", tx, "RANK", 0, "w", "AT", number * PIECE, "BLOB", piece(number))
            except redis.ResponseError as error:
                self.assertIn("CKPTDISK", str(error))
                return number
        return end

    def check(self, call, step, pieces):
        self.assertEqual(call("CKPT.VERIFY", "run", step, "DEEP")[1], 1)
        for number in (0, pieces // 2, pieces - 1):
            self.assertEqual(call("CKPT.LOAD", "run", step, "w", "RANGE", number * PIECE, PIECE), piece(number))

    def begin(self, call, step, pieces):
        tx = call("CKPT.BEGIN", "run", step).decode()
        call("CKPT.DECLARE", "run", tx, "RANK", 0, 1, "w", "weights", "U8", "SHAPE", 1, pieces * PIECE)
        return tx

    def push_into_a_full_disk(self, appendfsync):
        server = Server(settings={**SETTINGS, "appendfsync": appendfsync}, directory=self.directory)
        self.addCleanup(server.close)
        server.start()
        call = server.client(socket_timeout=20).execute_command
        durable = "DISK" if appendfsync == "always" else "MEM"
        call("CKPT.CREATE", "run", "DURABLE", durable)
        tx = self.begin(call, 1, 2)
        for number in range(2):
            call("CKPT.PUT", "run", tx, "RANK", 0, "w", "AT", number * PIECE, "BLOB", piece(number))
        call("CKPT.PREPARE", "run", tx, "RANK", 0)
        call("CKPT.COMMIT", "run", tx)

        tx = self.begin(call, 2, PIECES)
        refused = self.push(call, tx, 0)
        self.assertLess(refused, PIECES, "the disk never filled")
        self.assertGreater(refused, 4)
        self.assertEqual(self.push(call, tx, refused), refused, "it has no more room than a moment ago")
        # Everything else goes on, on disk too.
        other = server.client(socket_timeout=20)
        for number in range(100):
            self.assertTrue(other.set(f"key:{number}", "v" * 10_000))
        self.assertEqual(other.info("persistence")["aof_last_write_status"], "ok")
        self.check(call, 1, 2)
        server.restart()
        call = server.client(socket_timeout=20).execute_command
        self.check(call, 1, 2)
        if appendfsync == "always":
            self.assertEqual(server.client().dbsize(), 101)

        self.grow()
        self.assertEqual(self.push(call, tx, refused), PIECES)
        call("CKPT.PREPARE", "run", tx, "RANK", 0)
        call("CKPT.COMMIT", "run", tx)
        server.restart()
        call = server.client(socket_timeout=20).execute_command
        if appendfsync == "always":
            self.check(call, "LATEST", PIECES)
        else:  # the last second may be lost, and with it the COMMIT
            latest = call("CKPT.LIST", "run")[0][1]
            self.check(call, latest, PIECES if latest == 2 else 2)

    def test_a_replica_with_little_room_takes_what_its_primary_sends(self):
        primary = Server(settings={"loadmodule": TENSOR_MODULE, "repl-diskless-sync-delay": "0"})
        self.addCleanup(primary.close)
        primary.start()
        used = os.path.join(self.directory, "used")
        with open(used, "wb") as file:
            file.write(bytes((DISK_MIB - 48) * MIB))    # 48 MiB are left: less than are kept for the append-only file
        replica = Server(settings={**SETTINGS, "appendfsync": "everysec", "replicaof": f"127.0.0.1 {primary.port}"},
                         directory=self.directory)
        self.addCleanup(replica.close)
        replica.start()
        wait_until(lambda: replica.client().info("replication")["master_link_status"] == "up", what="the link")
        call = primary.client(socket_timeout=20).execute_command
        tx = self.begin(call, 1, 2)
        for number in range(2):
            call("CKPT.PUT", "run", tx, "RANK", 0, "w", "AT", number * PIECE, "BLOB", piece(number))
        call("CKPT.PREPARE", "run", tx, "RANK", 0)
        call("CKPT.COMMIT", "run", tx)
        there = replica.client(socket_timeout=20).execute_command
        wait_until(lambda: there("EXISTS", "run") and there("CKPT.LIST", "run"), what="the version on the replica")
        self.check(there, 1, 2)

    def free(self) -> int:
        about = os.statvfs(self.directory)
        return about.f_bavail * about.f_frsize

    def test_a_save_that_has_no_room_leaves_what_there_was(self):
        """Beside a replica the append-only file has the bytes, so that the save is what brings them to the log."""
        primary = Server(settings={**SETTINGS, "appendfsync": "everysec", "save": "", "repl-diskless-sync-delay": "0"},
                         directory=self.directory)
        self.addCleanup(primary.close)
        primary.start()
        replica = Server(settings={"loadmodule": TENSOR_MODULE, "replicaof": f"127.0.0.1 {primary.port}"})
        self.addCleanup(replica.close)
        replica.start()
        wait_until(lambda: replica.client().info("replication")["master_link_status"] == "up", what="the link")
        client = primary.client(socket_timeout=20)
        call = client.execute_command
        tx = self.begin(call, 1, 5)
        self.assertEqual(self.push(call, tx, 0, 5), 5)
        call("CKPT.PREPARE", "run", tx, "RANK", 0)
        call("CKPT.COMMIT", "run", tx)
        with open(os.path.join(self.directory, "used"), "wb") as file:
            file.write(bytes(self.free() - 10 * MIB))
        client.bgsave()
        wait_until(lambda: client.info("persistence")["rdb_bgsave_in_progress"] == 0, what="the save")
        self.assertEqual(client.info("persistence")["rdb_last_bgsave_status"], "err")
        self.assertGreater(self.free(), 9 * MIB)
        self.assertIn("a save is given up", primary.log())  # and not after it has filled the disk
        for number in range(20):
            self.assertTrue(client.set(f"key:{number}", "v" * 10_000))
        self.assertEqual(client.info("persistence")["aof_last_write_status"], "ok")
        os.unlink(os.path.join(self.directory, "used"))
        primary.run_job("BGSAVE", "rdb_saves")
        primary.restart()
        self.check(primary.client(socket_timeout=20).execute_command, 1, 5)

    def test_always(self):
        self.push_into_a_full_disk("always")

    def test_everysec(self):
        self.push_into_a_full_disk("everysec")


if __name__ == "__main__":
    unittest.main()
