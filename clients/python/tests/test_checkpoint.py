"""save and load against real servers: CairnKV with tensors, and redis-server with blocks as strings."""

import json
import os
import sys
import unittest
from unittest import mock

SOURCE_DIR = os.environ.get("CAIRN_SOURCE_DIR") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
sys.path[:0] = [os.path.join(SOURCE_DIR, "clients", "python"), os.path.join(SOURCE_DIR, "tests", "e2e")]

import redis  # noqa: E402
import torch  # noqa: E402

import cairnkv  # noqa: E402
from cairnkv import checkpoint  # noqa: E402
from cairn_server import Server  # noqa: E402


def state(seed):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(300, 40, generator=generator)
    return {"model": {"w": weight, "tied": weight, "b": torch.randn(7, generator=generator).bfloat16()}, "step": seed,
            "names": ("a", "b"), "empty": torch.zeros(0)}


def same(left, right):
    return (torch.equal(left["model"]["w"], right["model"]["w"]) and torch.equal(left["model"]["b"], right["model"]["b"])
            and left["step"] == right["step"] and left["names"] == right["names"])


class Cut(Exception):
    """The trainer is killed here."""


class Checkpoints:
    """What holds for both kinds of blocks; `self.options` makes the difference."""

    server_options: dict = {}
    options: dict = {}

    @classmethod
    def setUpClass(cls):
        cls.server = Server(**cls.server_options).start()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def setUp(self):
        self.client = self.server.client()
        self.client.flushall()

    def save(self, step, value=None, run="run", **options):
        return cairnkv.save(run, step, value or state(step), client=self.client, **self.options, **options)

    def load(self, step=None, run="run"):
        return cairnkv.load(run, step, client=self.client)

    def test_newest_and_named_steps(self):
        with self.assertRaises(KeyError):
            self.load()
        for step in (1, 2, 3):
            self.save(step, keep=2)
        self.assertTrue(same(self.load(), state(3)))
        self.assertTrue(same(self.load(2), state(2)))
        with self.assertRaises(KeyError):
            self.load(1)
        self.assertEqual(cairnkv.steps("run", client=self.client), [2, 3])
        self.assertEqual(cairnkv.latest("run", client=self.client), 3)
        back = self.load()
        self.assertEqual(back["model"]["w"].data_ptr(), back["model"]["tied"].data_ptr())

    def test_a_step_saved_again_wins(self):
        self.save(5, state(1))
        self.save(5, state(2))
        self.assertTrue(same(self.load(5), state(2)))

    def test_old_checkpoints_leave_no_keys(self):
        self.save(1)
        count = self.client.dbsize()
        for step in range(2, 6):
            self.save(step, keep=1)
        self.assertEqual(self.client.dbsize(), count)
        self.assertEqual(cairnkv.delete("run", client=self.client), 1)
        self.assertEqual(self.client.dbsize(), 0)

    def test_large_blocks_travel_in_pieces_and_batches(self):
        big = {"w": torch.arange(300_000, dtype=torch.int32), "more": [torch.full((1000,), float(i)) for i in range(50)]}
        with mock.patch.object(checkpoint, "PIECE_BYTES", 100_000), mock.patch.object(checkpoint, "BATCH_BYTES", 10_000):
            self.save(1, big)
            back = self.load()
        self.assertTrue(torch.equal(back["w"], big["w"]))
        self.assertTrue(all(torch.equal(a, b) for a, b in zip(back["more"], big["more"])))

    def test_a_trainer_killed_at_any_command_leaves_the_old_checkpoint_or_the_new(self):
        self.save(1)
        sent = 0
        with mock.patch.object(redis.connection.Connection, "send_packed_command", autospec=True,
                               side_effect=redis.connection.Connection.send_packed_command) as send:
            self.save(2)
            sent = send.call_count
        self.assertGreater(sent, 5)
        original = redis.connection.Connection.send_packed_command
        for cut in range(sent):
            with self.subTest(cut=cut):
                self.client.flushall()
                self.save(1)
                left = [cut]

                def send(connection, command, check_health=True):
                    if left[0] == 0:
                        raise Cut
                    left[0] -= 1
                    return original(connection, command, check_health)
                with mock.patch.object(redis.connection.Connection, "send_packed_command", send):
                    try:
                        self.save(2)
                    except Cut:
                        pass
                self.client = self.server.client()
                self.assertTrue(any(same(self.load(), state(step)) for step in (1, 2)))
                self.assertTrue(same(self.load(1), state(1)))
                self.save(3, keep=1)
                self.assertEqual(self.client.dbsize(), self.alone(3))

    def alone(self, step):
        """How many keys a run with this checkpoint alone has."""
        self.save(step, run="alone", keep=1)
        count = len(self.client.keys("alone:*"))
        cairnkv.delete("alone", client=self.client)
        return count

    def test_of_two_writers_one_is_told(self):
        original = checkpoint._push

        def push_late(*arguments):
            original(*arguments)
            with mock.patch.object(checkpoint, "_push", original):
                cairnkv.save("run", 8, state(8), client=self.server.client(), **self.options)
        with mock.patch.object(checkpoint, "_push", push_late), self.assertRaises(cairnkv.CheckpointConflict):
            self.save(7)
        self.assertTrue(same(self.load(), state(8)))

    def test_damaged_checkpoints_are_named(self):
        name = self.save(1)
        manifest = self.client.get(f"run:ckpt:{name}")
        self.client.set(f"run:ckpt:{name}", manifest.replace(b'"format":1', b'"format":2'))
        with self.assertRaisesRegex(cairnkv.CheckpointError, "format 2"):
            self.load()
        self.client.set(f"run:ckpt:{name}", manifest)
        self.client.delete(f"run:ckpt:{name}:0")
        with self.assertRaisesRegex(cairnkv.CheckpointError, "is gone"):
            self.load()

    def test_wrong_arguments(self):
        for arguments in ({"step": -1}, {"step": 1, "keep": 0}):
            with self.assertRaises(ValueError):
                cairnkv.save("run", state={}, client=self.client, **arguments)
        with self.assertRaises(TypeError):
            self.save(1, {"f": object()})
        self.assertEqual(self.client.dbsize(), 0)


class AsTensors(Checkpoints, unittest.TestCase):
    server_options = {"tensors": True}

    def test_blocks_are_tensors_that_anybody_can_ask_about(self):
        name = self.save(1)
        tree = json.loads(self.client.get(f"run:ckpt:{name}"))
        self.assertEqual(tree["values"], "tensor")
        self.assertEqual(self.client.type(f"run:ckpt:{name}:0"), b"tensor")
        self.assertEqual(self.client.execute_command("TENSOR.INFO", f"run:ckpt:{name}:0")[3], [300, 40])

    def test_a_tensor_of_another_shape_is_not_taken_for_the_block(self):
        name = self.save(1)
        self.client.execute_command("TENSOR.SET", f"run:ckpt:{name}:0", "F32", "SHAPE", 2, 40, 300, "ZEROS")
        with self.assertRaises(cairnkv.CheckpointError):
            self.load()


class AsStringsInRedis(Checkpoints, unittest.TestCase):
    server_options = {"binary": "redis"}
    options = {"as_strings": True}


if __name__ == "__main__":
    unittest.main()
