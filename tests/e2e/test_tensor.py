"""Tensors in the real server, over redis-py: what survives kill -9, rewrites and a server without the module, what bad
input does, and that long work of one client does not stop the others. Bytes are compared with numpy's and torch's.
"""

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import unittest

import numpy
import redis
import torch

from cairn_server import BIN_DIR, LIB_DIR, TENSOR_MODULE, Server, read_to_end, request, wait_until

AOF = {"appendonly": "yes", "appendfsync": "always", "auto-aof-rewrite-percentage": "0"}
MIB = 1 << 20
TORCH_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
    "C64": torch.complex64, "C128": torch.complex128,
}
WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2,
          "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1, "C64": 8, "C128": 16}


def run(client, line, *more):
    return client.execute_command(*line.split(), *more)


def blob(client, key):
    return run(client, f"TENSOR.GET {key} BLOB")


def noise(size, seed):
    return numpy.random.default_rng(seed).bytes(size)


def fill(client):
    """Tensors of every type and of sizes around the grid of 256 KiB, and an upload under way."""
    for number, (dtype, width) in enumerate(WIDTHS.items()):
        data = noise(3 * 5 * width, number) if dtype != "BOOL" else bytes([0, 1, 1]) * 5
        run(client, f"TENSOR.SET t:{dtype} {dtype} SHAPE 2 3 5 BLOB", data)
    run(client, "TENSOR.SET scalar F32 SHAPE 0 VALUES 1 2.5")
    run(client, "TENSOR.SET empty F32 SHAPE 2 0 7 BLOB", b"")
    run(client, "TENSOR.SET zeros F64 SHAPE 2 300 1000 ZEROS")
    for size in (256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 3 * MIB + 7):
        run(client, f"TENSOR.SET big:{size} U8 SHAPE 1 {size} BLOB", noise(size, size))
    run(client, "TENSOR.SET ttl U8 SHAPE 0 BLOB", b"x", "PXAT", 4102444800123)
    client.copy("big:262145", "copied")
    run(client, "TENSOR.SETSLICE copied SLICE 1 5 9 1 BLOB", b"abcd")
    run(client, "TENSOR.CAST t:F16 cast F32")
    run(client, f"TENSOR.BEGINSET up U8 SHAPE 1 {MIB} UPLOAD u")
    run(client, "TENSOR.WRITE up u 300000 BLOB", noise(1000, 9))
    client.set("string", "beside")


def contents(client):
    """Everything: type, DUMP payload and expiry of every key."""
    return {key: (client.type(key), client.dump(key), client.execute_command("PEXPIRETIME", key))
            for key in client.keys()}


