"""RESTORE of payloads of every type, those of old servers included, whole and with each of their bytes replaced, beside
redis-server: what CairnKV takes redis-server takes too, it is the same value, and it can be worked with.
"""

import unittest

from exchange import Connection, encode, shown
from generators.functions import crc64
from servers import BothServers

VERSION = 10
# Besides: the byte with its lowest, and with its highest bit turned.
VALUES = [0, 1, 2, 63, 64, 127, 128, 191, 192, 193, 195, 224, 240, 253, 254, 255]
NEWER_TYPES = {20, 21, 24, 25}        # of Redis 7.2 and 7.4 and RDB files to come: CairnKV reads them (docs/rdb.md)
MODULE_TYPES = {6, 7}                 # a value of a module that is not loaded is kept as it is

MADE_BY = {
    "number": [[b"SET", b"k", b"1234567"]],
    "string": [[b"SET", b"k", b"hello"]],
    "compressed": [[b"SET", b"k", b"ab" * 20]],
    "list": [[b"RPUSH", b"k", b"1", b"ab", b"-70000"]],
    "set of integers": [[b"SADD", b"k", b"1", b"2", b"70000"]],
    "set": [[b"SADD", b"k", b"a", b"b", b"1"]],
    "hash": [[b"HSET", b"k", b"f", b"1", b"g", b"vv"]],
    "sorted set": [[b"ZADD", b"k", b"1", b"a", b"2.5", b"b"]],
    "stream": [[b"XADD", b"k", b"1-1", b"f", b"v"], [b"XADD", b"k", b"2-1", b"f", b"v"], [b"XGROUP", b"CREATE", b"k", b"g", b"0"],
               [b"XREADGROUP", b"GROUP", b"g", b"c", b"COUNT", b"1", b"STREAMS", b"k", b">"]],
}
ASKED = [[b"TYPE", b"k"], [b"OBJECT", b"ENCODING", b"k"], [b"DEBUG", b"DIGEST-VALUE", b"k"], [b"COPY", b"k", b"copy"],
         [b"DEBUG", b"DIGEST-VALUE", b"copy"], [b"DEL", b"k", b"copy"]]


def text(data):
    """A short string of an RDB file: its length, its bytes."""
    return bytes([len(data)]) + data


def ziplist(*entries):
    """total bytes, offset of the last entry, count, then of each entry: length of the one before, encoding, content; 0xff.
    An entry is a short string, or bytes of encoding and content in a tuple."""
    body, before = b"", 0
    for entry in entries:
        piece = bytes([before]) + (entry[0] if isinstance(entry, tuple) else text(entry))
        body, before = body + piece, len(piece)
    header = (11 + len(body), 10 + len(body) - before)
    return b"".join(number.to_bytes(4, "little") for number in header) + len(entries).to_bytes(2, "little") + body + b"\xff"


FOUR_BITS, EIGHT_BITS, SIXTEEN_BITS = (b"\xf4",), (b"\xfe\x80",), (b"\xc0\x00\x80",)    # 3, -128, -32768
# Types that Redis 7 reads and no longer writes, and those it writes for values that are large.
BY_HAND = {
    "list of strings": b"\x01\x02" + text(b"a") + text(b"bc"),
    "sorted set, scores as text": b"\x03\x03" + text(b"a") + text(b"1.5") + text(b"b") + b"\xfe" + text(b"c") + b"\xff",
    "sorted set with a score that is no number": b"\x03\x01" + text(b"a") + b"\xfd",
    "hash of strings": b"\x04\x02" + text(b"f") + text(b"1") + text(b"g") + text(b"vv"),
    "sorted set, scores as doubles": b"\x05\x01" + text(b"a") + b"\x00\x00\x00\x00\x00\x00\xf8\x3f",
    "zipmap": b"\x09" + text(b"\x02\x01f\x01\x00v\x01g\x02\x01ww.\xff"),
    "ziplist of a list": b"\x0a" + text(ziplist(b"a", FOUR_BITS, b"bcd", EIGHT_BITS, SIXTEEN_BITS)),
    "ziplist of a sorted set": b"\x0c" + text(ziplist(b"a", FOUR_BITS, b"b", b"3.5")),
    "ziplist of a hash": b"\x0d" + text(ziplist(b"f", FOUR_BITS, b"g", b"vv")),
    "ziplists of a list": b"\x0e\x02" + text(ziplist(b"a", FOUR_BITS)) + text(ziplist(b"b")),
    "hash ziplist with a field twice": b"\x0d" + text(ziplist(b"f", FOUR_BITS, b"f", b"vv")),
}


def sealed(body):
    data = body + VERSION.to_bytes(2, "little")
    return data + crc64(data).to_bytes(8, "little")


def broken(body):
    """(what was done, body) for each byte and each value in its place."""
    for at, now in enumerate(body):
        for value in {*VALUES, now ^ 1, now ^ 128} - {now}:
            yield f"byte {at} is {value}", body[:at] + bytes([value]) + body[at + 1:]


class PayloadsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.servers = BothServers({"sanitize-dump-payload": "yes"})
        cls.servers.__enter__()
        cls.addClassCleanup(cls.servers.close)
        cls.sides = [Connection(port) for port in cls.servers.ports]
        for side in cls.sides:
            cls.addClassCleanup(side.close)

    @staticmethod
    def ask(side, commands):
        side.send(b"".join(encode(words) for words in commands))
        return [side.reply() for _ in commands]

    def restored(self, bodies):
        """Of each body and side: the replies to RESTORE and ASKED, as bytes."""
        commands = [words for body in bodies for words in ([b"RESTORE", b"k", b"0", sealed(body)], *ASKED)]
        replies = [[raw for raw, _ in self.ask(side, commands)] for side in self.sides]
        step = len(ASKED) + 1
        return [[side[at:at + step] for side in replies] for at in range(0, len(commands), step)]

    def check(self, body):
        ours, theirs = self.restored([body])[0]
        self.assertEqual(ours, theirs)
        changes = list(broken(body))
        taken = 0
        for (what, changed), (ours, theirs) in zip(changes, self.restored([changed for _, changed in changes])):
            if ours[0] != b"+OK\r\n":
                self.assertEqual(ours[0], b"-ERR Bad data format\r\n", what)
                continue
            taken += 1
            self.assertEqual(ours[3], ours[5], f"the copy of {shown(changed)}")
            if changed[0] in NEWER_TYPES | MODULE_TYPES:
                continue
            self.assertEqual(ours, theirs, f"{what}: {shown(changed)}")
        self.assertLess(taken, len(changes))


def declare_tests():
    def of_theirs(self, commands):
        self.ask(self.sides[1], commands)
        body = self.ask(self.sides[1], [[b"DUMP", b"k"], [b"DEL", b"k"]])[0][1][1][:-10]
        self.check(body)
    for name, commands in MADE_BY.items():
        setattr(PayloadsTest, "test_" + name.replace(" ", "_"), lambda self, commands=commands: of_theirs(self, commands))
    for name, body in BY_HAND.items():
        setattr(PayloadsTest, "test_" + name.replace(" ", "_"), lambda self, body=body: self.check(body))


declare_tests()

if __name__ == "__main__":
    unittest.main()
