"""CheckpointCallback, driven by a loop that calls the events of a Trainer, against a real server."""

import os
import subprocess
import sys
import types
import unittest

SOURCE_DIR = os.environ.get("CAIRN_SOURCE_DIR") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
sys.path[:0] = [os.path.join(SOURCE_DIR, "clients", "python"), os.path.join(SOURCE_DIR, "tests", "e2e")]

import torch  # noqa: E402

import cairnkv  # noqa: E402
from cairn_server import Server  # noqa: E402


class Loop:
    """As much of a Trainer as its callbacks see."""

    def __init__(self, callback):
        torch.manual_seed(3)
        self.model = torch.nn.Linear(4, 1)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 3, 0.5)
        self.state = types.SimpleNamespace(global_step=0, epoch=0.0, log_history=[])
        self.callback = callback

    def event(self, name, **more):
        getattr(self.callback, name)(None, self.state, None, model=self.model, optimizer=self.optimizer,
                                     lr_scheduler=self.scheduler, **more)

    def train(self, steps, losses=None):
        self.event("on_init_end")
        self.event("on_train_begin")
        while self.state.global_step < steps:
            self.event("on_step_begin")
            self.optimizer.zero_grad()
            (self.model(torch.randn(8, 4)) ** 2).mean().backward()
            self.optimizer.step()
            self.scheduler.step()
            self.state.global_step += 1
            self.state.epoch = self.state.global_step / 10
            self.event("on_step_end")
            if losses and self.state.global_step in losses:
                self.event("on_evaluate", metrics={"eval_loss": losses[self.state.global_step]})
        self.event("on_train_end")
        return [parameter.detach().clone() for parameter in self.model.parameters()]


class TrainerCallbackTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(tensors=True).start()

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def setUp(self):
        self.server.client().flushall()
        self.run_ = cairnkv.Run("run", client=self.server.client(), rank=0, world=1, attempt=0)

    def callback(self, **options):
        return cairnkv.CheckpointCallback(self.run_, **options)

    def test_resumed_training_ends_where_uninterrupted_training_does(self):
        whole = Loop(self.callback(save_steps=1000)).train(9)
        self.server.client().flushall()
        Loop(self.callback(save_steps=2)).train(5)
        self.assertEqual(self.run_.steps(), [5, 4, 2])
        resumed = Loop(self.callback(save_steps=100, resume_from_checkpoint=4))
        parameters = resumed.train(9)
        for left, right in zip(whole, parameters):
            self.assertTrue(torch.equal(left, right))
        self.assertEqual((resumed.state.global_step, resumed.state.epoch), (9, 0.9))

    def test_the_limit_keeps_the_newest_and_the_best(self):
        Loop(self.callback(save_steps=1, save_total_limit=2, best_metric="eval_loss")).train(
            6, {1: 0.9, 2: 0.2, 3: 0.5, 5: float("nan")})
        self.assertEqual(self.run_.steps(), [6, 5, 2])
        state, _ = self.run_.load("@best")
        self.assertEqual(state["trainer"]["global_step"], 2)

    def test_asynchronous_saves_are_all_there_at_the_end(self):
        Loop(self.callback(save_steps=1, asynchronous=True, save_total_limit=3)).train(5)
        self.assertEqual(self.run_.steps(), [5, 4, 3])

    def test_the_limit_holds_while_saves_go_on_beside(self):
        callback = self.callback(save_steps=1, asynchronous=True, save_total_limit=1, best_metric="loss")
        loop = Loop(callback)
        loop.event("on_train_begin")
        for step in range(1, 6):
            loop.state.global_step = step
            loop.event("on_step_end")
            loop.event("on_evaluate", metrics={"eval_loss": 0.1 if step == 2 else 0.5})
        self.run_.wait()
        self.assertEqual(self.run_.steps(), [5, 2])

    def test_a_better_evaluation_is_saved_between_the_saves(self):
        Loop(self.callback(save_steps=100, best_metric="eval_loss")).train(7, {3: 0.4, 5: 0.6})
        self.assertEqual(self.run_.steps(), [7, 3])
        self.assertEqual(self.run_.load("@best")[0]["trainer"]["global_step"], 3)

    def test_a_resumed_run_knows_the_best_so_far_and_keeps_its_own_arguments(self):
        first = Loop(self.callback(save_steps=2, best_metric="eval_loss"))
        first.state.max_steps, first.state.is_world_process_zero, first.state.log_history = 4, True, [{"loss": 1.5, "step": 1}]
        first.train(4, {4: 0.3})
        callback = self.callback(save_steps=2, best_metric="eval_loss", resume_from_checkpoint=True)
        second = Loop(callback)
        second.state.max_steps, second.state.is_world_process_zero = 9, False
        second.train(6, {6: 0.35})
        self.assertEqual(callback.best_value, 0.3)
        self.assertEqual(self.run_.load("@best")[0]["trainer"]["global_step"], 4)
        self.assertEqual((second.state.max_steps, second.state.is_world_process_zero), (9, False))
        self.assertEqual(second.state.log_history, [{"loss": 1.5, "step": 1}])

    def test_nothing_imports_transformers(self):
        code = "import sys, cairnkv; cairnkv.CheckpointCallback(None).on_log(); sys.exit('transformers' in sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env={**os.environ, "PYTHONPATH": os.path.join(SOURCE_DIR, "clients", "python")})

    def test_resume_takes_what_is_there_and_misses_what_was_named(self):
        Loop(self.callback(resume_from_checkpoint=True)).train(1)
        self.assertEqual(self.run_.steps(), [1])
        with self.assertRaises(KeyError):
            Loop(self.callback(resume_from_checkpoint=7)).train(1)
        with self.assertRaises(ValueError):
            self.callback(save_steps=0)


if __name__ == "__main__":
    unittest.main()
