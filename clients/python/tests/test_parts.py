"""The parts of a save: hashing both ways, progress bars, copies for saves in the background, the wire."""

import builtins
import io
import os
import subprocess
import sys
import threading
import unittest
from unittest import mock

SOURCE_DIR = os.environ.get("CAIRN_SOURCE_DIR") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
sys.path[:0] = [os.path.join(SOURCE_DIR, "clients", "python"), os.path.join(SOURCE_DIR, "tests", "e2e")]

import numpy  # noqa: E402
import redis  # noqa: E402
import torch  # noqa: E402

import cairnkv  # noqa: E402
from cairnkv import hashing, progress, run as runs, staging, upload  # noqa: E402
from cairnkv.wire import Wire  # noqa: E402
from cairn_server import Server  # noqa: E402
from server_case import ServerCase  # noqa: E402


class Bars:
    """Works as tqdm does, and remembers."""

    def __init__(self):
        self.made = []

    def __call__(self, total, desc, **_):
        bar = mock.Mock(total=total, desc=desc, seen=0, closed=False)
        bar.update.side_effect = lambda count: setattr(bar, "seen", bar.seen + count)
        bar.close.side_effect = lambda: setattr(bar, "closed", True)
        self.made.append(bar)
        return bar


class WithServer(ServerCase):
    def run_of(self, **options):
        return cairnkv.Run("run", client=self.client, rank=0, world=1, attempt=0, **options)


class Hashing(WithServer):
    def test_the_binding_and_the_library_agree_with_the_server(self):
        memory = memoryview(os.urandom(700_001))
        ranges = hashing.chunk_ranges(len(memory), 1000)
        ways = [way() for way in (hashing._from_binding, hashing._from_library)]
        self.assertNotIn(None, ways, "python3-xxhash and libxxhash are in packages.txt")
        self.assertEqual(ways[0](memory, ranges), ways[1](memory, ranges))
        begin, end = ranges[1]
        self.client.execute_command("TENSOR.SET", "t", "U8", "SHAPE", 1, end - begin, "BLOB", memory[begin:end], "XXH3", ways[0](memory, ranges)[1])

    def test_saves_share_with_either_and_send_all_with_neither(self):
        run, weight = self.run_of(), torch.randn(500, 1000)
        sent = []
        for step, way in enumerate((hashing._from_binding(), hashing._from_library(), None)):
            with mock.patch.object(hashing, "_DIGESTS", way):
                sent.append(run.save(step + 1, {"w": weight})["sent_bytes"])
        self.assertEqual(sent, [2_000_000, 0, 2_000_000])
        self.assertTrue(torch.equal(run.load()[0]["w"], weight))

    def test_a_chunk_that_goes_between_have_and_ref_travels(self):
        run, weight = self.run_of(), torch.randn(300_000)
        run.save(1, {"w": weight})
        original = Wire.call

        def call(wire, *words, **options):
            reply = original(wire, *words, **options)
            if words[0] == "CKPT.HAVE":
                return b"\xff" * len(reply)  # the server has them all, at this moment
            return reply
        weight[100_000] += 1
        with mock.patch.object(Wire, "call", call):
            sent = run.save(2, {"w": weight})["sent_bytes"]
        self.assertEqual(sent, weight.numel() * 4)
        self.assertTrue(torch.equal(run.load()[0]["w"], weight))

    def test_windows_and_pieces_of_any_size(self):
        state = {f"t{i}": torch.randn(i * 7919 + 1) for i in range(30)}
        run = self.run_of()
        with mock.patch.multiple(upload, WINDOW_BYTES=300_000, PIECE_BYTES=262_144, MAX_WAITING=2, DECLARE_TENSORS=7):
            run.save(1, state)
            self.assertEqual(run.save(2, state)["sent_bytes"], 0)
            run.save(3, state, reuse=False)
        for version in (1, 2, 3):
            loaded, _ = run.load(version)
            self.assertTrue(all(torch.equal(loaded[name], value) for name, value in state.items()))


