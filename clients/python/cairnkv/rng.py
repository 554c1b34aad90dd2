"""The state of the random generators that a training step draws from, as plain nested values."""

import random

import numpy
import torch


def capture_rng() -> dict:
    """Returns the states of torch's (CPU and every CUDA device), numpy's global and Python's generator.

    Shapes: torch a U8 tensor of 5056 bytes (version 1.13), numpy (name, U32 array of 624, position,
    flag, cached normal), python (version, tuple of 625 integers, cached normal or None).
    """
    state = {
        "torch": torch.get_rng_state(),
        "numpy": numpy.random.get_state(),
        "python": random.getstate(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_rng(state: dict) -> None:
    """Puts the generators back where capture_rng() found them.

    Errors: ValueError when the state holds CUDA generators and this machine has another number of
    devices: their draws could not be repeated.
    """
    cuda = state.get("cuda", [])
    devices = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if len(cuda) not in (0, devices):
        raise ValueError(f"the state is of {len(cuda)} CUDA devices, this machine has {devices}")
    torch.set_rng_state(state["torch"])
    numpy.random.set_state(state["numpy"])
    random.setstate(state["python"])
    if cuda:
        torch.cuda.set_rng_state_all(cuda)
