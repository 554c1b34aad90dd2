"""Compares what two servers hold: every key of every database, by all that a client can see of it.

Of each key: TYPE, OBJECT ENCODING, DUMP (only where the order of the value is not free), DEBUG DIGEST-VALUE and
the time it expires. A type that needs other questions names them in its family's generator (`examine`).
"""

from exchange import MODES, encode, shown

DIGEST_ATTEMPTS = 3
DATABASES = 16
EXPIRY_TOLERANCE_MS = 20000   # both servers got the same relative expiry, up to this much apart
FREE_ORDER = {b"hashtable"}   # encodings whose DUMP is in the order of a hash table


def compare_digests(pair):
    """Whether both hold the same values under the same keys; much cheaper than comparing keyspaces."""
    pair.send(encode([b"DEBUG", b"DIGEST"]))
    ours, theirs = pair.replies()
    return ours[0] == theirs[0]


def compare_keyspaces(pair, note, examiners=None):
    """note(what, ours, theirs) is called for each difference. Returns redis-server's replies to DUMP.

    pair: a connection to both servers, in any database; it is left in database 0.
    examiners: type as bytes -> function(key) that returns [(arguments, mode)], asked instead of DUMP.
    """
    dumps = []
    for _ in range(DIGEST_ATTEMPTS):
        if compare_digests(pair):
            break
        _remove_expired(pair)
    else:
        _ask_all(pair, note, [([b"DEBUG", b"DIGEST"], "")])
    for database in range(DATABASES):
        _ask_all(pair, note, [([b"SELECT", b"%d" % database], "")])
        keys = _ask_all(pair, note, [([b"KEYS", b"*"], "unordered")])[0]
        keys = sorted(item[1] for item in keys[1] or [])
        if keys:
            dumps += _compare_keys(pair, note, database, keys, examiners or {})
    _ask_all(pair, note, [([b"SELECT", b"0"], "")])
    return dumps


def _remove_expired(pair):
    """DEBUG DIGEST counts keys whose time is over and that the one server has removed and the other has not; KEYS removes them."""
    for database in range(DATABASES):
        for arguments in ([b"SELECT", b"%d" % database], [b"KEYS", b"*"]):
            pair.send(encode(arguments))
            pair.replies()
    pair.send(encode([b"SELECT", b"0"]))
    pair.replies()


def _compare_keys(pair, note, database, keys, examiners):
    near = f"near:{EXPIRY_TOLERANCE_MS}"
    questions = [question for key in keys for question in (
        ([b"TYPE", key], ""), ([b"OBJECT", b"ENCODING", key], ""),
        ([b"DEBUG", b"DIGEST-VALUE", key], ""), ([b"PEXPIRETIME", key], near))]
    replies = _ask_all(pair, note, questions, f"db {database}: ")
    further = []
    for at, key in enumerate(keys):
        kind, encoding = replies[4 * at][1], replies[4 * at + 1][1]
        if kind in examiners:
            further += examiners[kind](key)
        elif encoding not in FREE_ORDER:
            further.append(([b"DUMP", key], ""))
    answers = _ask_all(pair, note, further, f"db {database}: ")
    return [tree[1] for (arguments, _), tree in zip(further, answers) if arguments[0] == b"DUMP" and tree[1]]


def _ask_all(pair, note, questions, where=""):
    """Sends [(arguments, mode)] in one go, notes the differences, returns redis-server's trees."""
    pair.send(b"".join(encode(arguments) for arguments, _ in questions))
    trees = []
    for arguments, mode in questions:
        ours, theirs = pair.replies()
        name, _, argument = mode.partition(":")
        if not MODES[name](ours, theirs, argument):
            note(f"afterwards, {where}{shown(b' '.join(arguments))}", ours[0], theirs[0])
        trees.append(theirs[1])
    return trees
