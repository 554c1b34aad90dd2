"""Sorted sets: every command of the family, the blocking forms included."""

from generator import Call, Family

FAMILY = Family("sorted_sets", weight=30, settings={"zset-max-listpack-entries": "5", "zset-max-listpack-value": "20"})
MEMBERS = [b"m%d" % i for i in range(12)] + [b"1", b"-7", b"", b"long member " * 3, b"\x00\xff"]
SCORES = [b"0", b"1", b"2", b"-1", b"1.5", b"-2.25", b"inf", b"-inf", b"1e300", b"0.1", b"3", b"100000000000000000000"]
WHOLE = [b"0", b"1", b"2", b"3", b"-1", b"10"]
# Bytes order a set only while all scores are equal: keys that no other row and no other family touches.
LEX_KEYS = [b"lexicon0", b"lexicon1", b"lexicon2"]


def key(chance):
    return chance.key("zset")


def member(chance):
    return chance.pick(MEMBERS, MEMBERS, MEMBERS, [chance.value()])


def score(chance):
    return chance.pick(SCORES, SCORES, WHOLE, [chance.float()])


def bound(chance):
    plain = chance.pick(WHOLE, [b"inf", b"-inf", b"+inf"], [chance.float()])
    return b"(" + plain if chance.flip(0.3) else plain


def lex_bound(chance):
    if chance.flip(0.3):
        return chance.pick([b"-", b"+", b"+", b"-", b"x", b""])
    return chance.pick([b"[", b"("]) + chance.pick(MEMBERS)


def limit(chance):
    if chance.flip(0.6):
        return []
    return [b"LIMIT", chance.pick([b"0", b"1", b"2", b"-1"]), chance.pick([b"0", b"1", b"3", b"-1", b"10"])]


def keys(chance):
    chosen = [chance.pick([key(chance)], [chance.key("set")]) if chance.flip(0.2) else key(chance)
              for _ in range(chance.count(1, 3))]
    return [b"%d" % len(chosen), *chosen], len(chosen)


