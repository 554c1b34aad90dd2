"""Upload: what one rank sends into one transaction, from DECLARE to PREPARE. Used by Run and by dcp.py.

    upload = Upload(client, run, rank)
    upload.begin(step, world, attempt)         or upload.tx = the name that another rank was given
    upload.declare(parts)
    upload.send(parts, reuse=True, bar=bar)    hashes first, then only what the server lacks
    upload.state("tree", "trainer", blob)
    upload.prepare()
    upload.commit(wait_ms=..)

Parts go in windows of WINDOW_BYTES. While one window travels, the next is hashed by a thread. Within a window: one HAVE for all
chunks, REF for what is there, then the rest as PUTs of at most PIECE_BYTES, sent ahead of their replies. PUTs have connections of
their own, in turn: while the server hashes what one brought, it receives from the next.
"""

import concurrent.futures
import functools

import redis

from cairnkv import hashing, shards
from cairnkv.wire import Wire

PIECE_BYTES = 4 << 20        # of one PUT: a whole number of the server's chunks
WINDOW_BYTES = 64 << 20
PUT_CONNECTIONS = 2
MAX_WAITING = 8              # PUTs of one connection that are out, before a reply is awaited
DECLARE_TENSORS = 512        # of one DECLARE
REFER_CELLS = 64             # of one REF: chunks of another run go into the server's append-only file with all their bytes


# Errors that pass: a rank that meets one may come again and go on. With all others it has given up.
PASSING = ("LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN")


class SaveFailed(Exception):
    """The transaction did not become a version; what was there before is what load() sees. `word` is the
    server's (CKPTFENCED, CKPTINCOMPLETE, CKPTABORTED ..)."""

    def __init__(self, error):
        super().__init__(str(error))
        self.word = str(error).split(" ", 1)[0]


class Part:
    """One box of a logical tensor, ready to be declared and sent; or a further name of another part."""

    def __init__(self, name, group, dtype, length, memory, *, shape=None, offset=None, index=0, alias_of=None):
        """length, shape, offset: of the box, of the logical tensor (the box, when None), of the box in it. index: which of the
        boxes that this rank has of the tensor. alias_of: the name of a whole tensor of the same bytes; nothing is sent."""
        self.name, self.index = name, index
        self.memory = memory if alias_of is None else memoryview(b"")
        shape = length if shape is None else shape
        self.declaration = [name, group, dtype, "SHAPE", len(shape), *shape]
        self.phase = 0
        if offset is not None:
            self.declaration += ["SHARD", "OFF", len(offset), *offset, "LEN", len(length), *length]
            self.phase = shards.phase(dtype, shape, offset, length)
        if alias_of is not None:
            self.declaration += ["ALIAS", alias_of]
        self.cells = hashing.chunk_ranges(len(self.memory), self.phase)


