"""save and load: one call each, for a program that wants no more than its state kept. Each makes a Run (run.py) for the
one call: what holds there, and what lies in the server, is the same."""

import redis

from cairnkv.run import Run


def save(run: str, step: int, state, *, client: redis.Redis, keep: int | None = 2, **options) -> dict:
    """Saves `state` as version `step` of `run`, and returns when it is committed.

    run: the key. state: nested dicts, lists, tuples, integers, floats, booleans, strings, bytes, None, tensors and numpy
    arrays of any shape and of the types in dtypes.py; tensors must not change meanwhile. keep: how many versions stay, None for
    all. options: tag, durable, guard_finite, reuse, group, wait_ms, progress, as Run.save has them. In a job of several ranks
    (RANK, WORLD_SIZE) every rank calls it.

    Returns and errors: as Run.save.
    """
    return Run(run, client=client).save(step, state, keep=keep, **options)


def load(run: str, version="LATEST", *, client: redis.Redis, progress=None):
    """The state of a version (a step, "@tag" or LATEST): equal bit for bit, tensors on the CPU and without gradients.

    Errors: KeyError when there is no such version; ValueError when it was not saved by this package.
    """
    return Run(run, client=client).load(version, progress=progress)[0]
