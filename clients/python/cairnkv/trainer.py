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

from cairnkv.rng import capture_rng, restore_rng

BEST_TAG = "best"
_PLAIN = (bool, int, float, str, type(None))
# What a Trainer sets from its arguments and callbacks, or from which process it is: this start's values stay.
_OF_THIS_START = frozenset(("max_steps", "num_train_epochs", "logging_steps", "eval_steps", "save_steps", "train_batch_size",
                            "is_local_process_zero", "is_world_process_zero", "is_hyper_param_search", "trial_name", "trial_params",
                            "stateful_callbacks"))


class CheckpointCallback:
    def __init__(self, run, *, save_steps: int = 500, save_total_limit: int | None = None,
                 resume_from_checkpoint: bool | int | str = False, best_metric: str | None = None,
                 greater_is_better: bool = False, asynchronous: bool = False):
        """run: a cairnkv.Run. save_steps: every so many global steps, and at the end of training.

        save_total_limit: versions that stay, besides the best one. resume_from_checkpoint: True for LATEST if there is
        one, or a step or "@tag" that must be there. best_metric: of the evaluations while training, equal on all ranks, with or
        without the prefix "eval_"; one that is better than all before is saved, whatever save_steps, and pinned under the tag "best".
        asynchronous: saves go on beside training, from a copy.
        """
        if save_steps < 1 or (save_total_limit is not None and save_total_limit < 1):
            raise ValueError("save_steps and save_total_limit are 1 or more")
        self.run, self.save_steps, self.save_total_limit = run, save_steps, save_total_limit
        self.resume, self.best_metric, self.greater_is_better = resume_from_checkpoint, best_metric, greater_is_better
        self.asynchronous = asynchronous
        self.best_value = None
        self._saved_step = None
        self._in_training = False
        self._best_key = f"{run.name}:best"
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
        if self.resume is False or self.resume is None:
            return
        version = "LATEST" if self.resume is True else self.resume
        try:
            saved, rank_state = self.run.load(version)
        except KeyError:
            if self.resume is True:
                return
            raise
        for part, name in ((model, "model"), (optimizer, "optimizer"), (lr_scheduler, "scheduler")):
            if part is not None and saved.get(name) is not None:
                part.load_state_dict(saved[name])
        for name, value in saved["trainer"].items():
            if name not in _OF_THIS_START:
                setattr(state, name, value)
        self.best_value = self._best_until(state.global_step, saved["best_value"])
        self._saved_step = state.global_step
        if rank_state is not None:
            restore_rng(rank_state["rng"])

    def on_step_end(self, args, state, control, **parts):
        is_last = state.global_step == getattr(state, "max_steps", None)
        if state.global_step % self.save_steps == 0 or is_last:
            self._save(state, parts)

    def on_evaluate(self, args, state, control, metrics=None, **parts):
        if not self._in_training:  # of what weights, and of what data, is not known
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
            self.run.client.execute_command("CKPT.UNTAG", self.run.name, BEST_TAG)
        return None

    # --- saving ---

    def _metric(self, metrics):
        if self.best_metric is None:
            return float("nan")
        return metrics.get(self.best_metric, metrics.get("eval_" + self.best_metric, float("nan")))

    def _save(self, state, parts):
        if self._saved_step == state.global_step:
            return
        whole = {name: part.state_dict() if part is not None else None
                 for name, part in (("model", parts.get("model")), ("optimizer", parts.get("optimizer")),
                                    ("scheduler", parts.get("lr_scheduler")))}
        whole["trainer"] = {name: value for name, value in vars(state).items() if _is_plain(value)}
        whole["best_value"] = self.best_value
        save = self.run.save_async if self.asynchronous else self.run.save
        save(state.global_step, whole, rank_state={"rng": capture_rng()})
        self._saved_step = state.global_step
        # Behind a save of its own, not with it: a best version that is not pinned yet must not be taken.
        self._behind_saves(self._retain)

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
        self.run.client.execute_command("CKPT.TAG", self.run.name, BEST_TAG, step, "PIN")
        self.run.client.set(self._best_key, json.dumps({"step": step, "value": value}))
        self._is_best_given_up = False     # the key is of this one
        self._retain()


def _is_plain(value):
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    if type(value) is dict:
        return all(type(key) in _PLAIN and _is_plain(item) for key, item in value.items())
    return type(value) in _PLAIN
