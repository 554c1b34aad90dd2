"""CheckpointCallback, driven by a loop that calls the events of a Trainer, against a real server.

transformers itself is no package of Debian. The loop was held against its source (trainer_callback.py and the training loop of
trainer.py of the 4.x versions of 2025): which events there are, what each is given, in which order they come, which fields the state has.
"""
import dataclasses
import functools
import os
import subprocess
import sys
import types
import unittest

SOURCE_DIR = os.environ.get("CAIRN_SOURCE_DIR") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "..")
sys.path[:0] = [os.path.join(SOURCE_DIR, "clients", "python"), os.path.join(SOURCE_DIR, "tests", "e2e")]

import numpy  # noqa: E402
import torch  # noqa: E402

import cairnkv  # noqa: E402
from server_case import ServerCase  # noqa: E402


@dataclasses.dataclass
class State:
    """The fields of TrainerState with what they are at the start."""

    epoch: float | None = None
    global_step: int = 0
    max_steps: int = 0
    logging_steps: int = 500
    eval_steps: int = 500
    save_steps: int = 500
    train_batch_size: int | None = None
    num_train_epochs: int = 0
    num_input_tokens_seen: int = 0
    total_flos: float = 0
    log_history: list = dataclasses.field(default_factory=list)
    best_metric: float | None = None
    best_global_step: int | None = None
    best_model_checkpoint: str | None = None
    is_local_process_zero: bool = True
    is_world_process_zero: bool = True
    is_hyper_param_search: bool = False
    trial_name: str | None = None
    trial_params: dict | None = None
    stateful_callbacks: dict = dataclasses.field(default_factory=dict)


def warm_then_down(step, *, warm):
    """A schedule as transformers makes them: a partial of a function, not a function."""
    return (step + 1) / warm if step < warm else warm / (step + 1)


class Loop:
    """As much of a Trainer as its callbacks see."""

    def __init__(self, callback, load_best_model_at_end=False):
        torch.manual_seed(3)
        self.model = torch.nn.Linear(4, 1)
        self.optimizer = self.scheduler = None    # until train() makes them
        self.args = types.SimpleNamespace(load_best_model_at_end=load_best_model_at_end)
        self.state = State(stateful_callbacks={"TrainerControl": {"args": {"should_save": False}, "attributes": {}}})
        self.callback = callback
        self.best_loss, self.best_weights = float("inf"), None
        self.event("on_init_end")

    def event(self, name, **more):
        control = types.SimpleNamespace(should_training_stop=False)
        result = getattr(self.callback, name)(self.args, self.state, control, model=self.model, processing_class=None,
                                              optimizer=self.optimizer, lr_scheduler=self.scheduler, train_dataloader=None,
                                              eval_dataloader=None, **more)
        assert result is None, "what is returned would take the place of the Trainer's control"

    def evaluate(self, loss):
        self.event("on_prediction_step")
        self.event("on_log", logs={"eval_loss": loss})
        if loss < self.best_loss:
            self.best_loss, self.best_weights = loss, {name: value.clone() for name, value in self.model.state_dict().items()}
        self.event("on_evaluate", metrics={"eval_loss": loss, "eval_runtime": 0.5, "epoch": self.state.epoch})

    def train(self, steps, losses=None, loss_at_start=None, steps_at_least=0):
        """steps_at_least: a Trainer looks behind a step whether it is through."""
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.1)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(self.optimizer, functools.partial(warm_then_down, warm=3))
        self.state.max_steps, self.state.num_train_epochs, self.state.epoch = steps, 1, 0
        self.event("on_train_begin")
        if loss_at_start is not None:    # eval_on_start
            self.evaluate(loss_at_start)
        self.event("on_epoch_begin")
        steps_done = 0
        while self.state.global_step < steps or steps_done < steps_at_least:
            steps_done += 1
            self.event("on_step_begin")
            (self.model(torch.randn(8, 4)) ** 2).mean().backward()
            self.event("on_pre_optimizer_step")
            self.optimizer.step()
            self.event("on_optimizer_step")
            self.scheduler.step()
            self.model.zero_grad()
            self.state.global_step += 1
            self.state.epoch = self.state.global_step / 10
            self.event("on_step_end")
            if losses and self.state.global_step in losses:
                self.evaluate(losses[self.state.global_step])
        self.event("on_epoch_end")
        last = [parameter.detach().clone() for parameter in self.model.parameters()]
        if self.args.load_best_model_at_end:
            self.model.load_state_dict(self.best_weights)
        self.event("on_log", logs={"train_loss": 0.1})
        self.event("on_train_end")
        return last


