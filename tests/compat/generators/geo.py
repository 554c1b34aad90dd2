"""Geo: every command of the family."""

from generator import Family

FAMILY = Family("geo", weight=12, settings={"zset-max-listpack-entries": "5"})
PLACES = [b"p%d" % i for i in range(20)]
UNITS = [b"m", b"km", b"ft", b"mi", b"KM", b"yd"]


def key(chance):
    return chance.key("geo")


def longitude(chance):
    if chance.flip(0.05):
        return chance.pick([b"180", b"-180", b"180.1", b"x", b"-181", b"0"])
    return b"%.6f" % chance.random.uniform(-180, 180) if chance.flip(0.3) else b"%.6f" % chance.random.uniform(10, 20)


def latitude(chance):
    if chance.flip(0.05):
        return chance.pick([b"85.05112878", b"-85.05112878", b"85.06", b"90", b"", b"0"])
    return b"%.6f" % chance.random.uniform(-85, 85) if chance.flip(0.3) else b"%.6f" % chance.random.uniform(35, 45)


def length(chance):
    return chance.pick([b"0", b"1", b"100", b"1000", b"20000", b"5000.5", b"-1", b"x"],
                       [b"%d" % chance.count(1, 1000)], [b"%d" % chance.count(1, 1000)])


def unit(chance):
    return chance.pick([b"km"], [b"km"], UNITS)


def options(chance, storing):
    chosen = chance.words(b"WITHDIST", b"WITHHASH", b"WITHCOORD") if not storing or chance.flip(0.05) else []
    if chance.flip(0.4):
        chosen += [b"COUNT", chance.pick([b"1", b"3", b"10", b"0", b"-1"])]
        chosen += [b"ANY"] if chance.flip(0.3) else []
    chosen += [chance.pick([b"ASC", b"DESC"])] if chance.flip() else []
    return chosen


@FAMILY.row(weight=5)
def geoadd(chance):
    points = [item for _ in range(chance.count(1, 4))
              for item in (longitude(chance), latitude(chance), chance.pick(PLACES))]
    return [b"GEOADD", key(chance), *(chance.words(b"NX", b"XX", b"CH") if chance.flip(0.3) else []), *points]


@FAMILY.row()
def geodist(chance):
    return [b"GEODIST", key(chance), chance.pick(PLACES), chance.pick(PLACES), *([unit(chance)] if chance.flip() else [])]


@FAMILY.row()
def places(chance):
    return [chance.pick([b"GEOHASH", b"GEOPOS"]), key(chance), *[chance.pick(PLACES) for _ in range(chance.count(1, 4))]]


def shape(chance):
    center = [b"FROMMEMBER", chance.pick(PLACES)] if chance.flip(0.3) else [b"FROMLONLAT", longitude(chance), latitude(chance)]
    if chance.flip():
        return [*center, b"BYRADIUS", length(chance), unit(chance)]
    return [*center, b"BYBOX", length(chance), length(chance), unit(chance)]


@FAMILY.row(weight=4)
def geosearch(chance):
    return [b"GEOSEARCH", key(chance), *shape(chance), *options(chance, False)]


@FAMILY.row()
def geosearchstore(chance):
    return [b"GEOSEARCHSTORE", key(chance), key(chance), *shape(chance), *options(chance, True),
            *chance.words(b"STOREDIST")]


@FAMILY.row(weight=2)
def georadius(chance):
    if chance.flip():
        name = chance.pick([b"GEORADIUS", b"GEORADIUS_RO"])
        middle = [longitude(chance), latitude(chance)]
    else:
        name = chance.pick([b"GEORADIUSBYMEMBER", b"GEORADIUSBYMEMBER_RO"])
        middle = [chance.pick(PLACES)]
    storing = chance.flip(0.3)
    store = [chance.pick([b"STORE", b"STOREDIST"]), key(chance)] if storing else []
    return [name, key(chance), *middle, length(chance), unit(chance), *options(chance, storing), *store]
