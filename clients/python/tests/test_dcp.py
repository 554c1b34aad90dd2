"""The reader and writer for torch.distributed.checkpoint: alone, and with processes of gloo that save as four and load as others."""

import multiprocessing
import os
import socket
import sys
import unittest
import unittest.mock

SOURCE_DIR = os.environ.get("CAIRN_SOURCE_DIR") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
sys.path[:0] = [os.path.join(SOURCE_DIR, "clients", "python"), os.path.join(SOURCE_DIR, "tests", "e2e")]

import redis  # noqa: E402
import torch  # noqa: E402
import torch.distributed as dist  # noqa: E402

import cairnkv  # noqa: E402
from cairnkv import dcp  # noqa: E402  (before torch's own package: see torch_checkpoint.py)
from cairnkv.torch_checkpoint import sharded_tensor  # noqa: E402
from torch.distributed._shard.sharding_spec import ShardMetadata  # noqa: E402
from server_case import ServerCase  # noqa: E402

ROWS, COLUMNS = 1003, 301


def logical():
    return torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(7))


def bounds(size, rank, world):
    return size * rank // world, size * (rank + 1) // world


def sharded(whole, dim, rank, world):
    """This rank's even share of `whole` as a ShardedTensor. Requires a process group."""
    begin, end = bounds(whole.shape[dim], rank, world)
    offset = [0, 0]
    offset[dim] = begin
    local = whole.narrow(dim, begin, end - begin).clone()
    metadata = ShardMetadata(offset, list(local.shape), placement=f"rank:{rank}/cpu")
    return sharded_tensor.init_from_local_shards([sharded_tensor.Shard(local, metadata)], *whole.shape)


def state_of(whole, rank, world):
    return {"rows": sharded(whole, 0, rank, world), "columns": sharded(whole, 1, rank, world), "plain": whole[:5].bfloat16(),
            "note": {"epoch": 3}}


# Ranks are processes of their own; they are forked from one that has done no more than import torch, which takes longer than
# all that a rank does.
RANKS = multiprocessing.get_context("forkserver")
RANKS.set_forkserver_preload(["redis", "torch", "torch.distributed"])