class Progress(WithServer):
    def test_bars_count_every_byte_of_saves_and_loads(self):
        bars = Bars()
        run = self.run_of(progress=bars)
        state = {"a": torch.randn(100_000), "b": torch.randn(5)}
        run.save(1, state)
        run.save(2, state)
        run.load()
        self.assertEqual([(bar.total, bar.seen, bar.closed) for bar in bars.made], [(400_020, 400_020, True)] * 3)
        self.assertEqual([bar.desc for bar in bars.made], ["save run 1", "save run 2", "load run 2"])
        run.tensors(1, "a")
        self.assertEqual((bars.made[3].desc, bars.made[3].total, bars.made[3].seen), ("load run 1", 400_000, 400_000))
        run.save(3, state, progress=False)
        self.assertEqual(len(bars.made), 4)

    def test_a_bar_is_closed_when_the_save_fails(self):
        bars = Bars()
        with mock.patch.object(upload.Upload, "send", side_effect=redis.ResponseError("CKPTQUOTA no")), self.assertRaises(cairnkv.SaveFailed):
            self.run_of(progress=bars).save(1, {"a": torch.ones(3)})
        self.assertTrue(bars.made[0].closed)

    def test_tqdm_is_used_when_it_is_there_and_wanted(self):
        import tqdm
        terminal = mock.Mock(wraps=io.StringIO(), isatty=lambda: True)
        with mock.patch.object(sys, "stderr", terminal):
            self.assertIs(progress._maker(None, 0), tqdm.tqdm)
            self.assertIsNone(progress._maker(None, 1))
            self.assertIsNone(progress._maker(False, 0))
        with mock.patch.object(sys, "stderr", io.StringIO()):
            self.assertIsNone(progress._maker(None, 0))
            self.assertIs(progress._maker(True, 3), tqdm.tqdm)
            with progress.Bar(True, 10, "save x") as bar:
                bar.update(10)
            self.assertIn("save x: 100%", sys.stderr.getvalue())

    def test_without_tqdm_there_is_no_bar_unless_it_was_asked_for(self):
        original = builtins.__import__

        def without(name, *more):
            if name == "tqdm":
                raise ImportError(name)
            return original(name, *more)
        terminal = mock.Mock(wraps=io.StringIO(), isatty=lambda: True)
        with mock.patch.object(builtins, "__import__", without), mock.patch.object(sys, "stderr", terminal):
            self.assertIsNone(progress._maker(None, 0))
            with self.assertRaises(ImportError):
                progress._maker(True, 0)


