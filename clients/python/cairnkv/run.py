"""Run: checkpoints of several ranks in one server-side run (CKPT commands): saved by any number of ranks as one
transaction, loaded by any other number.

    run = cairnkv.Run("runs:gpt", client=client)              # RANK, WORLD_SIZE and the restart count from the environment
    run.save(step, {"model": model.state_dict(), "step": step}, rank_state=cairnkv.capture_rng())
    state, rank_state = run.load()                            # LATEST; KeyError when there is none

Rank 0 says what the state is: its plain tensors are saved once, by rank 0; what several ranks hold together they
wrap in Shard. `rank_state` is what each rank has for itself (random numbers, the loader's position): any nested
values. A save is visible when all ranks have voted, or never.

How it lies in a version: each tensor under its path in the state ("model.encoder.weight"), tied ones as aliases; rank 0's state
kinds "trainer"/"tree" is JSON {"tree": .., "names": [..]} with the nodes of state.py; each rank's "user"/"rank" is the same
with its small blocks behind it (packed.py).
"""

import concurrent.futures
import json
import logging
import os
import time

import redis

from cairnkv import hashing, packed, reading, staging, state as states
from cairnkv.progress import Bar
from cairnkv.upload import Part, SaveFailed, Upload, fields, is_no_such_run
from cairnkv.wire import Wire

WAIT_MS = 10 * 60 * 1000
HOPELESS = ("CKPTNOTFINITE", "CKPTQUOTA")     # the same state again would end the same way
LOAD_ATTEMPTS = 5            # of load("LATEST"), each on a newer version
_log = logging.getLogger("cairnkv")


def _environment(name, given, default):
    if given is not None:
        return int(given)
    return int(os.environ[name]) if name in os.environ else default


def attempt_of(given: int | None, default: int | None = 0) -> int | None:
    """`given`, or the restart count from TORCHELASTIC_RESTART_COUNT, else from ATTEMPT; `default` when nobody says."""
    return _environment("TORCHELASTIC_RESTART_COUNT", given, _environment("ATTEMPT", None, default))


