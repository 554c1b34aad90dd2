"""Shard: a part of a tensor that several ranks hold together, and the box of it that a reader wants.

    Shard(local, shape=(1024, 512), offset=(256, 0))     rows 256.. of a logical tensor

In a state that is saved, a Shard says which box its rank holds. In a template that is loaded, it says
which box to read, whatever shards were saved.
"""

import dataclasses
import math

import torch

from cairnkv import dtypes, hashing


@dataclasses.dataclass(eq=False)
class Shard:
    tensor: torch.Tensor
    shape: tuple     # of the logical tensor
    offset: tuple    # of this box in it, one number a dimension

    def __post_init__(self):
        self.shape, self.offset = tuple(self.shape), tuple(self.offset)
        if len(self.shape) != self.tensor.dim() or len(self.offset) != self.tensor.dim():
            raise ValueError(f"a shard of {self.tensor.dim()} dimensions at {self.offset} of {self.shape}")
        for first, length, size in zip(self.offset, self.tensor.shape, self.shape):
            if first < 0 or first + length > size:
                raise ValueError(f"a shard of {tuple(self.tensor.shape)} at {self.offset} is not within {self.shape}")

    @property
    def local_shape(self) -> tuple:
        return tuple(self.tensor.shape)


def even_rows(tensor: torch.Tensor, rank: int, world: int) -> Shard:
    """Rank `rank`'s even share of the rows of a tensor that every rank holds whole, without a copy."""
    rows = tensor.shape[0]
    begin, end = rows * rank // world, rows * (rank + 1) // world
    return Shard(tensor[begin:end], tensor.shape, (begin, *[0] * (tensor.dim() - 1)))


def phase(dtype: str, shape: tuple, offset: tuple, length: tuple) -> int:
    """Where in its 256 KiB cell the first byte of a box lies: the server anchors the grid at the logical
    tensor for a box that is one run of it, else at the box's own first byte."""
    if 0 in length:
        return 0
    inner_is_whole = True
    for size, side in zip(reversed(shape), reversed(length)):
        if not inner_is_whole and side != 1:
            return 0
        inner_is_whole = inner_is_whole and side == size
    first = sum(at * math.prod(shape[i + 1:]) for i, at in enumerate(offset))
    return first * dtypes.SIZE_BYTES[dtype] % hashing.CHUNK_BYTES
