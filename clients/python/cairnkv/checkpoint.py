"""Checkpoints of a run: several keys that become visible together. Single writer, any number of readers.

Keys, for a run called RUN and a save called NAME (`STEP.RANDOM`, so that no two saves share a key):

    RUN:ckpt:NAME:B       block B: a tensor (TENSOR.SET), or its bytes as a string
    RUN:ckpt:NAME         the manifest: JSON, see below
    RUN:latest            NAME of the newest checkpoint
    RUN:index             JSON: [[NAME, STEP, number of blocks], ..], oldest first; all that is visible
    RUN:garbage           JSON: the same rows for what is not, or no longer, visible

Order of a save, with what a kill -9 between two lines leaves behind:

    1. garbage += NAME                           a name without keys: harmless
    2. the blocks, pipelined                     blocks that the next save removes
    3. all blocks are there; then one MULTI:     nothing or everything: one record of the AOF
       manifest, latest, index; garbage = the checkpoints beyond `keep`
    4. UNLINK of that garbage, then of the row   blocks that the next save removes

RUN:index is watched from 1 to 3, so of two writers of one run the slower one gets CheckpointConflict.

Manifest: {"format": 1, "step": 7, "values": "tensor" | "string", "tree": .., "blocks": [[dtype, [shape]], ..]};
tree as in state.py. Blocks above PIECE_BYTES travel in pieces.
"""

import json
import math
import secrets

import redis

from cairnkv import dtypes, state as states

FORMAT = 1
PIECE_BYTES = 64 << 20       # one bulk; the server's limit is 512 MiB (proto-max-bulk-len)
BATCH_BYTES = 32 << 20       # per pipeline: its replies are small, its arguments are not copied
LOAD_ATTEMPTS = 5            # of load() without a step, each on a newer checkpoint


class CheckpointError(Exception):
    """The keys of a checkpoint do not fit together: removed meanwhile, or written by something else."""


class CheckpointConflict(CheckpointError):
    """Another writer saved to the same run during this save. Nothing of this save is visible."""


def save(run: str, step: int, state, *, client: redis.Redis, keep: int = 2, as_strings: bool = False) -> str:
    """Stores `state` as the newest checkpoint of `run`; returns its name once the server has it.

    run: prefix of the keys. step: an integer >= 0; a step may be saved again, the later save wins.
    state: nested dicts, lists, tuples, integers, floats, booleans, strings, bytes, None, tensors and numpy
    arrays of any shape and of the types in dtypes.py. Memory is sent as it stands; tensors must not change
    meanwhile. keep: how many checkpoints of the run stay. as_strings: blocks as plain strings, for a server
    without the tensor module (at most 512 MiB each).

    What the answer promises is the server's `appendfsync`: with `always` the checkpoint is on the disk.

    Errors: TypeError, ValueError (see state.flatten); CheckpointConflict; CheckpointError when blocks
    vanished meanwhile (a server that restarted and lost them); redis.RedisError. After any of them the
    checkpoints of before are what load() sees, unless the connection broke at the very commit: then
    the save may have happened, as a whole.
    """
    if step < 0 or keep < 1:
        raise ValueError(f"step {step} must be >= 0 and keep {keep} >= 1")
    tree, blocks = states.flatten(state)
    name = f"{step}.{secrets.token_hex(8)}"
    manifest = json.dumps({
        "format": FORMAT, "step": step, "values": "string" if as_strings else "tensor", "tree": tree,
        "blocks": [[block.dtype, list(block.shape)] for block in blocks],
    }, allow_nan=False, separators=(",", ":"))

    _collect_garbage(run, client)
    _set_rows(client, f"{run}:garbage", [[name, step, len(blocks)]])
    with client.pipeline(transaction=True) as commit:
        commit.watch(f"{run}:index")
        index = _rows(commit.get(f"{run}:index"))
        _push(run, name, blocks, client, as_strings)
        if blocks and commit.exists(*_block_keys(run, name, len(blocks))) != len(blocks):
            # Another save takes what is not visible for what a killed one left behind.
            if _rows(commit.get(f"{run}:index")) != index:
                raise CheckpointConflict(f"another writer saved to {run} during step {step}")
            raise CheckpointError(f"blocks of {run} step {step} vanished while it was saved")
        rows = [*index, [name, step, len(blocks)]]
        old, rows = rows[:-keep], rows[-keep:]
        commit.multi()
        commit.set(_manifest_key(run, name), manifest)
        commit.set(f"{run}:latest", name)
        _set_rows(commit, f"{run}:index", rows)
        _set_rows(commit, f"{run}:garbage", old)
        try:
            commit.execute()
        except redis.WatchError:
            raise CheckpointConflict(f"another writer saved to {run} during step {step}") from None
    _collect_garbage(run, client)
    return name


