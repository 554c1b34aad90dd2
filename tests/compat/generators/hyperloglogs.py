"""HyperLogLogs: keys of their own, sometimes those of plain strings."""

from generator import Call, Family

FAMILY = Family("hyperloglogs", weight=8, settings={"hll-sparse-max-bytes": "120"})

SOUND = [b"sound0", b"sound1", b"sound2"]


def any_key(chance):
    return chance.pick(SOUND) if chance.flip(0.3) else chance.key("hll")


def element(chance):
    return b"e%d" % chance.count(0, 400) if chance.flip(0.8) else chance.value()


@FAMILY.row(weight=5)
def pfadd(chance):
    """Several elements only to keys that nobody else touches: other values may be corrupt somewhere, and what is left of
    an addition that fails half-way differs (docs/differences.md)."""
    if chance.flip():
        return Call([b"PFADD", chance.pick(SOUND), *[element(chance) for _ in range(chance.count(0, 8))]], kept=2)
    return Call([b"PFADD", chance.key("hll"), *[element(chance) for _ in range(chance.count(0, 1))]], whole=True)


@FAMILY.row(weight=3)
def pfcount(chance):
    return [b"PFCOUNT", *[any_key(chance) for _ in range(chance.count(1, 3))]]


@FAMILY.row(weight=2)
def pfmerge(chance):
    return [b"PFMERGE", chance.key("hll"), *[any_key(chance) for _ in range(chance.count(0, 3))]]


@FAMILY.row(weight=0.5)
def pfdebug(chance):
    return [b"PFDEBUG", chance.pick([b"ENCODING", b"DECODE", b"TODENSE", b"encoding", b"bogus"]), chance.key("hll")]


@FAMILY.row(weight=0.3)
def look(chance):
    return [chance.pick([b"GET", b"STRLEN", b"DEL"]), chance.key("hll")]
