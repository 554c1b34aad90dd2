"""CheckpointCallback: a Run in the place of a Trainer's checkpoint folder.

    trainer = transformers.Trainer(.., callbacks=[cairnkv.CheckpointCallback(run, save_steps=500, save_total_limit=3,
                                                                             resume_from_checkpoint=True, best_metric="eval_loss")])

It has the habits of the Trainer's own options of these names and imports no transformers: any loop that calls the same
events with the same keyword arguments can use it. What it saves: model, optimizer, learning rate scheduler, the trainer's
state (what of it is plain values), and each rank's random numbers. Where the data loader stands is the loop's own matter: a Trainer
that resumes this way counts its steps on to max_steps, but begins an epoch of data anew, and the first loss that it logs is a mean over
all steps so far. Say save_strategy="no", or the Trainer writes its own folders too.
"""

import json
import logging

import numpy
import redis
import torch

from cairnkv.rng import capture_rng, restore_rng
from cairnkv.upload import is_no_such_run

BEST_TAG = "best"
_PLAIN = (bool, int, float, str, type(None))
_NOT_PLAIN = object()
_log = logging.getLogger("cairnkv")
# What a Trainer sets from its arguments and callbacks, or from which process it is: this start's values stay.
_OF_THIS_START = frozenset(("max_steps", "num_train_epochs", "logging_steps", "eval_steps", "save_steps", "train_batch_size",
                            "is_local_process_zero", "is_world_process_zero", "is_hyper_param_search", "trial_name", "trial_params",
                            "stateful_callbacks"))


