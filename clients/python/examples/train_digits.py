#!/usr/bin/python3
"""Trains a small network on scikit-learn's handwritten digits, with checkpoints in a CairnKV server.

    ./dev serve                                          # in one terminal
    clients/python/examples/train_digits.py --port 6379  # in another; kill -9 either, start it again

Weights, Adam's state, the random generators of torch, numpy and Python, and the position of the loader go to the
server every `--every` steps. A run that was killed anywhere goes on from its latest checkpoint and ends in
the weights of a run that was never interrupted, bit for bit: one thread, and no draw outside the state.
"""

import argparse
import hashlib
import json
import os
import random
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import numpy  # noqa: E402
import redis  # noqa: E402
import torch  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402

import cairnkv  # noqa: E402

BATCH = 32
HIDDEN = 64


class Loader:
    """Shuffled batches of the digits: (features F32 (BATCH, 64), labels I64 (BATCH,)), noise added.

    The order of an epoch is part of the state, so that a resumed epoch goes on where it stopped.
    """

    def __init__(self):
        digits = load_digits()
        self._features = digits.data.astype(numpy.float32) / 16
        self._labels = digits.target.astype(numpy.int64)
        self._order = numpy.zeros(0, dtype=numpy.int64)
        self._position = 0
        self._epoch = 0

    def next_batch(self):
        if self._position + BATCH > len(self._order):
            self._order = numpy.random.permutation(len(self._labels))
            self._position = 0
            self._epoch += 1
        rows = self._order[self._position:self._position + BATCH]
        self._position += BATCH
        noise = numpy.random.standard_normal((BATCH, 64)).astype(numpy.float32) * random.uniform(0.0, 0.2)
        return torch.from_numpy(self._features[rows] + noise), torch.from_numpy(self._labels[rows])

    def state_dict(self):
        return {"order": self._order, "position": self._position, "epoch": self._epoch}

    def load_state_dict(self, state):
        self._order, self._position, self._epoch = state["order"], state["position"], state["epoch"]

    def everything(self):
        return torch.from_numpy(self._features), torch.from_numpy(self._labels)


class Run:
    """All that training consists of; state_dict() is everything that the next step depends on."""

    def __init__(self, seed):
        torch.manual_seed(seed)
        numpy.random.seed(seed)
        random.seed(seed)
        self.step = 0
        self.loader = Loader()
        self.model = torch.nn.Sequential(
            torch.nn.Linear(64, HIDDEN), torch.nn.BatchNorm1d(HIDDEN), torch.nn.ReLU(), torch.nn.Dropout(0.2),
            torch.nn.Linear(HIDDEN, 10))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=3e-3)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, step_size=50, gamma=0.9)

    def _parts(self):
        return {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler,
                "loader": self.loader}

    def state_dict(self):
        parts = {name: part.state_dict() for name, part in self._parts().items()}
        return {"step": self.step, "rng": cairnkv.capture_rng(), **parts}

    def load_state_dict(self, state):
        self.step = state["step"]
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        cairnkv.restore_rng(state["rng"])

    def train_step(self):
        features, labels = self.loader.next_batch()
        self.optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(self.model(features), labels)
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.step += 1

    def accuracy(self):
        self.model.eval()
        features, labels = self.loader.everything()
        with torch.no_grad():
            return (self.model(features).argmax(1) == labels).float().mean().item()


def write_weights(path, weights):
    """Writes a safetensors file (F32 and I64 tensors) and returns the SHA-256 of its bytes."""
    names = {torch.float32: "F32", torch.int64: "I64"}
    header, blobs, offset = {}, [], 0
    for name, tensor in weights.items():
        blob = tensor.contiguous().numpy().tobytes()
        header[name] = {"dtype": names[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [offset, offset + len(blob)]}
        offset += len(blob)
        blobs.append(blob)
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + b"".join(blobs)
    with open(path, "wb") as file:
        file.write(content)
    return hashlib.sha256(content).hexdigest()


def say(*words):
    print(*words, flush=True)


def train(arguments, client):
    run = Run(arguments.seed)
    name = f"{arguments.run}:{arguments.seed}"
    try:
        run.load_state_dict(cairnkv.load(name, client=client))
        say("resumed", run.step)
    except KeyError:
        say("fresh", 0)
    while run.step < arguments.steps:
        run.train_step()
        say("step", run.step)
        if run.step % arguments.every == 0 or run.step == arguments.steps:
            say("saving", run.step)
            cairnkv.save(name, run.step, run.state_dict(), client=client, keep=arguments.keep)
            say("saved", run.step)
    say(f"accuracy {run.accuracy():.4f}")
    if arguments.out:
        say("sha256", write_weights(arguments.out, run.model.state_dict()))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=6379)
    parser.add_argument("--unix", metavar="PATH", help="a unix socket instead of host and port")
    parser.add_argument("--run", default="digits", help="its key, with the seed behind it (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of a run; another seed is another run (%(default)s)")
    parser.add_argument("--steps", type=int, default=300, help="train up to this step (%(default)s)")
    parser.add_argument("--every", type=int, default=10, help="steps between checkpoints (%(default)s)")
    parser.add_argument("--keep", type=int, default=2, help="versions that stay (%(default)s)")
    parser.add_argument("--out", metavar="FILE", help="write the final weights there (safetensors)")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if arguments.unix:
        client = redis.Redis(unix_socket_path=arguments.unix)
    else:
        client = redis.Redis(host=arguments.host, port=arguments.port)
    try:
        train(arguments, client)
    except (redis.RedisError, cairnkv.SaveFailed) as error:
        sys.exit(f"train_digits: {type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
