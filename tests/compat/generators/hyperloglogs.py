"""HyperLogLogs: keys of their own, sometimes those of plain strings."""

from generator import Family

FAMILY = Family("hyperloglogs", weight=8, settings={"hll-sparse-max-bytes": "120"})


def element(chance):
    return b"e%d" % chance.count(0, 400) if chance.flip(0.8) else chance.value()


@FAMILY.row(weight=5)
def pfadd(chance):
    return [b"PFADD", chance.key("hll"), *[element(chance) for _ in range(chance.count(0, 8))]]


@FAMILY.row(weight=3)
def pfcount(chance):
    return [b"PFCOUNT", *[chance.key("hll") for _ in range(chance.count(1, 3))]]


@FAMILY.row(weight=2)
def pfmerge(chance):
    return [b"PFMERGE", *[chance.key("hll") for _ in range(chance.count(1, 4))]]


@FAMILY.row(weight=0.5)
def pfdebug(chance):
    return [b"PFDEBUG", chance.pick([b"ENCODING", b"DECODE", b"TODENSE", b"encoding", b"bogus"]), chance.key("hll")]


@FAMILY.row(weight=0.3)
def look(chance):
    return [chance.pick([b"GET", b"STRLEN", b"DEL"]), chance.key("hll")]
