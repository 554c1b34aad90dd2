"""A nested state as a JSON tree plus a list of flat memory blocks, and back. No server in here.

Tree: null, true, false, integers, finite floats, strings and arrays (lists) stand for themselves. All else is
an object with one member:

    {"dict": [[key, value], ..]}      keys are any of the plain values above or tuples of them
    {"odict": [..], "metadata": node} collections.OrderedDict; metadata: what state_dict() hangs on it
    {"counter": [..]}                 collections.Counter
    {"tuple": [..]}  {"size": [..]}   tuple, torch.Size
    {"f64": "hex of 8 bytes"}         NaN (with its payload) and infinities
    {"bytes": "base64"}               bytes up to INLINE_BYTES
    {"blob": b}                       longer bytes: block b
    {"tensor": b}                     a whole block
    {"view": b, "offset": o, "shape": [..], "stride": [..]}    a part of block b, counted in elements
    {"same": n}                       the n-th tensor of this tree once more: the same Python object
    {"shard": b}                      this rank's part of a tensor that several ranks hold (shards.py)
    {"numpy": b}  {"scalar": b}       an array, a numpy scalar (a block of shape ())

Example: {"w": tensor of 2x3 F32, "n": 1}
    -> {"dict": [["w", {"tensor": 0}], ["n", 1]]} and the block ("F32", (2, 3), 24 bytes)

Tensors that share memory (tied weights, views) are one block, stored once, and share memory again when
loaded. A tensor that shares with nobody is made contiguous; only its own elements are stored.
"""

import base64
import collections
import dataclasses
import math
import struct

import numpy
import torch

from cairnkv import dtypes
from cairnkv.shards import Shard

INLINE_BYTES = 4096
MAX_DEPTH = 100


@dataclasses.dataclass(frozen=True)
class Block:
    """Memory to store: element type, shape, and the bytes (prod(shape) elements, C order)."""

    dtype: str
    shape: tuple
    memory: memoryview


def flatten(state):
    """Returns (tree, list of Block). The blocks look into the tensors' memory: they are copies only
    where a tensor was not contiguous or not on the CPU.

    Errors: TypeError for a value that has no place in the tree, with its path; ValueError for nesting
    deeper than MAX_DEPTH (a cycle, for one).
    """
    tree, blocks, shard_of = flatten_sharded(state)
    if shard_of:
        raise TypeError("a Shard has a place in a Run only, where other ranks have the rest")
    return tree, blocks


def flatten_sharded(state):
    """As flatten, with Shards: returns (tree, blocks, {block: Shard})."""
    writer = _Writer()
    _visit_tensors(state, writer.count_view, 0)
    return writer.write(state, "state"), writer.blocks, writer.shard_of


def block_names(tree, count):
    """The path in the state under which each of `count` blocks is met first: "model.layer.weight". No two alike."""
    names = [None] * count
    used = set()

    def name(block, path):
        if names[block] is not None:
            return
        wanted = ".".join(path) or "state"
        unique, again = wanted, 1
        while unique in used:
            again += 1
            unique = f"{wanted}#{again}"
        used.add(unique)
        names[block] = unique

    for kind, value, path in _leaves(tree, []):
        if kind in ("tensor", "view", "shard", "numpy", "scalar", "blob"):
            name(value, path)
    return names


def _leaves(node, path):
    """(kind, value, path) of all that is no container in a tree of flatten(), in its order."""
    if isinstance(node, list):
        for i, item in enumerate(node):
            yield from _leaves(item, [*path, str(i)])
    elif isinstance(node, dict):
        for kind, value in node.items():
            if kind in ("dict", "odict", "counter"):
                for key, item in value:
                    yield from _leaves(item, [*path, str(key)])
            elif kind in ("tuple", "metadata"):
                yield from _leaves(value, path)
            else:
                yield kind, value, path


def tied_names(tree, names):
    """[(name, block)] of the places where a whole tensor is met once more: its other names. No two alike, none of `names`."""
    tensors, out, used = [], [], set(names)
    for kind, value, path in _leaves(tree, []):
        if kind in ("tensor", "view"):
            tensors.append(value if kind == "tensor" else None)
        elif kind == "same":
            tensors.append(tensors[value])
            name = ".".join(path)
            if tensors[value] is not None and name not in used:
                used.add(name)
                out.append((name, tensors[value]))
    return out


