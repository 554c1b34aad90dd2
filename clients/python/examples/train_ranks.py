#!/usr/bin/python3
"""A job of several processes that saves its checkpoints into one run, is killed, and goes on with another number of ranks.

    train_ranks.py [--port 6379] [--run RUN] [--world 4] [--steps 20] [--every 5] [--attempt 0] [--kill-rank R --kill-step S]

Every rank trains the same small model on the same data, so that the result does not depend on the number of ranks, and saves
its even share of the rows of the optimizer's moments, as sharded optimizers hold them; rank 0 saves the model too. Every
--every steps all ranks save together.
--kill-rank dies by SIGKILL in the middle of the save of --kill-step, when half of its bytes have been sent. Prints one line
`saved STEP` for each version and at the end `final STEP HASH`, which is the same whatever was killed.
"""

import argparse
import hashlib
import multiprocessing
import os
import signal
import sys

import redis
import torch

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import cairnkv  # noqa: E402

FEATURES, HIDDEN = 64, 600
WAIT_MS = 5000


def fresh_model():
    generator = torch.Generator().manual_seed(1)
    return {"first": torch.randn(HIDDEN, FEATURES, generator=generator) / 8, "second": torch.randn(HIDDEN, generator=generator) / 8}


def train_step(model, moments, step):
    """Momentum on a synthetic regression: plain arithmetic, the same on every rank."""
    generator = torch.Generator().manual_seed(step)
    data = torch.randn(32, FEATURES, generator=generator)
    hidden = torch.relu(data @ model["first"].T)
    error = hidden @ model["second"] - data[:, 0]
    slope = (error[:, None] * model["second"]) * (hidden > 0)
    for name, gradient in (("second", hidden.T @ error / 32), ("first", slope.T @ data / 32)):
        moments[name] = 0.9 * moments[name] + gradient
        model[name] = model[name] - 0.01 * moments[name]


def digest(model, moments):
    tensors = [*model.values(), *moments.values()]
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors)).hexdigest()[:16]


class DiesInMidSave:
    """In the place of a progress bar: kills its own process when half of the save was sent."""

    def __init__(self, total, **_):
        self.left = total // 2

    def update(self, count):
        self.left -= count
        if self.left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def close(self):
        pass


def rank_main(rank, options):
    torch.set_num_threads(1)
    client = redis.Redis(port=options.port)
    run = cairnkv.Run(options.run, client=client, rank=rank, world=options.world, attempt=options.attempt)
    step, model = 0, fresh_model()
    moments = {name: torch.zeros_like(value) for name, value in model.items()}
    try:
        state, rank_state = run.load()
        step, model, moments = state["step"], state["model"], state["moments"]
        assert rank_state is None or rank_state["rank"] == rank
    except KeyError:
        pass
    while step < options.steps:
        step += 1
        train_step(model, moments, step)
        if step % options.every:
            continue
        dies = rank == options.kill_rank and step == options.kill_step
        state = {"step": step, "model": model,
                 "moments": {name: cairnkv.even_rows(value, rank, options.world) for name, value in moments.items()}}
        try:
            run.save(step, state, rank_state={"rank": rank, "seen": step * 32}, wait_ms=WAIT_MS,
                     progress=DiesInMidSave if dies else None)
        except cairnkv.SaveFailed as error:
            print(f"rank {rank}: step {step} is not saved: {error}", flush=True)
            return 3
        if rank == 0:
            print(f"saved {step}", flush=True)
    if rank == 0:
        print(f"final {step} {digest(model, moments)}", flush=True)
    return 0


def rank_process(rank, options):
    sys.exit(rank_main(rank, options))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--run", default="runs:ranks")
    parser.add_argument("--world", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--every", type=int, default=5)
    parser.add_argument("--attempt", type=int, default=0, help="raise it at each start of the job")
    parser.add_argument("--kill-rank", type=int, default=-1)
    parser.add_argument("--kill-step", type=int, default=-1)
    options = parser.parse_args()
    ranks = [multiprocessing.Process(target=rank_process, args=(rank, options)) for rank in range(options.world)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    return 0 if all(rank.exitcode == 0 for rank in ranks) else 1


if __name__ == "__main__":
    sys.exit(main())
