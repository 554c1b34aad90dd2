"""Staging: one copy of a state in memory that is kept from save to save, so that training may go on while it travels.

The memory is as large as what the state's tensors touch, and is taken anew only where a state has other sizes than the one
before: fresh pages cost several times what copying into known ones does. Copies are on the CPU.
"""

import collections

import numpy
import torch

from cairnkv import shards, state as states


class Staging:
    def __init__(self):
        self._buffers = {}     # (dtype, elements) -> flat tensors, all of the last copy

    def copy(self, state):
        """Returns the state with tensors and arrays of its own; what shared memory shares its copy. The copy of the call before
        is overwritten. Errors: ValueError as state.flatten, for cycles."""
        plan = _Plan()
        plan.visit(state, 0)
        sizes = [(dtype, end - begin) for (_, _, dtype), (begin, end) in plan.extents.items()]
        sizes += [(shard.tensor.dtype, shard.tensor.numel()) for shard in plan.shards]
        wanted = collections.Counter(sizes)
        free = {size: self._buffers.get(size, [])[:count] for size, count in wanted.items()}
        self._buffers = {}     # what nobody wants goes before more is taken
        taken = {size: [*held, *(torch.empty(size[1], dtype=size[0]) for _ in range(wanted[size] - len(held)))]
                 for size, held in free.items()}
        self._buffers = {size: list(held) for size, held in taken.items()}
        return _Copier(plan, taken).copy(state)


def size_bytes(state) -> int:
    """What a Staging of this state takes."""
    plan = _Plan()
    plan.visit(state, 0)
    size = sum((end - begin) * plan.tensors[key].element_size() for key, (begin, end) in plan.extents.items())
    return size + plan.cloned_bytes + sum(shard.tensor.numel() * shard.tensor.element_size() for shard in plan.shards)


def _is_cloned(tensor):
    """Its values are not what lies in its memory."""
    return tensor.is_conj() or tensor.is_neg()


class _Plan:
    """What a state touches of each memory."""

    def __init__(self):
        self.extents = {}      # memory key -> (first, one past the last) element that any view of it touches
        self.tensors = {}      # memory key -> one of them
        self.shards = []
        self.cloned_bytes = 0  # of what gets new memory at each copy: arrays, conjugates

    def visit(self, value, depth):
        states.check_depth(depth)
        if isinstance(value, torch.Tensor):
            key = states.memory_key(value)
            if _is_cloned(value):
                self.cloned_bytes += value.numel() * value.element_size()
            elif key is not None:
                begin, end = states.extent_of(value)
                known = self.extents.get(key, (begin, end))
                self.extents[key] = (min(known[0], begin), max(known[1], end))
                self.tensors[key] = value
        elif isinstance(value, shards.Shard):
            self.shards.append(value)
        elif isinstance(value, numpy.ndarray):
            self.cloned_bytes += value.nbytes
        elif isinstance(value, (dict, list, tuple)):
            for item in value.values() if isinstance(value, dict) else value:
                self.visit(item, depth + 1)


class _Copier:
    def __init__(self, plan, taken):
        self._plan, self._taken = plan, taken
        self._copies = {}      # memory key -> flat copy of its extent

    def copy(self, value):
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, shards.Shard):
            tensor = value.tensor.detach()
            flat = self._take(tensor)
            return shards.Shard(flat.view(tensor.shape).copy_(tensor), value.shape, value.offset)
        if type(value) in (dict, collections.OrderedDict):
            copied = type(value)((key, self.copy(item)) for key, item in value.items())
            if hasattr(value, "_metadata"):
                copied._metadata = value._metadata
            return copied
        if type(value) in (list, tuple):
            return type(value)(self.copy(item) for item in value)
        return value.copy() if isinstance(value, numpy.ndarray) else value

    def _take(self, tensor):
        return self._taken[tensor.dtype, tensor.numel()].pop()

    def _tensor(self, tensor):
        key = states.memory_key(tensor)
        if key is None or _is_cloned(tensor):
            return tensor.detach().clone()
        begin, end = self._plan.extents[key]
        if key not in self._copies:
            flat = torch.as_strided(tensor.detach(), (end - begin,), (1,), begin)
            self._copies[key] = self._take(flat).copy_(flat)
        return torch.as_strided(self._copies[key], tensor.shape, tensor.stride(), tensor.storage_offset() - begin)
