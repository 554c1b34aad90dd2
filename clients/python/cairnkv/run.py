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
from cairnkv.upload import Part, SaveFailed, Upload, fields, is_no_such_run, is_passing
from cairnkv.wire import Wire

WAIT_MS = 10 * 60 * 1000
LOAD_ATTEMPTS = 5            # of load("LATEST"), each on a newer version
_log = logging.getLogger("cairnkv")


def _environment(name, given, default):
    if given is not None:
        return int(given)
    return int(os.environ[name]) if name in os.environ else default


def attempt_of(given: int | None, default: int | None = 0) -> int | None:
    """`given`, or the higher one of TORCHELASTIC_RESTART_COUNT and ATTEMPT: a job that is submitted again counts its restarts from 0,
    and ATTEMPT can say more. `default` when nobody says."""
    if given is not None:
        return int(given)
    said = [int(os.environ[name]) for name in ("TORCHELASTIC_RESTART_COUNT", "ATTEMPT") if name in os.environ]
    return max(said, default=default)


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
        self._unanswered = None      # (step, transaction) of a save whose COMMIT was sent, and no reply came

    # --- saving ---

    def save(self, step: int, state, *, rank_state=None, tag: str | None = None, group: str = "weights",
             durable: str | None = None, guard_finite: bool = False, reuse: bool = True, keep: int | None = None,
             wait_ms: int = WAIT_MS, progress=None) -> dict:
        """Saves `state` as version `step`: every rank calls it, and it returns on each when the version is committed.

        reuse: hashes tell the server what it has already, and only the rest travels (needs XXH3: hashing.py).
        guard_finite: NaN or infinity in this rank's tensors refuses the save. durable: MEM, AOF or DISK. keep: how many
        versions stay (CKPT.RETAIN, by rank 0), besides LATEST and pinned ones.
        Tensors must not change until it returns; see save_async. Waits first for a save_async that still runs; if that failed,
        this save is made all the same, and then its error raised.

        Returns {"step", "bytes", "sent_bytes", "blocked_s", "seconds"}: blocked_s until PREPARE, from where the state may
        change again. Errors: SaveFailed; ValueError for a step below 0 or a keep below 1; TypeError and ValueError as state.flatten;
        what a save_async ended with.
        """
        failed = self.failure()
        result = self._save(step, state, rank_state, tag=tag, group=group, durable=durable, guard_finite=guard_finite, reuse=reuse,
                            keep=keep, wait_ms=wait_ms, progress=progress)
        if failed is not None:
            raise failed
        return result

    def _save(self, step, state, rank_state, *, tag=None, group="weights", durable=None, guard_finite=False, reuse=True,
              keep=None, wait_ms=WAIT_MS, progress=None):
        if step < 0 or (keep is not None and keep < 1):
            raise ValueError(f"step {step} must be >= 0 and keep {keep} >= 1")
        began, blocked_s = time.monotonic(), None
        upload = Upload(self.client, self.name, self.rank)
        try:
            with upload:
                # One process begins nothing for a state that cannot be saved; of several, the others are told.
                plan = _SavePlan(state, rank_state, self.rank, group) if self.world == 1 else None
                self._begin(upload, step)
                plan = plan or _SavePlan(state, rank_state, self.rank, group)
                upload.declare(plan.parts)
                with Bar(self._progress(progress), plan.size_bytes, f"save {self.name} {step}", self.rank) as bar:
                    upload.send(plan.parts, reuse=reuse and hashing.available(), bar=bar)
                if plan.tree is not None:
                    upload.state("tree", "trainer", plan.tree)
                if plan.rank_state is not None:
                    upload.state("rank", "user", plan.rank_state)
                upload.prepare(guard_finite)
                blocked_s = time.monotonic() - began
                row = upload.commit(wait_ms=wait_ms, durable=durable, tag=tag)
        except BaseException as error:
            has_voted = blocked_s is not None
            row = self._settle(step, upload.tx, has_voted, error)
            if row is None or not isinstance(error, redis.RedisError):  # whoever interrupts is obeyed
                if has_voted and isinstance(error, (redis.ConnectionError, redis.TimeoutError)):
                    self._unanswered = step, upload.tx
                if isinstance(error, redis.ResponseError):
                    raise SaveFailed(error) from error
                raise
        self._unanswered = None
        if keep is not None and self.rank == 0:
            self._retain(keep)
        ended_s = time.monotonic() - began
        return {"step": int(row["step"]), "bytes": int(row["bytes"]), "sent_bytes": upload.sent_bytes,
                "blocked_s": ended_s if blocked_s is None else blocked_s, "seconds": ended_s}

    def _begin(self, upload, step):
        if self.attempt is not None:
            upload.begin(step, self.world, self.attempt)
            return
        attempt = upload.attempt_for(step)
        try:
            upload.begin(step, self.world, attempt)
        except redis.ResponseError as error:
            if not str(error).startswith("CKPTBUSY"):
                raise
            # What processes that were killed have left open: a higher attempt ends it.
            upload.begin(step, self.world, attempt + 1)

    def _settle(self, step, tx, has_voted, error):
        """What a save that ended with `error` has come to: the row of its version, if it is one all the same, else None. What nobody
        goes on with is ended: it would count as an open transaction, and other ranks wait for it, until its time is over."""
        if self._unanswered is not None and self._unanswered[0] == step and _is_committed(error, self._unanswered[1]):
            return self._row_of(self._unanswered[1])
        if self.world > 1 and is_passing(error):
            return None
        try:
            with Upload(self.client, self.name, self.rank) as upload:
                upload.tx = tx
                if tx is None and self.world > 1 and SaveFailed(error).word != "CKPTABORTED":  # refused to join what others are in
                    upload.find(step, self.world, self.attempt)
                if upload.tx is not None:
                    upload.abort(error)
        except redis.RedisError as refused:  # another rank was faster, or the server is gone
            if has_voted and _is_committed(refused, tx):
                return self._row_of(tx)
        return None

    def _row_of(self, tx):
        with Wire(self.client) as wire:
            rows = map(fields, wire.call("CKPT.LIST", self.name))
            return next((row for row in rows if row["tx"].decode() == tx), None)

    def _retain(self, keep):
        """The version is there, whatever becomes of this."""
        try:
            with Upload(self.client, self.name, self.rank) as upload:
                upload.retain(keep)
        except redis.RedisError as error:
            _log.error("%s: saved, but older versions stay: %s", self.name, error)

    def save_async(self, step: int, state, *, rank_state=None, **options) -> concurrent.futures.Future:
        """Copies the tensors and saves from a thread, so that training goes on. Waits first for the save before it: never more
        than one copy, in memory that is used again. Returns a Future of save()'s result.

        What a save in the thread ends with is logged at once and raised by the next call of save, save_async (both of which have made
        their own save, or begun it, by then), wait or close. A save that runs when the interpreter exits is finished first.
        """
        failed = self.failure()
        if self.copy_limit_bytes is not None and staging.size_bytes([state, rank_state]) > self.copy_limit_bytes:
            future = concurrent.futures.Future()
            future.set_result(self._save(step, state, rank_state, **options))
        else:
            copied, copied_rank_state = self._staging.copy([state, rank_state])
            future = self.later(self._save, step, copied, copied_rank_state, **options)
        if failed is not None:
            raise failed
        return future

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

    def failure(self):
        """What the first save in the background that failed ended with, and that nobody was told of yet; or None. Waits for them."""
        concurrent.futures.wait(self._pending)
        pending, self._pending = self._pending, []
        return next((future.exception() for future in pending if future.exception() is not None), None)

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
        had no such rank. Errors: KeyError when there is no such version; ValueError when it was not saved by save(), when other ranks
        saved tensors that rank 0's state had no place for, or for a path of the template that the version has not;
        reading.VersionReplaced when it is saved again all the time; redis.RedisError.
        """
        return self._read(version, "*", lambda found: self._load(found, template or {}, self.rank if rank is None else rank, progress))

    def _read(self, version, match, work):
        """work(found) of a version that was the same from its first byte to its last."""
        for left in reversed(range(LOAD_ATTEMPTS)):
            found = None
            try:
                with Wire(self.client) as wire:
                    found = reading.Version(wire, self.name, version, match)
                    result = work(found)
                    found.check()
                    return result
            except Exception:
                # Whatever went wrong, if it is another version by now: saved again, or removed by a writer that keeps few.
                if found is None or left == 0 or not self._is_outdated(found):
                    raise
        raise AssertionError("unreachable")

    def _is_outdated(self, found):
        with Wire(self.client) as wire:
            return found.is_outdated(wire)

    def _load(self, found, template, rank, progress):
        tree_blob = found.state(0, "trainer", "tree")
        if tree_blob is None:
            raise ValueError(f"{self.name} {found.step}: no tree: not saved by this package")
        head = json.loads(tree_blob)
        for path in sorted(set(template) - set(head["names"])):
            raise ValueError(f"{self.name} {found.step}: the template has {path}, which is no tensor's first name in the state")
        foreign = sorted(set(found.names) - set(head["names"]) - found.aliases)
        if foreign:
            raise ValueError(f"{self.name} {found.step}: rank 0's state had no place for {', '.join(foreign[:5])}"
                             f"{' ..' if foreign[5:] else ''}, which other ranks saved: read them with tensors()")
        wanted = [(name, template.get(name)) for name in head["names"]]
        with Bar(self._progress(progress), found.size_bytes(wanted), f"load {self.name} {found.step}", rank) as bar:
            blocks = found.read(wanted, bar)
        rank_blob = found.state(rank, "user", "rank")
        return states.unflatten(head["tree"], blocks), None if rank_blob is None else packed.unpack(rank_blob)

    def tensors(self, version="LATEST", match: str = "*", *, progress=None) -> dict:
        """{name: tensor} of a version, whoever saved it: imports, CKPT.SAVE and other clients too. match: glob over the names.
        Errors: KeyError; TypeError for a type that torch has not."""
        return self._read(version, match, lambda found: self._tensors(found, progress))

    def _tensors(self, found, progress):
        wanted = [(name, None) for name in found.names]
        with Bar(self._progress(progress), found.size_bytes(wanted), f"load {self.name} {found.step}", self.rank) as bar:
            blocks = found.read(wanted, bar)
        return {name: reading.as_torch(name, block) for (name, _), block in zip(wanted, blocks)}

    def _progress(self, progress):
        return self.progress if progress is None else progress


class _SavePlan:
    """What of a state this rank declares: its shards; on rank 0 all else too, and the tree. And what it has for itself."""

    def __init__(self, state, rank_state, rank, group):
        self.rank_state = packed.pack(rank_state) if rank_state is not None else None
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


def _is_committed(error, tx):
    return f"{tx} is committed" in str(error)


def _log_error(name, ended):
    if not ended.cancelled() and ended.exception() is not None:
        _log.error("%s: a save in the background failed: %s", name, ended.exception())
