"""CLIENT TRACKING in all its modes; the invalidations come to the clients beside their replies."""

from generator import Family

FAMILY = Family("tracking", weight=6)
PREFIXES = [b"k", b"k1", b"list", b"hash", b"", b"set", b"zset", b"no", b"lis"]


@FAMILY.row(weight=4)
def tracking(chance):
    words = []
    for word in chance.words(b"BCAST", b"OPTIN", b"OPTOUT", b"NOLOOP"):
        if chance.flip(0.4):
            words.append(word)
    if words and words[0].upper() == b"BCAST" or chance.flip(0.05):
        for _ in range(chance.count(0, 2)):
            words += [b"PREFIX", chance.pick(PREFIXES)]
    if chance.flip(0.3):
        words += [b"REDIRECT", chance.pick([chance.client()], [chance.client()], [b"0", b"99999999", b"x", b"-1"])]
    return [b"CLIENT", b"TRACKING", chance.pick([b"ON", b"on", b"OFF", b"ON"]), *words]


@FAMILY.row(weight=2)
def caching(chance):
    return [b"CLIENT", b"CACHING", chance.pick([b"yes", b"no", b"YES", b"x"])]


@FAMILY.row(weight=2, mode="tracking")
def info(chance):
    return [b"CLIENT", chance.pick([b"TRACKINGINFO", b"GETREDIR"])]


@FAMILY.row(weight=3)
def read(chance):
    return chance.random.choice([[b"MGET", chance.key(), chance.key()], [b"GET", chance.key()],
                                 [b"STRLEN", chance.key()], [b"EXISTS", chance.any_key(), chance.any_key()],
                                 [b"TYPE", chance.any_key()]])


@FAMILY.row(weight=3)
def write(chance):
    return chance.random.choice([[b"SET", chance.key(), chance.value()], [b"DEL", chance.any_key(), chance.any_key()],
                                 [b"EXPIRE", chance.any_key(), b"1000"], [b"RENAME", chance.any_key(), chance.any_key()]])
