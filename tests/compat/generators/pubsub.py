"""Publish and subscribe, with several clients: channels, patterns, shard channels, notifications of keys."""

from generator import Call, Family

FAMILY = Family("pubsub", weight=10)
CHANNELS = [b"news", b"news:a", b"news:b", b"", b"bin\x00\r\n", b"__keyevent@0__:del", b"__keyspace@0__:k1"]
PATTERNS = [b"news*", b"news:[ab]", b"*", b"", b"n?ws", b"__key*@0__:*", b"__keyevent*", b"bin\x00*"]
CLASSES = [b"KEA", b"", b"Kg", b"E$lshz", b"KEx", b"AKE", b"KEtdn", b"Em", b"KEg$", b"x", b"q", b"KElAz"]


def some(chance, choices, most=3):
    return [chance.pick(choices) for _ in range(chance.count(1, most))]


@FAMILY.row(weight=2)
def subscribe(chance):
    return Call(chance.random.choice([[b"SUBSCRIBE", *some(chance, CHANNELS)], [b"PSUBSCRIBE", *some(chance, PATTERNS)],
                                      [b"SSUBSCRIBE", *some(chance, CHANNELS)]]), confirms=True)


@FAMILY.row(weight=2)
def unsubscribe(chance):
    return Call(chance.random.choice([[b"UNSUBSCRIBE", *some(chance, CHANNELS)], [b"PUNSUBSCRIBE", *some(chance, PATTERNS)],
                                      [b"SUNSUBSCRIBE", *some(chance, CHANNELS)]]), "all", confirms=True)


@FAMILY.row(weight=2)
def unsubscribe_all(chance):
    return Call([chance.pick([b"UNSUBSCRIBE", b"PUNSUBSCRIBE", b"SUNSUBSCRIBE"])], "all", confirms=True)


@FAMILY.row(weight=4)
def publish(chance):
    return [chance.pick([b"PUBLISH", b"PUBLISH", b"SPUBLISH"]), chance.pick(CHANNELS), chance.value()]


@FAMILY.row(weight=2, mode="unordered")
def ask(chance):
    return [b"PUBSUB", *chance.random.choice([
        [b"CHANNELS"], [b"CHANNELS", chance.pick(PATTERNS)], [b"SHARDCHANNELS"], [b"SHARDCHANNELS", chance.pick(PATTERNS)],
        [b"NUMSUB", *some(chance, CHANNELS)], [b"NUMSUB"], [b"NUMPAT"], [b"SHARDNUMSUB", *some(chance, CHANNELS)],
        [b"NOSUCH"]])]


@FAMILY.row(weight=1)
def in_between(chance):
    return chance.random.choice([[b"PING"], [b"PING", chance.value()], [b"GET", chance.key()], [b"RESET"]])


@FAMILY.row(weight=0.7)
def notifications(chance):
    return [b"CONFIG", b"SET", b"notify-keyspace-events", chance.pick(CLASSES)]


@FAMILY.row(weight=0.3)
def notification_classes(_):
    return [b"CONFIG", b"GET", b"notify-keyspace-events"]
