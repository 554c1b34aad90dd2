"""Raw RESP exchanges with two servers at once, and what may differ between their replies.

A reply is kept as its raw bytes, so that equal means equal byte for byte, and as a tree of (kind, value), where
kind is the first byte of the RESP type and value is bytes or a list, for the comparisons that allow something.
"""

import contextlib
import re
import select
import socket
import sys

REPLY_LIMIT_S = 20.0
AFTER_A_STOP_S = 10.0  # the whole machine may have stood still for longer than the limit
OPEN_AFTER_S = 1.0    # a connection that is silent for so long on both servers stays open
AGGREGATES = b"*~>%|"
LENGTH_PREFIXED = b"$=!"
# Replies are read by recursion; scripts give nested ones, 1000 levels and more.
sys.setrecursionlimit(20000)


class Closed(Exception):
    """The server closed the connection."""


class Connection:
    """One socket to one server. Not thread-safe."""

    def __init__(self, port):
        self.port = port
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=REPLY_LIMIT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._at = 0
        self._answered = []              # what has_answer read ahead, one at most
        self.on_push = lambda tree: None

    @classmethod
    @contextlib.contextmanager
    def to(cls, port):
        """A connection for a `with` block."""
        connection = cls(port)
        try:
            yield connection
        finally:
            connection.close()

    def close(self):
        self._socket.close()

    @property
    def address(self):
        """(host, port) of this end."""
        return self._socket.getsockname()

    def send(self, data):
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the reply, or its absence, tells

    def shut_sending(self):
        self._socket.shutdown(socket.SHUT_WR)

    def reply(self):
        """Returns (raw bytes, tree) of the next reply. Errors: Closed, TimeoutError."""
        begin = self._at
        tree = self._read()
        raw = bytes(self._buffer[begin:self._at])
        if self._at == len(self._buffer):
            self._buffer.clear()
            self._at = 0
        return raw, tree

    def has_reply(self):
        """Whether the begin of a reply has arrived, or the end of the connection."""
        return self._at < len(self._buffer) or bool(select.select([self._socket], [], [], 0)[0])

    def answer(self):
        """Like reply, but for what nobody asked for: that goes to `on_push`."""
        if self._answered:
            return self._answered.pop()
        while True:
            raw, tree = self.reply()
            if not is_push(tree):
                return raw, tree
            self.on_push(tree)

    def has_answer(self):
        """Whether an answer, or the end of the connection, has arrived. Errors: as reply, of half an answer."""
        while not self._answered and self.has_reply():
            try:
                raw, tree = self.reply()
            except Closed:
                return True
            if is_push(tree):
                self.on_push(tree)
            else:
                self._answered.append((raw, tree))
        return bool(self._answered)

    def rest(self, limit_s):
        """(all that arrived, whether the connection has ended) once it ends or nothing comes for the limit."""
        self._socket.settimeout(limit_s)
        try:
            while True:
                self._receive()
        except (Closed, TimeoutError) as why:
            return bytes(self._buffer[self._at:]), isinstance(why, Closed)
        finally:
            self._socket.settimeout(REPLY_LIMIT_S)

    def _receive(self):
        try:
            try:
                data = self._socket.recv(1 << 18)
            except TimeoutError:
                if self._socket.gettimeout() != REPLY_LIMIT_S or not select.select([self._socket], [], [], AFTER_A_STOP_S)[0]:
                    raise
                data = self._socket.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed
        self._buffer += data

    def _line(self):
        while True:
            end = self._buffer.find(b"\r\n", self._at)
            if end >= 0:
                line = bytes(self._buffer[self._at:end])
                self._at = end + 2
                return line
            self._receive()

    def _read_element(self):
        """Pushes come between the elements of EXEC's reply too."""
        while True:
            tree = self._read()
            if tree[0] != b">":
                return tree
            self.on_push(tree)

    def _read(self):
        line = self._line()
        kind, rest = line[:1], line[1:]
        if kind in AGGREGATES and kind:
            if rest == b"-1":
                return kind, None
            count = int(rest) * (2 if kind in b"%|" else 1)
            return kind, [self._read_element() for _ in range(count)]
        if kind in LENGTH_PREFIXED and kind:
            size = int(rest)
            if size < 0:
                return kind, None
            while len(self._buffer) < self._at + size + 2:
                self._receive()
            value = bytes(self._buffer[self._at:self._at + size])
            self._at += size + 2
            return kind, value
        return kind, rest


