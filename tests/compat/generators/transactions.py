"""Transactions and what stands around the data: MULTI, WATCH, PING, unknown commands."""

from generator import Family

FAMILY = Family("transactions", weight=8)


@FAMILY.row(weight=4)
def multi(_):
    return [b"MULTI"]


@FAMILY.row()
def end(chance):
    return [chance.pick([b"EXEC", b"DISCARD"])]


@FAMILY.row(weight=2)
def watch(chance):
    return [b"WATCH", *[chance.any_key() for _ in range(chance.count(1, 3))]]


@FAMILY.row()
def unwatch(_):
    return [b"UNWATCH"]


@FAMILY.row()
def other(chance):
    return chance.random.choice([[b"PING"], [b"PING", chance.value()], [b"ECHO", chance.value()],
                                 [b"NOSUCH", chance.value()], [b""]])
