"""Damage in chunk logs: it costs the chunks that it hits, and nothing else: no other version, no save, no restart
(docs/checkpoints.md, "Chunk logs").
"""

import array
import os
import random
import unittest

import redis

from cairn_server import wait_until
from ckpt_log_case import AOF, CHUNK, SIZE, ChunkLogCase, tensor


class ChunkDamage(ChunkLogCase):
    def damage(self, server, needle):
        """Another bit in the segments wherever these bytes stand."""
        for path in self.segments(server):
            with open(path, "r+b") as segment:
                at = segment.read().find(needle)
                if at >= 0:
                    segment.seek(at + 10)
                    segment.write(bytes([needle[10] ^ 1]))

    def test_a_replay_that_meets_damage_loses_no_version_that_refers_to_it(self):
        server = self.start(AOF)
        call = server.client().execute_command
        blob = random.Random(8).randbytes(100_000)
        self.save_blob(server, 1, blob)
        server.run_job("BGREWRITEAOF", "aof_rewrites")
        # Its replay looks at the chunk, finds it damaged, and makes another one, which goes.
        self.save_blob(server, 1, blob, run="other")
        call("DEL", "other")
        self.refer(server, 2, blob)
        server.kill()
        self.damage(server, blob[1000:1100])
        server.start()
        self.assertEqual([row[1] for row in call("CKPT.LIST", "run")], [2, 1])
        for step in (1, 2):
            with self.assertRaisesRegex(redis.ResponseError, "CKPTDAMAGED"):
                call("CKPT.LOAD", "run", step, "w")
        self.save_blob(server, 3, blob)
        self.assertEqual(call("CKPT.LOAD", "run", 3, "w", "RANGE", 0, len(blob)), blob)

    def test_damage_is_named_and_nothing_else_is_harmed(self):
        server = self.start()
        for step in (1, 2):
            self.save(server, step)
        server.client().save()
        server.kill()
        # A chunk that only step 2 has.
        self.damage(server, tensor(2)[SIZE // 2 // CHUNK * CHUNK:][1000:1100])
        server.start()
        call = server.client().execute_command
        with self.assertRaisesRegex(redis.ResponseError, "CKPTDAMAGED"):
            call("CKPT.LOAD", "run", 2, "w")
        with self.assertRaisesRegex(redis.ResponseError, "CKPTDAMAGED"):
            call("CKPT.LOAD", "run", "LATEST", "w", "RANGE", 0, SIZE)
        self.assertEqual(call("CKPT.LOAD", "run", 2, "w", "RANGE", 0, CHUNK), tensor(2)[:CHUNK])
        self.assertEqual(call("CKPT.VERIFY", "run", 2, "DEEP")[1], 0)
        self.assertEqual(call("CKPT.LOAD", "run", 1, "w", "RANGE", 0, SIZE), tensor(1))
        with self.assertRaises(redis.ResponseError):
            call("DUMP", "run")
        # Saved anew it is whole again, and for good.
        self.save(server, 3)
        call("CKPT.DEL", "run", 2)
        self.save(server, 2)
        server.client().save()
        server.restart()
        self.check(server, [1, 2, 3])

    def test_a_log_that_the_disk_refuses_to_read_costs_those_chunks_only(self):
        """A bad sector answers the touch of a mapped page with SIGBUS; so does a file that somebody has shortened."""
        self.check_unreadable(read_before=False)

    def test_nor_does_one_that_it_refuses_to_read_again(self):
        """After its first look at a chunk the server knows its bytes, and the kernel may drop their pages."""
        self.check_unreadable(read_before=True)

    def check_unreadable(self, read_before):
        server = self.start()
        for step in (1, 2):
            self.save(server, step)
        server.client().save()
        server.restart()
        if read_before:
            self.check(server, [1, 2])
        for path in self.segments(server):
            os.truncate(path, os.path.getsize(path) // 2)
        call = server.client().execute_command
        with self.assertRaisesRegex(redis.ResponseError, "CKPTDAMAGED"):
            call("CKPT.LOAD", "run", 2, "w")
        self.assertEqual(call("CKPT.VERIFY", "run", 2, "DEEP")[1], 0)
        self.assertEqual(call("CKPT.LOAD", "run", 1, "w", "RANGE", 0, CHUNK), tensor(1)[:CHUNK])
        self.save(server, 3)
        call("CKPT.DEL", "run", 2)
        self.save(server, 2)
        for step in (2, 3):
            self.assertEqual(call("CKPT.LOAD", "run", step, "w", "RANGE", 0, SIZE), tensor(step))

    def test_what_is_lost_is_saved_as_lost_and_all_else_as_it_is(self):
        for settings, job, progress, status in (
                ({}, "BGSAVE", "rdb_bgsave_in_progress", "rdb_last_bgsave_status"),
                (AOF, "BGREWRITEAOF", "aof_rewrite_in_progress", "aof_last_bgrewrite_status")):

            def run_job(server, job=job, progress=progress, status=status):
                client = server.client()
                client.execute_command(job)
                wait_until(lambda: client.info("persistence")[progress] == 0, what=job)
                self.assertEqual(client.info("persistence")[status], "ok")

            with self.subTest(job):
                self.check_lost(self.start(settings), run_job)

    def check_lost(self, server, run_job):
        for step in (1, 2):
            self.save(server, step)
        run_job(server)
        server.kill()
        server.start()
        whole = {}
        for path in self.segments(server):
            with open(path, "rb") as segment:
                whole[path] = segment.read()
            os.truncate(path, len(whole[path]) // 2)
        server.client().set("after", "the damage")
        run_job(server)
        self.assertIn("are saved as lost", server.log())
        self.save(server, 3)
        for _ in range(2):
            run_job(server)    # the second time of what was lost at the load
            server.kill()
            server.start()
            call = server.client().execute_command
            self.assertEqual(server.client().get("after"), b"the damage")
            self.assertEqual([row[1] for row in call("CKPT.LIST", "run")], [3, 2, 1])
            self.assertEqual(call("CKPT.LOAD", "run", 2, "w", "RANGE", 0, CHUNK), tensor(2)[:CHUNK])
            self.assertEqual(call("CKPT.LOAD", "run", 3, "w", "RANGE", 0, SIZE), tensor(3))
            with self.assertRaisesRegex(redis.ResponseError, "CKPTDAMAGED"):
                call("CKPT.LOAD", "run", 2, "w")
            self.assertEqual(call("CKPT.VERIFY", "run", 2, "DEEP")[1], 0)
            call("CKPT.MANIFEST", "run", 2)
            with self.assertRaises(redis.ResponseError):
                call("DUMP", "run")
        # Put back, or saved once more, all is whole.
        server.kill()
        for path, blob in whole.items():    # what was left of them nothing needed, and it was removed
            with open(path, "wb") as segment:
                segment.write(blob)
        server.start()
        self.check(server, [1, 2, 3])
        server.kill()
        for path in whole:
            os.remove(path)
        server.start()
        for step in (1, 2):
            self.save_blob(server, 3 + step, tensor(step))
        run_job(server)
        server.kill()
        server.start()
        for step in (1, 2):
            self.check_step(server, step, tensor(step))

    def test_a_merge_reads_what_a_restart_has_mapped(self):
        server = self.start(AOF)
        call = server.client().execute_command
        count = 200_000

        def save(step):
            payload = array.array("f", (float(i % 1000 + step) for i in range(count))).tobytes()
            call("CKPT.SAVE", "run", step, 1, "w", "F32", "SHAPE", 1, count, "BLOB", payload)

        def merged():
            return call("CKPT.LOAD", "run", 7, "w", "RANGE", 0, 4 * count)

        want = array.array("f", (float(i % 1000 + 3) for i in range(count))).tobytes()
        for step in (2, 4):
            save(step)
        server.run_job("BGREWRITEAOF", "aof_rewrites")
        server.restart()
        call("CKPT.MERGE", "run", 7, 2, 2, 1, 4, 1)
        self.assertEqual(merged(), want)
        call("CKPT.TAG", "run", "best", 7, "PIN")
        server.kill()
        self.damage(server, array.array("f", [1002, 1003, 4, 5]).tobytes())    # step 2 goes up to 1001
        server.start()
        self.assertEqual(merged(), want, "a replay takes what was made, not what it was made of")
        self.assertEqual(call("CKPT.LOAD", "run", "@best", "w", "RANGE", 0, 4 * count), want)
        with self.assertRaisesRegex(redis.ResponseError, "CKPTDAMAGED"):
            call("CKPT.MERGE", "run", 8, 2, 2, 1, 4, 1)
        with self.assertRaisesRegex(redis.ResponseError, "syntax error"):
            call("CKPT.MERGE", "run", 8, 1, 2, 1, "LOGGED", 0, "BLOB", "")    # for a log alone
        self.assertEqual([row[1] for row in call("CKPT.LIST", "run")], [7, 4, 2])
        save(5)
        call("CKPT.MERGE", "run", 8, 2, 2, 1, 2, 3)


if __name__ == "__main__":
    unittest.main()