class TrainerCallbackTest(ServerCase):
    def setUp(self):
        super().setUp()
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
        first.state.log_history, first.state.total_flos, first.state.trial_params = [{"loss": 1.5, "step": 1}], 8e9, {"lr": 0.1}
        first.train(4, {4: 0.3})
        callback = self.callback(save_steps=2, best_metric="eval_loss", resume_from_checkpoint=True)
        second = Loop(callback)
        second.state.is_world_process_zero, second.state.save_steps = False, 7
        second.state.stateful_callbacks = {"TrainerControl": {}, "EarlyStoppingCallback": {}}    # that of before had none
        second.train(6, {6: 0.35})
        self.assertEqual(callback.best_value, 0.3)
        self.assertEqual(self.run_.load("@best")[0]["trainer"]["global_step"], 4)
        self.assertEqual((second.state.max_steps, second.state.is_world_process_zero, second.state.save_steps), (6, False, 7))
        self.assertEqual((second.state.log_history, second.state.total_flos), ([{"loss": 1.5, "step": 1}], 8e9))
        # A Trainer looks up each of its callbacks there when it saves by itself.
        self.assertEqual(set(second.state.stateful_callbacks), {"TrainerControl", "EarlyStoppingCallback"})
        self.assertIsNone(second.state.trial_params)

    def test_what_the_last_step_is_saved_with_are_its_weights_not_the_best(self):
        loop = Loop(self.callback(save_steps=100, best_metric="loss"), load_best_model_at_end=True)
        last = loop.train(5, {2: 0.1, 4: 0.5})
        state, _ = self.run_.load(5)
        self.assertTrue(torch.equal(state["model"]["weight"], last[0]))
        self.assertFalse(torch.equal(loop.model.weight, last[0]))
        self.assertTrue(torch.equal(self.run_.load("@best")[0]["model"]["weight"], loop.model.weight))

    def test_training_that_stops_early_saves_its_last_step_unless_the_weights_are_the_best(self):
        for step, load_best in ((3, False), (5, True)):
            loop = Loop(self.callback(), load_best_model_at_end=load_best)
            loop.event("on_train_begin")
            loop.state.max_steps, loop.state.global_step = 100, step
            loop.event("on_step_end")
            loop.event("on_train_end")
        self.assertEqual(self.run_.steps(), [3])

    def test_an_evaluation_outside_of_training_is_no_best(self):
        loop = Loop(self.callback(save_steps=100, best_metric="loss"))
        loop.evaluate(0.001)
        self.assertEqual(self.run_.steps(), [])
        loop.train(4, {2: 0.3})
        loop.evaluate(0.002)
        self.assertEqual(self.run_.load("@best")[0]["trainer"]["global_step"], 2)

    def test_a_process_that_is_not_told_an_attempt_saves_resumed_steps_anew(self):
        self.run_ = cairnkv.Run("run", client=self.server.client(), rank=0, world=1)
        whole = Loop(self.callback(save_steps=2)).train(8)
        resumed = Loop(self.callback(save_steps=2, resume_from_checkpoint=4)).train(8)
        for left, right in zip(whole, resumed):
            self.assertTrue(torch.equal(left, right))
        self.assertEqual(self.run_.steps(), [8, 6, 4, 2])

    def test_a_resume_from_before_the_best_gives_it_up(self):
        self.run_ = cairnkv.Run("run", client=self.server.client(), rank=0, world=1)
        Loop(self.callback(save_steps=1, best_metric="loss")).train(6, {2: 0.5, 5: 0.1})
        callback = self.callback(save_steps=1, best_metric="loss", resume_from_checkpoint=3)
        resumed = Loop(callback)
        resumed.train(7, {4: 0.4, 6: 0.7})
        self.assertEqual(self.run_.steps(), [7, 6, 5, 4, 3, 2, 1])
        self.assertEqual((self.run_.load("@best")[0]["trainer"]["global_step"], callback.best_value), (4, 0.4))
        # And the value that was given up is not taken for one of this course by the next start.
        Loop(self.callback(save_steps=1, best_metric="loss", resume_from_checkpoint=3)).train(4)
        last = self.callback(save_steps=1, best_metric="loss", resume_from_checkpoint=4)
        Loop(last).train(5)
        self.assertIsNone(last.best_value)

    def test_the_step_that_was_resumed_from_may_be_the_best_in_place_of_a_later_one(self):
        self.run_ = cairnkv.Run("run", client=self.server.client(), rank=0, world=1)
        Loop(self.callback(save_steps=1, best_metric="loss")).train(6, {5: 0.1})
        Loop(self.callback(save_steps=1, best_metric="loss", resume_from_checkpoint=3)).train(4, loss_at_start=0.3)
        last = self.callback(save_steps=1, best_metric="loss", resume_from_checkpoint=3)
        Loop(last).train(5, {5: 0.4})
        self.assertEqual((self.run_.load("@best")[0]["trainer"]["global_step"], last.best_value), (3, 0.3))

    def test_a_training_that_is_over_is_not_gone_on_with(self):
        self.run_ = cairnkv.Run("run", client=self.server.client(), rank=0, world=1)
        Loop(self.callback(save_steps=5)).train(10)
        for _ in range(2):
            again = Loop(self.callback(save_steps=5, best_metric="loss", resume_from_checkpoint=True))
            again.train(10, {11: 0.1}, steps_at_least=1)
            self.assertEqual((self.run_.steps(), again.state.global_step), ([10, 5], 10))
            self.assertTrue(torch.equal(self.run_.load()[0]["model"]["weight"], again.model.weight))

    def test_one_callback_for_two_trainings_keeps_them_apart(self):
        self.run_ = cairnkv.Run("run", client=self.server.client(), rank=0, world=1)
        callback = self.callback(save_steps=5, best_metric="loss")
        Loop(callback).train(10, {4: 0.2})
        second = Loop(callback)
        second.model.weight.data.fill_(3)
        second.train(10, {6: 0.3})
        self.assertTrue(torch.equal(self.run_.load()[0]["model"]["weight"], second.model.weight))
        self.assertEqual((callback.best_value, self.run_.load("@best")[0]["trainer"]["global_step"]), (0.3, 6))
        self.server.client().delete("run")    # and the key of its best value stays
        Loop(callback).train(2)
        self.assertEqual(self.run_.steps(), [2])

    def test_whether_more_is_better_comes_from_the_name(self):
        for name, best in (("accuracy", 4), ("eval_loss", 2)):
            self.server.client().flushall()
            loop = Loop(self.callback(best_metric=name))
            loop.event("on_train_begin")
            for step, value in ((2, 0.1), (4, 0.9), (6, 0.5)):
                loop.state.global_step = step
                loop.event("on_evaluate", metrics={name: value})
            self.assertEqual(self.run_.load("@best")[0]["trainer"]["global_step"], best)

    def test_schedules_with_functions_and_counters_and_logs_with_numbers_of_numpy(self):
        for make in (lambda optimizer: torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 2, 5]),
                     lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20)):
            self.server.client().flushall()
            rates = []
            for resume in (False, True):
                loop = Loop(self.callback(resume_from_checkpoint=resume))
                loop.optimizer = torch.optim.SGD(loop.model.parameters(), lr=0.1)
                loop.scheduler = make(loop.optimizer)
                loop.event("on_train_begin")
                if not resume:
                    for _ in range(3):
                        loop.optimizer.step()
                        loop.scheduler.step()
                    loop.state.global_step, loop.state.log_history = 3, [{"loss": numpy.float64(0.5), "step": 3}]
                    loop.event("on_train_end")
                rates.append((loop.scheduler.get_last_lr(), loop.scheduler.last_epoch, loop.state.log_history))
            self.assertEqual(rates[0], rates[1])

    def test_nothing_imports_transformers(self):
        code = "import sys, cairnkv; cairnkv.CheckpointCallback(cairnkv.Run('run', client=None)).on_log(); sys.exit('transformers' in sys.modules)"
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
