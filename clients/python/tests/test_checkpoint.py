"""save and load, the two calls of one process: against a real server, and killed at each command."""

import os
import sys
import unittest
from unittest import mock

SOURCE_DIR = os.environ.get("CAIRN_SOURCE_DIR") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
sys.path[:0] = [os.path.join(SOURCE_DIR, "clients", "python"), os.path.join(SOURCE_DIR, "tests", "e2e")]

import redis  # noqa: E402
import torch  # noqa: E402

import cairnkv  # noqa: E402
from cairnkv.upload import Upload  # noqa: E402
from server_case import ServerCase  # noqa: E402


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


class SaveAndLoad(ServerCase):
    def save(self, step, value=None, **options):
        return cairnkv.save("run", step, value or state(step), client=self.client, **options)

    def load(self, version="LATEST"):
        return cairnkv.load("run", version, client=self.client)

    def listed(self):
        return cairnkv.Run("run", client=self.client).steps()

    def test_newest_and_named_steps(self):
        with self.assertRaises(KeyError):
            self.load()
        for step in (1, 2, 3):
            self.save(step)
        self.assertTrue(same(self.load(), state(3)))
        self.assertTrue(same(self.load(2), state(2)))
        with self.assertRaises(KeyError):
            self.load(1)
        self.assertEqual(self.listed(), [3, 2], "two stay when nobody says how many")
        back = self.load()
        self.assertEqual(back["model"]["w"].data_ptr(), back["model"]["tied"].data_ptr())
        self.assertEqual(self.client.keys("*"), [b"run"], "all is in the one key")

    def test_what_run_saves_is_loaded_and_the_other_way_round(self):
        run = cairnkv.Run("run", client=self.client)
        run.save(1, state(1), rank_state={"rank": 0})
        self.assertTrue(same(self.load(), state(1)))
        self.save(2, keep=None, tag="best")
        self.assertTrue(same(run.load("@best")[0], state(2)))
        self.save(3, keep=None)
        self.assertEqual(self.listed(), [3, 2, 1])

    def test_a_step_saved_again_wins(self):
        self.save(5, state(1))
        self.save(5, state(2))
        self.assertTrue(same(self.load(5), state(2)))
        self.assertEqual(self.listed(), [5])

    def test_a_resume_from_an_older_step_saves_the_later_ones_anew(self):
        for step in (1, 2, 3):
            self.save(step, keep=None)
        self.assertTrue(same(self.load(1), state(1)))
        for step in (2, 3):
            self.save(step, state(step + 10), keep=None)
        self.assertTrue(same(self.load(2), state(12)))
        self.assertTrue(same(self.load(), state(13)))

    def test_an_attempt_that_was_said_is_kept_to(self):
        with mock.patch.dict(os.environ, {"TORCHELASTIC_RESTART_COUNT": "3"}):
            self.save(5)
            with self.assertRaises(cairnkv.SaveFailed):
                self.save(5, state(6))
        with mock.patch.dict(os.environ, {"ATTEMPT": "2"}), self.assertRaisesRegex(cairnkv.SaveFailed, "CKPTFENCED"):
            self.save(6)
        self.assertTrue(same(self.load(), state(5)))

    def test_of_two_writers_of_a_step_one_is_told(self):
        original = Upload.prepare

        def prepare_late(upload, *arguments):
            with mock.patch.object(Upload, "prepare", original):
                cairnkv.save("run", 7, state(8), client=self.server.client())
            original(upload, *arguments)
        with mock.patch.object(Upload, "prepare", prepare_late), self.assertRaisesRegex(cairnkv.SaveFailed, "CKPTFENCED"):
            self.save(7)
        self.assertTrue(same(self.load(), state(8)))

    def test_a_trainer_killed_at_any_command_leaves_the_old_checkpoint_or_the_new(self):
        """And the one after it saves the same step with other bytes, as one whose kernels are not deterministic does."""
        original = redis.connection.Connection.send_packed_command
        self.save(1)
        with mock.patch.object(redis.connection.Connection, "send_packed_command", autospec=True, side_effect=original) as send:
            self.save(2)
            sent = send.call_count
        self.assertGreater(sent, 10)
        seen = set()
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
                    with self.assertRaises(Cut):
                        self.save(2)
                self.client = self.server.client()
                found = self.load()["step"]
                seen.add(found)
                self.assertTrue(same(self.load(), state(found)))
                self.assertTrue(same(self.load(1), state(1)))
                self.save(2, state(12), keep=1)
                self.assertTrue(same(self.load(), state(12)))
                self.assertEqual(self.listed(), [2])
        self.assertEqual(seen, {1, 2}, "cuts before the commit and behind it")

    def test_wrong_arguments(self):
        for arguments in ({"step": -1}, {"step": 1, "keep": 0}):
            with self.assertRaises(ValueError):
                cairnkv.save("run", state={}, client=self.client, **arguments)
        with self.assertRaises(TypeError):
            self.save(1, {"f": object()})
        with self.assertRaises(TypeError):
            self.save(1, as_strings=True)
        self.assertEqual(self.client.dbsize(), 0)


if __name__ == "__main__":
    unittest.main()
