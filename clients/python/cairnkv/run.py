"""Run: checkpoints of several ranks in one server-side run (CKPT commands): saved by any number of ranks as one
transaction, loaded by any other number.

    run = cairnkv.Run("runs:gpt", client=client)              # RANK, WORLD_SIZE and the restart count from the environment
    run.save(step, {"model": model.state_dict(), "step": step}, rank_state=cairnkv.capture_rng())
    state, rank_state = run.load()                            # LATEST; KeyError when there is none

Rank 0 says what the state is: its plain tensors are saved once, by rank 0; what several ranks hold together they
wrap in Shard. `rank_state` is what each rank has for itself (random numbers, the loader's position): any nested
values. A save is visible when all ranks have voted, or never.

How it lies in a version: each tensor under its path in the state ("model.encoder.weight"); rank 0's state kinds
"trainer"/"tree" is JSON {"tree": .., "names": [..]} with the nodes of state.py; each rank's "user"/"rank" is the
same with its small blocks behind it.
"""

import collections
import concurrent.futures
import json
import math
import os
import struct

import numpy
import redis
import torch

from cairnkv import dtypes, hashing, shards, state as states

PIECE_BYTES = 4 << 20        # of one PUT: a whole number of the server's chunks
DECLARE_TENSORS = 512        # of one DECLARE
WAIT_MS = 10 * 60 * 1000


class SaveFailed(Exception):
    """The transaction did not become a version; what was there before is what load() sees. `word` is the
    server's (CKPTFENCED, CKPTINCOMPLETE, CKPTABORTED ..)."""

    def __init__(self, error):
        super().__init__(str(error))
        self.word = str(error).split(" ", 1)[0]


def _environment(name, given, default):
    if given is not None:
        return int(given)
    return int(os.environ[name]) if name in os.environ else default