def load(run: str, step: int | None = None, *, client: redis.Redis):
    """Returns the state that was saved: equal bit for bit, tensors on the CPU and without gradients.

    step: None for the newest checkpoint, else the newest one of that step.
    Errors: KeyError when there is no such checkpoint; CheckpointError when its parts do not fit together
    or were removed while they were read; redis.RedisError.
    """
    for attempt in range(LOAD_ATTEMPTS):
        row = _find(run, step, client)
        try:
            return _load(run, row[0], client)
        except CheckpointError:
            # A writer may have removed it after it was found: only then is there another answer now.
            if attempt + 1 == LOAD_ATTEMPTS or row in _rows(client.get(f"{run}:index")):
                raise
    raise AssertionError("unreachable")


def latest(run: str, *, client: redis.Redis) -> int | None:
    """The step of the newest checkpoint, or None."""
    rows = _rows(client.get(f"{run}:index"))
    return rows[-1][1] if rows else None


def steps(run: str, *, client: redis.Redis) -> list:
    """The steps of all visible checkpoints, oldest save first."""
    return [row[1] for row in _rows(client.get(f"{run}:index"))]


def delete(run: str, *, client: redis.Redis) -> int:
    """Removes the run with all its checkpoints; returns how many there were."""
    rows = _rows(client.get(f"{run}:index"))
    with client.pipeline(transaction=True) as commit:
        commit.get(f"{run}:garbage")
        commit.delete(f"{run}:index", f"{run}:latest")
        garbage = _rows(commit.execute()[0])
    _set_rows(client, f"{run}:garbage", garbage + rows)
    _collect_garbage(run, client)
    return len(rows)


def _manifest_key(run, name):
    return f"{run}:ckpt:{name}"


def _block_keys(run, name, count):
    return [f"{run}:ckpt:{name}:{number}" for number in range(count)]


def _rows(text):
    return json.loads(text) if text else []


def _set_rows(client, key, rows):
    if rows:
        client.set(key, json.dumps(rows, separators=(",", ":")))
    else:
        client.delete(key)


def _collect_garbage(run, client):
    rows = _rows(client.get(f"{run}:garbage"))
    if not rows:
        return
    with client.pipeline(transaction=False) as batch:
        for name, _, count in rows:
            batch.unlink(_manifest_key(run, name), *_block_keys(run, name, count))
        batch.delete(f"{run}:garbage")
        batch.execute()


def _push(run, name, blocks, client, as_strings):
    """Sends the blocks in pipelines of about BATCH_BYTES: one round trip each, memory sent in place."""
    with client.pipeline(transaction=False) as batch:
        waiting = 0
        for key, block in zip(_block_keys(run, name, len(blocks)), blocks):
            if waiting and waiting + len(block.memory) > BATCH_BYTES:
                batch.execute()
                waiting = 0
            waiting += len(block.memory)
            if as_strings:
                batch.set(key, block.memory)
            elif len(block.memory) <= PIECE_BYTES:
                batch.execute_command("TENSOR.SET", key, block.dtype, *_shape(block), "BLOB", block.memory)
            else:
                _push_in_pieces(key, block, client)
        batch.execute()


def _shape(block):
    return ["SHAPE", len(block.shape), *block.shape]


