"""Users and what they may do. The order of single commands in rules is free, so they are compared as words."""

from generator import Call, Family

FAMILY = Family("acl", weight=8)
USERS = [b"alice", b"bob", b"carol"]
ODD_USERS = [b"default", b"", b"with space", b"nosuch", b"bin\x00"]
RULES = [b"on", b"on", b"off", b">pw", b">pw", b"<pw", b">other", b"nopass", b"resetpass", b"~*", b"allkeys", b"~k*",
         b"%R~list*", b"%W~hash*", b"%RW~set*", b"resetkeys", b"&*", b"&news*", b"allchannels", b"resetchannels",
         b"+@all", b"-@all", b"+@read", b"-@write", b"+@string", b"-@dangerous", b"+@list", b"+get", b"-get", b"+set",
         b"+config|get", b"-config|set", b"+client|id", b"allcommands", b"nocommands", b"+ping", b"+multi", b"+exec",
         b"(+get ~k1)", b"(%R~k* +@read)", b"(+@all ~zset* &x)", b"clearselectors", b"reset", b"+select|1",
         b"skip-sanitize-payload", b"sanitize-payload", b"+acl|whoami", b"+auth"]
ODD_RULES = [b"", b"bad", b"+nosuch", b"+@nosuch", b"%X~a", b"(+get", b"()", b"~a b", b"#12", b"!12", b"<absent",
             b"+config|nosuch", b"+get|x", b"-select|1", b"(on)", b">", b"#" + b"a" * 64, b"!" + b"b" * 64]
CATEGORIES = [b"read", b"write", b"string", b"scripting", b"keyspace", b"connection", b"pubsub", b"nosuch", b"hash"]


def user(chance):
    return chance.pick(USERS, USERS, USERS, USERS, ODD_USERS)


@FAMILY.row(weight=5)
def setuser(chance):
    name = chance.pick(USERS, USERS, USERS, [b"", b"with space", b"bin\x00"])
    rules = [chance.pick(RULES, RULES, RULES, RULES, RULES, RULES, RULES, ODD_RULES) for _ in range(chance.count(0, 5))]
    return [b"ACL", b"SETUSER", name, *rules]


@FAMILY.row(weight=1)
def usable(chance):
    """One with which something can be done."""
    return [b"ACL", b"SETUSER", chance.pick(USERS), b"reset", b"on", b">pw", b"+@all", b"-@dangerous", b"+ping", b"~k*", b"~list*",
            chance.pick([b"~*", b"%R~hash*", b"%W~set*", b"(+@read ~*)", b"(~zset* +zadd)"]),
            chance.pick([b"&*", b"&news", b"resetchannels"])]


@FAMILY.row(weight=2, mode="words")
def getuser(chance):
    return [b"ACL", b"GETUSER", user(chance)]


@FAMILY.row(weight=1, mode="words")
def listed(chance):
    return [b"ACL", chance.pick([b"LIST", b"USERS"])]


@FAMILY.row(weight=0.5)
def deluser(chance):
    return [b"ACL", b"DELUSER", *[user(chance) for _ in range(chance.count(1, 2))]]


@FAMILY.row(weight=2)
def whoami(_):
    return [b"ACL", b"WHOAMI"]


@FAMILY.row(weight=1, mode="words")
def categories(chance):
    return [b"ACL", b"CAT"] if chance.flip(0.2) else [b"ACL", b"CAT", chance.pick(CATEGORIES)]


@FAMILY.row(weight=2)
def auth(chance):
    return chance.random.choice([[b"AUTH", chance.pick(USERS), b"pw"], [b"AUTH", b"default", b""], [b"RESET"],
                                 [b"AUTH", user(chance), chance.pick([b"pw", b"other", b"wrong"])], [b"AUTH", b"x"]])


@FAMILY.row(weight=4)
def dryrun(chance):
    """Of a command that another family would send; it is not run."""
    words = chance.random.choice([
        [b"GET", chance.any_key()], [b"SET", chance.any_key(), b"v"], [b"SET", chance.any_key(), b"v", b"GET"],
        [b"COPY", chance.any_key(), chance.any_key()], [b"LMOVE", chance.any_key(), chance.any_key(), b"LEFT", b"LEFT"],
        [b"PUBLISH", b"news", b"x"], [b"CONFIG", b"GET", b"x"], [b"CONFIG"], [b"NOSUCH"],
        [b"MGET", chance.any_key(), chance.any_key()], [b"GET"], [b"SELECT", b"1"], [b"XREAD", b"STREAMS", b"stream1", b"0"],
        [b"ZUNIONSTORE", chance.any_key(), b"2", chance.any_key(), chance.any_key()], [b"BITFIELD", chance.any_key()],
        [b"SUBSCRIBE", b"news", b"x"], [b"PSUBSCRIBE", b"news*"], [b"SSUBSCRIBE", b"news"], [b"KEYS", b"*"],
        [b"CLIENT", b"ID"], [b"CLIENT", b"KILL", b"x"], [b"GEORADIUS", chance.any_key(), b"1", b"1", b"1", b"km"]])
    return [b"ACL", b"DRYRUN", user(chance), *words]


@FAMILY.row(weight=1)
def log(chance):
    count = [chance.pick([b"1", b"3", b"100", b"0", b"-1", b"x"])] if chance.flip(0.7) else []
    words = [b"ACL", b"LOG", *([b"RESET"] if chance.flip(0.4) else count)]
    # What depends on the moment and on the connection: age and the line of CLIENT LIST.
    return Call(words, r"mask:^(\d+(\.\d+)?(e-\d+)?|id=\d+ addr=.*)$")


@FAMILY.row(weight=0.3, mode="type")
def genpass(chance):
    return [b"ACL", b"GENPASS", *([chance.pick([b"1", b"5", b"4096", b"4097", b"0", b"x"])] if chance.flip() else [])]
