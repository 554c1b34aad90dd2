"""Run: checkpoints of several ranks against a real server, each rank a client of its own in a thread; and the example with
four processes of which one is killed in the middle of a save."""

import os
import re
import subprocess
import sys
import threading
import unittest
import unittest.mock

SOURCE_DIR = os.environ.get("CAIRN_SOURCE_DIR") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
sys.path[:0] = [os.path.join(SOURCE_DIR, "clients", "python"), os.path.join(SOURCE_DIR, "tests", "e2e")]

import torch  # noqa: E402

import cairnkv  # noqa: E402
from cairnkv import hashing, packed, shards, state as states  # noqa: E402
from server_case import ServerCase  # noqa: E402

EXAMPLE = os.path.join(SOURCE_DIR, "clients", "python", "examples", "train_ranks.py")


def logical(seed):
    return torch.randn(1001, 300, generator=torch.Generator().manual_seed(seed))


class RunTest(ServerCase):
    def run_of(self, rank=0, world=1, attempt=0):
        return cairnkv.Run("run", client=self.server.client(), rank=rank, world=world, attempt=attempt)

    def together(self, world, work):
        """work(run) on every rank at once; returns their results in order. Errors: the first one's."""
        results = [None] * world

        def one(rank):
            try:
                results[rank] = work(self.run_of(rank, world))
            except Exception as error:  # handed on below
                results[rank] = error

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(world)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results

    def save(self, world, step, whole, dim=0):
        def work(run):
            if dim == 0:
                part = cairnkv.even_rows(whole, run.rank, run.world)
            else:
                size = whole.shape[1]
                begin, end = size * run.rank // run.world, size * (run.rank + 1) // run.world
                part = cairnkv.Shard(whole[:, begin:end], whole.shape, (0, begin))
            tied = torch.arange(6.0)
            state = {"w": part, "plain": whole[:3].bfloat16(), "tied": [tied, tied], "step": step, "nan": float("nan")}
            return run.save(step, state, rank_state={"rank": run.rank, "rng": torch.get_rng_state()})
        return self.together(world, work)

    def test_who_a_rank_is_comes_from_the_environment(self):
        def run(environment, **given):
            with unittest.mock.patch.dict(os.environ, environment, clear=True):
                made = cairnkv.Run("run", client=self.server.client(), **given)
            return made.rank, made.world, made.attempt

        self.assertEqual(run({}), (0, 1, None), "one process takes what each save needs")
        self.assertEqual(run({"RANK": "1", "WORLD_SIZE": "2"}), (1, 2, 0))
        torchrun = {"RANK": "2", "WORLD_SIZE": "4", "TORCHELASTIC_RESTART_COUNT": "3"}
        self.assertEqual(run(torchrun), (2, 4, 3))
        self.assertEqual(run({**torchrun, "ATTEMPT": "9"}), (2, 4, 9), "the higher of the two counts")
        self.assertEqual(run({"ATTEMPT": "5"}), (0, 1, 5))
        self.assertEqual(run(torchrun, rank=0, world=1, attempt=0), (0, 1, 0), "what is given counts")
        with self.assertRaises(ValueError):
            run({"WORLD_SIZE": "4"})

    def test_a_restart_count_from_the_environment_fences_older_processes(self):
        def save(step, count):
            with unittest.mock.patch.dict(os.environ, {"TORCHELASTIC_RESTART_COUNT": count}):
                cairnkv.Run("run", client=self.server.client(), rank=0, world=1).save(step, {"w": torch.zeros(1)})

        save(1, "1")
        with self.assertRaises(cairnkv.SaveFailed) as caught:
            save(2, "0")
        self.assertEqual(caught.exception.word, "CKPTFENCED")
        self.assertEqual(self.run_of().steps(), [1])

    def test_any_number_of_ranks_reads_what_any_other_saved(self):
        for dim in (0, 1):
            whole = logical(dim)
            self.save(4, 10 + dim, whole, dim)
            for world in (1, 2, 3):
                def load(run):
                    share = cairnkv.even_rows(whole, run.rank, run.world)
                    return run.load(template={"w": share})
                parts = [state["w"] for state, _ in self.together(world, load)]
                self.assertTrue(torch.equal(torch.cat(parts), whole))
            state, rank_state = self.run_of(2, 4).load()
            self.assertTrue(torch.equal(state["w"], whole))
            self.assertTrue(torch.equal(state["plain"], whole[:3].bfloat16()))
            self.assertIs(state["tied"][0], state["tied"][1])
            self.assertEqual((state["step"], rank_state["rank"]), (10 + dim, 2))
            self.assertTrue(torch.equal(rank_state["rng"], torch.get_rng_state()))
            self.assertIsNone(self.run_of().load(rank=7)[1])

    def test_an_unchanged_save_sends_next_to_nothing(self):
        self.assertTrue(hashing.available(), "libxxhash is a dependency of the server")
        for dim in (0, 1):
            whole = logical(5 + dim)
            first = self.save(2, 20 + 2 * dim, whole, dim)
            self.assertGreater(sum(row["sent_bytes"] for row in first), whole.numel() * 4)
            again = self.save(2, 21 + 2 * dim, whole, dim)
            self.assertEqual(sum(row["sent_bytes"] for row in again), 0)
        whole[500, 7] += 1
        changed = self.save(2, 30, whole, 1)
        self.assertLessEqual(sum(row["sent_bytes"] for row in changed), hashing.CHUNK_BYTES)
        self.assertTrue(torch.equal(self.run_of().load()[0]["w"], whole))

    def test_other_ranks_share_chunks_of_rows(self):
        whole = torch.randn(4000, 300)
        self.save(4, 1, whole)
        sent = sum(row["sent_bytes"] for row in self.save(3, 2, whole))
        self.assertLess(sent, 2 * 3 * hashing.CHUNK_BYTES)

    def test_async_saves_a_copy(self):
        run = self.run_of()
        weight = torch.zeros(1000, 100)
        future = run.save_async(1, {"w": weight, "view": weight[5]})
        weight += 1
        self.assertEqual(future.result(60)["step"], 1)
        run.save_async(2, {"w": weight})
        run.close()
        self.assertEqual(run.steps(), [2, 1])
        state, _ = run.load(1)
        self.assertEqual(state["w"].sum(), 0)
        self.assertEqual(state["view"].untyped_storage().data_ptr() if hasattr(state["view"], "untyped_storage")
                         else state["view"].storage().data_ptr(), state["w"].storage().data_ptr())

    def test_zombies_and_missing_ranks_fail_by_the_servers_word(self):
        run = self.run_of(0, 2)
        with self.assertRaises(cairnkv.SaveFailed) as caught:
            run.save(1, {"a": 1}, wait_ms=50)
        self.assertEqual(caught.exception.word, "CKPTINCOMPLETE")
        self.run_of(attempt=1).save(1, {"a": torch.ones(1)})
        with self.assertRaises(cairnkv.SaveFailed) as caught:
            run.save(2, {"a": 1})
        self.assertEqual(caught.exception.word, "CKPTFENCED")
        with self.assertRaises(cairnkv.SaveFailed) as caught:
            self.run_of(attempt=1).save(3, {"a": torch.tensor([1, float("inf")])}, guard_finite=True)
        self.assertEqual(caught.exception.word, "CKPTNOTFINITE")
        self.assertEqual(self.run_of().latest(), 1)

    def test_nobody_guesses_a_rank(self):
        old = {name: os.environ.pop(name, None) for name in ("RANK", "WORLD_SIZE")}
        try:
            os.environ["WORLD_SIZE"] = "2"
            with self.assertRaises(ValueError):
                cairnkv.Run("run", client=self.server.client())
            os.environ["RANK"] = "1"
            run = cairnkv.Run("run", client=self.server.client())
            self.assertEqual((run.rank, run.world), (1, 2))
        finally:
            for name, value in old.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value

    def test_no_version_is_a_key_error(self):
        with self.assertRaises(KeyError):
            self.run_of().load()
        self.assertIsNone(self.run_of().latest())
        self.run_of().save(1, {"a": 1})
        with self.assertRaises(KeyError):
            self.run_of().load(2)

    # --- the example ---

    def example(self, *words):
        ended = subprocess.run([sys.executable, EXAMPLE, "--port", str(self.server.port), *words], text=True, timeout=180,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        return ended.returncode, ended.stdout

    def test_four_ranks_one_killed_in_mid_save_resumed_with_two_and_three(self):
        code, output = self.example("--run", "whole", "--world", "1")
        self.assertEqual(code, 0, output)
        final = re.search(r"final 20 \w+", output).group()
        code, output = self.example("--world", "4", "--kill-rank", "2", "--kill-step", "10")
        self.assertEqual(code, 1, output)
        self.assertIn("saved 5", output)
        self.assertNotIn("saved 10", output)
        self.assertIn("step 10 is not saved: CKPTINCOMPLETE rank 2 not prepared", output)
        code, output = self.example("--world", "2", "--attempt", "1", "--steps", "15")
        self.assertEqual(code, 0, output)
        self.assertEqual(re.findall(r"saved \d+", output), ["saved 10", "saved 15"])
        code, output = self.example("--world", "3", "--attempt", "2")
        self.assertEqual(code, 0, output)
        self.assertEqual(re.search(r"final 20 \w+", output).group(), final, "as if nothing had been killed")


class PartsOfRun(unittest.TestCase):
    """What needs no server."""

    def test_names_are_paths_and_differ(self):
        tree, blocks = states.flatten({"a": {"b": torch.ones(1)}, "a.b": torch.ones(2), "l": [torch.ones(3)]})
        self.assertEqual(states.block_names(tree, len(blocks)), ["a.b", "a.b#2", "l.0"])

    def test_a_shard_needs_a_run(self):
        with self.assertRaises(TypeError):
            states.flatten({"s": cairnkv.Shard(torch.ones(2, 2), (4, 2), (0, 0))})
        with self.assertRaises(ValueError):
            cairnkv.Shard(torch.ones(2, 2), (4, 2), (3, 0))

    def test_the_grid_is_the_servers(self):
        self.assertEqual(shards.phase("F32", (1000, 1000), (100, 0), (900, 1000)), 100 * 1000 * 4 % (256 << 10))
        self.assertEqual(shards.phase("F32", (1000, 1000), (0, 10), (1000, 990)), 0)
        self.assertEqual(shards.phase("U8", (3, 1000), (1, 10), (1, 990)), 1010)
        self.assertEqual(hashing.chunk_ranges(0), [])
        self.assertEqual(hashing.chunk_ranges(256 << 10), [(0, 256 << 10)])
        self.assertEqual(hashing.chunk_ranges(10, 5), [(0, 10)])

    def test_a_cut_rank_state_is_refused(self):
        blob = packed.pack({"a": torch.ones(10)})
        for size in (0, 7, 20, len(blob) - 1):
            with self.assertRaises(ValueError):
                packed.unpack(blob[:size])


if __name__ == "__main__":
    unittest.main()