MESSAGES = {b"message", b"pmessage", b"smessage"}
CONFIRMATIONS = {b"subscribe", b"psubscribe", b"ssubscribe", b"unsubscribe", b"punsubscribe", b"sunsubscribe"}


def first_word(tree):
    """The string that an array or a push begins with, else None."""
    first = tree[1][0][1] if isinstance(tree[1], list) and tree[1] else None
    return first if isinstance(first, bytes) else None


def is_push(tree):
    """Whether it is no answer: a push of RESP3, or a message to a subscriber that speaks RESP2."""
    return tree[0] == b">" or (tree[0] == b"*" and first_word(tree) in MESSAGES)


def is_confirmation(tree):
    return first_word(tree) in CONFIRMATIONS


def encode(arguments):
    """A command as an array of bulk strings."""
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in arguments:
        parts.append(b"$%d\r\n%s\r\n" % (len(argument), argument))
    return b"".join(parts)


class Pair:
    """The same connection to both servers: CairnKV is side 0, redis-server side 1."""

    def __init__(self, ports, resp):
        self.sides = [Connection(port) for port in ports]
        if resp == 3:
            for side in self.sides:
                side.send(encode([b"HELLO", b"3"]))
                side.reply()

    def send(self, data):
        for side in self.sides:
            side.send(data)

    def replies(self):
        return [self._reply(side) for side in self.sides]

    @staticmethod
    def _reply(side):
        try:
            return side.reply()
        except Closed:
            return b"(connection closed)", (b"closed", b"")
        except TimeoutError:
            return b"(no reply)", (b"silent", b"")

    def rests(self):
        """What each sends until it closes, with a remark if it does not."""
        ends = [side.rest(OPEN_AFTER_S) for side in self.sides]
        if ends[0][1] != ends[1][1]:  # one closed: the other one may only be slow
            ends = [side.rest(REPLY_LIMIT_S) if not end[1] else end for side, end in zip(self.sides, ends)]
        return [rest if closed else rest + b" (connection stays open)" for rest, closed in ends]

    def close(self):
        for side in self.sides:
            side.close()


def shown(data, limit=300):
    """Bytes as a line for a person."""
    text = repr(bytes(data))[2:-1]
    return text if len(text) <= limit else f"{text[:limit]}.. ({len(data)} bytes)"


# ------------------------------------------------------------------------------------------ comparisons
# Each takes (ours, theirs, argument); both are (raw, tree); returns whether they count as equal.
# In EXEC's reply an element has no bytes of its own: there `raw` is the tree.


def exact(ours, theirs, _):
    """The same bytes, but for pushes between the elements: several patterns that match come in any order."""
    return ours[0] == theirs[0] or ours[1] == theirs[1]


def ignored(_ours, _theirs, _):
    return True


def same_type(ours, theirs, _):
    """The same RESP type; for errors also the same first word."""
    kinds = ours[1][0], theirs[1][0]
    if kinds == (b"-", b"-"):
        return ours[1][1].split(b" ")[0] == theirs[1][1].split(b" ")[0]
    return kinds[0] == kinds[1]


def near(ours, theirs, tolerance):
    """Integers may differ by `tolerance`, all else is equal."""
    return _near(ours[1], theirs[1], int(tolerance))


def _near(ours, theirs, tolerance):
    if ours[0] != theirs[0]:
        return False
    if isinstance(ours[1], list) and isinstance(theirs[1], list):
        return len(ours[1]) == len(theirs[1]) and all(
            _near(a, b, tolerance) for a, b in zip(ours[1], theirs[1]))
    if ours[0] == b":":
        return abs(int(ours[1]) - int(theirs[1])) <= tolerance
    return ours[1] == theirs[1]


def unordered(ours, theirs, _):
    """Arrays hold the same elements in any order; also one array in an array (SCAN)."""
    return _unordered(ours[1]) == _unordered(theirs[1])


def _unordered(tree):
    if isinstance(tree[1], list):
        return tree[0], sorted((_unordered(item) for item in tree[1]), key=repr)
    return tree


