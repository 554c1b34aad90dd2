"""Every command that COMMAND lists, with arguments of any kind: too few, too many, keys where numbers belong, words of
other options, bytes. What would end the run, wait, or depends on the server itself only gets a wrong number of them."""

from dataclasses import dataclass

from exchange import ABSENT, encode
from generator import Call, Family

FAMILY = Family("anything", weight=25)

# Only with a wrong number of arguments.
GUARDED = {
    b"shutdown", b"debug", b"monitor", b"sync", b"psync", b"replicaof", b"slaveof", b"failover", b"migrate", b"replconf",
    b"quit", b"save", b"bgsave", b"bgrewriteaof", b"auth", b"hello", b"reset", b"multi", b"exec", b"discard", b"wait",
    b"info", b"lastsave", b"lolwut", b"time", b"role", b"swapdb", b"flushall", b"flushdb", b"restore", b"restore-asking",
    b"subscribe", b"psubscribe", b"ssubscribe", b"unsubscribe", b"punsubscribe", b"sunsubscribe", b"select", b"command",
    b"pfselftest", b"setrange", b"setbit", b"bitfield", b"srandmember", b"spop", b"hrandfield", b"zrandmember",
    b"randomkey", b"client|kill", b"client|pause", b"client|reply", b"client|list", b"client|info", b"client|id",
    b"client|tracking", b"client|unblock", b"client|trackinginfo", b"client|caching", b"client|getredir",
    b"config|set", b"config|rewrite", b"config|resetstat", b"config|get",
    b"acl|setuser", b"acl|deluser", b"acl|load", b"acl|save", b"acl|log", b"acl|genpass", b"acl|list", b"acl|getuser",
    b"acl|cat", b"acl|dryrun", b"module|load", b"module|loadex", b"module|unload", b"module|list",
    b"slowlog|get", b"slowlog|len", b"latency|doctor", b"latency|histogram", b"latency|latest", b"latency|history",
    b"latency|graph", b"latency|reset", b"memory|doctor", b"memory|stats", b"memory|malloc-stats", b"memory|purge",
    b"command|list", b"command|info", b"command|docs", b"pubsub|channels", b"script|kill", b"function|kill",
    b"function|stats", b"eval", b"evalsha", b"eval_ro", b"evalsha_ro", b"fcall", b"fcall_ro", b"cluster|reset",
    b"set", b"setex", b"psetex", b"getex", b"expire", b"pexpire",  # see generator.LIFETIMES
    b"sort", b"sort_ro",  # have rows of their own
    b"hscan", b"sscan", b"zscan",  # any cursor but 0 is each server's own
    b"script|debug",               # Redis looks at what the socket holds already
    b"object|idletime", b"object|freq", b"object|refcount", b"xinfo|consumers", b"publish", b"spublish", b"scan",
    b"xadd",                             # with * for an ID, the clock's
    b"pfadd",                            # see generators/hyperloglogs.py
    b"zrangebylex", b"zrevrangebylex", b"zlexcount", b"zremrangebylex",  # scores differ (docs/differences.md)
}
LEXICAL = {b"zrange", b"zrangestore"}   # without BYLEX, for the same reason
KIND_OF_GROUP = {b"string": "string", b"bitmap": "string", b"list": "list", b"set": "set", b"sorted-set": "zset", b"hash": "hash",
                 b"stream": "stream", b"geo": "geo", b"hyperloglog": "hll"}
OWN_KIND = 0.6
FREE_ORDER = {
    b"smembers", b"hgetall", b"hkeys", b"hvals", b"keys", b"sinter", b"sunion", b"sdiff", b"hscan", b"sscan", b"zscan",
    b"pubsub|shardchannels", b"acl|users", b"acl|list", b"function|list",
}
ONLY_TYPE = {b"scan", b"memory|usage", b"command|count", b"dump", b"function|dump"}
CLOCK = {b"ttl", b"pttl", b"expiretime", b"pexpiretime", b"xpending", b"xinfo|consumers", b"slowlog|len"}
EXTRA = [b"*", b"-", b"+", b"(1", b"[a", b"$", b">", b"0", b"1", b"2", b"-1", b"1-1", b"left", b"km"]


