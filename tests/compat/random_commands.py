"""Seeded random commands of the string, key and transaction families, for both servers alike.

Few keys and a small set of values, so that commands meet each other's results; edge numbers and broken arguments
on purpose. Left out, because the answer is each server's own choice or depends on the clock: RANDOMKEY
and SCAN cursors (the scripts have them), times to live below 1000 s (they would run out between the two).
"""

KEYS = [b"k%d" % i for i in range(12)] + [b"", b"bin\x00\r\n\xff", b"a" * 70]
NUMBERS = [b"0", b"1", b"-1", b"5", b"10", b"100", b"-100", b"9223372036854775807", b"-9223372036854775808",
           b"9223372036854775808", b"-9223372036854775807", b"4294967296", b"2147483647"]
ODD_NUMBERS = [b"", b" 1", b"1 ", b"+1", b"01", b"0x1", b"1.0", b"abc", b"-", b"--1", b"1e3", b"nan", b"inf"]
FLOATS = [b"0", b"1.5", b"-2.25", b"3.0e3", b"1e-10", b"1e308", b"-0", b"0.1", b"5", b"100000000000000000000"]
ODD_FLOATS = [b"", b"nan", b"inf", b"-inf", b"abc", b" 1", b"1 ", b"1e400", b"0x10", b"1,5"]
TEXTS = [b"", b"a", b"hello", b"hello world", b"\x00\x01\x02", b"x" * 44, b"y" * 45, b"z" * 300, b"abcabcabc",
         b"3.14", b"0001", b"-0", b"12345678901234567890", b"1.5"]
SECONDS = [b"1000", b"5000", b"100000", b"2147483648"]
PAST_OR_ODD_SECONDS = [b"0", b"-1", b"-9223372036854775808", b"9223372036854775807", b"abc", b"1.5", b""]
UNIX_SECONDS = [b"33177117420", b"4102444800", b"1"]
UNIX_MS = [b"33177117420000", b"4102444800000", b"1"]