class Values(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(tensors=True, unix=True).start()
        cls.client = cls.server.client()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def setUp(self):
        self.client.flushall()

    def test_module_list_and_no_torch_in_the_server_itself(self):
        listed = self.client.module_list()[0]
        self.assertIn(b"tensor", str(listed).encode())
        needed = subprocess.run(["ldd", os.path.join(BIN_DIR, "cairn-server")], capture_output=True, text=True).stdout
        self.assertNotIn("torch", needed)
        undefined = subprocess.run(["nm", "-D", "--undefined-only", TENSOR_MODULE], capture_output=True, text=True).stdout
        self.assertNotIn("cairn", undefined, "the module resolves nothing from the server")
        defined = subprocess.run(["nm", "-D", "--defined-only", TENSOR_MODULE], capture_output=True, text=True).stdout
        ours = [line for line in defined.splitlines() if "airn" in line]
        self.assertEqual([line.split()[-1] for line in ours], ["CairnModule_OnLoad"])

    def test_unload_is_refused(self):
        with Server(tensors=True, settings={"enable-module-command": "yes"}) as server:
            with self.assertRaisesRegex(redis.ResponseError, "Error unloading module: the module exports one or more "
                                        "module-side data types, can't unload"):
                server.client().execute_command("MODULE", "UNLOAD", "tensor")

    def test_casts_are_torchs(self):
        source = torch.randn(1000, generator=torch.Generator().manual_seed(1)) * 50
        for name, dtype in TORCH_TYPES.items():
            with self.subTest(name):
                start = source.to(dtype) if name != "BOOL" else source > 0
                data = start.contiguous().view(torch.uint8).numpy().tobytes() if name not in ("C64", "C128", "BOOL") \
                    else start.numpy().tobytes()
                run(self.client, f"TENSOR.SET k {name} SHAPE 1 1000 BLOB", data)
                run(self.client, "TENSOR.CAST k d F32")
                expected = start.real.float() if name in ("C64", "C128") else start.float()
                self.assertEqual(blob(self.client, "d"), expected.contiguous().numpy().tobytes())

    def test_slices_are_numpys(self):
        array = numpy.arange(7 * 11 * 13, dtype=numpy.int32).reshape(7, 11, 13)
        run(self.client, "TENSOR.SET k I32 SHAPE 3 7 11 13 BLOB", array.tobytes())
        for a, b, c in ((slice(1, 6, 2), slice(None), slice(0, 13, 3)), (slice(-2, None), slice(3, 4), slice(5, -1)),
                        (slice(0, 0), slice(None), slice(None)), (slice(0, 100, 5), slice(2, 9, 7), slice(12, 13))):
            words = []
            for part, size in zip((a, b, c), array.shape):
                start, stop, step = part.indices(size)
                words += [start, stop, step]
            reply = run(self.client, "TENSOR.GET k SLICE 3", *words)
            self.assertEqual(reply[3], list(array[a, b, c].shape))
            self.assertEqual(reply[5], array[a, b, c].tobytes())

    def test_stats_are_torchs(self):
        values = torch.randn(2_000_000, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        run(self.client, "TENSOR.SET k F64 SHAPE 1 2000000 BLOB", values.numpy().tobytes())
        reply = run(self.client, "TENSOR.STATS k")
        stats = {name.decode(): float(value) for name, value in zip(reply[::2], reply[1::2])}
        for name, expected in (("count", 2_000_000), ("min", values.min()), ("max", values.max()), ("mean", values.mean()),
                               ("std", values.std()), ("l1", values.norm(1)), ("l2", values.norm())):
            self.assertAlmostEqual(stats[name], float(expected), delta=1e-9 * max(1, abs(float(expected))), msg=name)

    def test_large_values_over_both_sockets(self):
        data = noise(64 * MIB, 3)
        for unix in (False, True):
            client = self.server.client(unix=unix)
            client.execute_command("TENSOR.SET", "k", "U8", "SHAPE", 1, len(data), "BLOB", memoryview(data))
            self.assertTrue(blob(client, "k") == data)
            self.assertTrue(run(client, f"TENSOR.GET k RANGE {10 * MIB + 3} {MIB}") == data[10 * MIB + 3:11 * MIB + 3])

    def test_pieces_of_a_tensor_larger_than_a_bulk_may_be(self):
        self.client.config_set("proto-max-bulk-len", 2 * MIB)
        self.addCleanup(self.client.config_set, "proto-max-bulk-len", 512 * MIB)
        data = noise(9 * MIB + 11, 4)
        upload = run(self.client, f"TENSOR.BEGINSET k U8 SHAPE 1 {len(data)}").decode()
        offset = 0
        while offset < len(data):
            offset = run(self.client, f"TENSOR.WRITE k {upload} {offset} BLOB", data[offset:offset + 2 * MIB])
        run(self.client, f"TENSOR.ENDSET k {upload}")
        self.assertTrue(blob(self.client, "k") == data)

    def test_transactions_watch_and_notifications_of_one_key(self):
        run(self.client, "TENSOR.SET k U8 SHAPE 0 BLOB", b"a")
        with self.client.pipeline() as pipeline:
            pipeline.watch("k")
            run(self.client, "TENSOR.SET k U8 SHAPE 0 BLOB", b"b")
            pipeline.multi()
            pipeline.execute_command("TENSOR.SET", "k", "U8", "SHAPE", 0, "BLOB", b"c")
            with self.assertRaises(redis.WatchError):
                pipeline.execute()
        with self.client.pipeline(transaction=True) as pipeline:
            pipeline.execute_command("TENSOR.SET", "k", "U8", "SHAPE", 0, "BLOB", b"c")
            pipeline.execute_command("TENSOR.GET", "k", "BLOB")
            self.assertEqual(pipeline.execute()[1], b"c")

    def test_acls_see_every_key(self):
        self.client.set("secret", "s")
        self.client.acl_setuser("half", enabled=True, nopass=True, commands=["+@all"], keys=["a*"])
        self.addCleanup(self.client.acl_deluser, "half")
        half = redis.Redis(port=self.server.port, username="half", password="")
        both = "TENSOR.MSET 2 a1 U8 SHAPE 0 BLOB x secret U8 SHAPE 0 BLOB y"
        with self.assertRaises(redis.exceptions.NoPermissionError):
            run(half, both)
        self.assertEqual(self.client.get("secret"), b"s")
        self.assertEqual(run(half, both.replace("secret", "a2")), b"OK")
        half.close()

    def test_bad_input_is_named_and_loses_nothing(self):
        run(self.client, "TENSOR.SET k F32 SHAPE 1 2 BLOB", b"12345678")
        for line, data, expected in (
                ("TENSOR.SET k F32 SHAPE 1 2 BLOB", b"1234567", "the blob has 7 bytes, but F32 \\[2\\] takes 8"),
                ("TENSOR.SET k F64 SHAPE 2 4294967296 4294967296 BLOB", b"", "is larger than"),
                ("TENSOR.SET k U8 SHAPE 1 18446744073709551616 BLOB", b"", "not an integer or out of range"),
                ("TENSOR.SET k F33 SHAPE 0 BLOB", b"1234", "unknown dtype 'F33'"),
                ("TENSOR.SETSLICE k SLICE 1 0 1 1 BLOB", b"12345", "the blob has 5 bytes"),
                ("TENSOR.WRITE k nope 0 BLOB", b"1", "no such upload")):
            with self.subTest(line), self.assertRaisesRegex(redis.ResponseError, expected):
                run(self.client, line, data)
        with self.assertRaisesRegex(redis.ResponseError, "payload's XXH3-128 is"):
            run(self.client, "TENSOR.SET k U8 SHAPE 0 BLOB", b"x", "XXH3", "0" * 32)
        with self.assertRaises(redis.ResponseError):
            self.client.execute_command("TENSOR.SET", "k", b"F32\r\n+INJECTED", "SHAPE", 0, "BLOB", b"1234")
        self.assertEqual(self.client.ping(), True, "replies are still in step")
        self.assertEqual(blob(self.client, "k"), b"12345678")


class LongWork(unittest.TestCase):
    """That it does not stop others is for test_long_work.py."""

    def test_clients_that_leave_in_the_middle(self):
        with Server(tensors=True) as server:
            client = server.client()
            client.execute_command("TENSOR.SET", "k", "F32", "SHAPE", 1, 8 * MIB, "ZEROS")
            for _ in range(20):
                raw = server.raw()
                raw.sendall(b"TENSOR.CAST k d F64\r\nTENSOR.STATS k\r\n")
                raw.close()
            for client_id in [row["id"] for row in client.client_list() if row["id"] != str(client.client_id())]:
                client.execute_command("CLIENT", "KILL", "ID", client_id)
            self.assertTrue(client.ping())
            self.assertEqual(run(client, "TENSOR.CHECK k")[1], 1)

    def test_what_is_sent_behind_long_work_is_received_meanwhile_and_answered_behind_it(self):
        """A worker hashes sealed values; the bytes of the next request come meanwhile. Nothing may overtake."""
        size = 24 * MIB

        def filled(letter):
            return request(b"TENSOR.SET", b"k", b"U8", b"SHAPE", b"1", b"%d" % size, b"BLOB", letter * size)

        with Server(tensors=True) as server:
            with server.raw() as connection:  # its end comes while the worker works
                connection.sendall(filled(b"a"))
                connection.shutdown(socket.SHUT_WR)
                self.assertEqual(read_to_end(connection), b"+OK\r\n")
            wait_until(lambda: server.client().info("clients")["connected_clients"] <= 2, what="its end")
            head = request(b"TENSOR.GET", b"k", b"BLOB", b"SLICE", b"1", b"0", b"2", b"1")
            for _ in range(3):
                with server.raw() as connection:
                    connection.sendall(filled(b"a") + head + filled(b"b") + head + b"*1\r\nPING\r\n")
                    connection.shutdown(socket.SHUT_WR)
                    self.assertEqual(read_to_end(connection), b"+OK\r\n$2\r\naa\r\n+OK\r\n$2\r\nbb\r\n-ERR Protocol error: expected '$', got 'P'\r\n")

    def test_shutdown_does_not_wait_for_a_reply(self):
        with Server(tensors=True) as server:
            client = server.client()
            client.execute_command("TENSOR.SET", "k", "F32", "SHAPE", 1, 16 * MIB, "ZEROS")
            raw = server.raw()
            raw.sendall(b"TENSOR.EQUAL k k RTOL 0\r\n" * 3)
            self.assertTrue(client.ping())
            self.assertEqual(server.stop(), 0)


class LibTorch(unittest.TestCase):
    def test_a_library_of_another_build_is_refused(self):
        with tempfile.TemporaryDirectory() as directory:
            for name in ("tensor.so", "tensor_torch.so"):
                shutil.copy(os.path.join(LIB_DIR, name), directory)
            path = os.path.join(directory, "tensor_torch.so")
            with open(path, "rb") as library:
                data = library.read()
            number = re.search(rb"cairn\0\0\0([0-9a-f]{32})\0", data)[1]
            other = number[::-1]
            settings = {"loadmodule": os.path.join(directory, "tensor.so"), "appendonly": "yes", "appendfsync": "always"}
            with Server(settings=settings) as server:
                run(server.client(), "TENSOR.SET k F32 SHAPE 1 2 VALUES 2 1 2")
                self.assertEqual(run(server.client(), "TENSOR.CAST k d F16"), b"OK")
                self.assertNotIn("casts of tensors are errors", server.log())
                with open(path, "wb") as library:
                    library.write(data.replace(number, other))
                server.restart()
                client, line = server.client(), f"{path} is of build {other.decode()}, tensor.so of build {number.decode()}"
                self.assertIn("casts of tensors are errors: " + line, server.log())
                self.assertEqual(run(client, "TENSOR.GET d VALUES"), [b"1", b"2"], "the log has what was cast")
                with self.assertRaisesRegex(redis.ResponseError, "LibTorch cannot be used: " + re.escape(line)):
                    run(client, "TENSOR.CAST k d F16")
                self.assertEqual(run(client, "TENSOR.STATS k")[1], 2)
                with open(f"/proc/{server.pid}/maps", encoding="ascii", errors="replace") as maps:
                    self.assertNotIn("libtorch", maps.read(), "it was not even opened")
                os.remove(path)
                server.restart()
                self.assertIn(f"casts of tensors are errors: {path} is not there", server.log())

    def test_its_memory_is_not_the_datasets(self):
        with Server(tensors=True) as server:
            before = server.client().info("memory")
            after = wait_until(lambda: (now := server.client().info("memory"))["used_memory_startup"] >
                               before["used_memory_startup"] + 10 * MIB and now, what="LibTorch")
            self.assertGreater(after["used_memory"], before["used_memory"] + 10 * MIB)
            self.assertLess(after["used_memory_dataset"], before["used_memory_dataset"] + 2 * MIB)


class WarmMemory(unittest.TestCase):
    """Memory of deleted tensors that was missed is kept the next time, as far as maxmemory has room (blob_arena.h, B5)."""

    COUNT, RIGHT = 80, 256 * MIB    # tensors of 4 MiB; what is kept in any case
    LINGER_S = 10                   # B7

    def store(self, client, count, size):
        for i in range(count):
            run(client, f"TENSOR.SET k{i} U8 SHAPE 1 {size} BLOB", bytes(size))

    def test_it_grows_where_tensors_come_and_go_and_stays_below_maxmemory(self):
        with Server(tensors=True, settings={"maxmemory": "450mb"}) as server:
            client = server.client()

            def retained():
                return client.info("memory")["blob_arena_retained_bytes"]

            def store_and_delete():
                self.store(client, self.COUNT, 4 * MIB)
                client.flushall()
                wait_until(lambda: client.info("memory")["blob_arena_in_use_bytes"] == 0, what="the end of all tensors")
                self.assertEqual(retained(), self.COUNT * 4 * MIB, "it lingers")

            store_and_delete()
            wait_until(lambda: retained() == self.RIGHT, what="the rest going back, ten seconds later")
            store_and_delete()
            time.sleep(self.LINGER_S + 2)
            self.assertEqual(retained(), self.COUNT * 4 * MIB, "what had to be fetched again")
            self.assertLess(client.info("memory")["used_memory"], 100 * MIB, "which is not used memory")
            self.store(client, 40, 5 * MIB)    # of another size: other memory
            wait_until(lambda: retained() == self.RIGHT, what="the rest going back")
            client.execute_command("MEMORY", "PURGE")
            self.assertEqual(retained(), 0)


class Durability(unittest.TestCase):
    def test_kill_and_restart_from_the_log_and_from_its_rewrite(self):
        with Server(tensors=True, settings=AOF) as server:
            client = server.client()
            fill(client)
            before = contents(client)
            server.restart()
            self.assertEqual(contents(server.client()), before)
            server.client().bgrewriteaof()
            wait_until(lambda: server.client().info("persistence")["aof_rewrite_in_progress"] == 0, what="the rewrite")
            run(server.client(), "TENSOR.SET after U8 SHAPE 0 BLOB", b"z")
            before = contents(server.client())
            server.restart()
            client = server.client()
            self.assertEqual(contents(client), before)
            # The upload goes on where it was.
            reply = run(client, "TENSOR.OFFSET up u")
            self.assertEqual(reply[5], [[0, 300000], [301000, MIB - 301000]])
            run(client, "TENSOR.WRITE up u 0 BLOB", noise(300000, 1))
            run(client, "TENSOR.WRITE up u 301000 BLOB", noise(MIB - 301000, 2))
            run(client, "TENSOR.ENDSET up u")
            self.assertTrue(blob(client, "up") == noise(300000, 1) + noise(1000, 9) + noise(MIB - 301000, 2))

    def test_rewrite_as_commands(self):
        with Server(tensors=True, settings={**AOF, "aof-use-rdb-preamble": "no"}) as server:
            fill(server.client())
            before = contents(server.client())
            server.client().bgrewriteaof()
            wait_until(lambda: server.client().info("persistence")["aof_rewrite_in_progress"] == 0, what="the rewrite")
            server.restart()
            self.assertEqual(contents(server.client()), before)

    def test_save_and_the_check_tools(self):
        with Server(tensors=True) as server:
            fill(server.client())
            before = contents(server.client())
            server.client().save()
            server.restart()
            self.assertEqual(contents(server.client()), before)
            dump = os.path.join(server.directory, "dump.rdb")
            for tool in (["redis-check-rdb", dump], [os.path.join(BIN_DIR, "cairn-check"), "rdb", dump]):
                done = subprocess.run(tool, capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_a_snapshot_is_of_its_cut_while_slices_are_written(self):
        with Server(tensors=True) as server:
            client = server.client()
            size = 4 * MIB
            for i in range(16):
                run(client, f"TENSOR.SET k{i} U8 SHAPE 1 {size} ZEROS")
            client.execute_command("BGSAVE")
            while client.info("persistence")["rdb_bgsave_in_progress"]:
                for i in range(16):
                    run(client, f"TENSOR.SETSLICE k{i} SLICE 1 0 4 1 BLOB", b"\1\1\1\1")
            server.restart()
            client = server.client()
            for i in range(16):
                self.assertEqual(run(client, f"TENSOR.EQUAL k{i} k0"), 1)
                self.assertEqual(run(client, f"TENSOR.GET k{i} RANGE 0 4"), b"\0" * 4)

    def test_damaged_files_end_the_start_with_a_line(self):
        with Server(tensors=True) as server:
            run(server.client(), "TENSOR.SET k F32 SHAPE 1 100 BLOB", noise(400, 1))
            server.client().save()
            server.kill()
            path = os.path.join(server.directory, "dump.rdb")
            with open(path, "rb") as file:
                good = file.read()
            for at in range(20, len(good) - 9, 37):
                with open(path, "wb") as file:
                    file.write(good[:at] + bytes([good[at] ^ 0x40]) + good[at + 1:])
                with self.assertRaises(RuntimeError):
                    server.start()
                self.assertNotIn("CRASH", server.log())


class EqualValues(unittest.TestCase):
    """What a value is written as depends on its bytes alone."""

    SETTINGS = {"enable-debug-command": "yes"}

    def test_reading_a_tensor_does_not_change_what_it_is_written_as(self):
        with Server(tensors=True, settings=self.SETTINGS) as server:
            client = server.client()
            run(client, f"TENSOR.SET k U8 SHAPE 1 {9 * MIB + 7} BLOB", noise(9 * MIB + 7, 3))
            before = client.dump("k"), run(client, "DEBUG DIGEST")
            self.assertEqual(len(run(client, "TENSOR.INFO k")[13]), 32, "the hash is worked out")
            run(client, "TENSOR.STATS k")
            self.assertEqual((client.dump("k"), run(client, "DEBUG DIGEST")), before)
            run(client, "DEBUG RELOAD")
            self.assertEqual((client.dump("k"), run(client, "DEBUG DIGEST")), before)

    def test_a_replica_has_the_digest_of_its_primary(self):
        with Server(tensors=True, settings=self.SETTINGS) as primary:
            client = primary.client()
            fill(client)
            run(client, f"TENSOR.BEGINSET parts U8 SHAPE 1 {6 * MIB} UPLOAD u")
            for at in range(0, 6 * MIB, 500_000):
                run(client, f"TENSOR.WRITE parts u {at} BLOB", noise(min(500_000, 6 * MIB - at), at))
            run(client, "TENSOR.ENDSET parts u")
            with Server(tensors=True, settings={**self.SETTINGS, "replicaof": f"127.0.0.1 {primary.port}"}) as replica:
                wait_until(lambda: replica.client().info("replication")["master_link_status"] == "up", what="the link")
                for key in ("parts", "zeros", "t:F32"):
                    run(client, f"TENSOR.INFO {key}")
                run(client, "TENSOR.SETSLICE parts SLICE 1 4194303 4194306 1 BLOB", b"abc")
                run(client, f"TENSOR.SET whole U8 SHAPE 1 {6 * MIB} BLOB", blob(client, "parts"))
                run(client, "TENSOR.SETSLICE zeros SLICE 2 299 300 1 999 1000 1 BLOB", bytes(8))
                offset = client.info("replication")["master_repl_offset"]
                wait_until(lambda: replica.client().info("replication")["slave_repl_offset"] >= offset, what="the stream")
                self.assertEqual(contents(replica.client()), contents(client))
                self.assertEqual(run(replica.client(), "DEBUG DIGEST"), run(client, "DEBUG DIGEST"))
                self.assertEqual(client.dump("whole"), client.dump("parts"))
                self.assertEqual(run(client, "DEBUG DIGEST-VALUE whole"), run(replica.client(), "DEBUG DIGEST-VALUE parts"))


class WithoutTheModule(unittest.TestCase):
    """A server without the module keeps every value byte for byte, whatever way it goes."""

    def test_round_trip_by_dump_rdb(self):
        with Server(tensors=True) as server:
            fill(server.client())
            before = contents(server.client())
            server.client().save()
            server.kill()
            server.tensors = False
            server.start()
            plain = server.client()
            self.assertEqual(plain.type("t:F32"), b"cairntens")
            for key, (_, payload, expiry) in before.items():
                self.assertEqual(plain.dump(key), payload, key)
                self.assertEqual(plain.execute_command("PEXPIRETIME", key), expiry, key)
            plain.copy("t:F32", "copy")
            plain.rename("t:I8", "renamed")
            plain.restore("restored", 0, before[b"t:BF16"][1])
            with self.assertRaisesRegex(redis.ResponseError, "unknown command"):
                run(plain, "TENSOR.GET t:F32")
            plain.bgsave()
            wait_until(lambda: not plain.info("persistence")["rdb_bgsave_in_progress"], what="BGSAVE")
            self.assertEqual(subprocess.run(["redis-check-rdb", os.path.join(server.directory, "dump.rdb")],
                                            capture_output=True).returncode, 0)
            server.kill()
            server.tensors = True
            server.start()
            after = contents(server.client())
            self.assertEqual(after.pop(b"copy"), before[b"t:F32"])
            self.assertEqual(after.pop(b"restored"), before[b"t:BF16"])
            after[b"t:I8"] = after.pop(b"renamed")
            self.assertEqual(after, before)

    def test_round_trip_by_a_rewritten_log(self):
        with Server(tensors=True, settings=AOF) as server:
            fill(server.client())
            before = contents(server.client())
            for preamble in ("yes", "no"):
                # The log holds TENSOR commands until it is rewritten: only then can a server without the module load it.
                self.rewrite(server)
                server.kill()
                server.settings["aof-use-rdb-preamble"] = preamble
                server.tensors = False
                server.start()
                self.assertEqual({key: row[1:] for key, row in contents(server.client()).items()},
                                 {key: row[1:] for key, row in before.items()})
                server.client().set("string", "beside")
                self.rewrite(server)
                server.kill()
                server.tensors = True
                server.start()
                self.assertEqual(contents(server.client()), before)

    def rewrite(self, server):
        client = server.client()
        client.bgrewriteaof()
        wait_until(lambda: client.info("persistence")["aof_rewrite_in_progress"] == 0
                   and client.info("persistence")["aof_rewrite_scheduled"] == 0, what="the rewrite")

    def test_the_module_comes_later(self):
        with Server(tensors=True, settings={"enable-module-command": "yes"}) as server:
            fill(server.client())
            before = contents(server.client())
            server.client().save()
            server.kill()
            server.tensors = False
            server.start()
            client = server.client()
            client.execute_command("MODULE", "LOAD", TENSOR_MODULE)
            self.assertEqual(blob(client, "t:I16"), noise(30, list(WIDTHS).index("I16")))
            self.assertEqual(run(client, "TENSOR.OFFSET up u")[1], 0)
            self.assertEqual({key: client.dump(key) for key in before}, {key: row[1] for key, row in before.items()})


class ModuleCommands(unittest.TestCase):
    """MODULE with a library that is no tensor module: tests/modules/probe.cc."""

    PROBE = os.path.join(LIB_DIR, "probe.so")

    def test_load_rewrite_and_unload(self):
        with Server(settings={"enable-module-command": "local"}) as server:
            client = server.client()
            self.assertEqual(client.execute_command("MODULE", "LOADEX", self.PROBE, "ARGS", "one", "two words"), b"OK")
            self.assertEqual(client.execute_command("PROBE.ECHO", "x"), b"x")
            listed = client.info("modules")["modules"][0]
            self.assertEqual((listed["name"], listed["ver"]), ("probe", 7))
            self.assertEqual(client.execute_command("PROBE.DOUBLE", "ab")[:2], [b"abab", 1])
            self.assertEqual(client.execute_command("MODULE", "UNLOAD", "probe"), b"OK")
            with self.assertRaisesRegex(redis.ResponseError, "unknown command"):
                client.execute_command("PROBE.ECHO", "x")
            self.assertEqual(client.execute_command("MODULE", "LIST"), [])

    def test_config_rewrite_writes_loaded_modules_down(self):
        with Server(settings={"enable-module-command": "yes"}) as server:
            server.kill()
            path = os.path.join(server.directory, "server.conf")
            with open(path, "w", encoding="ascii") as file:
                file.write("enable-module-command yes\n")
            words = server.command_line()
            words.insert(1, path)
            server.command_line = lambda: words
            server.start()
            server.client().execute_command("MODULE", "LOAD", self.PROBE, "two words")
            server.client().config_rewrite()
            with open(path, encoding="ascii") as file:
                self.assertIn(f'loadmodule {self.PROBE} "two words"\n', file.read())
            server.restart()
            self.assertEqual(server.client().execute_command("MODULE", "LIST")[0][7], [b"two words"])

    def test_a_module_that_cannot_be_loaded_ends_the_start(self):
        with self.assertRaisesRegex(RuntimeError, "server aborting"):
            Server(settings={"loadmodule": "/nonexistent.so"}).start()

    def test_not_allowed_unless_the_setting_says_so(self):
        with Server() as server, self.assertRaisesRegex(redis.ResponseError, "MODULE command not allowed"):
            server.client().execute_command("MODULE", "LOAD", self.PROBE)


if __name__ == "__main__":
    unittest.main()
