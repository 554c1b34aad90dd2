"""Streams and consumer groups, with explicit IDs; what depends on the clock is compared as near."""

from generator import Family


def examine(key):
    """What is compared of a stream: DUMP holds clock times once there are groups."""
    return [([b"XRANGE", key, b"-", b"+"], ""), ([b"XINFO", b"STREAM", key], ""), ([b"XINFO", b"GROUPS", key], "")]


FAMILY = Family("streams", weight=20, settings={"stream-node-max-entries": "5"}, examine={b"stream": examine})


def stream(chance):
    return chance.key("stream")


def stream_id(chance):
    if chance.flip(0.05):
        return chance.pick([b"", b"x", b"-1", b"1-", b"1-x", b"18446744073709551616-0", b"0-0", b"+", b"-", b"$", b">"])
    return b"%d-%d" % (chance.count(0, 60), chance.count(0, 2)) if chance.flip(0.8) else b"%d" % chance.count(0, 60)


def added_id(chance):
    """Of new entries: most are larger than all before, as IDs must be."""
    if chance.flip(0.4):
        return stream_id(chance)
    chance.last_id += 1
    return b"%d-%d" % (chance.last_id, chance.count(0, 2)) if chance.flip(0.8) else b"%d-*" % chance.last_id


def group(chance):
    return chance.pick([b"g1", b"g1", b"g1", b"g2", b"g1", b"absent"])


def consumer(chance):
    return chance.pick([b"alice", b"bob", b"carol"])


def trim(chance):
    kind = chance.pick([b"MAXLEN", b"MINID", b"maxlen"])
    words = [kind, *chance.words(b"~")]
    words.append(b"%d" % chance.count(0, 20) if kind.upper() == b"MAXLEN" else stream_id(chance))
    if chance.flip(0.2):
        words += [b"LIMIT", b"%d" % chance.count(0, 12)]
    return words


@FAMILY.row(weight=8)
def xadd(chance):
    words = [b"XADD", stream(chance), *chance.words(b"NOMKSTREAM")[:chance.flip(0.2)]]
    if chance.flip(0.2):
        words += trim(chance)
    words.append(added_id(chance))
    for _ in range(chance.count(1, 3)):
        words += [chance.pick([b"f", b"g", b"h"]), chance.value()]
    return words


@FAMILY.row(weight=2)
def xrange_(chance):
    name = chance.pick([b"XRANGE", b"XREVRANGE"])
    ends = [chance.pick([b"-", b"+", stream_id(chance), b"(" + stream_id(chance)]) for _ in range(2)]
    return [name, stream(chance), *ends, *([b"COUNT", chance.index()] if chance.flip(0.3) else [])]


@FAMILY.row(weight=2)
def xdel(chance):
    return [b"XDEL", stream(chance), *[stream_id(chance) for _ in range(chance.count(1, 3))]]


@FAMILY.row(weight=1)
def xtrim(chance):
    return [b"XTRIM", stream(chance), *trim(chance)]


@FAMILY.row(weight=1)
def one(chance):
    return [chance.pick([b"XLEN", b"XLEN", b"DEL"]), stream(chance)]


@FAMILY.row(weight=1)
def xsetid(chance):
    words = [b"XSETID", stream(chance), stream_id(chance)]
    if chance.flip(0.3):
        words += [b"ENTRIESADDED", b"%d" % chance.count(-1, 40)]
    if chance.flip(0.3):
        words += [b"MAXDELETEDID", stream_id(chance)]
    return words


@FAMILY.row(weight=2)
def xread(chance):
    count = chance.count(1, 3)
    words = [b"XREAD", *([b"COUNT", b"%d" % chance.count(0, 5)] if chance.flip() else [])]
    return [*words, b"STREAMS", *[stream(chance) for _ in range(count)], *[stream_id(chance) for _ in range(count)]]