class Generator:
    """random: a random.Random; the stream depends on it and the payloads alone. payloads: for RESTORE."""

    def __init__(self, random, payloads):
        self._random = random
        self._payloads = payloads
        self._depth = 0  # commands since MULTI

    def forget_transaction(self):
        """The connection left MULTI."""
        self._depth = 0

    def pick(self, *lists):
        return self._random.choice(self._random.choice(lists))

    def key(self):
        return self._random.choice(KEYS)

    def number(self):
        return self.pick(NUMBERS, NUMBERS, NUMBERS, ODD_NUMBERS)

    def index(self):
        if self._random.random() < 0.8:
            return b"%d" % self._random.randint(-12, 60)
        return self.number()

    def offset(self):
        """Of SETRANGE: small, or refused by both servers; never hundreds of megabytes."""
        return self.pick([b"0", b"1", b"5", b"100", b"3000"], [b"-1", b"536870912", b"9223372036854775807", b"x"])

    def float(self):
        return self.pick(FLOATS, FLOATS, FLOATS, ODD_FLOATS)

    def value(self):
        return self.pick(NUMBERS, TEXTS, TEXTS, FLOATS, ODD_NUMBERS)

    def words(self, *words):
        """Some of the words, each with half a chance, in random letter case."""
        chosen = [word for word in words if self._random.random() < 0.5]
        return [self._random.choice([word, word.lower(), word.capitalize()]) for word in chosen]

    def lifetime(self):
        """An expiry option with its argument, sometimes a wrong one."""
        kind = self._random.choice([b"EX", b"PX", b"EXAT", b"PXAT", b"ex", b"Px"])
        if self._random.random() < 0.2:
            return [kind, self.pick(PAST_OR_ODD_SECONDS)]
        if kind == b"EXAT":
            return [kind, self.pick(UNIX_SECONDS)]
        if kind == b"PXAT":
            return [kind, self.pick(UNIX_MS)]
        seconds = self.pick(SECONDS)
        return [kind, seconds + b"000" if kind.upper() == b"PX" else seconds]

    def command(self):
        """Returns (arguments, name of the comparison)."""
        if self._depth:
            self._depth += 1
            if self._random.random() < 0.2 or self._depth > 20:
                self._depth = 0
                return [self._random.choice([b"EXEC", b"EXEC", b"EXEC", b"DISCARD"])], "near:5000"
        mode = "unordered"
        while mode == "unordered":
            arguments, mode = getattr(self, "_" + self._random.choice(COMMANDS))()
            if not self._depth:  # inside a transaction the reply would come with EXEC's, in its order
                break
        if self._random.random() < 0.02:  # wrong arity, on either side
            arguments = arguments[:-1] if self._random.random() < 0.5 else arguments + [b"extra"]
        if not arguments:
            arguments = [b"PING"]
        if self._depth == 0 and arguments[0].upper() == b"MULTI" and len(arguments) == 1:
            self._depth = 1
        return arguments, mode

    # Each returns (arguments, comparison). Names are those of COMMANDS.

    def _set(self):
        arguments = [b"SET", self.key(), self.value()]
        if self._random.random() < 0.5:
            arguments += self.words(b"NX", b"GET", b"XX")[:self._random.randint(0, 3)]
        if self._random.random() < 0.4:
            arguments += self.lifetime()
        if self._random.random() < 0.1:
            arguments += [b"KEEPTTL"]
        if self._random.random() < 0.02:
            arguments += [b"BOGUS"]
        return arguments, ""

    def _get(self):
        return [b"GET", self.key()], ""

    def _getex(self):
        options = self.lifetime() if self._random.random() < 0.6 else self.words(b"PERSIST")
        return [b"GETEX", self.key(), *options], ""

    def _simple(self):
        name = self._random.choice([b"GETDEL", b"STRLEN", b"INCR", b"DECR", b"TYPE", b"PERSIST", b"EXISTS", b"DUMP",
                                    b"DEL", b"UNLINK", b"TOUCH"])
        return [name, self.key()], ""

    def _several(self):
        name = self._random.choice([b"MGET", b"EXISTS", b"DEL", b"UNLINK", b"TOUCH"])
        return [name, *[self.key() for _ in range(self._random.randint(1, 4))]], ""

    def _mset(self):
        pairs = [item for _ in range(self._random.randint(1, 4)) for item in (self.key(), self.value())]
        return [self._random.choice([b"MSET", b"MSETNX"]), *pairs], ""

    def _pair(self):
        name = self._random.choice([b"SETNX", b"GETSET", b"APPEND"])
        return [name, self.key(), self.value()], ""

    def _setex(self):
        seconds = self.pick(SECONDS, SECONDS, PAST_OR_ODD_SECONDS)
        name = self._random.choice([b"SETEX", b"PSETEX"])
        if name == b"PSETEX" and seconds in SECONDS:
            seconds += b"000"
        return [name, self.key(), seconds, self.value()], ""

    def _by(self):
        return [self._random.choice([b"INCRBY", b"DECRBY"]), self.key(), self.number()], ""

    def _incrbyfloat(self):
        return [b"INCRBYFLOAT", self.key(), self.float()], ""

    def _getrange(self):
        name = self._random.choice([b"GETRANGE", b"SUBSTR"])
        return [name, self.key(), self.index(), self.index()], ""

    def _setrange(self):
        return [b"SETRANGE", self.key(), self.offset(), self.value()], ""

    def _lcs(self):
        arguments = [b"LCS", self.key(), self.key(), *self.words(b"LEN", b"IDX", b"WITHMATCHLEN")]
        if self._random.random() < 0.3:
            arguments += [b"MINMATCHLEN", self.number()]
        return arguments, ""

    def _expire(self):
        name = self._random.choice([b"EXPIRE", b"PEXPIRE", b"EXPIREAT", b"PEXPIREAT"])
        if self._random.random() < 0.2:
            when = self.pick(PAST_OR_ODD_SECONDS)
        elif name.endswith(b"AT"):
            when = self.pick(UNIX_MS if name.startswith(b"P") else UNIX_SECONDS)
        else:
            when = self.pick(SECONDS) + (b"000" if name.startswith(b"P") else b"")
        return [name, self.key(), when, *self.words(b"NX", b"XX", b"GT", b"LT")[:self._random.choice([0, 1, 1, 2])]], ""

    def _ttl(self):
        name = self._random.choice([b"TTL", b"PTTL"])
        return [name, self.key()], "near:5000"

    def _expiretime(self):
        return [self._random.choice([b"EXPIRETIME", b"PEXPIRETIME"]), self.key()], "near:5000"

    def _rename(self):
        return [self._random.choice([b"RENAME", b"RENAMENX"]), self.key(), self.key()], ""

    def _copy(self):
        options = [b"DB", self.pick([b"0", b"1", b"15", b"16", b"-1", b"x"])] if self._random.random() < 0.3 else []
        return [b"COPY", self.key(), self.key(), *options, *self.words(b"REPLACE")], ""

    def _move(self):
        return [b"MOVE", self.key(), self.pick([b"0", b"1", b"2", b"15"], [b"16", b"-1", b"x"])], ""

    def _object(self):
        name = self.pick([b"ENCODING", b"REFCOUNT", b"FREQ", b"BOGUS", b"encoding"])
        # Whether a small integer is one of the shared ones after a COPY depends on how it is held.
        return [b"OBJECT", name, self.key()], "type" if name == b"REFCOUNT" else ""

    def _restore(self):
        payload = self.pick(self._payloads)
        ttl = self.pick([b"0", b"1000000", b"-1", b"x"])
        return [b"RESTORE", self.key(), ttl, payload, *self.words(b"REPLACE")], ""

    def _keys(self):
        return [b"KEYS", self.pick([b"*", b"k?", b"k[0-3]", b"[^k]*", b"k1*", b"\\k*", b""])], "unordered"

    def _database(self):
        return self._random.choice([
            [b"SELECT", self.pick([b"0", b"0", b"1", b"2"], [b"16", b"-1", b"x"])],
            [b"DBSIZE"], [b"SWAPDB", b"0", self.pick([b"1", b"2", b"0", b"16", b"x"])],
        ]), ""

    def _flush(self):
        if self._random.random() < 0.9:
            return [b"DBSIZE"], ""
        return [self._random.choice([b"FLUSHDB", b"FLUSHALL"]), *self.words(b"ASYNC")], ""

    def _transaction(self):
        return self._random.choice([[b"MULTI"], [b"MULTI"], [b"MULTI"], [b"EXEC"], [b"DISCARD"], [b"UNWATCH"],
                                    [b"WATCH", self.key()], [b"WATCH", self.key(), self.key()]]), "near:5000"

    def _other(self):
        return self._random.choice([[b"PING"], [b"PING", self.value()], [b"ECHO", self.value()], [b"NOSUCH", self.value()],
                                    [b"DEBUG", b"DIGEST"], [b"DEBUG", b"DIGEST-VALUE", self.key()]]), ""


COMMANDS = (["set"] * 5 + ["get"] * 3 + ["simple"] * 6 + ["expire"] * 3 + ["by"] * 2 + ["database"] + ["flush"] + [
    "getex", "several", "mset", "pair", "setex", "incrbyfloat", "getrange", "setrange", "lcs", "ttl", "expiretime",
    "rename", "copy", "move", "object", "restore", "keys", "transaction", "transaction", "other", "pair", "ttl"])
