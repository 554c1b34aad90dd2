"""What the checkpoint rows send: GPT-2 small with Adam's moments, over a plain socket.

A plain socket with large reads and writes, as in blob_rows.py: a library's copies would be measured instead of a server.
"""

import socket

import numpy
import xxhash

CHUNK_BYTES = 256 << 10      # the server's grid
PIECE_BYTES = 4 << 20        # of one PUT
WINDOW = 8                   # requests that wait for their replies


def layout(quick):
    """[(name, shape)] of F32: the 146 parameters of GPT-2 small without its last layer norm, and two moments of each. 438 tensors
    of 1.49 GB; a tenth of the bytes when `quick`."""
    width, words, places = (240, 16_000, 340) if quick else (768, 50_257, 1024)
    one = [("wte.weight", (words, width)), ("wpe.weight", (places, width))]
    for layer in range(12):
        for name, shape in (("ln_1.weight", (width,)), ("ln_1.bias", (width,)), ("attn.c_attn.weight", (width, 3 * width)),
                            ("attn.c_attn.bias", (3 * width,)), ("attn.c_proj.weight", (width, width)), ("attn.c_proj.bias", (width,)),
                            ("ln_2.weight", (width,)), ("ln_2.bias", (width,)), ("mlp.c_fc.weight", (width, 4 * width)),
                            ("mlp.c_fc.bias", (4 * width,)), ("mlp.c_proj.weight", (4 * width, width)), ("mlp.c_proj.bias", (width,))):
            one.append((f"h.{layer}.{name}", shape))
    return [(f"{part}.{name}", shape) for part in ("model", "exp_avg", "exp_avg_sq") for name, shape in one]


def values(shapes, seed):
    """{name: F32 array} of normal values of the size that weights have."""
    chance = numpy.random.Generator(numpy.random.SFC64(seed))
    return {name: chance.standard_normal(shape, dtype=numpy.float32) * numpy.float32(0.02) for name, shape in shapes}


def bytes_of(arrays):
    return sum(array.nbytes for array in arrays.values())


class Wire:
    """One connection, RESP2. Requests may be sent ahead of their replies. `send_bytes`: the most that one system call sends. A kernel
    that is not preempted finishes the call, which fills the socket's buffer, before another thread has the core."""

    def __init__(self, peer, unix=False, send_bytes=None):
        self.send_bytes = send_bytes
        if unix:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(peer.unix_path)
        else:
            self.socket = socket.create_connection(("127.0.0.1", peer.port))
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.waiting = 0

    def send(self, *words):
        """Words are text, numbers, bytes, or (last or not) memory of any size, which is sent in place."""
        head = bytearray(b"*%d\r\n" % len(words))
        for word in words:
            if isinstance(word, memoryview) and word.nbytes > 4096:
                head += b"$%d\r\n" % word.nbytes
                self.socket.sendall(head)
                self._send_memory(word)
                head = bytearray(b"\r\n")
            else:
                data = word if isinstance(word, (bytes, memoryview)) else str(word).encode()
                head += b"$%d\r\n" % len(data) + data + b"\r\n"
        self.socket.sendall(head)
        self.waiting += 1

    def _send_memory(self, view):
        view = view.cast("B")
        for at in range(0, view.nbytes, self.send_bytes or view.nbytes):
            self.socket.sendall(view[at:at + (self.send_bytes or view.nbytes)])

    def ask(self, *words):
        self.send(*words)
        return self.reply()

    def ask_into(self, into, *words):
        self.send(*words)
        return self.reply(into)

    def flow(self, *words):
        """Sends, and takes the oldest reply when more than WINDOW are out."""
        self.send(*words)
        return self.reply() if self.waiting > WINDOW else None

    def drain(self):
        """The replies that are out. Errors: RuntimeError for the first error reply."""
        return [self.reply() for _ in range(self.waiting)]

    def reply(self, into=None):
        """One reply; `into`: memory for a bulk string of exactly that size. Errors: RuntimeError for an error reply."""
        self.waiting -= 1
        return self._read(into)

    def _read(self, into=None):
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"-":
            raise RuntimeError(rest.decode())
        if kind == b"+":
            return rest
        if kind == b":":
            return int(rest)
        size = int(rest)
        if size < 0:
            return None
        if kind == b"*":
            return [self._read(into) for _ in range(size)]
        if kind != b"$":
            raise RuntimeError(f"not RESP2: {line!r}")
        if into is not None and size == into.nbytes and size > 64:
            self._fill(into)
            self._take(2)
            return into
        return self._take(size + 2)[:-2]

    def _line(self):
        while (end := self.buffer.find(b"\r\n")) < 0:
            self._more()
        line = bytes(self.buffer[:end])
        del self.buffer[:end + 2]
        return line

    def _take(self, size):
        while len(self.buffer) < size:
            self._more()
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        return taken

    def _fill(self, into):
        held = min(len(self.buffer), into.nbytes)
        into[:held] = self.buffer[:held]
        del self.buffer[:held]
        while held < into.nbytes:
            got = self.socket.recv_into(into[held:])
            if got == 0:
                raise RuntimeError("the server closed the connection")
            held += got

    def _more(self):
        data = self.socket.recv(65536)
        if not data:
            raise RuntimeError("the server closed the connection")
        self.buffer += data

    def close(self):
        self.socket.close()


def memory(array):
    return memoryview(array.reshape(-1).view(numpy.uint8))


def hex_of(view):
    return xxhash.xxh3_128_hexdigest(view)


def map_of(reply):
    """A map as RESP2 gives it."""
    return {name.decode(): value for name, value in zip(reply[::2], reply[1::2])}


def begin(wire, run, step, arrays, world=1, rank=0, group="weights"):
    """Opens the transaction and declares whole tensors; returns its name."""
    tx = wire.ask("CKPT.BEGIN", run, step, "RANK", rank, "WORLD", world).decode()
    words = [word for name, array in arrays.items()
             for word in (name, group, "F32" if array.dtype == numpy.float32 else "BF16", "SHAPE", array.ndim, *array.shape)]
    wire.ask("CKPT.DECLARE", run, tx, "RANK", rank, len(arrays), *words)
    return tx


def pieces(arrays, size=PIECE_BYTES):
    """(name, offset, memory) of every piece of `arrays`."""
    for name, array in arrays.items():
        view = memory(array)
        for at in range(0, view.nbytes, size):
            yield name, at, view[at:at + size]


def put(wire, run, tx, arrays, digests, rank=0):
    """Every byte, with the hash of each piece when `digests` has them: {(name, offset): hex32}."""
    for name, at, view in pieces(arrays):
        words = ("XXH3", digests[name, at]) if digests else ()
        wire.flow("CKPT.PUT", run, tx, "RANK", rank, name, "AT", at, "BLOB", view, *words)
    wire.drain()


def prepare(wire, run, tx, rank=0):
    wire.ask("CKPT.PREPARE", run, tx, "RANK", rank)


def commit(wire, run, tx, *words):
    return map_of(wire.ask("CKPT.COMMIT", run, tx, *words))


def set_all(wire, arrays, prefix="t:"):
    """The same bytes as plain strings, in the same pieces."""
    for name, at, view in pieces(arrays):
        wire.flow("SET", f"{prefix}{name}:{at}", view)
    wire.drain()
