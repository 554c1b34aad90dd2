"""Chunk logs: RDB files and append-only bases that name chunks instead of holding them, a restart that maps them, what
happens when they are missing, shared or not wanted, and kill -9 under saves (tensor_module/chunk_log.h). Damage is in
test_ckpt_damage.py.

CAIRN_CKPT_LOG_ROUNDS: how many kills (6 when not given). CAIRN_CKPT_LOG_SEED repeats a run of moments.
"""

import json
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
import unittest

import redis

from cairn_server import LIB_DIR, TENSOR_MODULE, Server, wait_until
from ckpt_log_case import AOF, CHUNK, SIZE, ChunkLogCase, tensor

ROUNDS = int(os.environ.get("CAIRN_CKPT_LOG_ROUNDS", "6"))
SEED = int(os.environ.get("CAIRN_CKPT_LOG_SEED", str(time.time_ns() % 1_000_000)))
SMALL_BYTES = 200_000    # what a file without payloads stays below


class ChunkLogs(ChunkLogCase):
    def test_a_save_names_chunks_and_a_restart_maps_them(self):
        server = self.start()
        for step in (1, 2):
            self.save(server, step)
        server.client().save()
        self.assertLess(self.size(server, "dump.rdb"), SMALL_BYTES)
        logged = self.figures(server)["appended_bytes"]
        self.assertGreater(logged, SIZE)
        self.assertLess(logged, 2 * SIZE, "the half that both steps have is written once")
        server.restart()
        self.check(server, [1, 2])
        self.save(server, 3)
        server.client().save()
        self.assertLess(self.figures(server)["appended_bytes"], SIZE, "only what is new is written")
        server.restart()
        self.check(server, [1, 2, 3])

    def test_logs_are_on_unless_refused_and_cost_nothing_without_checkpoints(self):
        server = Server(tensors=True, settings=AOF)
        self.addCleanup(server.close)
        server.start()
        server.client().set("key", "x" * CHUNK)
        server.client().execute_command("TENSOR.SET", "t", "U8", "SHAPE", 1, SIZE, "BLOB", tensor(1))
        server.client().save()
        server.run_job("BGREWRITEAOF", "aof_rewrites")
        server.restart()
        self.assertFalse(os.path.exists(os.path.join(server.directory, "chunklogs")))
        self.save(server, 1)
        self.assertEqual(self.figures(server)["appended_bytes"], SIZE - SIZE % CHUNK)
        self.assertLess(self.increments(server), SMALL_BYTES)

    def test_an_append_only_base_names_chunks(self):
        server = self.start(AOF)
        self.save(server, 1)
        server.run_job("BGREWRITEAOF", "aof_rewrites")
        self.save(server, 2)
        sizes = [self.size(server, os.path.join("appendonlydir", name))
                 for name in os.listdir(os.path.join(server.directory, "appendonlydir")) if ".base." in name]
        self.assertLess(max(sizes), SMALL_BYTES)
        server.restart()
        self.check(server, [1, 2])

    def test_increments_name_what_every_command_brings(self):
        server = self.start(AOF)
        call = server.client().execute_command
        self.save(server, 1)
        # PUTs on and off the grid, a REF of another tensor's chunk, a large state, and a part that stays open.
        tx = call("CKPT.BEGIN", "run", 2, "RANK", 0, "WORLD", 1)
        call("CKPT.DECLARE", "run", tx, "RANK", 0, 2, "w", "weights", "U8", "SHAPE", 1, SIZE, "v", "weights", "U8",
             "SHAPE", 1, CHUNK)
        blob = tensor(2)
        for begin, end in ((0, 3 * CHUNK), (3 * CHUNK, 3 * CHUNK + 77), (3 * CHUNK + 77, 6 * CHUNK + 5),
                           (6 * CHUNK + 5, SIZE)):
            call("CKPT.PUT", "run", tx, "RANK", 0, "w", "AT", begin, "BLOB", blob[begin:end])
        call("CKPT.REF", "run", tx, "RANK", 0, "v", "AT", 0, 1, self.hash(server, tx, blob[-1000 - CHUNK:-1000]))
        state = random.Random(99).randbytes(2 * CHUNK + 5000)
        call("CKPT.STATE", "run", tx, "RANK", 0, "s", "KIND", "optim", "BLOB", state)
        call("CKPT.PREPARE", "run", tx, "RANK", 0)
        call("CKPT.COMMIT", "run", tx)
        open_tx = call("CKPT.BEGIN", "run", 3, "RANK", 0, "WORLD", 1)
        call("CKPT.DECLARE", "run", open_tx, "RANK", 0, 1, "w", "weights", "U8", "SHAPE", 1, SIZE)
        call("CKPT.PUT", "run", open_tx, "RANK", 0, "w", "AT", 0, "BLOB", tensor(3)[:7 * CHUNK])
        self.assertLess(self.increments(server), 4 * CHUNK, "bytes that the log has")
        self.assertLess(self.figures(server)["appended_bytes"], 3 * SIZE + 4 * CHUNK)
        for round_ in range(3):
            if round_ == 1:
                server.run_job("BGREWRITEAOF", "aof_rewrites")    # with a transaction open
            server.kill()
            server.start()
            self.check_step(server, 1, tensor(1))
            self.check_step(server, 2, blob)
            self.assertEqual(call("CKPT.LOAD", "run", 2, "v", "RANGE", 0, CHUNK), blob[-1000 - CHUNK:-1000])
            self.assertEqual(call("CKPT.STATEGET", "run", 2, "RANK", 0)[0][5], state)
            self.assertEqual(call("CKPT.OFFSET", "run", open_tx, "RANK", 0, "w")[5], 7 * CHUNK)
        call("CKPT.PUT", "run", open_tx, "RANK", 0, "w", "AT", 7 * CHUNK, "BLOB", tensor(3)[7 * CHUNK:])
        call("CKPT.PREPARE", "run", open_tx, "RANK", 0)
        call("CKPT.COMMIT", "run", open_tx)
        server.kill()
        server.start()
        self.check_step(server, 3, tensor(3))
        open_tx = call("CKPT.BEGIN", "run", 4, "RANK", 0, "WORLD", 1)
        with self.assertRaisesRegex(redis.ResponseError, "syntax error"):
            call("CKPT.STATE", "run", open_tx, "RANK", 0, "s", "KIND", "optim", "LOGGED", 1, "0" * 32, "BLOB", b"")

    def test_what_one_command_brings_is_synced_at_once(self):
        """With a sync a tensor, an IMPORT of a model would wait for the disk hundreds of times."""
        server = self.start({"appendonly": "yes", "appendfsync": "everysec"})
        call = server.client().execute_command
        count = 100
        blobs = [random.Random(number).randbytes(8192) for number in range(count)]
        header = json.dumps({f"w{number}": {"dtype": "U8", "shape": [8192], "data_offsets": [number * 8192, (number + 1) * 8192]}
                             for number in range(count)}).encode()
        with open(os.path.join(server.directory, "in.safetensors"), "wb") as file:
            file.write(len(header).to_bytes(8, "little") + header + b"".join(blobs))
        call("CKPT.IMPORT", "run", 1, "FORMAT", "safetensors", "FROM", "in.safetensors")
        self.assertEqual(self.figures(server)["appended_bytes"], count * 8192)
        saved = [word for number, blob in enumerate(blobs)
                 for word in (f"w{number}", "U8", "SHAPE", 1, 8192, "BLOB", bytes(reversed(blob)))]
        call("CKPT.SAVE", "run", 2, count, *saved)
        self.assertEqual(self.figures(server)["appended_bytes"], 2 * count * 8192)
        self.assertLess(self.figures(server)["syncs"], count // 4)    # some are the clock's
        server.restart()
        call = server.client().execute_command
        for number in (0, count - 1):
            self.assertEqual(call("CKPT.LOAD", "run", 1, f"w{number}", "RANGE", 0, 8192), blobs[number])
            self.assertEqual(call("CKPT.LOAD", "run", 2, f"w{number}", "RANGE", 0, 8192), bytes(reversed(blobs[number])))

    def test_an_increment_without_its_chunk_is_refused(self):
        server = self.start(AOF)
        self.save(server, 1)
        self.save(server, 2)
        server.client().set("after", "the checkpoints")
        server.kill()
        logs = os.path.join(server.directory, "chunklogs")
        before = self.increments(server)
        os.rename(logs, logs + ".away")
        with self.assertRaises(RuntimeError):
            server.start()
        self.assertIn("that the append-only file names", server.log())
        self.assertEqual(self.increments(server), before, "nothing is cut off")
        os.rename(logs + ".away", logs)
        server.start()
        self.check(server, [1, 2])
        self.assertEqual(server.client().get("after"), b"the checkpoints")

    def test_a_replay_finds_what_was_referred_to_beside_an_upload_that_was_given_up(self):
        server = self.start(AOF)
        call = server.client().execute_command
        blob = random.Random(7).randbytes(100_000)
        self.save_blob(server, 1, blob)
        tx = self.declare(server, 2, len(blob))
        call("CKPT.PUT", "run", tx, "RANK", 0, "w", "AT", 0, "BLOB", blob)    # logged as a name, where SAVE has bytes
        call("CKPT.ABORT", "run", tx)
        self.refer(server, 3, blob)
        server.kill()
        server.start()
        self.assertEqual([row[1] for row in call("CKPT.LIST", "run")], [3, 1])
        self.assertEqual(call("CKPT.LOAD", "run", 3, "w", "RANGE", 0, len(blob)), blob)
        self.hash(server, self.declare(server, 4, len(blob)), blob)    # asks HAVE

    def test_a_replay_ends_at_what_cannot_be_done_again(self):
        """A version, or what builds on it, would be gone without a word."""
        server = self.start({**AOF, "aof-checksum": "no"})
        tx = self.declare(server, 1, 5000).decode()
        server.kill()
        directory = os.path.join(server.directory, "appendonlydir")
        name, = [each for each in os.listdir(directory) if ".incr." in each]
        path = os.path.join(directory, name)
        with open(path, "rb") as file:
            log = file.read()
        for line, why in (
                (f"CKPT.REF run {tx} RANK 0 w AT 0 1 {'ab' * 16}", "the append-only file refers to it"),
                ("CKPT.DECLARE run none RANK 0 1 w g U8 SHAPE 0", "CKPT.DECLARE of key 'run'"),
                (f"CKPT.COMMIT run {tx}", "CKPTINCOMPLETE"), ("CKPT.MERGE run 3 1 2 1", "no version of step 2"),
                ("CKPT.TAG run t 9", "no version of step 9"), ("CKPT.PREPARE none t RANK 0", "no such run"),
                ("TENSOR.CAST none to F16", "ERR no such key (TENSOR.CAST of key 'none')")):
            words = line.split()
            with open(path, "wb") as file:
                file.write(log + f"*{len(words)}\r\n".encode() + b"".join(f"${len(w)}\r\n{w}\r\n".encode() for w in words))
            with self.subTest(line), self.assertRaises(RuntimeError):
                server.start()
            self.assertIn(why, server.log())

    def test_increments_that_replicas_read_carry_the_bytes(self):
        server = self.start(AOF)
        self.save(server, 1)
        self.assertLess(self.increments(server), SMALL_BYTES)
        replica = self.start({"replicaof": f"127.0.0.1 {server.port}", **AOF})
        wait_until(lambda: replica.client().info("replication")["master_link_status"] == "up", what="the link")
        self.save(server, 2)
        self.assertGreater(self.increments(server), SIZE)
        wait_until(lambda: len(replica.client().execute_command("CKPT.LIST", "run")) == 2, what="the second step")
        self.check(replica, [1, 2])
        wait_until(lambda: replica.client().info("persistence")["aof_rewrite_in_progress"] == 0, what="its base")
        self.save(server, 3)
        wait_until(lambda: len(replica.client().execute_command("CKPT.LIST", "run")) == 3, what="the third step")
        self.assertLess(self.increments(replica), SMALL_BYTES, "its own file names what its own log has")
        replica.client().execute_command("REPLICAOF", "NO", "ONE")
        for other in (server, replica):
            other.kill()
            other.settings.pop("replicaof", None)
            other.start()
            self.check(other, [1, 2, 3])

    def test_increments_under_each_policy(self):
        for policy in ("everysec", "no"):
            server = self.start({"appendonly": "yes", "appendfsync": policy})
            for step in range(1, 5):
                self.save(server, step)
            server.kill()    # what was answered is the kernel's
            server.start()
            self.check(server, [1, 2, 3, 4])
            self.assertLess(self.increments(server), SMALL_BYTES)

    def test_a_log_that_cannot_be_written_puts_the_bytes_into_the_increments(self):
        server = self.start(AOF)
        server.kill()
        with open(os.path.join(server.directory, "chunklogs"), "wb"):
            pass
        server.start()
        self.save(server, 1)
        self.assertGreater(self.increments(server), SIZE)
        self.assertIn("it cannot be read", server.log())
        server.restart()
        self.check(server, [1])

    def test_increments_that_name_much_are_rewritten(self):
        server = self.start({**AOF, "auto-aof-rewrite-min-size": 5 * SIZE, "auto-aof-rewrite-percentage": 100})
        client = server.client()
        client.execute_command("CKPT.CREATE", "run", "KEEP", 1)
        for step in range(1, 30):
            self.save(server, step)
            wait_until(lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0, what="a rewrite")
        self.assertGreater(client.info("persistence")["aof_rewrites"], 0)
        wait_until(lambda: self.figures(server)["bytes"] < 9 * SIZE, what="the log shrinking")
        server.kill()
        server.start()
        self.check(server, [29])

    def test_increments_keep_what_they_name_beside_saves(self):
        server = self.start(AOF)
        client = server.client()
        client.execute_command("CKPT.CREATE", "run", "KEEP", 1)
        for step in range(1, 6):
            self.save(server, step)
            client.save()
        self.assertEqual(self.figures(server)["held_by"], b"appendonlydir/appendonly.aof.manifest")
        server.kill()
        server.start()
        self.check(server, [5])
        for step in range(6, 9):
            self.save(server, step)
            server.run_job("BGREWRITEAOF", "aof_rewrites")
            client.save()
        wait_until(lambda: self.figures(server)["bytes"] < 4 * SIZE, what="the log shrinking")
        server.kill()
        server.start()
        self.check(server, [8])

    def test_dump_and_copies_for_replicas_carry_everything(self):
        server = self.start()
        self.save(server, 1)
        server.client().save()
        server.restart()
        payload = server.client().dump("run")
        self.assertGreater(len(payload), SIZE)
        other = self.start()
        other.client().restore("copy", 0, payload)
        self.check(other, [1], "copy")
        replica = self.start({"replicaof": f"127.0.0.1 {server.port}"})
        wait_until(lambda: replica.client().info("replication")["master_link_status"] == "up", what="the link")
        self.check(replica, [1])
        self.assertFalse(os.path.exists(os.path.join(replica.directory, "chunklogs")))

    def test_a_file_without_its_logs_does_not_load(self):
        """A copy of dump.rdb alone, or of the append-only file: refused with the file's name, and left as it is."""
        for settings in ({}, AOF):
            server = self.start(settings)
            self.save(server, 1)
            server.client().set("other", "value")
            server.client().save()
            if settings:
                server.run_job("BGREWRITEAOF", "aof_rewrites")
            server.kill()
            name = os.path.join("appendonlydir", "appendonly.aof.2.base.rdb") if settings else "dump.rdb"
            path = os.path.join(server.directory, name)
            with open(path, "rb") as file:
                before = file.read()
            self.assertLess(len(before), SMALL_BYTES)
            logs = os.path.join(server.directory, "chunklogs")
            os.rename(logs, logs + ".away")
            for words in ("chunk-logs yes", "chunk-logs no", ""):
                server.settings["loadmodule"] = f"{TENSOR_MODULE} {words}".strip()
                with self.assertRaises(RuntimeError):
                    server.start()
                self.assertIn(f"that is not in {logs}: RDB files", server.log_tail())
                self.assertIn(f"{path}: the bytes of a 'ckptrun' value", server.log_tail())
                with open(path, "rb") as file:
                    self.assertEqual(file.read(), before, "the file is as it was")
            shutil.rmtree(logs, ignore_errors=True)
            os.rename(logs + ".away", logs)
            server.start()
            self.check(server, [1])
            self.assertEqual(server.client().get("other"), b"value")

    def test_a_backup_is_the_files_and_then_the_logs(self):
        """Copied under a running server that goes on saving, in the order that the docs ask for."""
        server = self.start()
        for step in (1, 2):
            self.save(server, step)
        server.client().save()
        other = os.path.join(server.directory, "backup")
        os.mkdir(other)
        shutil.copy(os.path.join(server.directory, "dump.rdb"), other)
        self.save(server, 3)
        shutil.copytree(os.path.join(server.directory, "chunklogs"), os.path.join(other, "chunklogs"))
        restored = self.start(directory=other)
        self.check(restored, [1, 2])

    def test_redis_cli_fetches_a_file_that_stands_alone(self):
        server = self.start(AOF)
        for step in (1, 2):
            self.save(server, step)
        server.restart()    # so that chunks are mapped
        other = os.path.join(server.directory, "backup")
        os.mkdir(other)
        subprocess.run(["redis-cli", "-p", str(server.port), "--rdb", os.path.join(other, "dump.rdb")], check=True,
                       capture_output=True, timeout=60)
        self.check(self.start(directory=other), [1, 2])

    def test_without_logs_a_file_stands_alone(self):
        server = self.start(logs="no")
        self.save(server, 1)
        server.client().save()
        self.assertGreater(self.size(server, "dump.rdb"), SIZE)
        self.assertFalse(os.path.exists(os.path.join(server.directory, "chunklogs")))

    def test_switching_the_logs_off_writes_everything_inline_again(self):
        server = self.start()
        self.save(server, 1)
        server.client().save()
        server.kill()
        server.settings["loadmodule"] = f"{TENSOR_MODULE} chunk-logs no"
        server.start()
        server.client().save()
        self.assertGreater(self.size(server, "dump.rdb"), SIZE)
        self.check(server, [1])
        server.kill()
        shutil.rmtree(os.path.join(server.directory, "chunklogs"))
        server.start()
        self.check(server, [1])

    def test_segments_that_somebody_deletes_are_written_again(self):
        server = self.start()
        for step in (1, 2):
            self.save(server, step)
            server.client().save()
            server.restart()    # so that chunks are mapped, and there are two segments
        self.save(server, 3)
        server.client().save()
        for path in self.segments(server):
            os.unlink(path)
        self.save(server, 4)
        server.client().save()
        self.assertIn("is gone", server.log())
        server.restart()
        self.check(server, [1, 2, 3, 4])
        shutil.rmtree(os.path.join(server.directory, "chunklogs"))
        server.client().save()
        self.assertGreater(self.size(server, "dump.rdb"), SIZE, "nowhere to write them: inline")
        server.restart()
        self.check(server, [1, 2, 3, 4])

    def test_a_server_without_the_module_loses_nothing(self):
        server = self.start({"appendonly": "yes"})
        self.save(server, 1)
        self.save(server, 2)
        server.client().save()
        server.kill()
        shutil.rmtree(os.path.join(server.directory, "appendonlydir"))    # so that it loads dump.rdb
        module = server.settings.pop("loadmodule")
        server.settings["appendonly"] = "no"
        server.start()
        server.client().set("other", "value")
        server.client().save()
        server.client().config_set("appendonly", "yes")
        wait_until(lambda: server.client().info("persistence")["aof_rewrites"] > 0, what="the append-only file")
        server.kill()
        server.settings.update(loadmodule=module, appendonly="yes")
        server.start()
        self.check(server, [1, 2])
        # A base that the other server wrote names chunks that no save of this one does.
        server.client().delete("run")
        for _ in range(3):
            server.client().save()
        self.assertEqual(self.figures(server)["held_by"], b"appendonlydir/appendonly.aof.manifest")
        server.restart()
        self.assertEqual(server.client().get("other"), b"value")

    def test_a_torn_tail_costs_what_was_not_named(self):
        server = self.start()
        self.save(server, 1)
        server.client().save()
        server.kill()
        last = self.segments(server)[-1]
        with open(last, "ab") as segment:
            segment.write(b"CREC" + os.urandom(5000))
        server.start()
        self.check(server, [1])
        self.assertIn("are no records", server.log())

    def test_what_nothing_names_is_removed(self):
        server = self.start()
        client = server.client()
        client.execute_command("CKPT.CREATE", "run", "KEEP", 1)
        for step in range(1, 9):
            self.save(server, step)
            client.save()
        wait_until(lambda: self.figures(server)["removed_segments"] > 0, what="a removed segment")
        wait_until(lambda: self.figures(server)["bytes"] < 4 * SIZE, what="the log shrinking")
        self.check(server, [8])
        server.restart()
        self.check(server, [8])

    def test_a_file_of_another_name_keeps_its_chunks(self):
        server = self.start()
        client = server.client()
        client.execute_command("CKPT.CREATE", "run", "KEEP", 1)
        self.save(server, 1)
        client.save()
        client.config_set("dbfilename", "other.rdb")
        for step in range(2, 7):
            self.save(server, step)
            client.save()
        self.assertEqual(self.figures(server)["held_by"], b"dump.rdb")
        self.check(server, [6])
        server.restart()  # which reads dump.rdb again
        self.check(server, [1])

    def test_another_directory_gets_everything_inline(self):
        server = self.start()
        self.save(server, 1)
        server.client().save()
        elsewhere = os.path.join(server.directory, "elsewhere")
        os.mkdir(elsewhere)
        server.client().config_set("dir", elsewhere)
        server.client().save()
        self.assertGreater(self.size(server, "elsewhere/dump.rdb"), SIZE)
        other = self.start(directory=elsewhere)
        self.check(other, [1])

    def test_another_directory_gets_the_log_with_everything_inline(self):
        server = self.start(AOF)
        client = server.client()
        self.save(server, 1)
        client.bgrewriteaof()
        wait_until(lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0, what="the rewrite")
        elsewhere = os.path.join(server.directory, "elsewhere")
        os.mkdir(elsewhere)
        client.config_set("dir", elsewhere)
        self.save(server, 2)
        client.bgrewriteaof()
        wait_until(lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0, what="the rewrite")
        self.save(server, 3)
        server.kill()
        other = self.start(AOF, directory=elsewhere)
        self.check(other, [1, 2, 3])

    def test_two_servers_in_one_directory(self):
        first = self.start()
        self.save(first, 1)
        first.client().save()
        second = self.start({"dbfilename": "second.rdb"}, directory=first.directory)
        self.save(second, 2)
        second.client().save()
        self.assertGreater(self.size(first, "second.rdb"), SIZE, "the second writes inline")
        self.assertEqual(self.figures(second)["state"], b"read-only")
        for step in range(3, 6):
            self.save(first, step)
            first.client().save()
        second.restart()
        self.check(second, [2])
        first.restart()
        self.check(first, [1, 3, 4, 5])

    def test_reload_while_it_runs(self):
        server = self.start()
        self.save(server, 1)
        server.client().execute_command("DEBUG", "RELOAD")
        self.check(server, [1])
        server.client().execute_command("DEBUG", "RELOAD")
        self.save(server, 2)
        server.client().save()
        server.restart()
        self.check(server, [1, 2])

    def upload(self, server, step, rank=0, world=1):
        """The transaction of a step, with the part of one rank uploaded."""
        call = server.client().execute_command
        tx = call("CKPT.BEGIN", "run", step, "RANK", rank, "WORLD", world)
        call("CKPT.DECLARE", "run", tx, "RANK", rank, 1, f"w{rank}", "weights", "U8", "SHAPE", 1, SIZE)
        call("CKPT.PUT", "run", tx, "RANK", rank, f"w{rank}", "AT", 0, "BLOB", tensor(step + rank))
        return tx

    def test_disk_means_that_the_log_has_the_chunks(self):
        server = self.start(AOF)
        call = server.client().execute_command
        call("CKPT.CREATE", "run")
        for step, durable in ((1, "DISK"), (2, "AOF")):
            tx = self.upload(server, step)
            call("CKPT.PREPARE", "run", tx, "RANK", 0)
            before = self.figures(server)["appended_bytes"]
            self.assertGreaterEqual(before, SIZE // 2, "the increments name it already")
            call("CKPT.COMMIT", "run", tx, "DURABLE", durable)
            self.assertEqual(self.figures(server)["appended_bytes"], before)
        server.restart()
        for step in (1, 2):
            self.assertEqual(call("CKPT.LOAD", "run", step, "w0", "RANGE", 0, SIZE), tensor(step))
        server.run_job("BGREWRITEAOF", "aof_rewrites")
        server.restart()
        for step in (1, 2):
            self.assertEqual(call("CKPT.LOAD", "run", step, "w0", "RANGE", 0, SIZE), tensor(step))

    def test_beside_a_replica_disk_writes_the_log_at_the_commit(self):
        server = self.start(AOF)
        replica = self.start({"replicaof": f"127.0.0.1 {server.port}"})
        wait_until(lambda: replica.client().info("replication")["master_link_status"] == "up", what="the link")
        call = server.client().execute_command
        call("CKPT.CREATE", "run")
        tx = self.upload(server, 1)
        call("CKPT.PREPARE", "run", tx, "RANK", 0)
        self.assertEqual(self.figures(server)["appended_bytes"], 0)
        call("CKPT.COMMIT", "run", tx, "DURABLE", "DISK")
        self.assertGreaterEqual(self.figures(server)["appended_bytes"], SIZE - SIZE % CHUNK)
        tx = self.upload(server, 2)
        call("CKPT.PREPARE", "run", tx, "RANK", 0)
        before = self.figures(server)["appended_bytes"]
        call("CKPT.COMMIT", "run", tx, "DURABLE", "AOF")
        self.assertEqual(self.figures(server)["appended_bytes"], before)

    def test_a_commit_that_waited_logs_beside_the_loop(self):
        """It has to write and sync all that the votes brought, as beside a replica no PUT has; others are served meanwhile."""
        slow_disk = os.path.join(LIB_DIR, "slow_disk.so")
        if not os.path.exists(slow_disk):
            self.skipTest("slow_disk.so is not built")
        sync_s = 1.0
        with tempfile.TemporaryDirectory() as directory:
            switch = os.path.join(directory, "on")
            server = self.start(AOF, prefix=["env", f"LD_PRELOAD={slow_disk}", f"SLOW_DISK_SWITCH={switch}",
                                             "SLOW_DISK_PATH=/chunklogs/", f"SLOW_DISK_SYNC_MS={int(sync_s * 1000)}"])
            replica = self.start({"replicaof": f"127.0.0.1 {server.port}"})
            wait_until(lambda: replica.client().info("replication")["master_link_status"] == "up", what="the link")
            call, other = server.client().execute_command, server.client()
            call("CKPT.CREATE", "run")
            tx = self.upload(server, 1, 0, 2)
            self.upload(server, 1, 1, 2)
            call("CKPT.PREPARE", "run", tx, "RANK", 0)
            replies = []
            waiter = threading.Thread(target=lambda: replies.append(
                server.client().execute_command("CKPT.COMMIT", "run", tx, "DURABLE", "DISK", "WAIT", 30000)))
            waiter.start()
            wait_until(lambda: other.info("clients")["blocked_clients"] == 1, what="the COMMIT waiting")
            self.assertEqual(self.figures(server)["appended_bytes"], 0)
            open(switch, "wb").close()
            began = time.monotonic()
            voter = threading.Thread(target=lambda: server.client().execute_command("CKPT.PREPARE", "run", tx, "RANK", 1))
            voter.start()
            longest_s = 0.0
            while waiter.is_alive():
                asked = time.monotonic()
                other.ping()
                longest_s = max(longest_s, time.monotonic() - asked)
            took_s = time.monotonic() - began
            voter.join(60)
            os.remove(switch)
            self.assertIn(b"DISK", replies[0])
            self.assertGreaterEqual(took_s, sync_s, "it has waited for the disk")
            self.assertLess(longest_s, sync_s * 0.8, "and nobody else has")
            # Bytes that both ranks brought are there once.
            self.assertGreaterEqual(self.figures(server)["appended_bytes"], SIZE)
            for rank in range(2):
                wait_until(lambda: replica.client().execute_command("CKPT.LIST", "run") != [], what="the replica's version")
                for each in (server, replica):
                    self.assertEqual(each.client().execute_command("CKPT.LOAD", "run", 1, f"w{rank}", "RANGE", 0, SIZE),
                                     tensor(1 + rank))
            # Its client is served as before.
            tx = self.upload(server, 2)
            call("CKPT.PREPARE", "run", tx, "RANK", 0)
            self.assertIn(b"DISK", call("CKPT.COMMIT", "run", tx, "DURABLE", "DISK", "WAIT", 1000))

    def test_what_is_declared_while_a_commit_logs_is_waited_for(self):
        slow_disk = os.path.join(LIB_DIR, "slow_disk.so")
        if not os.path.exists(slow_disk):
            self.skipTest("slow_disk.so is not built")
        with tempfile.TemporaryDirectory() as directory:
            switch = os.path.join(directory, "on")
            server = self.start(AOF, prefix=["env", f"LD_PRELOAD={slow_disk}", f"SLOW_DISK_SWITCH={switch}",
                                             "SLOW_DISK_PATH=/chunklogs/", "SLOW_DISK_SYNC_MS=1500"])
            replica = self.start({"replicaof": f"127.0.0.1 {server.port}"})  # so that no PUT logs anything
            wait_until(lambda: replica.client().info("replication")["master_link_status"] == "up", what="the link")
            call = server.client().execute_command
            tx = call("CKPT.BEGIN", "run", 1, "RANK", 0, "WORLD", 2, "COVERAGE")
            self.upload(server, 1, 0, 2)
            call("CKPT.PREPARE", "run", tx, "RANK", 0)
            self.assertEqual(self.figures(server)["appended_bytes"], 0)
            open(switch, "wb").close()
            replies = []
            committer = threading.Thread(target=lambda: replies.append(server.client().execute_command(
                "CKPT.COMMIT", "run", tx, "DURABLE", "DISK", "WAIT", 30000)))
            committer.start()
            wait_until(lambda: self.figures(server)["appended_bytes"] > 0, what="the COMMIT logging")
            call("CKPT.DECLARE", "run", tx, "RANK", 1, 1, "late", "weights", "U8", "SHAPE", 1, 5)
            os.remove(switch)
            # A client whose command works on counts as blocked; in the table are those that wait for something.
            wait_until(lambda: server.client().info("clients")["clients_in_timeout_table"] == 1, what="the COMMIT waiting")
            self.assertEqual(replies, [])
            call("CKPT.PUT", "run", tx, "RANK", 1, "late", "AT", 0, "BLOB", "bytes")
            call("CKPT.PREPARE", "run", tx, "RANK", 1)
            committer.join(60)
            self.assertEqual(call("CKPT.LOAD", "run", 1, "late")[-1], b"bytes")
            self.assertIn(b"DISK", replies[0])

    def test_a_run_of_disk_logs_at_prepare_so_that_a_waiting_commit_need_not(self):
        server = self.start(AOF)
        call = server.client().execute_command
        call("CKPT.CREATE", "run", "DURABLE", "DISK")
        tx = self.upload(server, 1, 0, 2)
        self.upload(server, 1, 1, 2)
        call("CKPT.PREPARE", "run", tx, "RANK", 0)
        first = self.figures(server)["appended_bytes"]
        self.assertGreater(first, SIZE // 2)
        replies = []
        waiter = threading.Thread(
            target=lambda: replies.append(server.client().execute_command("CKPT.COMMIT", "run", tx, "WAIT", 30000)))
        waiter.start()
        wait_until(lambda: server.client().info("clients")["blocked_clients"] == 1, what="the COMMIT waiting")
        call("CKPT.PREPARE", "run", tx, "RANK", 1)
        waiter.join(60)
        self.assertIn(b"disk", [word.lower() if isinstance(word, bytes) else word for word in replies[0]])
        self.assertEqual(self.figures(server)["appended_bytes"], first, "each PUT brought its own")
        call("CKPT.SAVE", "run", 2, 1, "w", "U8", "SHAPE", 1, SIZE, "BLOB", tensor(9))
        before = self.figures(server)["appended_bytes"]
        server.run_job("BGSAVE", "rdb_saves")
        self.assertEqual(self.figures(server)["appended_bytes"], before, "all that a save names is there")

    def test_disk_without_a_log_fails_that_commit_and_nothing_else(self):
        server = self.start(AOF)
        server.kill()
        with open(os.path.join(server.directory, "chunklogs"), "wb"):
            pass
        server.start()
        call = server.client().execute_command
        call("CKPT.CREATE", "run")
        tx = self.upload(server, 1)
        call("CKPT.PREPARE", "run", tx, "RANK", 0)
        with self.assertRaisesRegex(redis.ResponseError, "CKPTDISK"):
            call("CKPT.COMMIT", "run", tx, "DURABLE", "DISK")
        self.assertEqual(call("CKPT.LIST", "run"), [])
        call("CKPT.COMMIT", "run", tx, "DURABLE", "AOF")
        server.client().save()
        self.assertGreater(self.size(server, "dump.rdb"), SIZE)
        server.restart()
        self.assertEqual(call("CKPT.LOAD", "run", 1, "w0", "RANGE", 0, SIZE), tensor(1))

    def test_kill_9_under_saves(self):
        """What the last save that was answered had is there, whatever ran when the server died."""
        chance = random.Random(SEED)
        print(f"CAIRN_CKPT_LOG_SEED={SEED}")
        server = self.start()
        server.client().execute_command("CKPT.CREATE", "run", "KEEP", 3)
        step, saved, removed = 0, 0, 0
        for _ in range(ROUNDS):
            progress = {"step": step, "saved": saved}

            def work(progress=progress, port_client=server.client()):
                try:
                    while True:
                        progress["step"] += 1
                        self.save(server, progress["step"])
                        if chance.random() < 0.5:
                            port_client.save()
                            progress["saved"] = progress["step"]
                        else:
                            port_client.execute_command("BGSAVE", "SCHEDULE")
                except (redis.ConnectionError, redis.ResponseError) as error:
                    if isinstance(error, redis.ResponseError) and "in progress" in str(error):
                        return work(progress, port_client)
                return None

            worker = threading.Thread(target=work)
            worker.start()
            wait_until(lambda: progress["saved"] > saved or not worker.is_alive(), what="a save", limit_s=120)
            time.sleep(chance.random() * 0.3)
            removed += self.figures(server)["removed_segments"]
            server.kill()
            worker.join(60)
            saved = progress["saved"]
            server.start()
            rows = server.client().execute_command("CKPT.LIST", "run")
            steps = [row[1] for row in rows]
            self.assertGreaterEqual(steps[0], saved, "a save that was answered is lost")
            self.check(server, steps)
            step = max(steps[0], progress["step"])
        self.assertGreater(removed, 0, "segments were never removed: it would prove nothing")
        print(f"{ROUNDS} kills, {step} steps, {removed} segments removed, 0 wrong loads")


if __name__ == "__main__":
    unittest.main()