class Background(WithServer):
    def test_one_copy_at_a_time(self):
        """While a save cannot go on, the next save_async waits and training before it did not."""
        run, weight, gate = self.run_of(), torch.zeros(1000), threading.Event()
        original = runs.Upload.prepare

        def held(self, *arguments):
            gate.wait(30)
            return original(self, *arguments)
        with mock.patch.object(runs.Upload, "prepare", held):
            first = run.save_async(1, {"w": weight})
            weight += 1
            second = threading.Thread(target=run.save_async, args=(2, {"w": weight}))
            second.start()
            second.join(0.2)
            self.assertTrue(second.is_alive())
            self.assertFalse(first.done())
            gate.set()
            second.join(30)
            self.assertEqual(run.wait()["step"], 2)
        self.assertEqual([run.load(step)[0]["w"][0].item() for step in (1, 2)], [0.0, 1.0])

    def test_what_is_saved_is_the_state_of_the_call_whatever_changes_while_it_travels(self):
        run, gate, original = self.run_of(), threading.Event(), runs.Upload.begin
        weight, complex_ = torch.arange(50.0), torch.tensor([1 + 2j, 3 - 4j])
        whole, array, own = torch.ones(6, 2), numpy.arange(5), torch.zeros(3)

        def held(upload, *arguments):
            gate.wait(30)
            return original(upload, *arguments)
        with mock.patch.object(runs.Upload, "begin", held):
            run.save_async(1, {"w": weight, "tied": weight, "row": weight[10:20], "conj": complex_.conj(), "array": array,
                               "shard": cairnkv.Shard(whole, whole.shape, (0, 0))}, rank_state={"own": own, "array": array})
            for changed in (weight, complex_, whole, own):
                changed.zero_().sub_(7)
            array[:] = -7
            gate.set()
            run.close()
        state, rank_state = run.load()
        self.assertEqual((state["w"].tolist(), state["row"].tolist()), (list(range(50)), list(range(10, 20))))
        self.assertIs(state["tied"], state["w"])
        self.assertEqual((state["conj"].tolist(), state["array"].tolist()), ([1 - 2j, 3 + 4j], [0, 1, 2, 3, 4]))
        self.assertEqual((state["shard"].sum(), rank_state["own"].tolist()), (12, [0, 0, 0]))
        self.assertEqual(rank_state["array"].tolist(), [0, 1, 2, 3, 4])

    def test_an_error_is_raised_by_the_next_call_and_logged_at_once(self):
        for number, what in enumerate(("save", "save_async", "wait", "close")):
            with self.subTest(what), self.assertLogs("cairnkv", "ERROR") as logged:
                run, step = self.run_of(), 10 * number
                future = run.save_async(step + 1, {"w": torch.tensor(float("nan"))}, guard_finite=True)
                self.assertIsInstance(future.exception(30), cairnkv.SaveFailed)
                arguments = (step + 2, {"w": torch.ones(1)}) if what.startswith("save") else ()
                with self.assertRaisesRegex(cairnkv.SaveFailed, "CKPTNOTFINITE"):
                    getattr(run, what)(*arguments)
                self.assertIn("CKPTNOTFINITE", logged.output[0])
                run.wait()     # for the save that the call has begun all the same
                self.assertEqual(step + 2 in run.steps(), what.startswith("save"))
                self.assertEqual(self.client.execute_command("CKPT.RESUME", "run", "RANK", 0), [], "no transaction stays open")
                self.assertEqual(run.save(step + 3, {"w": torch.ones(1)})["step"], step + 3)

    def test_a_save_that_runs_at_exit_is_finished(self):
        script = (f"import redis, torch, cairnkv\nrun = cairnkv.Run('run', client=redis.Redis(port={self.server.port}), rank=0, world=1)\n"
                  "run.save_async(5, {'w': torch.ones(4_000_000)})\n")
        environment = {**os.environ, "PYTHONPATH": os.path.join(SOURCE_DIR, "clients", "python")}
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60, env=environment)
        self.assertEqual(self.run_of().load()[0]["w"].sum().item(), 4_000_000)

    def test_a_state_beyond_the_limit_is_saved_at_once(self):
        run = self.run_of(copy_limit_bytes=1000)
        larger = ({"w": torch.ones(251)}, {"a": numpy.ones(126)}, {"c": torch.ones(126, dtype=torch.complex64).conj()},
                  {"a": torch.ones(200), "s": cairnkv.Shard(torch.ones(51), (51,), (0,))})
        with mock.patch.object(runs.staging.Staging, "copy", side_effect=AssertionError("copied")):
            for step, state in enumerate(larger, 1):
                self.assertTrue(run.save_async(step, state).done())
        with mock.patch.object(runs.staging.Staging, "copy", side_effect=staging.Staging().copy) as copied:
            run.save_async(9, {"w": torch.ones(250), "tied": []})
        self.assertEqual(copied.call_count, 1)
        run.close()
        self.assertEqual(run.steps(), [9, 4, 3, 2, 1])

    def test_copies_use_their_memory_again_and_hold_what_the_views_touch(self):
        stage, big = staging.Staging(), torch.zeros(1_000_000)
        row = big[1000:1010]
        state = {"row": row, "part": row[2:4], "shard": cairnkv.Shard(big[:50].reshape(5, 10), (10, 10), (0, 0)), "t": torch.ones(3, 4).t()}
        self.assertEqual(staging.size_bytes(state), 4 * (10 + 50 + 12))
        first = stage.copy(state)
        self.assertEqual(first["row"].storage().size(), 10)
        self.assertEqual(first["part"].storage().data_ptr(), first["row"].storage().data_ptr())
        self.assertTrue(torch.equal(first["t"], state["t"]))
        address = first["row"].data_ptr()
        row += 5
        second = stage.copy(state)
        self.assertEqual((second["row"].data_ptr(), second["part"].tolist()), (address, [5.0, 5.0]))
        third = stage.copy({"other": torch.ones(7)})
        self.assertEqual(third["other"].tolist(), [1.0] * 7)
        self.assertEqual(sum(len(held) for held in stage._buffers.values()), 1)

    def test_a_limit_on_versions(self):
        run = self.run_of()
        for step in range(1, 5):
            run.save_async(step, {"w": torch.ones(3)}, keep=2)
        run.close()
        self.assertEqual(run.steps(), [4, 3])


