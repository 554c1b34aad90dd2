"""Version: one committed version as a reader sees it. Tensors come in pieces of PIECE_BYTES, asked for ahead, straight into
the memory that they stay in."""

import math

import numpy
import redis

from cairnkv import dtypes
from cairnkv.upload import fields
from cairnkv.wire import Wire

PIECE_BYTES = 8 << 20
ASKED_AHEAD = 4              # pieces
NO_VERSION = ("no such run", "this run has no committed version", "no such tag", "no version of step")  # the server's words
NO_TENSOR = ""               # a pattern that matches none


class VersionReplaced(RuntimeError):
    """While a version was read, its step was saved again, or taken away: what came may be of both."""


class Version:
    def __init__(self, wire: Wire, run: str, version, match: str = "*"):
        """version: a step, "@tag" or LATEST: what it names now is read, whatever it names later. match: which tensors.
        Tensors and states are asked for by the step: who has read all calls check().

        Errors: KeyError when there is no such version; redis.ResponseError."""
        self._wire, self._run, self._word = wire, run, version
        manifest = _manifest(wire, run, version, match)
        self.step, self.tx = int(manifest["step"]), manifest["tx"].decode()
        self._tensors, self.aliases = {}, set()
        for row in map(fields, manifest["tensors"]):
            name = row["name"].decode()
            self._tensors[name] = (row["dtype"].decode(), [int(size) for size in row["shape"]])
            if row["alias_of"] is not None:
                self.aliases.add(name)
        self.states = [(int(row["rank"]), row["kind"].decode(), row["name"].decode()) for row in map(fields, manifest["states"])]

    @property
    def names(self) -> list:
        return list(self._tensors)

    def head(self, name):
        """(dtype, shape) of a tensor. Errors: ValueError when the version has none of this name."""
        if name not in self._tensors:
            raise ValueError(f"{self._run} {self.step} has no tensor {name}")
        return self._tensors[name]

    def state(self, rank: int, kind: str, name: str):
        """The bytes of one rank's state, or None."""
        for row in self._wire.call("CKPT.STATEGET", self._run, self.step, "RANK", rank, "KIND", kind):
            found = fields(row)
            if found["name"].decode() == name:
                return found["blob"]
        return None

    def check(self):
        """Errors: VersionReplaced when the step is not of the transaction any more that it was of at first."""
        if self._tx_of(self._wire, self.step) != self.tx:
            raise VersionReplaced(f"{self._run} {self.step} was saved again, or taken away, while it was read")

    def is_outdated(self, wire: Wire) -> bool:
        """Whether what was asked for is another version by now, or none. wire: another than it was read by."""
        return self._tx_of(wire, self._word) != self.tx

    def _tx_of(self, wire, version):
        try:
            return _manifest(wire, self._run, version, NO_TENSOR)["tx"].decode()
        except KeyError:
            return None

    def size_bytes(self, wanted) -> int:
        return sum(_size(*self._box(name, shard)) for name, shard in wanted)

    def read(self, wanted, bar) -> list:
        """wanted: [(name, Shard whose box is read, or None for all)]. Returns (dtype, shape, memory) of each, in order.

        Errors: redis.ResponseError; ValueError for a name or a box that is not there."""
        blocks, asked = [], []
        for name, shard in wanted:
            dtype, shape = self._box(name, shard)
            view = memoryview(numpy.empty(_size(dtype, shape), dtype=numpy.uint8))
            blocks.append((dtype, shape, view))
            for words, piece in self._requests(name, shard, view):
                self._wire.send("CKPT.LOAD", self._run, self.step, name, *words)
                asked.append(piece)
                if len(asked) >= ASKED_AHEAD:
                    self._receive(asked.pop(0), bar)
        for piece in asked:
            self._receive(piece, bar)
        return blocks

    def read_box(self, name, offset, length, bar):
        """(dtype, shape, memory) of a box of one tensor. Errors: as read."""
        return self.read([(name, _Box(tuple(offset), tuple(length)))], bar)[0]

    def box_bytes(self, name, length) -> int:
        return _size(self.head(name)[0], length)

    def _box(self, name, shard):
        dtype, shape = self.head(name)
        if shard is None:
            return dtype, shape
        if len(shard.offset) != len(shape) or any(at + length > size for at, length, size in zip(shard.offset, shard.local_shape, shape)):
            raise ValueError(f"{name}: a box of {shard.local_shape} at {shard.offset} of a tensor of {shape}")
        return dtype, list(shard.local_shape)

    def _requests(self, name, shard, view):
        """The words behind the name and the memory of each request for one box."""
        if len(view) == 0:
            return
        _, shape = self.head(name)
        if shard is None or list(shard.local_shape) == shape:
            for at in range(0, len(view), PIECE_BYTES):
                piece = view[at:at + PIECE_BYTES]
                yield ("RANGE", at, len(piece)), piece
            return
        bounds = [number for at, length in zip(shard.offset, shard.local_shape) for number in (at, at + length, 1)]
        yield ("SLICE", len(shape), *bounds), view

    def _receive(self, piece, bar):
        self._wire.reply(into=piece)
        bar.update(len(piece))


def _manifest(wire, run, version, match):
    """Errors: KeyError when there is no such version, and nothing else is one: whoever takes it for a run that is to begin must not
    be told so by a server that is loading, or that refuses."""
    try:
        return fields(wire.call("CKPT.MANIFEST", run, version, "MATCH", match))
    except redis.ResponseError as error:
        if not str(error).startswith(NO_VERSION):
            raise
        raise KeyError(f"{run} {version}: {error}") from error


class _Box:
    def __init__(self, offset, length):
        self.offset, self.local_shape = offset, length


def as_torch(name, block):
    """Errors: TypeError for a type that torch has not."""
    dtype, shape, memory = block
    if dtype not in dtypes.TORCH:
        raise TypeError(f"{name} is of {dtype}, which torch has not")
    return dtypes.torch_of_bytes(memory, dtype, shape)


def _size(dtype, shape):
    return math.prod(shape) * dtypes.SIZE_BYTES[dtype]
