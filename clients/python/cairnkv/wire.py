"""Wire: one connection of a redis-py client, for payloads that must not be copied on their way.

redis-py gives each argument to the socket as it stands, but collects a reply in a buffer and copies it out: a tensor
of a gigabyte is then in memory three times. Here a bulk string is received where it will stay. RESP2 and RESP3.

    with Wire(client) as wire:
        wire.call("CKPT.BEGIN", run, 7)
        wire.send("GET", "a"); wire.send("GET", "b")          # sent ahead: pipelined
        first, second = wire.reply(), wire.reply(into=memory)

The connection comes out of the client's pool (address, TLS, password, database are the client's) and goes back to it.
Not for several threads at once: each takes a Wire of its own.
"""

import time

import redis

RECEIVE_BYTES = 64 << 10
IN_PLACE_BYTES = 4096        # smaller arguments are joined into one write
LOADING_LIMIT_S = 30 * 60    # how long a server may read its files
LOADING_PAUSE_S = 0.2


class Wire:
    def __init__(self, client: redis.Redis):
        """Errors: redis.ConnectionError."""
        self._pool = client.connection_pool
        self._connection = self._pool.get_connection("CKPT.BEGIN")
        self._held = bytearray()     # received, not yet looked at
        self._at = 0                 # where in it the next reply begins
        self.waiting = 0             # replies that are out

    @staticmethod
    def is_to_be_had(client: redis.Redis) -> bool:
        """Whether there may be one more: a pool that blocks would wait, for what its caller has."""
        pool = client.connection_pool
        return not isinstance(pool, redis.BlockingConnectionPool) or not pool.pool.empty()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Gives the connection back; one with replies still out is broken off, so that nobody else gets them."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if self.waiting or self._at != len(self._held):
            connection.disconnect()
        self._pool.release(connection)

    def call(self, *words, extra_s: float = 0, into=None):
        """One command and its reply. extra_s: how much longer than the client's socket_timeout the server may take. A server that
        still reads its files is asked again until it has.

        Errors: redis.ResponseError with the server's line; redis.ConnectionError, redis.TimeoutError.
        """
        deadline = time.monotonic() + LOADING_LIMIT_S
        while True:
            self.send(*words)
            try:
                return self.reply(into=into, extra_s=extra_s)
            except redis.ResponseError as error:
                if not str(error).startswith("LOADING ") or time.monotonic() > deadline:
                    raise
            time.sleep(LOADING_PAUSE_S)

    def send(self, *words):
        """Sends a command and waits for nothing. Words are text, numbers, bytes or memoryviews of bytes."""
        pieces, head = [], bytearray(b"*%d\r\n" % len(words))
        for word in words:
            data = word if isinstance(word, (bytes, memoryview)) else str(word).encode()
            head += b"$%d\r\n" % len(data)
            if len(data) > IN_PLACE_BYTES:
                pieces += [head, data]
                head = bytearray()
            else:
                head += data
            head += b"\r\n"
        # A connection that redis-py sends on connects when it has to; by itself, in the middle of a
        # conversation, it must not: what was said before would be lost.
        if self.waiting and self._connection._sock is None:
            raise redis.ConnectionError("the connection was lost between two commands")
        self.waiting += 1
        self._connection.send_packed_command([*pieces, head], check_health=False)

    def reply(self, into=None, extra_s: float = 0):
        """The oldest reply that is out. into: a writable memoryview of bytes that receives the reply's last bulk string, which
        must have exactly its size; the reply then holds `into` itself.

        Errors: as call(); ValueError when the bulk string has another size, after which this Wire is closed.
        """
        if self.waiting < 1:
            raise RuntimeError("no command waits for a reply")
        socket = self._connection._sock
        if socket is None:
            raise redis.ConnectionError("the connection was lost")
        timeout = self._connection.socket_timeout
        try:
            if extra_s and timeout is not None:
                socket.settimeout(timeout + extra_s)
            answer = self._read(into)
            self.waiting -= 1
        except TimeoutError as error:
            self._break()
            raise redis.TimeoutError(f"no reply within {timeout} s") from error
        except OSError as error:
            self._break()
            raise redis.ConnectionError(f"while waiting for a reply: {error}") from error
        except BaseException:
            self._break()
            raise
        if extra_s and timeout is not None:
            socket.settimeout(timeout)
        if isinstance(answer, redis.ResponseError):
            raise answer
        return answer

    def drain(self):
        """All replies that are out. Errors: that of the first error reply, once all are there."""
        replies, failed = [], None
        while self.waiting:
            try:
                replies.append(self.reply())
            except redis.ResponseError as error:
                failed = failed or error
        if failed:
            raise failed
        return replies

    def _break(self):
        self.waiting = 1  # close() must not hand this on as usable
        self._connection.disconnect()

    # --- reading ---

    def _read(self, into):
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind == b"+":
            return rest
        if kind in (b"-", b"!"):
            text = rest if kind == b"-" else self._bulk(int(rest), None)
            return redis.ResponseError(_without_prefix(text.decode("utf-8", "replace")))
        if kind == b":":
            return int(rest)
        if kind in (b"$", b"="):
            return None if rest == b"-1" else self._bulk(int(rest), into)
        if kind in (b"*", b"~"):
            return None if rest == b"-1" else self._items(int(rest), into)
        if kind == b"%":
            items = self._items(2 * int(rest), into)
            return dict(zip(items[::2], items[1::2]))
        if kind == b">":  # a push between two replies is of no interest here
            self._items(int(rest), None)
            return self._read(into)
        if kind == b"_":
            return None
        if kind == b",":
            return float(rest)
        if kind == b"#":
            return rest == b"t"
        raise OSError(f"not a reply: {bytes(line[:40])!r}")

    def _items(self, count, into):
        return [self._read(into if i == count - 1 else None) for i in range(count)]

    def _bulk(self, size, into):
        if into is None:
            data = bytearray(size)
            self._fill(memoryview(data))
            self._skip_end()
            return bytes(data) if size < IN_PLACE_BYTES else data
        if len(into) != size:
            raise ValueError(f"{size} bytes came where {len(into)} were expected")
        self._fill(into)
        self._skip_end()
        return into

    def _line(self):
        while (end := self._held.find(b"\r\n", self._at)) < 0:
            self._more()
        line = bytes(self._held[self._at:end])
        self._at = end + 2
        return line

    def _skip_end(self):
        while len(self._held) - self._at < 2:
            self._more()
        self._at += 2

    def _fill(self, view):
        ahead = min(len(self._held) - self._at, len(view))
        view[:ahead] = self._held[self._at:self._at + ahead]
        self._at += ahead
        while ahead < len(view):
            got = self._connection._sock.recv_into(view[ahead:])
            if got == 0:
                raise OSError("the server closed the connection")
            ahead += got

    def _more(self):
        if self._at == len(self._held):
            self._held.clear()
            self._at = 0
        data = self._connection._sock.recv(RECEIVE_BYTES)
        if not data:
            raise OSError("the server closed the connection")
        self._held += data


def _without_prefix(text):
    """As redis-py words it: the general "ERR" is left out, words of their own stay."""
    return text[4:] if text.startswith("ERR ") else text