class Names(WithServer):
    def test_tied_weights_are_there_under_each_name_and_stored_once(self):
        run, weight = self.run_of(), torch.randn(300, 300)
        run.save(1, {"model": {"emb": weight, "head": weight}, "again": weight})
        self.assertEqual(set(run.tensors()), {"model.emb", "model.head", "again"})
        self.assertTrue(torch.equal(run.tensors(match="model.head")["model.head"], weight))
        rows = self.client.execute_command("CKPT.LIST", "run")[0]
        self.assertLess(rows[rows.index(b"bytes") + 1], weight.numel() * 4 + 2000)
        loaded, _ = run.load()
        self.assertIs(loaded["model"]["emb"], loaded["again"])

    def test_bf16_travels_bit_for_bit_and_its_chunks_are_shared(self):
        run, weight = self.run_of(), torch.randn(600, 600).bfloat16()
        weight[0, :3] = torch.tensor([float("nan"), -0.0, float("inf")])
        run.save(1, {"w": weight})
        self.assertEqual(run.save(2, {"w": weight})["sent_bytes"], 0)
        self.assertTrue(torch.equal(run.load()[0]["w"].view(torch.int16), weight.view(torch.int16)))


class OnTheWire(WithServer):
    def test_clients_of_any_kind(self):
        for options in ({"decode_responses": True}, {"socket_timeout": 20}, {"db": 3}):
            with self.subTest(options):
                self.client.flushall()
                run = cairnkv.Run("run", client=self.server.client(**options), rank=0, world=1, attempt=0)
                run.save(1, {"w": torch.arange(100_000.0)}, rank_state={"a": 1})
                state, rank_state = run.load()
                self.assertEqual((state["w"].sum().item(), rank_state), (torch.arange(100_000.0).sum().item(), {"a": 1}))

    def test_a_pool_of_one_connection_is_enough(self):
        class Blocking(redis.BlockingConnectionPool):
            def get_connection(self, *arguments, **options):
                assert not self.pool.empty(), "it would wait for a connection that nobody gives back"
                return super().get_connection(*arguments, **options)

        for most, kind in ((most, kind) for most in (1, 2, 3) for kind in (redis.ConnectionPool, Blocking)):
            with self.subTest((most, kind)):
                self.client.flushall()
                pool = kind(port=self.server.port, max_connections=most)
                run = cairnkv.Run("run", client=redis.Redis(connection_pool=pool), rank=0, world=1, attempt=0)
                weight = torch.randn(500_000)
                with mock.patch.object(upload, "WINDOW_BYTES", 1):
                    run.save(1, {"a": weight, "b": weight + 1})
                self.assertTrue(torch.equal(run.load()[0]["b"], weight + 1))

    def test_replies_of_both_protocols(self):
        with Wire(self.client) as wire:
            self.assertEqual(wire.call("SET", "k", b"x" * 100_000), b"OK")
            for protocol in (2, 3):
                wire.call("HELLO", protocol)
                memory = memoryview(bytearray(100_000))
                self.assertIs(wire.call("GET", "k", into=memory), memory)
                self.assertEqual(bytes(memory), b"x" * 100_000)
                self.assertIsNone(wire.call("GET", "missing"))
                self.assertEqual(wire.call("HSET", "h", "f", "v"), 1 if protocol == 2 else 0)
                self.assertEqual(wire.call("HGETALL", "h"), [b"f", b"v"] if protocol == 2 else {b"f": b"v"})
                self.assertEqual(wire.call("EVAL", "return {1, {2, 'x'}}", 0), [1, [2, b"x"]])
                with self.assertRaisesRegex(redis.ResponseError, "^WRONGTYPE"):
                    wire.call("LPUSH", "k", "x")
                with self.assertRaisesRegex(redis.ResponseError, "^unknown command"):
                    wire.call("NOPE")
                self.assertEqual(wire.call("PING"), b"PONG")
            wire.call("HELLO", 2)

    def test_a_broken_conversation_is_not_handed_on(self):
        with self.assertRaises(ValueError), Wire(self.client) as wire:
            wire.call("SET", "k", "abc")
            wire.call("GET", "k", into=memoryview(bytearray(5)))
        with Wire(self.client) as wire:
            wire.send("PING")  # nobody takes the reply
        self.assertEqual(self.client.get("k"), b"abc")

    def test_a_server_that_goes_away_is_a_connection_error(self):
        with Server(tensors=True) as server:
            run = cairnkv.Run("run", client=server.client(), rank=0, world=1, attempt=0)
            run.save(1, {"w": torch.ones(3)})
            server.kill()
            with self.assertRaises(redis.ConnectionError):
                run.save(2, {"w": torch.ones(3)})
            server.start()
            self.assertEqual(run.save(3, {"w": torch.ones(3)})["step"], 3)


if __name__ == "__main__":
    unittest.main()