def unflatten(tree, blocks):
    """Builds the state again. blocks: a (dtype, shape, bytearray) each; the tensors keep the
    bytearrays as their memory. Errors: ValueError for a tree that flatten() does not make."""
    return _Reader(blocks).read(tree)


def check_depth(depth):
    if depth > MAX_DEPTH:
        raise ValueError(f"the state is nested deeper than {MAX_DEPTH}, or contains itself")


def _visit_tensors(value, visit, depth):
    check_depth(depth)
    if isinstance(value, torch.Tensor):
        visit(value)
    elif isinstance(value, dict):
        for item in value.values():
            _visit_tensors(item, visit, depth + 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _visit_tensors(item, visit, depth + 1)


def memory_key(tensor):
    """What two tensors have in common when they share memory; None for a tensor without memory."""
    address = tensor.storage().data_ptr() if tensor.layout == torch.strided else 0
    return (address, tensor.device, tensor.dtype) if address and tensor.numel() else None


def _view_key(tensor):
    return (tensor.storage_offset(), tuple(tensor.shape), tensor.stride())


def extent_of(tensor):
    """(first, one past the last) element of its storage that a tensor touches. Requires: memory_key is not None."""
    return _extent(_view_key(tensor))


def _extent(view):
    """(first, one past the last) element of the storage that a view key touches."""
    offset, shape, stride = view
    return offset, offset + 1 + sum((n - 1) * step for n, step in zip(shape, stride))


class _Writer:
    """One walk: numbers the blocks and the tensors in the order they are met."""

    def __init__(self):
        self.blocks = []
        self._views = {}       # memory key -> set of view keys
        self._shared = {}      # memory key -> (block, its first element) where several views share it
        self._met = {}         # (memory key, view key) -> number of the tensor
        self._tensor_count = 0
        self.shard_of = {}     # block -> Shard

    def count_view(self, tensor):
        memory = memory_key(tensor)
        if memory:
            self._views.setdefault(memory, set()).add(_view_key(tensor))

    def write(self, value, path):
        kind = type(value)
        if value is None or kind in (bool, int, str):
            return value
        if kind is float:
            return value if math.isfinite(value) else {"f64": struct.pack("<d", value).hex()}
        if kind is bytes:
            return self._bytes(value)
        if kind in (list, tuple, torch.Size):
            items = [self.write(item, f"{path}[{i}]") for i, item in enumerate(value)]
            return {list: items, tuple: {"tuple": items}, torch.Size: {"size": items}}[kind]
        if kind in (dict, collections.OrderedDict, collections.Counter):
            return self._dict(value, path)
        try:
            if isinstance(value, torch.Tensor):
                return self._tensor(value)
            if kind is Shard:
                block = self._whole(value.tensor.detach())
                self.shard_of[block] = value
                return {"shard": block}
            if kind is numpy.ndarray:
                return {"numpy": self._array(value)}
            if isinstance(value, numpy.generic):
                return {"scalar": self._array(numpy.asarray(value))}
        except TypeError as error:
            raise TypeError(f"{path}: {error}") from None
        raise TypeError(f"{path}: a {kind.__module__}.{kind.__qualname__} cannot be stored")

    def _bytes(self, value):
        if len(value) <= INLINE_BYTES:
            return {"bytes": base64.b64encode(value).decode("ascii")}
        return {"blob": self._add(Block("U8", (len(value),), memoryview(value)))}

    def _dict(self, value, path):
        items = []
        for key, item in value.items():
            if isinstance(key, (torch.Tensor, numpy.ndarray, numpy.generic)):
                raise TypeError(f"{path}: a {type(key).__name__} cannot be stored as a key")
            items.append([self.write(key, f"{path} key {key!r}"), self.write(item, f"{path}[{key!r}]")])
        if type(value) in (dict, collections.Counter):
            return {"dict" if type(value) is dict else "counter": items}
        node = {"odict": items}
        if hasattr(value, "_metadata"):
            node["metadata"] = self.write(value._metadata, f"{path}._metadata")
        return node

    def _tensor(self, tensor):
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            raise TypeError(f"a tensor of layout {tensor.layout}, {tensor.dtype} on {tensor.device} "
                            "cannot be stored")
        dtypes.name_of_torch(tensor.dtype)
        tensor = tensor.detach()
        number, self._tensor_count = self._tensor_count, self._tensor_count + 1
        memory = memory_key(tensor)
        if memory is None or tensor.is_conj() or tensor.is_neg():
            return {"tensor": self._whole(tensor)}
        view = _view_key(tensor)
        first = self._met.setdefault((memory, view), number)
        if first != number:
            return {"same": first}
        if len(self._views[memory]) == 1:
            return {"tensor": self._whole(tensor)}
        block, origin = self._shared_block(tensor, memory)
        offset, shape, stride = view
        return {"view": block, "offset": offset - origin, "shape": list(shape), "stride": list(stride)}

    def _whole(self, tensor):
        plain = tensor.resolve_conj().resolve_neg().cpu().contiguous()
        return self._add(Block(dtypes.name_of_torch(tensor.dtype), tuple(tensor.shape),
                               dtypes.memory_of_torch(plain)))

    def _shared_block(self, tensor, memory):
        if memory not in self._shared:
            extents = [_extent(view) for view in self._views[memory]]
            begin, end = min(e[0] for e in extents), max(e[1] for e in extents)
            flat = torch.as_strided(tensor, (end - begin,), (1,), begin)
            self._shared[memory] = (self._whole(flat), begin)
        return self._shared[memory]

    def _array(self, array):
        dtype = dtypes.name_of_numpy(array.dtype)
        plain = array if array.flags.c_contiguous else numpy.ascontiguousarray(array)
        return self._add(Block(dtype, tuple(array.shape), dtypes.memory_of_numpy(plain)))

    def _add(self, block):
        self.blocks.append(block)
        return len(self.blocks) - 1


class _Reader:
    """One walk in the same order, so that "same" finds the tensor it names."""

    def __init__(self, blocks):
        self._blocks = blocks
        self._whole = {}      # block -> its tensor
        self._tensors = []

    def read(self, node):
        if not isinstance(node, dict):
            return [self.read(item) for item in node] if isinstance(node, list) else node
        kinds = [kind for kind in node if kind in self._READERS]
        if len(kinds) != 1:
            raise ValueError(f"a node of unknown kind: {sorted(node)}")
        return self._READERS[kinds[0]](self, node)

    def _dict(self, node):
        return {self.read(key): self.read(item) for key, item in node["dict"]}

    def _ordered_dict(self, node):
        result = collections.OrderedDict(
            [(self.read(key), self.read(item)) for key, item in node["odict"]])
        if "metadata" in node:
            result._metadata = self.read(node["metadata"])
        return result

    def _tensor(self, node):
        return self._remember(self._block_tensor(node["tensor"]))

    def _view(self, node):
        flat = self._block_tensor(node["view"])
        offset, shape, stride = node["offset"], tuple(node["shape"]), tuple(node["stride"])
        begin, end = _extent((offset, shape, stride))
        if begin < 0 or end > flat.numel() or len(shape) != len(stride):
            raise ValueError(f"a view of elements {begin} to {end} in a block of {flat.numel()}")
        return self._remember(torch.as_strided(flat, shape, stride, offset))

    def _same(self, node):
        tensor = self._tensors[node["same"]]
        return self._remember(tensor)

    def _remember(self, tensor):
        self._tensors.append(tensor)
        return tensor

    def _block_tensor(self, number):
        if number not in self._whole:
            dtype, shape, blob = self._blocks[number]
            self._whole[number] = dtypes.torch_of_bytes(blob, dtype, shape)
        return self._whole[number]

    def _array(self, number):
        dtype, shape, blob = self._blocks[number]
        return dtypes.numpy_of_bytes(blob, dtype, shape)

    _READERS = {
        "dict": _dict,
        "odict": _ordered_dict,
        "counter": lambda self, node: collections.Counter({self.read(key): self.read(item) for key, item in node["counter"]}),
        "tuple": lambda self, node: tuple(self.read(item) for item in node["tuple"]),
        "size": lambda self, node: torch.Size(node["size"]),
        "f64": lambda self, node: struct.unpack("<d", bytes.fromhex(node["f64"]))[0],
        "bytes": lambda self, node: base64.b64decode(node["bytes"]),
        "blob": lambda self, node: bytes(self._blocks[node["blob"]][2]),
        "tensor": _tensor,
        "shard": lambda self, node: self._block_tensor(node["shard"]),
        "view": _view,
        "same": _same,
        "numpy": lambda self, node: self._array(node["numpy"]),
        "scalar": lambda self, node: self._array(node["scalar"])[()],
    }
