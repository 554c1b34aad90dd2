"""Bitmaps and BITFIELD over the keys of strings."""

from generator import ODD_NUMBERS, Call, Family

FAMILY = Family("bits", weight=12)
TYPES = [b"i1", b"u1", b"i5", b"u4", b"i8", b"u8", b"i16", b"u31", b"i64", b"u63"]
ODD_TYPES = [b"u64", b"i65", b"i0", b"", b"8", b"I8", b"x1"]


def offset(chance):
    """A bit offset that stays within a few hundred bytes, or a wrong one."""
    if chance.flip(0.06):
        return chance.pick(ODD_NUMBERS, [b"-1", b"4294967296", b"9223372036854775808"])
    return b"%d" % chance.count(0, 900)


def bit(chance):
    return chance.pick([b"0", b"1", b"0", b"1", b"0", b"1", b"2", b"-1", b"x"])


@FAMILY.row(weight=3)
def setbit(chance):
    return [b"SETBIT", chance.key(), offset(chance), bit(chance)]


@FAMILY.row(weight=2)
def getbit(chance):
    return [b"GETBIT", chance.key(), offset(chance)]


def a_range(chance):
    words = [chance.index(), chance.index()]
    if chance.flip():
        words.append(chance.pick([b"BYTE", b"BIT", b"byte", b"Bit", b"BITS"]))
    return words


@FAMILY.row(weight=2)
def bitcount(chance):
    return [b"BITCOUNT", chance.key(), *(a_range(chance) if chance.flip(0.7) else [])]


@FAMILY.row(weight=2)
def bitpos(chance):
    return [b"BITPOS", chance.key(), bit(chance), *a_range(chance)[:chance.count(0, 3)]]


@FAMILY.row(weight=2)
def bitop(chance):
    operation = chance.pick([b"AND", b"OR", b"XOR", b"NOT", b"and", b"Not", b"NAND"])
    sources = [chance.key() for _ in range(1 if operation.upper() == b"NOT" and chance.flip(0.8) else chance.count(1, 3))]
    return [b"BITOP", operation, chance.key(), *sources]


def field_offset(chance):
    return b"#%d" % chance.count(0, 20) if chance.flip(0.3) else offset(chance)


def field_type(chance):
    return chance.pick(TYPES) if chance.flip(0.96) else chance.pick(ODD_TYPES)


@FAMILY.row(weight=4)
def bitfield(chance):
    words = [b"BITFIELD", chance.key()]
    for _ in range(chance.count(0, 5)):
        kind = chance.pick([b"GET", b"SET", b"INCRBY", b"OVERFLOW", b"get", b"Set", b"BOGUS"] if chance.flip(0.1)
                           else [b"GET", b"SET", b"INCRBY", b"OVERFLOW"])
        if kind == b"OVERFLOW":
            words += [kind, chance.pick([b"WRAP", b"SAT", b"FAIL", b"sat", b"none"])]
            continue
        words += [kind, field_type(chance), field_offset(chance)]
        if kind.upper() != b"GET":
            words.append(chance.number())
    if b"FAIL" not in words:
        return words
    # One that fails on a short string changes it here, and nothing in Redis (docs/differences.md).
    return Call([b"SETBIT", words[1], b"10000", b"0"], after=[words])


@FAMILY.row()
def bitfield_ro(chance):
    words = [b"BITFIELD_RO", chance.key()]
    for _ in range(chance.count(0, 3)):
        words += [b"GET", field_type(chance), field_offset(chance)]
    if chance.flip(0.05):
        words += [b"SET", b"u8", b"0", b"1"]
    return words
