r"""Runs a .script against CairnKV and redis-server and collects every difference.

A script is one exchange a line; both servers get the same bytes on connections of the same name.

    SET key "bin\x00ary" EX 100     a command; words or quoted strings with \x \n \r \t \\ \" escapes
    @70000xa                        as a word: 70000 times the letter a
    ~near:2 TTL key                 the comparison (exchange.MODES); without it, byte for byte
    ~none CLIENT REPLY OFF          no reply is read
    !conn b                         what follows is on connection b (opened when first used; the first is a)
    !close                          closes the current connection; the next use opens a new one
    !raw 2 "PING\r\nPING\r\n"       bytes as they stand, then so many replies
    !raw end "*1\r\n$x\r\n"         bytes as they stand, then everything up to the end of the connection
    !ended                          the server has closed the connection
    !until :0 EXISTS key            polls both until the reply is `:0`, up to the limit; `null` is either null
    !each N 0 1 -1 ... !end         the lines between, once with each value for $N
    !resp 2                         runs only with this protocol; otherwise with 2 and, after HELLO 3, with 3

After each script the two keyspaces are compared too: see keyspace.py.
"""

import re
import time

from exchange import MODES, Pair, encode, shown
from keyspace import compare_keyspaces

UNTIL_LIMIT_S = 60.0
NULLS = [b"$-1\r\n", b"_\r\n"]
ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}
WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"|(\S+)')
RAW_WORD = re.compile(rb'"(?:[^"\\]|\\.)*"|\S+')
REPEAT = re.compile(rb"@(\d+)x(.)")


def words_of(line):
    """The words of a line as bytes."""
    words = []
    for quoted, plain in ((m.group(1), m.group(2)) for m in WORD.finditer(line)):
        if plain is None:
            words.append(re.sub(
                rb"\\x([0-9a-fA-F]{2})|\\(.)",
                lambda m: bytes([int(m.group(1), 16)]) if m.group(1) else ESCAPES.get(m.group(2), m.group(2)),
                quoted))
        elif REPEAT.fullmatch(plain):
            count, letter = REPEAT.fullmatch(plain).groups()
            words.append(letter * int(count))
        else:
            words.append(plain)
    return words


def expand(lines):
    """(line number, line) with !each blocks written out; blocks do nest."""
    result, at = [], 0
    while at < len(lines):
        number, line = lines[at]
        at += 1
        if not line.startswith(b"!each "):
            result.append((number, line))
            continue
        _, name, *values = RAW_WORD.findall(line)
        depth, begin = 1, at
        while depth:
            depth += lines[at][1].startswith(b"!each ") - (lines[at][1] == b"!end")
            at += 1
        for value in values:
            body = [(n, text.replace(b"$" + name, value)) for n, text in lines[begin:at - 1]]
            result += expand(body)
    return result


class Script:
    """One run of one script with one protocol. `differences` and `exchanges` hold the outcome."""

    def __init__(self, path, ports, resp):
        with open(path, "rb") as file:
            lines = [(i + 1, line.strip()) for i, line in enumerate(file)]
        self.lines = expand([(i, line) for i, line in lines if line and not line.startswith(b"#")])
        self.name = f"{path.rsplit('/', 1)[-1]} RESP{resp}"
        self.ports, self.resp = ports, resp
        self.differences, self.exchanges = [], 0
        self._pairs, self._current = {}, "a"

    def wanted(self):
        only = [line.split()[1] for _, line in self.lines if line.startswith(b"!resp")]
        return not only or only[0] == str(self.resp).encode()

    def run(self):
        try:
            self._pair().send(encode([b"FLUSHALL"]))
            self._pair().replies()
            for number, line in self.lines:
                self._step(number, line)
            self._drop()
            self._pair().send(encode([b"SELECT", b"0"]))
            self._pair().replies()
            compare_keyspaces(self._pair(), self._note)
        finally:
            for pair in self._pairs.values():
                pair.close()

    def _pair(self):
        if self._current not in self._pairs:
            self._pairs[self._current] = Pair(self.ports, self.resp)
        return self._pairs[self._current]

    def _drop(self):
        if self._current in self._pairs:
            self._pairs.pop(self._current).close()

    def _note(self, what, ours, theirs):
        self.differences.append(f"{self.name}: {what}\n    ours   {shown(ours)}\n    theirs {shown(theirs)}")

    def _step(self, number, line):
        if line.startswith(b"!"):
            directive, _, rest = line[1:].partition(b" ")
            getattr(self, "_do_" + directive.decode())(number, rest)
            return
        mode, argument = "", ""
        if line.startswith(b"~"):
            head, line = line[1:].split(b" ", 1)
            mode, _, argument = head.decode().partition(":")
        self._pair().send(encode(words_of(line)))
        if mode == "none":
            return
        self._compare(f"line {number}: {shown(line)}", MODES[mode], argument)

    def _compare(self, what, mode, argument):
        ours, theirs = self._pair().replies()
        self.exchanges += 1
        broken = b"closed", b"silent"
        if ours[1][0] in broken or theirs[1][0] in broken:
            self._drop()
            same = ours[0] == theirs[0]
        else:
            same = mode(ours, theirs, argument)
        if not same:
            self._note(what, ours[0], theirs[0])

    def _do_conn(self, _, name):
        self._current = name.decode()

    def _do_close(self, _, __):
        self._drop()

    def _do_raw(self, number, rest):
        count, _, quoted = rest.partition(b" ")
        self._pair().send(b"".join(words_of(quoted)))
        if count == b"end":
            self._do_ended(number, quoted)
            return
        for at in range(int(count)):
            self._compare(f"line {number}, reply {at + 1}: {shown(quoted)}", MODES[""], "")

    def _do_ended(self, number, quoted):
        ours, theirs = self._pair().rests()
        self.exchanges += 1
        self._drop()
        if ours != theirs:
            self._note(f"line {number}, until the end: {shown(quoted)}", ours, theirs)

    def _do_halfclose(self, number, quoted):
        for side in self._pair().sides:
            side.shut_sending()
        self._do_ended(number, quoted)

    def _do_until(self, number, rest):
        wanted, command = rest.split(b" ", 1)
        deadline = time.monotonic() + UNTIL_LIMIT_S
        while True:
            self._pair().send(encode(words_of(command)))
            ours, theirs = (reply[0] for reply in self._pair().replies())
            met = ours == theirs and ours in (NULLS if wanted == b"null" else [wanted + b"\r\n"])
            if met or time.monotonic() > deadline:
                break
            time.sleep(0.01)
        self.exchanges += 1
        if not met:
            self._note(f"line {number}: until {shown(rest)}", ours, theirs)

    def _do_resp(self, *_):
        pass