class Run:
    def __init__(self, name: str, *, client: redis.Redis, rank: int | None = None, world: int | None = None,
                 attempt: int | None = None, progress=None, copy_limit_bytes: int | None = None):
        """name: the key. rank, world, attempt: from RANK, WORLD_SIZE and TORCHELASTIC_RESTART_COUNT (or ATTEMPT) when
        not given. A higher attempt fences all lower ones: raise it whenever the job is started again. When nobody says, several
        ranks are of attempt 0, and one process takes what each save needs: the run's own, and the next one when
        the step is there already, whole or begun (by a process that was killed, or resumed before it).
        progress: bars for all saves and loads, see progress.py. copy_limit_bytes: save_async copies no larger state than this
        and saves such a one before it returns.

        Errors: ValueError when the world has several ranks and nobody says which this is.
        """
        self.name, self.client = name, client
        self.world = _environment("WORLD_SIZE", world, 1)
        self.rank = _environment("RANK", rank, None)
        if self.rank is None:
            if self.world > 1:
                raise ValueError(f"a world of {self.world} ranks and no RANK: which one is this?")
            self.rank = 0
        self.attempt = attempt_of(attempt, None if self.world == 1 else 0)
        self.progress, self.copy_limit_bytes = progress, copy_limit_bytes
        self._worker = None
        self._pending = []
        self._staging = staging.Staging()

    # --- saving ---

    def save(self, step: int, state, *, rank_state=None, tag: str | None = None, group: str = "weights",
             durable: str | None = None, guard_finite: bool = False, reuse: bool = True, keep: int | None = None,
             wait_ms: int = WAIT_MS, progress=None) -> dict:
        """Saves `state` as version `step`: every rank calls it, and it returns on each when the version is committed.

        reuse: hashes tell the server what it has already, and only the rest travels (needs XXH3: hashing.py).
        guard_finite: NaN or infinity in this rank's tensors refuses the save. durable: MEM, AOF or DISK. keep: how many
        versions stay (CKPT.RETAIN, by rank 0), besides LATEST and pinned ones.
        Tensors must not change until it returns; see save_async. Waits first for a save_async that still runs.

        Returns {"step", "bytes", "sent_bytes", "blocked_s", "seconds"}: blocked_s until PREPARE, from where the state may
        change again. Errors: SaveFailed; ValueError for a step below 0 or a keep below 1; TypeError and ValueError as state.flatten;
        what a save_async ended with.
        """
        self.wait()
        return self._save(step, state, rank_state, tag=tag, group=group, durable=durable, guard_finite=guard_finite, reuse=reuse,
                          keep=keep, wait_ms=wait_ms, progress=progress)

    def _save(self, step, state, rank_state, *, tag=None, group="weights", durable=None, guard_finite=False, reuse=True,
              keep=None, wait_ms=WAIT_MS, progress=None):
        if step < 0 or (keep is not None and keep < 1):
            raise ValueError(f"step {step} must be >= 0 and keep {keep} >= 1")
        began = time.monotonic()
        plan = _SavePlan(state, self.rank, group)
        extra = packed.pack(rank_state) if rank_state is not None else None
        try:
            with Upload(self.client, self.name, self.rank) as upload:
                upload.begin(step, self.world, upload.attempt_for(step) if self.attempt is None else self.attempt)
                upload.declare(plan.parts)
                with Bar(self._progress(progress), plan.size_bytes, f"save {self.name} {step}", self.rank) as bar:
                    upload.send(plan.parts, reuse=reuse and hashing.available(), bar=bar)
                if plan.tree is not None:
                    upload.state("tree", "trainer", plan.tree)
                if extra is not None:
                    upload.state("rank", "user", extra)
                upload.prepare(guard_finite)
                blocked_s = time.monotonic() - began
                row = upload.commit(wait_ms=wait_ms, durable=durable, tag=tag)
                if keep is not None and self.rank == 0:
                    upload.retain(keep)
        except redis.ResponseError as error:
            failed = SaveFailed(error)
            if failed.word in HOPELESS:
                self._abort(upload.tx, str(error))
            raise failed from error
        return {"step": int(row["step"]), "bytes": int(row["bytes"]), "sent_bytes": upload.sent_bytes, "blocked_s": blocked_s,
                "seconds": time.monotonic() - began}

    def _abort(self, tx, reason):
        """Frees what was sent; else it would count as an open transaction until its time is over."""
        try:
            with Upload(self.client, self.name, self.rank) as upload:
                upload.tx = tx
                upload.abort(reason[:200])
        except redis.RedisError:
            pass  # another rank was faster, or the server is gone

    def save_async(self, step: int, state, *, rank_state=None, **options) -> concurrent.futures.Future:
        """Copies the tensors and saves from a thread, so that training goes on. Waits first for the save before it: never more
        than one copy, in memory that is used again. Returns a Future of save()'s result.

        What a save in the thread ends with is logged at once and raised by the next call of save, save_async, wait or close.
        A save that runs when the interpreter exits is finished first.
        """
        self.wait()
        if self.copy_limit_bytes is not None and staging.size_bytes([state, rank_state]) > self.copy_limit_bytes:
            done = concurrent.futures.Future()
            done.set_result(self._save(step, state, rank_state, **options))
            return done
        copied, copied_rank_state = self._staging.copy([state, rank_state])
        return self.later(self._save, step, copied, copied_rank_state, **options)

    def later(self, work, *arguments, **options) -> concurrent.futures.Future:
        """Calls work(..) in the saving thread, behind the saves that run; errors as save_async."""
        if self._worker is None:
            self._worker = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="cairnkv-save")
        future = self._worker.submit(work, *arguments, **options)
        future.add_done_callback(lambda ended: _log_error(self.name, ended))
        self._pending.append(future)
        return future

    def wait(self):
        """The result of the last save_async that nobody waited for, or None. Errors: what the first that failed ended with."""
        concurrent.futures.wait(self._pending)
        pending, self._pending = self._pending, []
        results = [future.result() for future in pending]
        return results[-1] if results else None

    def close(self):
        try:
            self.wait()
        finally:
            if self._worker is not None:
                self._worker.shutdown()
                self._worker = None
            self._staging = staging.Staging()

    # --- loading ---

    def steps(self) -> list:
        """The steps of all versions, newest first; those that were rolled back are left out."""
        try:
            with Wire(self.client) as wire:
                rows = [fields(row) for row in wire.call("CKPT.LIST", self.name)]
        except redis.ResponseError as error:
            if is_no_such_run(error):
                return []
            raise
        return [int(row["step"]) for row in rows if row["state"] != b"rolledback"]

    def latest(self) -> int | None:
        steps = self.steps()
        return steps[0] if steps else None

    def load(self, version="LATEST", *, template=None, rank: int | None = None, progress=None):
        """Returns (state, rank_state) of a version: a step, "@tag" or LATEST.

        template: {path: Shard} of tensors to read in part: the Shard's box is read into a new tensor. All others
        come whole, also those saved as shards. rank_state is that of this rank, or of `rank`; None when the world
        had no such rank. Errors: KeyError when there is no such version; ValueError when it was not saved by save().
        """
        for attempt in range(LOAD_ATTEMPTS):
            with Wire(self.client) as wire:
                found = reading.Version(wire, self.name, version)
                try:
                    return self._load(found, template or {}, self.rank if rank is None else rank, progress)
                except redis.ResponseError:
                    # A writer that keeps few versions may have removed it after it was found.
                    if str(version).upper() != "LATEST" or attempt + 1 == LOAD_ATTEMPTS or self.latest() == found.step:
                        raise
        raise AssertionError("unreachable")

    def _load(self, found, template, rank, progress):
        tree_blob = found.state(0, "trainer", "tree")
        if tree_blob is None:
            raise ValueError(f"{self.name} {found.step}: no tree: not saved by this package")
        head = json.loads(tree_blob)
        wanted = [(name, template.get(name)) for name in head["names"]]
        with Bar(self._progress(progress), found.size_bytes(wanted), f"load {self.name} {found.step}", rank) as bar:
            blocks = found.read(wanted, bar)
        rank_blob = found.state(rank, "user", "rank")
        return states.unflatten(head["tree"], blocks), None if rank_blob is None else packed.unpack(rank_blob)

    def tensors(self, version="LATEST", match: str = "*", *, progress=None) -> dict:
        """{name: tensor} of a version, whoever saved it: imports, CKPT.SAVE and other clients too. match: glob over the names.
        Errors: KeyError; TypeError for a type that torch has not."""
        with Wire(self.client) as wire:
            found = reading.Version(wire, self.name, version, match)
            wanted = [(name, None) for name in found.names]
            with Bar(self._progress(progress), found.size_bytes(wanted), f"load {self.name} {found.step}", self.rank) as bar:
                blocks = found.read(wanted, bar)
        return {name: reading.as_torch(name, block) for (name, _), block in zip(wanted, blocks)}

    def _progress(self, progress):
        return self.progress if progress is None else progress


class _SavePlan:
    """What of a state this rank declares: its shards; on rank 0 all else too, and the tree."""

    def __init__(self, state, rank, group):
        tree, blocks, shard_of = states.flatten_sharded(state)
        names = states.block_names(tree, len(blocks))
        self.parts = []
        for number, block in enumerate(blocks):
            shard = shard_of.get(number)
            if shard is not None:
                self.parts.append(Part(names[number], group, block.dtype, tuple(block.shape), block.memory,
                                       shape=shard.shape, offset=shard.offset))
            elif rank == 0:
                self.parts.append(Part(names[number], group, block.dtype, tuple(block.shape), block.memory))
        self.size_bytes = sum(len(part.memory) for part in self.parts)
        self.tree = None
        if rank == 0:
            for name, number in states.tied_names(tree, names):
                block = blocks[number]
                self.parts.append(Part(name, group, block.dtype, tuple(block.shape), block.memory, alias_of=names[number]))
            self.tree = json.dumps({"tree": tree, "names": names}, allow_nan=False, separators=(",", ":")).encode()


def _log_error(name, ended):
    if not ended.cancelled() and ended.exception() is not None:
        _log.error("%s: a save in the background failed: %s", name, ended.exception())