class Run:
    def __init__(self, name: str, *, client: redis.Redis, rank: int | None = None, world: int | None = None,
                 attempt: int | None = None):
        """name: the key. rank, world, attempt: from RANK, WORLD_SIZE and TORCHELASTIC_RESTART_COUNT (or ATTEMPT) when
        not given. A higher attempt fences all lower ones: raise it whenever the job is started again.

        Errors: ValueError when the world has several ranks and nobody says which this is.
        """
        self.name, self.client = name, client
        self.world = _environment("WORLD_SIZE", world, 1)
        self.rank = _environment("RANK", rank, None)
        if self.rank is None:
            if self.world > 1:
                raise ValueError(f"a world of {self.world} ranks and no RANK: which one is this?")
            self.rank = 0
        self.attempt = _environment("TORCHELASTIC_RESTART_COUNT", attempt, _environment("ATTEMPT", None, 0))
        self._worker = None
        self._pending = None

    # --- saving ---

    def save(self, step: int, state, *, rank_state=None, tag: str | None = None, group: str = "weights",
             durable: str | None = None, guard_finite: bool = False, reuse: bool = True, wait_ms: int = WAIT_MS) -> dict:
        """Saves `state` as version `step`: every rank calls it, and it returns on each when the version is committed.

        reuse: hashes tell the server what it has already, and only the rest travels (needs XXH3: hashing.py).
        guard_finite: NaN or infinity in this rank's tensors refuses the save. durable: MEM, AOF or DISK.
        Tensors must not change until it returns; see save_async.

        Returns {"step", "bytes", "sent_bytes"}. Errors: SaveFailed; TypeError and ValueError as state.flatten.
        """
        plan = _SavePlan(state, self.rank, group)
        extra = _pack(rank_state) if rank_state is not None else None
        try:
            return self._save(step, plan, extra, tag, durable, guard_finite, reuse and hashing.available(), wait_ms)
        except redis.ResponseError as error:
            raise SaveFailed(error) from error

    def _save(self, step, plan, extra, tag, durable, guard_finite, reuse, wait_ms):
        call = self.client.execute_command
        tx = call("CKPT.BEGIN", self.name, step, "RANK", self.rank, "WORLD", self.world, "ATTEMPT", self.attempt)
        mine = [self.name, tx, "RANK", self.rank]
        for first in range(0, len(plan.parts), DECLARE_TENSORS):
            parts = plan.parts[first:first + DECLARE_TENSORS]
            words = [word for part in parts for word in part.declaration]
            call("CKPT.DECLARE", *mine, len(parts), *words)
        sent = sum(self._upload(mine, part, reuse) for part in plan.parts)
        if plan.tree is not None:
            call("CKPT.STATE", *mine, "tree", "KIND", "trainer", "BLOB", plan.tree)
        if extra is not None:
            call("CKPT.STATE", *mine, "rank", "KIND", "user", "BLOB", extra)
        call("CKPT.PREPARE", *mine, *(["GUARD", "FINITE"] if guard_finite else []))
        words = [*(["DURABLE", durable] if durable else []), *(["TAG", tag] if tag else [])]
        reply = _fields(call("CKPT.COMMIT", self.name, tx, "WAIT", wait_ms, *words))
        return {"step": int(reply["step"]), "bytes": int(reply["bytes"]), "sent_bytes": sent}

    def _upload(self, mine, part, reuse):
        """Sends what the server lacks of one part; returns how many bytes travelled."""
        memory = part.memory
        if len(memory) == 0:
            return 0
        place = [*mine, part.name]
        missing = hashing.chunk_ranges(len(memory), part.phase)
        if reuse:
            missing = self._refer(mine, part, missing)
        sent = 0
        with self.client.pipeline(transaction=False) as pipeline:
            waiting = 0
            for begin, end in _merged(missing, PIECE_BYTES):
                pipeline.execute_command("CKPT.PUT", *place, "AT", begin, "BLOB", memory[begin:end])
                waiting += end - begin
                sent += end - begin
                if waiting >= 4 * PIECE_BYTES:
                    _execute(pipeline)
                    waiting = 0
            _execute(pipeline)
        return sent

    def _refer(self, mine, part, cells):
        """Gives the server the hashes of what it has; returns the cells it has not."""
        digests = [hashing.digest(part.memory[begin:end]) for begin, end in cells]
        bits = self.client.execute_command("CKPT.HAVE", *mine[:2], len(digests), *digests)
        held = [bool(bits[i // 8] & (0x80 >> (i % 8))) for i in range(len(cells))]
        missing, first = [], 0
        while first < len(cells):
            last = first
            while last < len(cells) and held[last] == held[first]:
                last += 1
            if held[first]:
                try:
                    self.client.execute_command("CKPT.REF", *mine, part.name, "AT", cells[first][0], last - first,
                                                *digests[first:last])
                except redis.ResponseError as error:
                    # Gone since it was asked for: its bytes travel.
                    if not str(error).startswith("CKPTHASH"):
                        raise
                    missing += cells[first:last]
            else:
                missing += cells[first:last]
            first = last
        return missing

    def save_async(self, step: int, state, **options) -> concurrent.futures.Future:
        """Copies the tensors and saves from a thread, so that training goes on; waits first for the save before it:
        never more than one copy. Returns a Future of save()'s result.
        """
        self.wait()
        copied = _copy(state)
        if self._worker is None:
            self._worker = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="cairnkv-save")
        self._pending = self._worker.submit(self.save, step, copied, **options)
        return self._pending

    def wait(self):
        """The result of the save that runs, or None. Errors: what it ended with."""
        pending, self._pending = self._pending, None
        return pending.result() if pending is not None else None

    def close(self):
        try:
            self.wait()
        finally:
            if self._worker is not None:
                self._worker.shutdown()
                self._worker = None

    # --- loading ---

    def steps(self) -> list:
        """The steps of all versions, newest first; those that were rolled back are left out."""
        try:
            rows = self.client.execute_command("CKPT.LIST", self.name)
        except redis.ResponseError as error:
            if str(error).startswith("no such run"):
                return []
            raise
        fields = [_fields(row) for row in rows]
        return [int(row["step"]) for row in fields if row["state"] != b"rolledback"]

    def latest(self) -> int | None:
        steps = self.steps()
        return steps[0] if steps else None

    def load(self, version="LATEST", *, template=None, rank: int | None = None):
        """Returns (state, rank_state) of a version: a step, "@tag" or LATEST.

        template: {path: Shard} of tensors to read in part: the Shard's box is read into a new tensor. All others
        come whole, also those saved as shards. rank_state is that of this rank, or of `rank`; None when the world
        had no such rank. Errors: KeyError when there is no such version; ValueError when it was not saved by save().
        """
        version = self._pinned(version)
        tree_blob = self._state(version, 0, "trainer", b"tree")
        if tree_blob is None:
            raise ValueError(f"{self.name} {version}: no tree: not saved by this package")
        head = json.loads(tree_blob)
        blocks = [self._read(version, name, (template or {}).get(name)) for name in head["names"]]
        packed = self._state(version, self.rank if rank is None else rank, "user", b"rank")
        return states.unflatten(head["tree"], blocks), None if packed is None else _unpack(packed)

    def _pinned(self, version):
        """A step for LATEST or a tag, so that all parts come from one version."""
        try:
            return int(_fields(self.client.execute_command("CKPT.MANIFEST", self.name, version, "MATCH", ""))["step"])
        except redis.ResponseError as error:
            raise KeyError(f"{self.name} {version}: {error}") from error

    def _state(self, version, rank, kind, name):
        for row in self.client.execute_command("CKPT.STATEGET", self.name, version, "RANK", rank, "KIND", kind):
            fields = _fields(row)
            if fields["name"] == name:
                return fields["blob"]
        return None

    def _read(self, version, name, shard):
        words = []
        if shard is not None:
            bounds = [(first, first + length, 1) for first, length in zip(shard.offset, shard.local_shape)]
            words = ["SLICE", len(bounds), *[number for bound in bounds for number in bound]]
        fields = _fields(self.client.execute_command("CKPT.LOAD", self.name, version, name, *words))
        return fields["dtype"].decode(), list(fields["shape"]), bytearray(fields["blob"])


class _Part:
    """One shard of this rank, ready to be declared and sent."""

    def __init__(self, name, group, block, shape, offset):
        self.name, self.memory = name, block.memory
        length = tuple(block.shape)
        shape = length if shape is None else shape
        self.declaration = [name, group, block.dtype, "SHAPE", len(shape), *shape]
        self.phase = 0
        if offset is not None:
            self.declaration += ["SHARD", "OFF", len(offset), *offset, "LEN", len(length), *length]
            self.phase = shards.phase(block.dtype, shape, offset, length)


class _SavePlan:
    """What of a state this rank declares: its shards; on rank 0 all else too, and the tree."""

    def __init__(self, state, rank, group):
        tree, blocks, shard_of = states.flatten_sharded(state)
        names = states.block_names(tree, len(blocks))
        self.parts = []
        for number, block in enumerate(blocks):
            shard = shard_of.get(number)
            if shard is not None:
                self.parts.append(_Part(names[number], group, block, shard.shape, shard.offset))
            elif rank == 0:
                self.parts.append(_Part(names[number], group, block, None, None))
        self.tree = None
        if rank == 0:
            self.tree = json.dumps({"tree": tree, "names": names}, allow_nan=False, separators=(",", ":")).encode()


def _pack(value) -> bytes:
    """A small state as one blob: u64 length, JSON {"tree", "blocks": [[dtype, shape]]}, the blocks' bytes."""
    tree, blocks = states.flatten(value)
    head = json.dumps({"tree": tree, "blocks": [[block.dtype, list(block.shape)] for block in blocks]},
                      allow_nan=False, separators=(",", ":")).encode()
    return b"".join([struct.pack("<Q", len(head)), head, *[bytes(block.memory) for block in blocks]])


def _unpack(blob: bytes):
    """Errors: ValueError for what _pack does not make."""
    if len(blob) < 8 or struct.unpack_from("<Q", blob)[0] > len(blob) - 8:
        raise ValueError("a rank's state that is cut short")
    at = 8 + struct.unpack_from("<Q", blob)[0]
    head = json.loads(blob[8:at])
    blocks = []
    for dtype, shape in head["blocks"]:
        size = math.prod(shape) * dtypes.SIZE_BYTES[dtype]
        if size > len(blob) - at:
            raise ValueError("a rank's state that is cut short")
        blocks.append((dtype, shape, bytearray(blob[at:at + size])))
        at += size
    return states.unflatten(head["tree"], blocks)


def _copy(value):
    """The same state with tensors and arrays of its own; what shared memory shares its copy."""
    memory = {}

    def walk(item):
        if isinstance(item, torch.Tensor):
            key = states.memory_key(item)
            if key is None:
                return item.detach().clone()
            if key not in memory:
                flat = torch.as_strided(item.detach(), (item.storage().size(),), (1,), 0)
                memory[key] = flat.clone()
            return torch.as_strided(memory[key], item.shape, item.stride(), item.storage_offset())
        if isinstance(item, shards.Shard):
            return shards.Shard(item.tensor.detach().clone(), item.shape, item.offset)
        if type(item) in (dict, collections.OrderedDict):
            copied = type(item)((key, walk(inner)) for key, inner in item.items())
            if hasattr(item, "_metadata"):
                copied._metadata = item._metadata
            return copied
        if type(item) in (list, tuple):
            return type(item)(walk(inner) for inner in item)
        return item.copy() if isinstance(item, numpy.ndarray) else item

    return walk(value)


def _fields(reply):
    """A map, as RESP2 or RESP3 gives it."""
    if isinstance(reply, dict):
        return {name.decode(): value for name, value in reply.items()}
    return {name.decode(): value for name, value in zip(reply[::2], reply[1::2])}


def _execute(pipeline):
    """Errors: the first one as the server worded it; redis-py would write the payload into the message."""
    for reply in pipeline.execute(raise_on_error=False):
        if isinstance(reply, Exception):
            raise reply


def _merged(ranges, limit):
    """Adjacent ranges together, in pieces of at most `limit` bytes."""
    out = []
    for begin, end in ranges:
        if out and out[-1][1] == begin and end - out[-1][0] <= limit:
            out[-1] = (out[-1][0], end)
        else:
            out.append((begin, end))
    return out