def rank_main(work, port, environment):
    """One process of a job, started by the test below."""
    os.environ.update(environment)
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    client = redis.Redis(port=port)
    if work == "save":
        dcp.checkpoint.save_state_dict(state_of(logical(), rank, world), dcp.RunWriter("run", 10, client=client, tag="first"))
        again = dcp.RunWriter("run", 11, client=client)
        dcp.checkpoint.save_state_dict(state_of(logical(), rank, world), again)
    elif work == "fail":
        state = state_of(logical() + 1, rank, world)
        if rank == world - 1:  # a type that has no name on the wire
            state["rows"].local_shards()[0].tensor = torch.quantize_per_tensor(state["rows"].local_shards()[0].tensor, 1, 0, torch.qint8)
        try:
            dcp.checkpoint.save_state_dict(state, dcp.RunWriter("run", 12, client=client, wait_ms=1000))
            sys.exit("a rank failed and the save did not")
        except dcp.checkpoint.CheckpointException:
            pass
    else:
        state = state_of(torch.zeros(ROWS, COLUMNS), rank, world)
        state["note"] = None
        dcp.checkpoint.load_state_dict(state, dcp.RunReader("run", "@first" if work == "tag" else "LATEST", client=client))
        whole = logical()
        for dim, name in enumerate(("rows", "columns")):
            begin, end = bounds(whole.shape[dim], rank, world)
            assert torch.equal(state[name].local_shards()[0].tensor, whole.narrow(dim, begin, end - begin)), name
        assert torch.equal(state["plain"], whole[:5].bfloat16())
        assert state["note"] == {"epoch": 3}
    dist.barrier()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class DcpTest(ServerCase):
    def save(self, state, step, **options):
        dcp.checkpoint.save_state_dict(state, dcp.RunWriter("run", step, client=self.client, **options), no_dist=True)

    def load(self, state, version="LATEST"):
        dcp.checkpoint.load_state_dict(state, dcp.RunReader("run", version, client=self.client), no_dist=True)
        return state

    def job(self, work, world):
        environment = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
        ranks = [RANKS.Process(target=rank_main, args=(work, self.server.port, {**environment, "RANK": str(rank)}), daemon=True)
                 for rank in range(world)]
        for rank in ranks:
            rank.start()
        for rank in ranks:
            rank.join(timeout=240)
        self.assertEqual([rank.exitcode for rank in ranks], [0] * world, "what they said stands above")

    def test_what_one_process_saves_it_loads_bit_for_bit(self):
        saved = {"w": torch.randn(700, 300).t(), "half": torch.randn(9, 4).bfloat16(), "scalar": torch.tensor(2.5), "yes": torch.tensor([True]),
                 "empty": torch.zeros(0, 3), "step": 7, "nested": {"a": [1, "x"]}}
        self.save(saved, 1)
        blank = {name: torch.zeros_like(value).contiguous() if isinstance(value, torch.Tensor) else None for name, value in saved.items()}
        loaded = self.load(blank)
        for name, value in saved.items():
            if isinstance(value, torch.Tensor):
                self.assertTrue(torch.equal(loaded[name], value), name)
            else:
                self.assertEqual(loaded[name], value)

    def test_a_second_save_sends_what_changed(self):
        weight = torch.randn(1000, 1000)
        sizes = []

        class Counted(dcp.Upload):
            def __exit__(self, *error):
                sizes.append(self.sent_bytes)
                return super().__exit__(*error)

        for step in (1, 2, 3):
            with unittest.mock.patch.object(dcp, "Upload", Counted):
                self.save({"w": weight, "tied": weight}, step)
            if step == 2:
                weight[0, 0] += 1
        sent = [sum(sizes[at:at + 3]) for at in (0, 3, 6)]  # begin, write_data and finish each have their own
        self.assertEqual(sent[1], 0)
        self.assertGreater(sent[0], weight.numel() * 4 - 1)
        self.assertLessEqual(sent[2], 2 * cairnkv.hashing.CHUNK_BYTES)

    def test_others_read_what_it_saves_and_it_reads_what_others_save(self):
        self.save({"w": torch.arange(6.0)}, 1, tag="one")
        run = cairnkv.Run("run", client=self.client, rank=0, world=1, attempt=0)
        self.assertTrue(torch.equal(run.tensors("@one")["w"], torch.arange(6.0)))
        run.save(2, {"model": {"w": torch.ones(4, 4)}})
        self.assertTrue(torch.equal(self.load({"model.w": torch.zeros(4, 4)})["model.w"], torch.ones(4, 4)))

    def test_a_job_that_was_started_again_fences_the_one_before(self):
        def save(step, **environment):
            with unittest.mock.patch.dict(os.environ, environment):
                self.save({"w": torch.full((3,), float(step))}, step)

        save(1, TORCHELASTIC_RESTART_COUNT="2")
        with self.assertRaises(cairnkv.SaveFailed) as caught:
            cairnkv.Run("run", client=self.client, rank=0, world=1, attempt=1).save(2, {"w": torch.zeros(1)})
        self.assertEqual(caught.exception.word, "CKPTFENCED")
        cairnkv.Run("run", client=self.client, rank=0, world=1, attempt=3).save(3, {"w": torch.zeros(1)})
        with self.assertRaises(dcp.checkpoint.CheckpointException):
            save(4, TORCHELASTIC_RESTART_COUNT="2")
        save(4, ATTEMPT="3")
        self.save({"w": torch.ones(1)}, 5, attempt=4)
        self.assertEqual(cairnkv.Run("run", client=self.client, rank=0, world=1, attempt=4).steps(), [5, 4, 3, 1])

    def test_no_version_and_no_such_name(self):
        with self.assertRaises(dcp.checkpoint.CheckpointException) as caught:
            self.load({"w": torch.zeros(1)})
        self.assertIsInstance(caught.exception.failures[0][0], KeyError)
        self.save({"w": torch.zeros(1)}, 1)
        with self.assertRaises(dcp.checkpoint.CheckpointException):
            self.load({"other": torch.zeros(1)})

    def test_a_save_that_fails_leaves_nothing_open(self):
        self.save({"w": torch.ones(3)}, 1)
        self.client.execute_command("ACL", "SETUSER", "poor", "on", ">p", "~*", "+@all", "-ckpt.put")
        self.client.execute_command("ACL", "SETUSER", "poorer", "on", ">p", "~*", "+@all", "-ckpt.commit")
        for step in range(2, 8):     # a run has four open transactions at most
            client = self.server.client(username="poor" if step % 2 else "poorer", password="p")
            with self.assertRaises(dcp.checkpoint.CheckpointException):
                dcp.checkpoint.save_state_dict({"w": torch.ones(3) * step}, dcp.RunWriter("run", step, client=client), no_dist=True)
        self.save({"w": torch.ones(3)}, 8)
        self.assertEqual(cairnkv.Run("run", client=self.client, rank=0, world=1, attempt=0).steps(), [8, 1])

    def test_four_ranks_save_and_two_three_and_one_load(self):
        self.job("save", 4)
        for work, world in (("load", 2), ("tag", 3), ("load", 1)):
            self.job(work, world)
        manifest = cairnkv.Run("run", client=self.client, rank=0, world=1, attempt=0).tensors(10)
        self.assertTrue(torch.equal(manifest["rows"], logical()))
        self.assertTrue(torch.equal(manifest["columns"], logical()))

    def test_a_rank_that_fails_leaves_no_version(self):
        self.job("save", 2)
        self.job("fail", 2)
        self.assertEqual(cairnkv.Run("run", client=self.client, rank=0, world=1, attempt=0).steps(), [11, 10])
        self.job("load", 2)


if __name__ == "__main__":
    unittest.main()