@dataclass
class Known:
    """name: `get` or `config|get`. arity: as COMMAND says it. keys: (first, last, step). words: of its options.
    kind: of the keys that it is made for; empty when of any."""
    name: bytes
    arity: int
    flags: set
    keys: tuple
    words: list
    kind: str = ""


def known_commands(pair):
    """What both servers list, subcommands in place of their containers, in order of their names."""
    pair.send(encode([b"COMMAND"]))
    ours, theirs = [list(_listed(reply[1])) for reply in pair.replies()]
    names = {known.name for known in ours}
    ABSENT.update({known.name for known in theirs} - names)
    ABSENT.update({name.split(b"|")[0] for name in ABSENT} - {name.split(b"|")[0] for name in names})
    pair.send(encode([b"COMMAND", b"DOCS"]))
    docs = pair.replies()[1][1]
    words, groups = _words_of_docs(docs), _groups_of_docs(docs)
    for known in theirs:
        known.words = words.get(known.name, [])
        if known.name in LEXICAL:
            known.words = [word for word in known.words if word != b"BYLEX"]
        known.kind = KIND_OF_GROUP.get(groups.get(known.name.split(b"|")[0]), "")
    return sorted((known for known in theirs if known.name in names), key=lambda known: known.name)


def _listed(tree):
    for _, row in tree[1]:
        name, arity, flags = row[0][1].lower(), int(row[1][1]), {flag[1] for flag in row[2][1]}
        keys = tuple(int(item[1]) for item in row[3:6])
        if row[9][1]:
            yield from _listed(row[9])
        else:
            yield Known(name, arity, flags, keys, [])


def _words_of_docs(tree):
    result = {}
    for name, (_, fields) in zip(tree[1][::2], tree[1][1::2]):
        sections = {field[1]: value for field, value in zip(fields[::2], fields[1::2])}
        result[name[1].lower()] = sorted(_tokens(sections.get(b"arguments", (b"*", []))))
        if b"subcommands" in sections:
            result.update(_words_of_docs(sections[b"subcommands"]))
    return result


def _groups_of_docs(tree):
    """name -> group, `string` or `sorted-set`; of containers their own."""
    result = {}
    for name, (_, fields) in zip(tree[1][::2], tree[1][1::2]):
        sections = {field[1]: value for field, value in zip(fields[::2], fields[1::2])}
        result[name[1].lower()] = sections[b"group"][1]
    return result


def _tokens(arguments):
    found = set()
    for _, argument in arguments[1]:
        fields = {field[1]: value for field, value in zip(argument[::2], argument[1::2])}
        if b"token" in fields:
            found.add(fields[b"token"][1])
        if b"arguments" in fields:
            found |= _tokens(fields[b"arguments"])
    return found


def argument(chance, known, at):
    first, last, step = known.keys
    if first and at >= first and (last < 0 or at <= last) and (at - first) % max(step, 1) == 0 and chance.flip(0.9):
        return chance.key(known.kind) if known.kind and chance.flip(OWN_KIND) else chance.any_key()
    if known.words and chance.flip(0.3):
        return chance.pick(known.words)
    # No number that would make a reply or a value of many megabytes.
    return chance.pick([chance.any_key()], [chance.value()], EXTRA, EXTRA, [b"%d" % chance.count(-3, 300)], chance.payloads)


@FAMILY.row()
def anything(chance):
    known = chance.pick(chance.commands)
    name = known.name.split(b"|")
    least = abs(known.arity)
    guarded = known.name in GUARDED or known.flags & {b"blocking"} or name[-1] == b"help"
    if guarded:
        wrong = [count for count in range(len(name), least)] + ([least + 1, least + 3] if known.arity > 0 else [])
        if not wrong:
            return [b"PING"]
        count = chance.random.choice(wrong)
    else:
        count = least + (chance.random.choice([0, 0, 0, -1, 1]) if known.arity > 0 else chance.count(-1, 5))
    words = [*name, *[argument(chance, known, at) for at in range(len(name), max(count, len(name)))]]
    mode = "type" if guarded else ""
    if known.name in FREE_ORDER:
        mode = "unordered"
    elif known.name in ONLY_TYPE:
        mode = "type"
    elif known.name in CLOCK:
        mode = "near:100000000"
    return Call(words, mode, whole=guarded)