def _push_in_pieces(key, block, client):
    upload = client.execute_command("TENSOR.BEGINSET", key, block.dtype, *_shape(block))
    for offset in range(0, len(block.memory), PIECE_BYTES):
        piece = block.memory[offset:offset + PIECE_BYTES]
        client.execute_command("TENSOR.WRITE", key, upload, offset, "BLOB", piece)
    client.execute_command("TENSOR.ENDSET", key, upload)


def _find(run, step, client):
    rows = [row for row in _rows(client.get(f"{run}:index")) if step is None or row[1] == step]
    if not rows:
        raise KeyError(f"no checkpoint of {run}" + ("" if step is None else f" at step {step}"))
    return rows[-1]


def _load(run, name, client):
    text = client.get(_manifest_key(run, name))
    if text is None:
        raise CheckpointError(f"{run} {name}: the manifest is gone")
    manifest = json.loads(text)
    if manifest.get("format") != FORMAT:
        raise CheckpointError(f"{run} {name}: format {manifest.get('format')} is not {FORMAT}")
    blobs = _pull(run, name, manifest, client)
    blocks = [(dtype, shape, blob) for (dtype, shape), blob in zip(manifest["blocks"], blobs)]
    try:
        return states.unflatten(manifest["tree"], blocks)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise CheckpointError(f"{run} {name}: {error}") from error


def _pull(run, name, manifest, client):
    """Returns a bytearray per block, of the size that its type and shape ask for.

    Pipelines of about BATCH_BYTES; above PIECE_BYTES a tensor comes in pieces.
    """
    as_strings = manifest["values"] == "string"
    sizes = [math.prod(shape) * dtypes.SIZE_BYTES[dtype] for dtype, shape in manifest["blocks"]]
    blobs, batch, waiting = [], [], 0

    def receive():
        nonlocal batch, waiting
        with client.pipeline(transaction=False) as pipeline:
            for key, _, _ in batch:
                pipeline.execute_command("GET" if as_strings else "TENSOR.GET", key)
            replies = pipeline.execute() if batch else []
        for (key, block, size_bytes), reply in zip(batch, replies):
            blobs.append(_checked(key, block, size_bytes, {"blob": reply} if as_strings else _fields(reply)))
        batch, waiting = [], 0

    for key, block, size_bytes in zip(_block_keys(run, name, len(sizes)), manifest["blocks"], sizes):
        if waiting + size_bytes > BATCH_BYTES:
            receive()
        if size_bytes > PIECE_BYTES and not as_strings:
            blobs.append(_pull_in_pieces(key, block, size_bytes, client))
        else:
            batch.append((key, block, size_bytes))
            waiting += size_bytes
    receive()
    return blobs


def _checked(key, block, size_bytes, found):
    """The blob of a reply, if it is what the manifest says."""
    blob = found.get("blob")
    if blob is None:
        raise CheckpointError(f"{key} is gone")
    if "dtype" in found and [found["dtype"].decode(), found["shape"]] != block:
        raise CheckpointError(f"{key} is {found['dtype']} {found['shape']}, saved was {block}")
    if len(blob) != size_bytes:
        raise CheckpointError(f"{key}: {len(blob)} bytes where {size_bytes} were saved")
    return bytearray(blob)


def _pull_in_pieces(key, block, size_bytes, client):
    found = _fields(client.execute_command("TENSOR.GET", key, "META"))
    if found and [found["dtype"].decode(), found["shape"]] != block:
        raise CheckpointError(f"{key} is {found['dtype']} {found['shape']}, saved was {block}")
    blob = bytearray(size_bytes)
    for offset in range(0, size_bytes, PIECE_BYTES):
        length = min(PIECE_BYTES, size_bytes - offset)
        piece = client.execute_command("TENSOR.GET", key, "RANGE", offset, length)
        blob[offset:offset + length] = _checked(key, block, length, {"blob": piece})
    return blob


def _fields(reply):
    """A map as RESP2 sends it: names and values in turn. Nothing for a null reply."""
    reply = reply or []
    return {name.decode().lower(): value for name, value in zip(reply[::2], reply[1::2])}
