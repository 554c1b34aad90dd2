"""Checkpoints whose older versions are held encoded in the background (tensor_module/ckpt_encoder.h): nobody reads other
bytes, files and restarts keep the form, and damage to it is never a wrong load.
"""

import os
import random
import threading
import unittest

import redis

from cairn_server import TENSOR_MODULE, Server, wait_until

CHUNK = 256 * 1024
SIZE = 6 * CHUNK + 1000


def tensor(step: int) -> bytes:
    """Of one step: about one element (of two bytes) in two hundred is another than in the step before."""
    body = bytearray(random.Random(0).randbytes(SIZE))
    for each in range(1, step + 1):
        chance = random.Random(each)
        for _ in range(SIZE // 400):
            body[chance.randrange(SIZE)] = each
    return bytes(body)


TENSORS = {step: tensor(step) for step in range(1, 13)}


class Codecs(unittest.TestCase):
    def start(self, words="codecs yes", settings=None, logs="no", **more):
        server = Server(settings={"loadmodule": f"{TENSOR_MODULE} chunk-logs {logs} {words}", "enable-debug-command": "yes",
                                  **(settings or {})}, **more)
        self.addCleanup(server.close)
        return server.start()

    def save(self, server, step, run="run"):
        server.client().execute_command("CKPT.SAVE", run, step, 1, "w", "BF16", "SHAPE", 1, SIZE // 2, "BLOB", TENSORS[step])

    def figures(self, server):
        reply = server.client().execute_command("CKPT.CODECS")
        return dict(zip([word.decode() for word in reply[::2]], reply[1::2]))

    def settle(self, server):
        wait_until(lambda: self.figures(server)["pending"] == 0, what="the encoder")
        return self.figures(server)

    def stored(self, server, step):
        reply = server.client().execute_command("CKPT.MANIFEST", "run", step)
        return dict(zip(reply[::2], reply[1::2]))[b"stored_bytes"]

    def check(self, server, steps, run="run"):
        call = server.client().execute_command
        self.assertEqual([row[1] for row in call("CKPT.LIST", run)], sorted(steps, reverse=True))
        for step in steps:
            self.assertEqual(call("CKPT.LOAD", run, step, "w", "RANGE", 0, SIZE), TENSORS[step])
            self.assertEqual(call("CKPT.VERIFY", run, step, "DEEP")[1], 1)

    def test_older_versions_take_little_and_read_the_same(self):
        server = self.start()
        for step in (1, 2, 3):
            self.save(server, step)
        figures = self.settle(server)
        self.assertEqual(figures["state"], b"on")
        self.assertEqual(figures["delta_chunks"], 12)
        self.assertLess(self.stored(server, 1), SIZE / 30)
        self.assertEqual(self.stored(server, 3), SIZE, "LATEST is plain")
        self.assertLess(server.client().execute_command("MEMORY", "USAGE", "run"), SIZE * 5 / 4)
        self.check(server, [1, 2, 3])
        # What becomes LATEST is plain again.
        server.client().execute_command("CKPT.ROLLBACK", "run", 1)
        self.settle(server)
        self.assertEqual(self.stored(server, 1), SIZE)
        self.check(server, [1, 2, 3])

    def test_long_runs_end_chains_and_let_go(self):
        server = self.start()
        for step in range(1, 13):
            self.save(server, step)
            self.settle(server)
        self.check(server, list(range(1, 13)))
        self.assertLess(self.figures(server)["stored_bytes"], 12 * SIZE / 3)
        for step in (12, 5, 1, 9):
            server.client().execute_command("CKPT.DEL", "run", step)
            left = [row[1] for row in server.client().execute_command("CKPT.LIST", "run")]
            self.check(server, left)
        server.client().delete("run")
        wait_until(lambda: self.figures(server)["chunks"] == 0, what="the chunks to go")
        self.assertEqual(self.figures(server)["stored_bytes"], 0)

    def test_files_hold_the_encoded_form(self):
        for settings, file in (({}, "dump.rdb"), ({"appendonly": "yes"}, None)):
            with self.subTest(settings=settings):
                server = self.start(settings=settings)
                for step in (1, 2, 3, 4):
                    self.save(server, step)
                self.settle(server)
                digest = server.client().execute_command("DEBUG", "DIGEST-VALUE", "run")
                if file is None:
                    server.run_job("BGREWRITEAOF", "aof_rewrites")
                    names = os.listdir(os.path.join(server.directory, "appendonlydir"))
                    file = os.path.join("appendonlydir", next(name for name in names if ".base." in name))
                else:
                    server.client().save()
                self.assertLess(os.path.getsize(os.path.join(server.directory, file)), SIZE * 5 / 4)
                server.restart()
                self.assertEqual(self.figures(server)["delta_chunks"], 18)
                self.check(server, [1, 2, 3, 4])
                self.assertEqual(server.client().execute_command("DEBUG", "DIGEST-VALUE", "run"), digest)
                # A server that makes no such chunks reads them, and goes on.
                server.settings["loadmodule"] = f"{TENSOR_MODULE} chunk-logs no codecs no"
                server.restart()
                self.save(server, 5)
                self.check(server, [1, 2, 3, 4, 5])
                self.assertEqual(self.figures(server)["state"], b"off")
                self.assertEqual(self.figures(server)["delta_chunks"], 18)

    def test_dump_and_replicas_carry_plain_bytes(self):
        server = self.start()
        for step in (1, 2):
            self.save(server, step)
        before = server.client().dump("run")
        self.settle(server)
        self.assertEqual(server.client().dump("run"), before)
        other = self.start("codecs no")
        other.client().restore("run", 0, before)
        self.check(other, [1, 2])
        self.assertEqual(self.figures(other)["encoded_chunks"], 0)
        replica = self.start(settings={"replicaof": f"127.0.0.1 {server.port}"})
        wait_until(lambda: replica.client().info("replication")["master_link_status"] == "up", what="the link")
        self.check(replica, [1, 2])
        wait_until(lambda: self.figures(replica)["delta_chunks"] == 6, what="the replica's own encoder")
        self.save(server, 3)
        wait_until(lambda: replica.client().execute_command("CKPT.LIST", "run", "LIMIT", 1)[0][1] == 3, what="version 3")
        self.check(replica, [1, 2, 3])

    def test_with_chunk_logs(self):
        server = self.start("codec-level 3", logs="yes")
        for step in (1, 2, 3):
            self.save(server, step)
        self.settle(server)
        server.client().save()
        server.restart()
        self.check(server, [1, 2, 3])
        self.save(server, 4)
        self.settle(server)
        server.client().save()
        server.restart()
        self.check(server, [1, 2, 3, 4])

    def test_readers_while_it_works(self):
        server = self.start()
        failed = []

        def read():
            call, chance = server.client().execute_command, random.Random(threading.get_ident())
            while not done.is_set():
                step = chance.randint(1, newest[0])
                if call("CKPT.LOAD", "run", step, "w", "RANGE", 0, SIZE) != TENSORS[step]:
                    failed.append(step)

        done, newest = threading.Event(), [1]
        self.save(server, 1)
        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for step in range(2, 13):
                self.save(server, step)
                newest[0] = step
                if step % 3 == 0:
                    self.settle(server)
        finally:
            done.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failed, [])

    def test_damage_in_a_file_is_no_wrong_load(self):
        server = self.start(settings={"rdbchecksum": "no"})
        for step in (1, 2, 3):
            self.save(server, step)
        self.settle(server)
        server.client().save()
        server.stop()
        path = os.path.join(server.directory, "dump.rdb")
        with open(path, "rb") as file:
            good = file.read()
        chance, refused = random.Random(5), 0
        for _ in range(12):
            at = chance.randrange(len(good))
            bad = bytearray(good)
            bad[at] ^= 1 << chance.randrange(8)
            with open(path, "wb") as file:
                file.write(bad)
            try:
                server.start()
            except Exception:  # it ends at once
                refused += 1
                self.assertRegex(server.log(), "(?i)a chunk of a checkpoint cannot be loaded|do not make one|corrupt|error")
                continue
            client = server.client()
            for row in client.execute_command("CKPT.LIST", "run") if client.exists("run") else []:
                self.assertEqual(client.execute_command("CKPT.LOAD", "run", row[1], "w", "RANGE", 0, SIZE), TENSORS[row[1]])
            server.kill()
        self.assertGreater(refused, 6)
        with open(path, "wb") as file:
            file.write(good)
        server.start()
        self.check(server, [1, 2, 3])

    def test_other_arguments_are_refused(self):
        for words in ("codecs", "codecs maybe", "codec-level 0", "codec-level 20", "codec-level x", "codecs yes codecs no",
                      "chunk-logs yes codecs", "speed 3"):
            with self.subTest(words=words):
                server = Server(settings={"loadmodule": f"{TENSOR_MODULE} {words}"})
                self.addCleanup(server.close)
                with self.assertRaises(Exception):
                    server.start()
                self.assertIn("the module takes no other arguments than", server.log())


if __name__ == "__main__":
    unittest.main()
