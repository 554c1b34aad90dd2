"""Strings: every command of the family, with its options."""

from generator import ODD_SECONDS, SECONDS, Call, Family

FAMILY = Family("strings", weight=30)
SOON_RUNS_OUT_S = 0.03


@FAMILY.row(weight=6)
def set_(chance):
    arguments = [b"SET", chance.key(), chance.value()]
    if chance.flip():
        arguments += chance.words(b"NX", b"GET", b"XX")[:chance.count(0, 3)]
    if chance.flip(0.4):
        arguments += chance.lifetime()
    if chance.flip(0.1):
        arguments += [b"KEEPTTL"]
    if chance.flip(0.02):
        arguments += [b"BOGUS"]
    return arguments


@FAMILY.row(weight=0.05)
def set_for_a_moment(chance):
    return Call([b"SET", chance.key(), chance.value(), b"PX", b"%d" % chance.count(1, 10)],
                pause_s=SOON_RUNS_OUT_S)


@FAMILY.row(weight=3)
def get(chance):
    return [b"GET", chance.key()]


@FAMILY.row()
def getex(chance):
    options = chance.lifetime() if chance.flip(0.6) else chance.words(b"PERSIST")
    return [b"GETEX", chance.key(), *options]


@FAMILY.row(weight=3)
def one_key(chance):
    return [chance.pick([b"GETDEL", b"STRLEN", b"INCR", b"DECR"]), chance.key()]


@FAMILY.row()
def mget(chance):
    return [b"MGET", *[chance.key() for _ in range(chance.count(1, 4))]]


@FAMILY.row()
def mset(chance):
    pairs = [item for _ in range(chance.count(1, 4)) for item in (chance.key(), chance.value())]
    return [chance.pick([b"MSET", b"MSETNX"]), *pairs]


@FAMILY.row(weight=2)
def key_and_value(chance):
    return [chance.pick([b"SETNX", b"GETSET", b"APPEND"]), chance.key(), chance.value()]


@FAMILY.row()
def setex(chance):
    seconds = chance.pick(SECONDS, SECONDS, ODD_SECONDS)
    name = chance.pick([b"SETEX", b"PSETEX"])
    if name == b"PSETEX" and seconds in SECONDS:
        seconds += b"000"
    return [name, chance.key(), seconds, chance.value()]


@FAMILY.row(weight=2)
def by(chance):
    return [chance.pick([b"INCRBY", b"DECRBY"]), chance.key(), chance.number()]


@FAMILY.row()
def incrbyfloat(chance):
    return [b"INCRBYFLOAT", chance.key(), chance.float()]


@FAMILY.row()
def getrange(chance):
    return [chance.pick([b"GETRANGE", b"SUBSTR"]), chance.key(), chance.index(), chance.index()]


@FAMILY.row()
def setrange(chance):
    # Small, or refused by both; never hundreds of megabytes.
    offset = chance.pick([b"0", b"1", b"5", b"100", b"3000"], [b"-1", b"536870912", b"9223372036854775807", b"x"])
    return [b"SETRANGE", chance.key(), offset, chance.value()]


@FAMILY.row()
def lcs(chance):
    arguments = [b"LCS", chance.key(), chance.key(), *chance.words(b"LEN", b"IDX", b"WITHMATCHLEN")]
    if chance.flip(0.3):
        arguments += [b"MINMATCHLEN", chance.number()]
    return arguments
