"""SORT and SORT_RO over lists, sets and sorted sets, by patterns that meet the other families' keys."""

from generator import Call, Family

FAMILY = Family("sorts", weight=12)
NUMBERS = [b"1", b"2", b"3", b"10", b"-4", b"1.5", b"7", b"0"]
NAMES = NUMBERS + [b"a", b"b", b"abc", b""]
BY = [b"k*", b"hash*->f1", b"nowhere*", b"sortby*", b"sorth*->w"]
GET = BY + [b"#", b"k*x", b"plain", b"list*", b"sorth*->", b"sorth*->n"]


def own(chance, kind):
    """A key that holds this kind for certain (no other family knows it): where the order of a set would be free.
    Such rows keep it (`kept=2`): a wrong argument in its place is another key."""
    return b"%s%d" % (kind.encode(), chance.count(0, 7))


def some_key(chance):
    """One of ours, or any other list, set or sorted set."""
    if chance.flip(0.7):
        return own(chance, chance.random.choice(["sortlist", "sortset", "sortzset"]))
    return chance.key(chance.random.choice(["list", "set", "zset"]))


def limit(chance):
    return [b"LIMIT", chance.index(), chance.index()] if chance.flip(0.4) else []


def gets(chance):
    return [word for _ in range(chance.count(0, 2)) for word in (b"GET", chance.pick(GET))]


@FAMILY.row(weight=1.5)
def weights(chance):
    at = chance.pick(NAMES)
    if chance.flip():
        return [b"SET", b"sortby" + at, chance.pick(NUMBERS, NAMES)]
    return [b"HSET", b"sorth" + at, chance.pick([b"w", b"n"]), chance.pick(NUMBERS, NAMES)]


@FAMILY.row(weight=1.5)
def fill(chance):
    elements = [chance.pick(NUMBERS) if chance.flip(0.9) else chance.pick(NAMES)
                for _ in range(chance.count(1, 8))]
    kind = chance.random.choice(["sortlist", "sortset", "sortzset"])
    if kind == "sortlist":
        return [b"RPUSH", own(chance, kind), *elements]
    if kind == "sortset":
        return [b"SADD", own(chance, kind), *elements]
    return [b"ZADD", own(chance, kind), *[word for e in elements for word in (chance.pick(NUMBERS), e)]]


@FAMILY.row()
def empty(chance):
    return [b"DEL", own(chance, chance.random.choice(["sortlist", "sortset", "sortzset"]))]


@FAMILY.row(weight=4)
def by_number(chance):
    """Equal weights are told apart by the elements, so the order is never free."""
    words = [chance.pick([b"SORT", b"SORT_RO"]), some_key(chance)]
    parts = [[b"BY", chance.pick(BY)] if chance.flip() else [], limit(chance), gets(chance), chance.words(b"DESC", b"ASC")]
    by = bool(parts[0])
    chance.random.shuffle(parts)
    # A pattern broken into one without `*` would mean: do not sort.
    return Call(words + [word for part in parts for word in part], mode="errno", alone=True, whole=by)


@FAMILY.row(weight=2)
def by_text(chance):
    """Of a list: equal texts keep their order. Without LIMIT, which makes Redis choose another way."""
    by = [b"BY", chance.pick(BY)] if chance.flip() else limit(chance)
    return Call([b"SORT", own(chance, "sortlist"), *by, b"ALPHA", *gets(chance), *chance.words(b"DESC")], kept=2)


@FAMILY.row(weight=1)
def texts(chance):
    """Of a set or sorted set: texts that the locale takes for equal come in an order of chance."""
    key = own(chance, chance.random.choice(["sortset", "sortzset"]))
    return Call([b"SORT", key, b"ALPHA", *chance.words(b"DESC")], mode="unordered", kept=2)


@FAMILY.row(weight=2)
def unsorted(chance):
    kind = chance.random.choice(["sortlist", "sortzset", "sortset"])
    words = [b"SORT", own(chance, kind), b"BY", b"nosort"]
    if kind == "sortset":
        return Call(words, mode="unordered", kept=2)
    return Call(words + limit(chance) + gets(chance) + chance.words(b"DESC"), kept=2)


@FAMILY.row(weight=2)
def store(chance):
    if chance.flip(0.3):  # of a list: elements of equal weight keep their order
        words = [own(chance, "sortlist"), b"BY", chance.pick(BY), b"ALPHA"]
    else:
        words = [some_key(chance), *chance.random.choice([[b"ALPHA"], [b"BY", b"nosort"]]), *limit(chance)]
    return Call([b"SORT", *words, *gets(chance), *chance.words(b"DESC"), b"STORE", own(chance, "sortlist")], kept=2)


@FAMILY.row(weight=2)
def store_by_number(chance):
    """What is stored is replaced: the two may have stored different things (mode errno)."""
    target = b"sorted"
    by = [b"BY", chance.pick(BY)] if chance.flip() else []
    return Call([b"SORT", some_key(chance), *by, *limit(chance), *gets(chance), b"STORE", target], mode="errno",
                alone=True, whole=bool(by), after=[[b"SET", target, b"same"]])
