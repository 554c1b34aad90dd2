"""Sets: every command of the family. What each server draws at random is made equal again afterwards."""

from generator import Call, Family

FAMILY = Family("sets", weight=20, settings={"set-max-intset-entries": "4"})
MEMBERS = [b"%d" % i for i in range(12)] + [b"a", b"b", b"c", b"", b"\x00\xff", b"01", b"m" * 70]


def member(chance):
    return chance.pick(MEMBERS, MEMBERS, MEMBERS, [chance.value()])


def members(chance, most=5):
    return [member(chance) for _ in range(chance.count(1, most))]


def keys(chance):
    return [chance.key("set") for _ in range(chance.count(1, 4))]


@FAMILY.row(weight=6)
def sadd(chance):
    return [b"SADD", chance.key("set"), *members(chance)]


@FAMILY.row(weight=3)
def sadd_integers(chance):
    return [b"SADD", chance.key("set"), *[b"%d" % chance.count(-40000, 40000) for _ in range(chance.count(1, 4))]]


@FAMILY.row(weight=0.3)
def sadd_many(chance):
    word = chance.pick([b"%d", b"many:%d"])
    return [b"SADD", chance.key("set"), *[word % (i * 77) for i in range(chance.count(20, 600))]]


@FAMILY.row(weight=3)
def srem(chance):
    return [b"SREM", chance.key("set"), *members(chance)]


@FAMILY.row(weight=2)
def ask(chance):
    name = chance.pick([b"SISMEMBER", b"SMISMEMBER"])
    return [name, chance.key("set"), *members(chance, 1 if name == b"SISMEMBER" else 4)]


@FAMILY.row()
def scard(chance):
    return [b"SCARD", chance.key("set")]


@FAMILY.row(weight=2, mode="unordered")
def smembers(chance):
    return [b"SMEMBERS", chance.key("set")]


@FAMILY.row(weight=2)
def smove(chance):
    return [b"SMOVE", chance.key("set"), chance.key("set"), member(chance)]


@FAMILY.row()
def spop(chance):
    key = chance.key("set")
    count = [chance.pick([b"1", b"2", b"5"], [b"0", b"-1", b"x"])] if chance.flip() else []
    return Call([b"SPOP", key, *count], "type", after=[[b"DEL", key]])


@FAMILY.row()
def spop_all(chance):
    return Call([b"SPOP", chance.key("set"), b"10000"], "unordered")


@FAMILY.row(mode="type")
def srandmember(chance):
    count = [chance.pick([b"1", b"-3", b"2"], [b"0", b"x", b"-9223372036854775808"])] if chance.flip() else []
    return [b"SRANDMEMBER", chance.key("set"), *count]


@FAMILY.row()
def srandmember_all(chance):
    return Call([b"SRANDMEMBER", chance.key("set"), b"10000"], "unordered")


@FAMILY.row(weight=3, mode="unordered")
def operation(chance):
    return [chance.pick([b"SINTER", b"SUNION", b"SDIFF"]), *keys(chance)]


@FAMILY.row(weight=3)
def store(chance):
    return [chance.pick([b"SINTERSTORE", b"SUNIONSTORE", b"SDIFFSTORE"]), chance.key("set"), *keys(chance)]


@FAMILY.row(weight=2)
def sintercard(chance):
    several = keys(chance)
    number = b"%d" % len(several) if chance.flip(0.9) else chance.number()
    limit = [b"LIMIT", chance.pick([b"0", b"1", b"2"], [b"1", b"-1", b"x"])] if chance.flip(0.3) else []
    return [b"SINTERCARD", number, *several, *limit]


@FAMILY.row(mode="unordered")
def sscan(chance):
    options = [b"COUNT", chance.pick([b"1000", b"5000"], [b"0", b"x", b"-1"])]
    if chance.flip(0.4):
        options += [b"MATCH", chance.pick([b"*", b"1*", b"[ab]", b"[^1]*", b"many:1*", b""])]
    return [b"SSCAN", chance.key("set"), chance.pick([b"0", b"0", b"0", b"x", b""]), *options]