def has_names(ours, theirs, _):
    """A map as pairs: every name of theirs is in ours; values may differ."""
    names = [[item[1] for item in reply[1][1][::2]] for reply in (ours, theirs)]
    return ours[1][0] == theirs[1][0] and set(names[1]) <= set(names[0])


def has_fields(ours, theirs, _):
    """INFO's text: every section and field name of theirs is in ours, and ours keeps their order."""
    names = [[line.split(b":")[0] for line in reply[1][1].splitlines() if line] for reply in (ours, theirs)]
    common = [name for name in names[0] if name in set(names[1])]
    return common == names[1]


def hello(ours, theirs, _):
    """HELLO's map, but for the version of the server and the number of the connection; errors are equal."""
    trees = []
    for _, (kind, value) in (ours, theirs):
        if isinstance(value, list):
            value = [item for name, item in zip(value[::2], value[1::2]) if name[1] not in (b"id", b"version")]
        trees.append((kind, value))
    return trees[0] == trees[1]


ABSENT = set()   # names of commands that CairnKV does not have yet; known_commands fills it


def words(ours, theirs, _):
    """The words of each string, and the elements, in any order: rules of ACL. Absent commands do not count."""
    return _words(ours[1]) == _words(theirs[1])


def _words(tree):
    if isinstance(tree[1], list):
        items = [item for item in tree[1] if isinstance(item[1], list) or item[1] not in ABSENT]
        return tree[0], sorted((_words(item) for item in items), key=repr)
    return tree[0], tree[1] and sorted(
        word for word in tree[1].strip(b"()").split(b" ") if word[:1] not in b"+-" or word[1:] not in ABSENT)


CLIENT_FIELDS = {b"name", b"flags", b"db", b"sub", b"psub", b"ssub", b"multi", b"cmd", b"user", b"resp"}


def client_lines(ours, theirs, _):
    """CLIENT LIST and INFO: the fields that say what the client has asked for. Redis's order of clients turns."""
    texts = []
    for _, (kind, value) in (ours, theirs):
        if value and kind in LENGTH_PREFIXED:
            value = sorted([pair for pair in line.split(b" ") if pair.split(b"=")[0] in CLIENT_FIELDS]
                           for line in value.splitlines())
        texts.append((kind, value))
    return texts[0] == texts[1]


def confirmations(ours, theirs, _):
    """Of UNSUBSCRIBE without names: the same names in any order, the counts in theirs."""
    if any(item[1] and not isinstance(item[1], list) for reply in (ours, theirs) for item in reply[1][1]):
        return ours[0] == theirs[0]
    told = [[item[1] for item in reply[1][1]] for reply in (ours, theirs)]
    names = [sorted(repr(words[:2]) for words in each) for each in told]
    return names[0] == names[1] and [words[2] for words in told[0]] == [words[2] for words in told[1]]


def tracking(ours, theirs, _):
    """Flags and prefixes in any order; of the client that is told, only whether there is one."""
    return _tracking(ours[1]) == _tracking(theirs[1])


def _tracking(tree):
    if isinstance(tree[1], list):
        return tree[0], sorted((_tracking(item) for item in tree[1]), key=repr)
    return (b":", b"some") if tree[0] == b":" and int(tree[1]) > 0 else tree


def masked(ours, theirs, pattern):
    """Equal after every match of the regular expression is replaced."""
    return _mask(ours[1], pattern.encode()) == _mask(theirs[1], pattern.encode())


def _mask(tree, pattern):
    if isinstance(tree[1], list):
        return tree[0], [_mask(item, pattern) for item in tree[1]]
    return tree[0], tree[1] and re.sub(pattern, b"#", tree[1])


def but_for_errno(ours, theirs, _):
    """Equal, or a SORT that redis-server refuses for an errno left behind (docs/differences.md)."""
    return exact(ours, theirs, _) or theirs[0].startswith(b"-ERR One or more scores can't be converted")


MODES = {
    "": exact, "ignore": ignored, "type": same_type, "near": near, "unordered": unordered,
    "names": has_names, "hello": hello, "fields": has_fields, "mask": masked,
    "words": words, "client": client_lines, "all": confirmations, "tracking": tracking,
    "errno": but_for_errno,
}