class Upload:
    def __init__(self, client: redis.Redis, run: str, rank: int):
        self.run, self.rank, self.tx = run, rank, None
        self._client, self._wire = client, Wire(client)
        self._putting, self._turn, self._put_connections = [], 0, PUT_CONNECTIONS
        self.sent_bytes = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for wire in (self._wire, *self._putting):
            wire.close()

    # Errors of all that follow: redis.ResponseError with the server's word; redis.ConnectionError and TimeoutError.

    def attempt_for(self, step) -> int:
        """The run's attempt; the next one when that has this step already, begun or committed: it can be saved anew by a higher
        one only. For a world of one rank: several would not agree."""
        try:
            run = fields(self._wire.call("CKPT.STATUS", self.run))
            rows = [*run["open"], *self._wire.call("CKPT.LIST", self.run)]
        except redis.ResponseError as error:
            if is_no_such_run(error):
                return 0
            raise
        attempt = int(run["attempt"])
        there = any((int(row["step"]), int(row["attempt"])) == (step, attempt) for row in map(fields, rows))
        return attempt + 1 if there else attempt

    def begin(self, step, world, attempt) -> str:
        reply = self._wire.call("CKPT.BEGIN", self.run, step, "RANK", self.rank, "WORLD", world, "ATTEMPT", attempt)
        self.tx = reply.decode()
        return self.tx

    def declare(self, parts):
        for first in range(0, len(parts), DECLARE_TENSORS):
            some = parts[first:first + DECLARE_TENSORS]
            self._call("CKPT.DECLARE", len(some), *[word for part in some for word in part.declaration])

    def send(self, parts, *, reuse: bool, bar):
        """reuse: needs hashing.available(). bar: told of every byte that has found its place, sent or not."""
        windows = list(_windows(parts))
        if not reuse:
            for window in windows:
                self._put([(part, part.cells) for part in window], bar)
            self._finish_puts()
            return
        with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="cairnkv-hash") as hasher:
            ahead = [_submit(hasher, window) for window in windows[:1]]
            for number, window in enumerate(windows):
                digests = ahead.pop()()
                ahead += [_submit(hasher, following) for following in windows[number + 1:number + 2]]
                self._put(self._refer(window, digests, bar), bar)
            self._finish_puts()

    def state(self, name, kind, blob):
        self._call("CKPT.STATE", name, "KIND", kind, "BLOB", blob)

    def prepare(self, guard_finite=False):
        self._call("CKPT.PREPARE", *(["GUARD", "FINITE"] if guard_finite else []))

    def commit(self, *, wait_ms, durable=None, tag=None) -> dict:
        """The version as LIST has it. Waits for the other ranks up to wait_ms."""
        words = [*(["DURABLE", durable] if durable else []), *(["TAG", tag] if tag else [])]
        return fields(self._wire.call("CKPT.COMMIT", self.run, self.tx, "WAIT", wait_ms, *words, extra_s=wait_ms / 1000))

    def find(self, step, world, attempt):
        """Takes the transaction that another rank has begun, or none."""
        rows = map(fields, fields(self._wire.call("CKPT.STATUS", self.run))["open"])
        self.tx = next((row["tx"].decode() for row in rows if row["state"] in (b"open", b"preparing")
                        and (int(row["step"]), int(row["world"]), int(row["attempt"])) == (step, world, attempt)), None)

    def abort(self, error):
        """Ends it for all ranks; `error` is what they are told."""
        reason = (str(error) or type(error).__name__)[:200].encode("utf-8", "replace")
        self._wire.call("CKPT.ABORT", self.run, self.tx, "REASON", reason)

    def retain(self, keep):
        self._wire.call("CKPT.RETAIN", self.run, "KEEP", keep)

    def _call(self, command, *words):
        return self._wire.call(command, self.run, self.tx, "RANK", self.rank, *words)

    def _place(self, part):
        return (self.run, self.tx, "RANK", self.rank, part.name, *(("SHARD", part.index) if part.index else ()), "AT")

    def _refer(self, window, digests, bar):
        """Names to the server what it has; returns [(part, the cells that it has not)]."""
        wire, every = self._wire, [digest for of_part in digests for digest in of_part]
        wire.drain()  # nothing, but where it is the only connection
        bits = wire.call("CKPT.HAVE", self.run, self.tx, len(every), *every) if every else b""
        held = [bool(bits[i // 8] & (0x80 >> (i % 8))) for i in range(len(every))]
        missing, referred, first = [], [], 0
        for part, of_part in zip(window, digests):
            lacks = []
            for begin, end, is_held in _runs(held[first:first + len(of_part)], REFER_CELLS):
                cells = part.cells[begin:end]
                if is_held:
                    wire.send("CKPT.REF", *self._place(part), cells[0][0], len(cells), *of_part[begin:end])
                    referred.append((len(missing), cells))
                else:
                    lacks += cells
            first += len(of_part)
            missing.append((part, lacks))
        failed = None
        for number, cells in referred:
            try:
                wire.reply()
                bar.update(sum(end - begin for begin, end in cells))
            except redis.ResponseError as error:
                # Gone since it was asked for: its bytes travel.
                if str(error).startswith("CKPTHASH"):
                    missing[number][1].extend(cells)
                else:
                    failed = failed or error
        if failed:
            raise failed
        return [(part, sorted(lacks)) for part, lacks in missing]

    def _put(self, wanted, bar):
        for part, cells in wanted:
            for begin, end in _merged(cells, PIECE_BYTES):
                wire = self._next_wire()
                wire.send("CKPT.PUT", *self._place(part), begin, "BLOB", part.memory[begin:end])
                self.sent_bytes += end - begin
                bar.update(end - begin)

    def _next_wire(self):
        if len(self._putting) < self._put_connections:
            try:
                if Wire.is_to_be_had(self._client):
                    self._putting.append(Wire(self._client))
                    return self._putting[-1]
            except redis.ConnectionError:
                pass
            # A pool of few connections.
            self._putting = self._putting or [self._wire]
            self._put_connections = len(self._putting)
        wire = self._putting[self._turn % len(self._putting)]
        self._turn += 1
        if wire.waiting >= MAX_WAITING:
            wire.reply()
        return wire

    def _finish_puts(self):
        for wire in self._putting:
            wire.drain()


def is_passing(error: BaseException) -> bool:
    """Whether a rank that meets this may come again and go on: it lost its connection, or its server cannot take writes now."""
    if isinstance(error, redis.ResponseError):
        return SaveFailed(error).word in PASSING
    return isinstance(error, (redis.ConnectionError, redis.TimeoutError))


def is_no_such_run(error: redis.ResponseError) -> bool:
    return str(error).startswith("no such run")


def fields(reply):
    """A map, as RESP2 or RESP3 gives it."""
    if isinstance(reply, dict):
        return {name.decode(): value for name, value in reply.items()}
    return {name.decode(): value for name, value in zip(reply[::2], reply[1::2])}


def _digests_of(window):
    return [hashing.digests(part.memory, part.cells) if len(part.memory) else [] for part in window]


def _submit(hasher, window):
    """What gives the digests of `window` when they are asked for. While the interpreter exits no thread can be started
    any more: a save that is then under way hashes by itself."""
    try:
        return hasher.submit(_digests_of, window).result
    except RuntimeError:
        return functools.partial(_digests_of, window)


def _windows(parts):
    window, size = [], 0
    for part in parts:
        if window and size + len(part.memory) > WINDOW_BYTES:
            yield window
            window, size = [], 0
        window.append(part)
        size += len(part.memory)
    if window:
        yield window


def _runs(flags, limit):
    """[(begin, end, flag)] of equal neighbours, at most `limit` of them."""
    out = []
    for i, flag in enumerate(flags):
        if out and out[-1][2] == flag and i - out[-1][0] < limit:
            out[-1] = (out[-1][0], i + 1, flag)
        else:
            out.append((i, i + 1, flag))
    return out


def _merged(ranges, limit):
    """Adjacent ranges together, in pieces of at most `limit` bytes."""
    out = []
    for begin, end in ranges:
        if out and out[-1][1] == begin and end - out[-1][0] <= limit:
            out[-1] = (out[-1][0], end)
        else:
            out.append((begin, end))
    return out
