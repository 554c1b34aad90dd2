"""Hashes: every command of the family, with its options. HSCAN and HRANDFIELD are compared where the choice is not
free."""

from generator import Call, Family

FAMILY = Family("hashes", weight=20, settings={"hash-max-listpack-entries": "4", "hash-max-listpack-value": "20"})
FIELDS = [b"f%d" % i for i in range(10)] + [b"", b"1", b"-7", b"\x00\xff", b"f" * 70]


def field(chance):
    return chance.pick(FIELDS)


def pairs(chance):
    return [item for _ in range(chance.count(1, 5)) for item in (field(chance), chance.value())]


@FAMILY.row(weight=6)
def hset(chance):
    return [chance.pick([b"HSET", b"HSET", b"HMSET"]), chance.key("hash"), *pairs(chance)]


@FAMILY.row(weight=0.3)
def hset_many(chance):
    many = [item for i in range(chance.count(20, 200)) for item in (b"many:%d" % i, b"%d" % (i * 1000003))]
    return [b"HSET", chance.key("hash"), *many]


@FAMILY.row()
def hsetnx(chance):
    return [b"HSETNX", chance.key("hash"), field(chance), chance.value()]


@FAMILY.row(weight=3)
def one_field(chance):
    return [chance.pick([b"HGET", b"HEXISTS", b"HSTRLEN"]), chance.key("hash"), field(chance)]


@FAMILY.row(weight=2)
def hmget(chance):
    return [b"HMGET", chance.key("hash"), *[field(chance) for _ in range(chance.count(1, 4))]]


@FAMILY.row(weight=3)
def hdel(chance):
    return [b"HDEL", chance.key("hash"), *[field(chance) for _ in range(chance.count(1, 4))]]


@FAMILY.row()
def hlen(chance):
    return [b"HLEN", chance.key("hash")]


@FAMILY.row(mode="unordered")
def whole(chance):
    return [chance.pick([b"HKEYS", b"HVALS", b"HGETALL"]), chance.key("hash")]


@FAMILY.row(weight=2)
def hincrby(chance):
    return [b"HINCRBY", chance.key("hash"), field(chance), chance.number()]


@FAMILY.row(weight=2)
def hincrbyfloat(chance):
    return [b"HINCRBYFLOAT", chance.key("hash"), field(chance), chance.float()]


@FAMILY.row(mode="unordered")
def hscan(chance):
    options = [b"COUNT", chance.pick([b"1000", b"5000"], [b"0", b"x", b"-1"])]
    if chance.flip(0.4):
        options += [b"MATCH", chance.pick([b"*", b"f*", b"f[1-4]", b"[^f]*", b"many:1*", b""])]
    if chance.flip(0.05):
        options += [b"TYPE", b"hash"]
    return [b"HSCAN", chance.key("hash"), chance.pick([b"0", b"0", b"0", b"x", b""]), *options]


@FAMILY.row()
def hrandfield_all(chance):
    count = chance.pick([b"1000", b"0"], [b"1000", b"x"])
    return Call([b"HRANDFIELD", chance.key("hash"), count, *chance.words(b"WITHVALUES")], "unordered")


@FAMILY.row(weight=0.5)
def hrandfield_some(chance):
    count = chance.pick([b"1", b"2", b"-3"], [b"5", b"-9223372036854775808"])
    return Call([b"HRANDFIELD", chance.key("hash"), count, *chance.words(b"WITHVALUES")], "type")