class CheckpointCallback:
    def __init__(self, run, *, save_steps: int = 500, save_total_limit: int | None = None,
                 resume_from_checkpoint: bool | int | str = False, best_metric: str | None = None,
                 greater_is_better: bool | None = None, asynchronous: bool = False):
        """run: a cairnkv.Run. save_steps: every so many global steps, and at the end of training.

        save_total_limit: versions that stay, besides the best one. resume_from_checkpoint: True for LATEST if there is
        one, or a step or "@tag" that must be there. best_metric: of the evaluations while training, equal on all ranks, with or
        without the prefix "eval_"; one that is better than all before is saved, whatever save_steps, and pinned under the tag "best".
        greater_is_better: None for what the name says, as a Trainer takes it: less where it ends in "loss", else more.
        asynchronous: saves go on beside training, from a copy.
        """
        if save_steps < 1 or (save_total_limit is not None and save_total_limit < 1):
            raise ValueError("save_steps and save_total_limit are 1 or more")
        self.run, self.save_steps, self.save_total_limit = run, save_steps, save_total_limit
        if greater_is_better is None:
            greater_is_better = best_metric is not None and not best_metric.endswith("loss")
        self.resume, self.best_metric, self.greater_is_better = resume_from_checkpoint, best_metric, greater_is_better
        self.asynchronous = asynchronous
        self._in_training = False
        self._best_key = f"{run.name}:best"
        self._forget()

    def _forget(self):
        """What belongs to one training: an object may be used for several."""
        self.best_value = None
        self._saved_step, self._saving = None, None   # the Future of a save that goes on
        self._finished = None              # (state, saved) of a training that was over when it was resumed
        self._is_best_given_up = False     # and the key is still there

    def __getattr__(self, name):
        # A Trainer calls all its events; those that are not here are of no interest.
        if name.startswith("on_"):
            return lambda *args, **kwargs: None
        raise AttributeError(name)

    # --- events ---

    def on_train_begin(self, args, state, control, model=None, optimizer=None, lr_scheduler=None, **_):
        """Errors: KeyError when a version was named that is not there."""
        self._in_training = True
        self._forget()
        found = self._load()
        if found is None:
            if self.best_metric is not None:
                self._best_until(state.global_step, None)  # of a training before this one
            return
        saved, rank_state = found
        _put_back(saved, state, model, optimizer, lr_scheduler)
        self.best_value = self._best_until(state.global_step, saved["best_value"])
        self._saved_step = state.global_step
        if rank_state is not None:
            try:
                restore_rng(rank_state["rng"])
            except ValueError as error:  # as a Trainer has it: no reason not to go on
                _log.warning("%s: the random numbers are not those of the checkpoint: %s", self.run.name, error)
        if 0 < (getattr(state, "max_steps", None) or 0) <= state.global_step:
            # A Trainer looks whether it is through behind a step: that one is undone at the end.
            self._finished = saved

    def _load(self):
        """(state, rank_state) of what is to be resumed from, or None. All ranks of a process group take rank 0's LATEST: between the
        looks of two of them a process of the job before may have saved another."""
        if self.resume is False or self.resume is None:
            return None
        if self.resume is not True:
            return self.run.load(self.resume)
        version = "LATEST"
        if _is_of_the_group(self.run):
            steps = [self.run.latest() if self.run.rank == 0 else None]
            torch.distributed.broadcast_object_list(steps)
            version = steps[0]
            if version is None:
                return None
            return self.run.load(version)
        try:
            return self.run.load(version)
        except KeyError:
            return None

    def on_step_end(self, args, state, control, **parts):
        is_last = state.global_step == getattr(state, "max_steps", None)
        if state.global_step % self.save_steps == 0 or is_last:
            self._save(state, parts)

    def on_evaluate(self, args, state, control, metrics=None, **parts):
        # Outside of it: of what weights, and of what data, is not known. Behind its end: of a step too many.
        if not self._in_training or self._finished is not None:
            return
        value = self._metric(metrics or {})
        if value != value:  # absent, or not a number: never the best
            return
        better = self.best_value is None or (value > self.best_value if self.greater_is_better else value < self.best_value)
        if better:
            self.best_value = value
            self._save(state, parts)
            self._behind_saves(self._pin_best, state.global_step, float(value))

    def on_train_end(self, args, state, control, **parts):
        self._in_training = False
        if self._finished is not None:
            _put_back(self._finished, state, *(parts.get(name) for name in ("model", "optimizer", "lr_scheduler")))
            return
        # By now a Trainer has put the best weights in the place of the last.
        if not getattr(args, "load_best_model_at_end", False):
            self._save(state, parts)
        self.run.wait()

    def _best_until(self, step, saved):
        """A step is saved before it is evaluated: what its evaluation gave stands in the key RUN:best. One of a later step is of a
        course that is given up: its pin would keep that step from being saved again, and the next evaluation is the best so far."""
        text = self.run.client.get(self._best_key)
        if text is None:
            return saved
        best = json.loads(text)
        if best["step"] <= step:
            return best["value"]
        self._is_best_given_up = True
        if self.run.rank == 0:
            try:
                self.run.client.execute_command("CKPT.UNTAG", self.run.name, BEST_TAG)
            except redis.ResponseError as error:
                if not is_no_such_run(error):  # the run was deleted, and the key stayed
                    raise
        return None

    # --- saving ---

    def _metric(self, metrics):
        if self.best_metric is None:
            return float("nan")
        return metrics.get(self.best_metric, metrics.get("eval_" + self.best_metric, float("nan")))

    def _save(self, state, parts):
        if self._finished is not None or (self._saved_step == state.global_step and not self._has_failed()):
            return
        whole = {name: part.state_dict() if part is not None else None
                 for name, part in (("model", parts.get("model")), ("optimizer", parts.get("optimizer")),
                                    ("scheduler", parts.get("lr_scheduler")))}
        if whole["scheduler"] is not None:  # functions are given anew when it is made: load_state_dict() leaves what is not there
            whole["scheduler"] = {name: value for name, value in whole["scheduler"].items() if not callable(value)}
        plain = ((name, _plain(value)) for name, value in vars(state).items())
        whole["trainer"] = {name: value for name, value in plain if value is not _NOT_PLAIN}
        whole["best_value"] = self.best_value
        failed = self.run.failure()  # of saves before: this one is made all the same
        save = self.run.save_async if self.asynchronous else self.run.save
        saving = save(state.global_step, whole, rank_state={"rng": capture_rng()})
        self._saved_step, self._saving = state.global_step, saving if self.asynchronous else None
        # Behind a save of its own, not with it: a best version that is not pinned yet must not be taken.
        self._behind_saves(self._retain)
        if failed is not None:
            raise failed

    def _has_failed(self):
        return self._saving is not None and self._saving.done() and self._saving.exception() is not None

    def _behind_saves(self, work, *arguments):
        if self.run.rank != 0:
            return
        if self.asynchronous:
            self.run.later(work, *arguments)
        else:
            work(*arguments)

    def _retain(self):
        if self._is_best_given_up:  # by now every rank has read it: all have voted
            self._is_best_given_up = False
            self.run.client.delete(self._best_key)
        if self.save_total_limit is not None:
            self.run.client.execute_command("CKPT.RETAIN", self.run.name, "KEEP", self.save_total_limit)

    def _pin_best(self, step, value):
        both = self.run.client.pipeline(transaction=True)
        both.execute_command("CKPT.TAG", self.run.name, BEST_TAG, step, "PIN")
        both.set(self._best_key, json.dumps({"step": step, "value": value}))
        both.execute()
        self._is_best_given_up = False     # the key is of this one
        self._retain()


def _is_of_the_group(run):
    """Whether the ranks of the run are those of torch's process group."""
    group = torch.distributed
    return (run.world > 1 and group.is_available() and group.is_initialized()
            and (group.get_world_size(), group.get_rank()) == (run.world, run.rank))


def _put_back(saved, state, model, optimizer, lr_scheduler):
    for part, name in ((model, "model"), (optimizer, "optimizer"), (lr_scheduler, "scheduler")):
        if part is not None and saved.get(name) is not None:
            part.load_state_dict(saved[name])
    for name, value in saved["trainer"].items():
        if name not in _OF_THIS_START:
            setattr(state, name, value)


def _plain(value):
    """`value` with numpy's numbers as Python's, which metrics often are; _NOT_PLAIN when something else is in it."""
    if isinstance(value, numpy.generic):
        value = value.item()
    if type(value) in (list, tuple):
        items = [_plain(item) for item in value]
        return _NOT_PLAIN if _NOT_PLAIN in items else type(value)(items)
    if type(value) is dict:
        items = {key: _plain(item) for key, item in value.items()}
        return items if all(type(key) in _PLAIN and item is not _NOT_PLAIN for key, item in items.items()) else _NOT_PLAIN
    return value if type(value) in _PLAIN else _NOT_PLAIN
