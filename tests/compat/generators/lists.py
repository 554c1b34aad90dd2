"""Lists: every command of the family, the blocking forms included."""

from generator import Family

FAMILY = Family("lists", weight=30, settings={"list-max-listpack-size": "5", "list-compress-depth": "1"})
ELEMENTS = [b"a", b"b", b"c", b"1", b"2", b"-3", b"", b"longer element", b"x" * 70, b"y" * 700, b"z" * 5000]
ENDS = [b"LEFT", b"RIGHT"]


def key(chance):
    return chance.key("list")


def element(chance):
    return chance.pick(ELEMENTS, ELEMENTS, ELEMENTS, [chance.value()])


def end(chance):
    return chance.pick(ENDS, ENDS, ENDS, ENDS, [b"left", b"right", b"UP"])


@FAMILY.row(weight=6)
def push(chance):
    return [chance.pick([b"LPUSH", b"RPUSH", b"LPUSHX", b"RPUSHX"]), key(chance),
            *[element(chance) for _ in range(chance.count(1, 6))]]


@FAMILY.row(weight=2)
def pop(chance):
    count = [chance.pick([b"0", b"1", b"2", b"5", b"100"], [chance.number()])] if chance.flip() else []
    return [chance.pick([b"LPOP", b"RPOP"]), key(chance), *count]


@FAMILY.row()
def length(chance):
    return [b"LLEN", key(chance)]


@FAMILY.row(weight=2)
def lrange(chance):
    return [b"LRANGE", key(chance), chance.index(), chance.index()]


@FAMILY.row(weight=0.4)
def ltrim(chance):
    return [b"LTRIM", key(chance), chance.index(), chance.index()]


@FAMILY.row()
def lindex(chance):
    return [b"LINDEX", key(chance), chance.index()]


@FAMILY.row(weight=2)
def lset(chance):
    return [b"LSET", key(chance), chance.index(), element(chance)]


@FAMILY.row(weight=2)
def linsert(chance):
    return [b"LINSERT", key(chance), chance.pick([b"BEFORE", b"AFTER", b"before", b"after", b"beside"]),
            element(chance), element(chance)]


@FAMILY.row()
def lrem(chance):
    return [b"LREM", key(chance), chance.pick([b"0", b"1", b"-1", b"2", b"-2"], [chance.number()]), element(chance)]


@FAMILY.row()
def lpos(chance):
    options = []
    for word in chance.words(b"RANK", b"COUNT", b"MAXLEN"):
        options += [word, chance.pick([b"0", b"1", b"2", b"-1", b"-2", b"10"], [chance.number()])]
    return [b"LPOS", key(chance), element(chance), *options]


@FAMILY.row(weight=2)
def move(chance):
    if chance.flip(0.3):
        return [b"RPOPLPUSH", key(chance), key(chance)]
    return [b"LMOVE", key(chance), key(chance), end(chance), end(chance)]


def several(chance):
    keys = [key(chance) for _ in range(chance.count(1, 3))]
    count = [b"COUNT", chance.pick([b"1", b"2", b"10", b"0", b"-1", b"x"])] if chance.flip() else []
    return [b"%d" % len(keys), *keys, end(chance), *count]


@FAMILY.row()
def lmpop(chance):
    return [b"LMPOP", *several(chance)]


@FAMILY.row(weight=0.5, blocks=True)
def blocking_pop(chance):
    return [chance.pick([b"BLPOP", b"BRPOP"]), *[key(chance) for _ in range(chance.count(1, 3))], b"0"]


@FAMILY.row(weight=0.5, blocks=True)
def blocking_move(chance):
    if chance.flip(0.3):
        return [b"BRPOPLPUSH", key(chance), key(chance), b"0"]
    return [b"BLMOVE", key(chance), key(chance), chance.pick(ENDS), chance.pick(ENDS), b"0"]


@FAMILY.row(weight=0.5, blocks=True)
def blmpop(chance):
    return [b"BLMPOP", b"0", *several(chance)]
