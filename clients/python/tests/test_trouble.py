"""Run when something goes wrong: a step that is saved again while it is read, a server that is loading or refuses, saves that are
interrupted, refused or never answered."""

import logging
import os
import sys
import threading
import time
import unittest
import unittest.mock

SOURCE_DIR = os.environ.get("CAIRN_SOURCE_DIR") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
sys.path[:0] = [os.path.join(SOURCE_DIR, "clients", "python"), os.path.join(SOURCE_DIR, "tests", "e2e")]

import redis  # noqa: E402
import torch  # noqa: E402

import cairnkv  # noqa: E402
from cairnkv import reading, upload, wire  # noqa: E402
from server_case import ServerCase  # noqa: E402

BYTES = 20 << 20             # of a tensor that is read in several pieces


def filled(value):
    return {"a": torch.full((BYTES // 4,), float(value)), "b": torch.full((7,), float(value))}


class Meanwhile:
    """A progress bar that does something once, when half has passed."""

    def __init__(self, work):
        self.work = work

    def __call__(self, total, **_):
        self.left = total // 2
        return self

    def update(self, size):
        self.left -= size
        if self.left <= 0 and self.work is not None:
            work, self.work = self.work, None
            work()

    def close(self):
        pass


class TroubleTest(ServerCase):
    def run_of(self, rank=0, world=1, attempt=None):
        return cairnkv.Run("run", client=self.client, rank=rank, world=world, attempt=attempt)

    def open_transactions(self):
        status = self.client.execute_command("CKPT.STATUS", "run")
        return status[status.index(b"open") + 1]

    # --- reading ---

    def test_a_step_that_is_saved_again_while_it_is_read_is_read_anew(self):
        reads = (lambda run, bar: run.load(progress=bar)[0], lambda run, bar: run.load(7, progress=bar)[0],
                 lambda run, bar: run.tensors(progress=bar))
        for at, read in enumerate(reads):
            self.run_of().save(7, filled(10 * at + 1))
            state = read(self.run_of(), Meanwhile(lambda new=10 * at + 2: self.run_of().save(7, filled(new))))
            self.assertEqual([value.unique().tolist() for value in state.values()], [[10.0 * at + 2]] * 2)

    def test_a_step_that_is_saved_again_all_the_time_is_an_error(self):
        self.run_of().save(7, filled(1))
        read = reading.Version.read

        def read_and_save(found, wanted, bar):
            blocks = read(found, wanted, bar)
            self.run_of().save(7, filled(2))
            return blocks

        with unittest.mock.patch.object(reading.Version, "read", read_and_save), self.assertRaises(reading.VersionReplaced):
            self.run_of().load()

    def test_only_a_version_that_is_not_there_is_a_key_error(self):
        for version in ("LATEST", 7, "@best"):
            with self.assertRaises(KeyError):
                self.run_of().load(version)
        self.client.set("other", 1)
        with self.assertRaisesRegex(redis.ResponseError, "WRONGTYPE"):
            cairnkv.Run("other", client=self.client, rank=0, world=1).load()
        self.client.execute_command("ACL", "SETUSER", "poor", "on", ">p", "~*", "+@connection")
        poor = self.server.client(username="poor", password="p")
        callback = cairnkv.CheckpointCallback(cairnkv.Run("run", client=poor, rank=0, world=1), resume_from_checkpoint=True)
        with self.assertRaisesRegex(redis.ResponseError, "NOPERM"):
            callback.on_train_begin(None, None, None)

    def test_a_server_that_loads_is_asked_until_it_has(self):
        self.run_of().save(7, {"w": torch.ones(3)})
        answers = [redis.ResponseError("LOADING the dataset")] * 3
        reply = wire.Wire.reply

        def loading(connection, **options):
            answer = reply(connection, **options)
            if answers:
                raise answers.pop()
            return answer

        with unittest.mock.patch.object(wire.Wire, "reply", loading), unittest.mock.patch.object(wire, "LOADING_PAUSE_S", 0.01):
            self.assertEqual(float(self.run_of().load()[0]["w"][0]), 1)
        self.assertEqual(answers, [])

    def test_paths_that_are_not_there_are_named(self):
        self.run_of().save(7, {"w": torch.ones(4, 2)})
        with self.assertRaisesRegex(ValueError, "nosuch"):
            self.run_of().load(template={"nosuch": cairnkv.Shard(torch.ones(2, 2), (4, 2), (0, 0))})

    # --- saving ---

    def test_a_save_that_is_interrupted_leaves_nothing_open(self):
        def interrupt():
            raise KeyboardInterrupt

        for step in range(1, 7):     # a run has four open transactions at most
            with self.assertRaises(KeyboardInterrupt):
                self.run_of().save(step, filled(step), progress=Meanwhile(interrupt))
            self.assertEqual(self.open_transactions(), [])
        self.run_of().save(7, filled(7))

    def test_a_state_that_cannot_be_saved_costs_no_connection(self):
        client = self.server.client()
        for _ in range(3):
            with self.assertRaises(TypeError):
                cairnkv.Run("run", client=client, rank=0, world=1).save(1, {"w": object()})
        self.assertEqual(client.connection_pool._in_use_connections, set())
        self.assertEqual(self.client.exists("run"), 0)

    def test_an_interrupt_behind_the_commit_is_an_interrupt(self):
        commit = upload.Upload.commit

        def interrupted(*arguments, **options):
            commit(*arguments, **options)
            raise KeyboardInterrupt

        with unittest.mock.patch.object(upload.Upload, "commit", interrupted), self.assertRaises(KeyboardInterrupt):
            self.run_of().save(7, {"w": torch.ones(2)})
        self.assertEqual(self.run_of().steps(), [7])

    def test_what_killed_processes_left_open_does_not_stop_a_single_one(self):
        for step in range(1, 5):
            with upload.Upload(self.client, "run", 0) as begun:
                begun.begin(step, 1, 0)
        self.assertEqual(self.run_of().save(9, {"w": torch.ones(2)})["step"], 9)

    def test_a_save_that_other_ranks_miss_is_ended(self):
        with self.assertRaisesRegex(cairnkv.SaveFailed, "CKPTINCOMPLETE"):
            self.run_of(0, 2, 0).save(7, {"w": torch.ones(2)}, wait_ms=20)
        self.assertEqual(self.open_transactions(), [])

    def test_a_rank_whose_state_has_no_place_tells_the_others(self):
        with self.assertRaises(TypeError):
            self.run_of(1, 2, 0).save(7, {"w": object()})
        self.assertEqual(self.open_transactions(), [])

    def waits_and_is_told(self, work, step=7):
        """What rank 0 is told, which waits in its COMMIT, when work() has failed on rank 1. It could wait for minutes."""
        told = []

        def wait():
            try:
                self.run_of(0, 2, 0).save(step, {"s": cairnkv.even_rows(torch.zeros(4, 4), 0, 2)})
            except cairnkv.SaveFailed as error:
                told.append(error)

        waiting = threading.Thread(target=wait, daemon=True)
        waiting.start()
        while not (self.client.exists("run") and any(b"preparing" in row for row in self.open_transactions())):
            time.sleep(0.01)
        work()
        waiting.join(60)
        self.assertFalse(waiting.is_alive(), "it was told nothing")
        self.assertEqual(self.open_transactions(), [])
        return told[0]

    def test_a_rank_that_is_refused_tells_the_others(self):
        def save(client, state):
            with self.assertRaises(cairnkv.SaveFailed):
                cairnkv.Run("run", client=client, rank=1, world=2, attempt=0).save(7, state)

        half = cairnkv.even_rows(torch.ones(4, 4), 1, 2)
        self.client.execute_command("ACL", "SETUSER", "no-put", "on", ">p", "~*", "+@all", "-ckpt.put")
        self.client.execute_command("ACL", "SETUSER", "no-begin", "on", ">p", "~*", "+@all", "-ckpt.begin")
        for client, state, word in ((self.client, {"n" * 2000: half}, "1024"),
                                    (self.client, {"s": cairnkv.even_rows(torch.ones(4, 4).double(), 1, 2)}, "CKPTDIVERGED"),
                                    (self.server.client(username="no-put", password="p"), {"s": half}, "NOPERM"),
                                    (self.server.client(username="no-begin", password="p"), {"s": half}, "NOPERM")):
            told = self.waits_and_is_told(lambda: save(client, state))
            self.assertEqual(told.word, "CKPTABORTED")
            self.assertIn(word, str(told))

    def save_of_both(self, step):
        both = [threading.Thread(target=self.run_of(rank, 2, 0).save, args=(step, {"w": torch.ones(2)})) for rank in (0, 1)]
        for rank in both:
            rank.start()
        for rank in both:
            rank.join(60)

    def test_a_rank_that_comes_late_is_told_and_all_may_try_again(self):
        with self.assertRaises(TypeError):
            self.run_of(1, 2, 0).save(7, {"w": object()})
        late = self.run_of(0, 2, 0)
        with self.assertRaisesRegex(cairnkv.SaveFailed, "CKPTABORTED .*object"):
            late.save(7, {"w": torch.ones(2)}, wait_ms=2000)
        self.assertEqual(self.open_transactions(), [])
        self.save_of_both(7)
        self.assertEqual(late.steps(), [7])

    def test_a_rank_that_loses_its_connection_may_come_again(self):
        for error in (redis.ConnectionError("lost"), redis.TimeoutError("late"), redis.ResponseError("READONLY a replica"),
                      redis.ResponseError("LOADING"), redis.ResponseError("MASTERDOWN"), redis.ResponseError("TRYAGAIN")):
            with unittest.mock.patch.object(upload.Upload, "prepare", side_effect=error), self.assertRaises(Exception):
                self.run_of(1, 2, 0).save(7, {"w": torch.ones(2)})
            self.assertEqual(len(self.open_transactions()), 1, error)
        self.save_of_both(7)
        self.assertEqual(self.run_of().steps(), [7])

    def test_a_commit_whose_reply_is_lost_is_found_by_the_next_try(self):
        commit = upload.Upload.commit

        def unanswered(*arguments, **options):
            commit(*arguments, **options)
            raise redis.ConnectionError("lost")

        run = self.run_of(0, 2, 0)
        with upload.Upload(self.client, "run", 1) as other:    # the other rank has voted
            other.begin(7, 2, 0)
            other.prepare()
        with unittest.mock.patch.object(upload.Upload, "commit", unanswered), self.assertRaises(redis.ConnectionError):
            run.save(7, {"w": torch.ones(2)})
        self.assertEqual(run.save(7, {"w": torch.ones(2)})["step"], 7)
        with self.assertRaises(cairnkv.SaveFailed):   # one that was answered is not taken for the next
            run.save(7, {"w": torch.zeros(2)})
        # One process ends what it does not go on with, and hears by that what it has come to.
        alone = self.run_of()
        with unittest.mock.patch.object(upload.Upload, "commit", unanswered):
            self.assertEqual(alone.save(8, {"w": torch.ones(2)})["step"], 8)

    def test_a_version_is_saved_whatever_becomes_of_older_ones(self):
        self.client.execute_command("ACL", "SETUSER", "saver", "on", ">p", "~*", "+@all", "-ckpt.retain")
        run = cairnkv.Run("run", client=self.server.client(username="saver", password="p"), rank=0, world=1)
        with self.assertLogs("cairnkv", logging.ERROR):
            self.assertEqual(run.save(7, {"w": torch.ones(2)}, keep=1)["step"], 7)

    def test_an_error_of_the_save_before_does_not_cost_the_next_one(self):
        run = self.run_of()
        for step, save in ((2, run.save), (4, run.save_async)):
            with self.assertLogs("cairnkv", logging.ERROR):
                with self.assertRaises(TypeError):
                    run.save_async(step - 1, {"w": object()}).result()
            with self.assertRaises(TypeError):
                save(step, {"w": torch.ones(2)})
            run.wait()
        self.assertEqual(run.steps(), [4, 2])
        run.close()


if __name__ == "__main__":
    unittest.main()