@FAMILY.row(weight=3)
def xgroup(chance):
    kind = chance.pick([b"CREATE", b"CREATE", b"CREATE", b"CREATE", b"CREATE", b"SETID", b"DESTROY", b"CREATECONSUMER", b"DELCONSUMER"])
    words = [b"XGROUP", kind, stream(chance), group(chance)]
    if kind in (b"CREATE", b"SETID"):
        words.append(chance.pick([b"$", b"0", stream_id(chance)]))
        words += chance.words(b"MKSTREAM") if kind == b"CREATE" else []
        if chance.flip(0.2):
            words += [b"ENTRIESREAD", b"%d" % chance.count(-2, 30)]
    elif kind != b"DESTROY":
        words.append(consumer(chance))
    return words


@FAMILY.row(weight=2)
def beginning(chance):
    """Of a group, with a stream to it."""
    return [b"XGROUP", b"CREATE", stream(chance), chance.pick([b"g1", b"g1", b"g2"]), b"0", b"MKSTREAM"]


@FAMILY.row(weight=5)
def xreadgroup(chance):
    words = [b"XREADGROUP", b"GROUP", group(chance), consumer(chance)]
    if chance.flip():
        words += [b"COUNT", b"%d" % chance.count(0, 5)]
    words += [b"NOACK"] if chance.flip(0.1) else []
    return [*words, b"STREAMS", stream(chance), chance.pick([b">", b">", b">", b"0", stream_id(chance)])]


@FAMILY.row(weight=0.4, blocks=True)
def waiting_xread(chance):
    keys = [stream(chance) for _ in range(chance.count(1, 2))]
    return [b"XREAD", b"BLOCK", b"0", b"STREAMS", *keys, *[chance.pick([b"$", b"$", stream_id(chance)]) for _ in keys]]


@FAMILY.row(weight=0.4, blocks=True)
def waiting_xreadgroup(chance):
    return [b"XREADGROUP", b"GROUP", group(chance), consumer(chance), b"BLOCK", b"0", b"STREAMS", stream(chance), b">"]


@FAMILY.row(weight=1, mode="near:100000000")
def xinfo(chance):
    kind = chance.pick([b"CONSUMERS", b"GROUPS", b"STREAM", b"STREAM"])
    words = [b"XINFO", kind, stream(chance)]
    if kind == b"CONSUMERS":
        words.append(group(chance))
    elif kind == b"STREAM" and chance.flip(0.4):
        words += [b"FULL", *([b"COUNT", chance.pick([b"0", b"1", b"-1", b"x"])] if chance.flip() else [])]
    return words


@FAMILY.row(weight=2)
def xack(chance):
    return [b"XACK", stream(chance), group(chance), *[stream_id(chance) for _ in range(chance.count(1, 3))]]


@FAMILY.row(weight=2, mode="near:100000000")
def xpending(chance):
    words = [b"XPENDING", stream(chance), group(chance)]
    if chance.flip(0.7):
        words += [chance.pick([b"-", stream_id(chance)]), chance.pick([b"+", stream_id(chance)]), b"%d" % chance.count(0, 9)]
        words += [consumer(chance)] if chance.flip(0.4) else []
    return words


@FAMILY.row(weight=2)
def xclaim(chance):
    words = [b"XCLAIM", stream(chance), group(chance), consumer(chance), chance.pick([b"0", b"0", b"100000000"])]
    words += [stream_id(chance) for _ in range(chance.count(1, 3))]
    words += [b"RETRYCOUNT", b"%d" % chance.count(0, 9)] if chance.flip(0.2) else []
    words += [b"LASTID", stream_id(chance)] if chance.flip(0.1) else []
    return words + [word for word in (b"FORCE", b"JUSTID") if chance.flip(0.3)]


@FAMILY.row(weight=2)
def xautoclaim(chance):
    words = [b"XAUTOCLAIM", stream(chance), group(chance), consumer(chance), chance.pick([b"0", b"0", b"100000000"]),
             chance.pick([b"0", b"-", stream_id(chance), b"(" + stream_id(chance)])]
    words += [b"COUNT", b"%d" % chance.count(0, 5)] if chance.flip() else []
    return words + (chance.words(b"JUSTID") if chance.flip(0.3) else [])