@FAMILY.row(weight=7)
def zadd(chance):
    options = chance.words(b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR")[:chance.count(0, 2)] if chance.flip(0.4) else []
    pairs = [item for _ in range(chance.count(1, 4)) for item in (score(chance), member(chance))]
    return [b"ZADD", key(chance), *options, *pairs]


@FAMILY.row(weight=2)
def zincrby(chance):
    return [b"ZINCRBY", key(chance), score(chance), member(chance)]


@FAMILY.row(weight=2)
def one_member(chance):
    return [chance.pick([b"ZSCORE", b"ZRANK", b"ZREVRANK"]), key(chance), member(chance)]


@FAMILY.row()
def some_members(chance):
    return [chance.pick([b"ZREM", b"ZMSCORE"]), key(chance), *[member(chance) for _ in range(chance.count(1, 4))]]


@FAMILY.row()
def zcard(chance):
    return [b"ZCARD", key(chance)]


@FAMILY.row()
def zcount(chance):
    return [b"ZCOUNT", key(chance), bound(chance), bound(chance)]


@FAMILY.row(weight=2)
def zrange(chance):
    words = chance.words(b"REV", b"WITHSCORES")
    if chance.flip():
        return [b"ZRANGE", key(chance), chance.index(), chance.index(), *words, *limit(chance)[:3 if chance.flip(0.1) else 0]]
    return [b"ZRANGE", key(chance), bound(chance), bound(chance), b"BYSCORE", *words, *limit(chance)]


@FAMILY.row(weight=2)
def old_ranges(chance):
    scores = [b"WITHSCORES"] if chance.flip(0.3) else []
    if chance.flip(0.4):
        return [b"ZREVRANGE", key(chance), chance.index(), chance.index(), *scores]
    return [chance.pick([b"ZRANGEBYSCORE", b"ZREVRANGEBYSCORE"]), key(chance), bound(chance), bound(chance), *scores,
            *limit(chance)]


@FAMILY.row()
def zrangestore(chance):
    if chance.flip():
        return [b"ZRANGESTORE", key(chance), key(chance), chance.index(), chance.index(), *chance.words(b"REV")]
    return [b"ZRANGESTORE", key(chance), key(chance), bound(chance), bound(chance), b"BYSCORE", *limit(chance)]


@FAMILY.row(weight=0.5)
def remove_range(chance):
    if chance.flip():
        return [b"ZREMRANGEBYRANK", key(chance), chance.index(), chance.index()]
    return [b"ZREMRANGEBYSCORE", key(chance), bound(chance), bound(chance)]


@FAMILY.row()
def lex_add(chance):
    return Call([b"ZADD", chance.pick(LEX_KEYS), *[item for _ in range(3) for item in (b"0", chance.pick(MEMBERS))]], whole=True)


@FAMILY.row()
def lex_read(chance):
    name = chance.pick([b"ZRANGEBYLEX", b"ZREVRANGEBYLEX", b"ZLEXCOUNT", b"ZRANGE"])
    options = [b"BYLEX", *chance.words(b"REV")] if name == b"ZRANGE" else []
    limited = limit(chance) if name != b"ZLEXCOUNT" else []
    return Call([name, chance.pick(LEX_KEYS), lex_bound(chance), lex_bound(chance), *options, *limited], kept=2)


@FAMILY.row(weight=0.3)
def lex_remove(chance):
    return Call([b"ZREMRANGEBYLEX", chance.pick(LEX_KEYS), lex_bound(chance), lex_bound(chance)], kept=2)


@FAMILY.row()
def pop(chance):
    count = [chance.pick([b"0", b"1", b"3", b"100", b"-1", b"x"])] if chance.flip() else []
    return [chance.pick([b"ZPOPMIN", b"ZPOPMAX"]), key(chance), *count]


def several(chance):
    chosen = [key(chance) for _ in range(chance.count(1, 3))]
    count = [b"COUNT", chance.pick([b"1", b"2", b"10", b"0"])] if chance.flip() else []
    return [b"%d" % len(chosen), *chosen, chance.pick([b"MIN", b"MAX", b"min", b"MID"]), *count]


@FAMILY.row()
def zmpop(chance):
    return [b"ZMPOP", *several(chance)]


@FAMILY.row(weight=0.5, blocks=True)
def blocking_pop(chance):
    return [chance.pick([b"BZPOPMIN", b"BZPOPMAX"]), *[key(chance) for _ in range(chance.count(1, 3))], b"0"]


@FAMILY.row(weight=0.5, blocks=True)
def bzmpop(chance):
    return [b"BZMPOP", b"0", *several(chance)]


def combine_options(chance, count, store):
    options = []
    if chance.flip(0.4):
        options += [b"WEIGHTS", *[chance.pick([b"1", b"2", b"0", b"-1", b"0.5", b"inf", b"x"]) for _ in range(count)]]
    if chance.flip(0.4):
        options += [b"AGGREGATE", chance.pick([b"SUM", b"MIN", b"max", b"AVG"])]
    if not store and chance.flip():
        options += [b"WITHSCORES"]
    return options


@FAMILY.row(weight=2)
def combine(chance):
    chosen, count = keys(chance)
    name = chance.pick([b"ZUNION", b"ZINTER"])
    if chance.flip():
        return [name + b"STORE", key(chance), *chosen, *combine_options(chance, count, True)]
    return [name, *chosen, *combine_options(chance, count, False)]


@FAMILY.row()
def difference(chance):
    chosen, _ = keys(chance)
    if chance.flip(0.3):
        return [b"ZINTERCARD", *chosen, *([b"LIMIT", chance.pick([b"0", b"1", b"2", b"-1"])] if chance.flip() else [])]
    if chance.flip():
        return [b"ZDIFFSTORE", key(chance), *chosen]
    return [b"ZDIFF", *chosen, *chance.words(b"WITHSCORES")]


@FAMILY.row(mode="type")
def zrandmember(chance):
    return [b"ZRANDMEMBER", key(chance)]


@FAMILY.row(mode="unordered")
def all_random_members(chance):
    return [b"ZRANDMEMBER", key(chance), b"1000", b"WITHSCORES"]


@FAMILY.row(weight=0.3)
def zscan_options(chance):
    """Of a key of another type or none, or with wrong options: cursors and order are each server's own."""
    return Call([b"ZSCAN", key(chance), chance.pick([b"0", b"x", b""]), *chance.words(b"MATCH", b"COUNT")], mode="type")
