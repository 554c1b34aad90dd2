"""Random commands from a table: what a family's file in generators/ is made of, and the choice among them.

A family is a `Family` called FAMILY in generators/<family>.py. Its rows are functions that make the arguments of one
command from a `Chance`; README.md shows one. Everything that is wrong with any command alike (too many or too few
arguments, an argument that is not what it should be, odd letter case, wrong types) is done here, once for all rows.
"""

import importlib
import pkgutil
from dataclasses import dataclass, field

NUMBERS = [b"0", b"1", b"-1", b"5", b"10", b"100", b"-100", b"9223372036854775807", b"-9223372036854775808",
           b"9223372036854775808", b"-9223372036854775807", b"4294967296", b"2147483647", b"-2147483649"]
ODD_NUMBERS = [b"", b" 1", b"1 ", b"+1", b"01", b"0x1", b"1.0", b"abc", b"-", b"--1", b"1e3", b"nan", b"inf"]
FLOATS = [b"0", b"1.5", b"-2.25", b"3.0e3", b"1e-10", b"1e308", b"-0", b"0.1", b"5", b"100000000000000000000"]
ODD_FLOATS = [b"", b"nan", b"inf", b"-inf", b"abc", b" 1", b"1 ", b"1e400", b"0x10", b"1,5"]
TEXTS = [b"", b"a", b"hello", b"hello world", b"\x00\x01\x02", b"x" * 44, b"y" * 45, b"z" * 300, b"abcabcabc",
         b"3.14", b"0001", b"-0", b"12345678901234567890", b"1.5"]
SECONDS = [b"1000", b"5000", b"100000", b"2147483648"]
ODD_SECONDS = [b"0", b"-1", b"-9223372036854775808", b"9223372036854775807", b"abc", b"1.5", b""]
UNIX_SECONDS = [b"33177117420", b"4102444800", b"1"]
UNIX_MS = [b"33177117420000", b"4102444800000", b"1"]

# With other arguments than the row's they answer with a choice of each server's own.
CHOOSING = {b"HRANDFIELD", b"ZRANDMEMBER", b"SRANDMEMBER", b"SPOP", b"RANDOMKEY", b"SCAN", b"HSCAN", b"SSCAN", b"ZSCAN"}
# A short time to live would run out on one server before the other: only rows that pause give one.
LIFETIMES = {b"EXPIRE", b"PEXPIRE", b"SET", b"SETEX", b"PSETEX", b"GETEX", b"RESTORE", b"RESTORE-ASKING"}
WRONG_ARITY = 0.02      # of all commands
WRONG_ARGUMENT = 0.02
FOREIGN_KEY = 0.08      # a key that mostly holds another type
LONGEST_TRANSACTION = 20
LISTENS_NO_LONGER = 0.06
OWN_KIND = 0.85         # of the second key of RENAME and its kin: values stay among the keys of their kind


@dataclass
class Call:
    """One command and how its replies are compared.

    mode: the name of a comparison in exchange.MODES, with `:argument`. `unordered` where the order is free.
    after: commands that both servers run next, for what they may have done differently (a random SPOP: DEL).
    blocks: the command may block; the connection is then left alone until it is served.
    pause_s: how long nothing happens afterwards, so that a short time to live runs out on both.
    confirms: it is answered by any number of confirmations (SUBSCRIBE and its kin); not made while in MULTI.
    alone: never inside a transaction, whose replies are compared in one way.
    kept: so many words stay as they are when others are broken. whole: all of them, and their number.
    """
    arguments: list
    mode: str = ""
    after: list = field(default_factory=list)
    blocks: bool = False
    pause_s: float = 0.0
    confirms: bool = False
    alone: bool = False
    kept: int = 1
    whole: bool = False


class Family:
    """The commands of one family.

    weight: how often it is chosen beside the others. settings: name -> value, the small thresholds that half of the
    runs start with. examine: type -> function(key), see keyspace.compare_keyspaces.
    """

    def __init__(self, name, weight=10, settings=None, examine=None):
        self.name, self.weight = name, weight
        self.settings, self.examine = settings or {}, examine or {}
        self.rows, self.weights = [], []

    def row(self, weight=1, mode="", blocks=False):
        """Declares a maker: function(Chance) -> list of arguments (compared by `mode`), or a Call."""
        def declare(maker):
            def make(chance):
                made = maker(chance)
                return made if isinstance(made, Call) else Call(made, mode, blocks=blocks)
            self.rows.append(make)
            self.weights.append(weight)
            return maker
        return declare


def families():
    """Every FAMILY in generators/, by name."""
    import generators  # pylint: disable=import-outside-toplevel
    names = sorted(module.name for module in pkgutil.iter_modules(generators.__path__))
    return [importlib.import_module("generators." + name).FAMILY for name in names]


class Chance:
    """What the rows choose from. The stream of commands depends on `random` and `payloads` alone.

    Few keys and few values, so that commands meet each other's results.
    random: a random.Random. payloads: RDB values for RESTORE, good and broken; more may be appended.
    commands: what redis-server's COMMAND lists and CairnKV knows too, as generators.anything.Known.
    """

    def __init__(self, random, payloads=(), commands=()):
        self.random = random
        self.payloads, self.commands = list(payloads), list(commands)
        self.last_id = 60    # of entries of streams, so far
        self.reloads = self.flip()    # a run in which DEBUG RELOAD may come
        self.keys = {"string": [b"k%d" % i for i in range(12)] + [b"", b"bin\x00\r\n\xff", b"a" * 70]}

    def flip(self, probability=0.5):
        return self.random.random() < probability

    def pick(self, *lists):
        """One of one of the lists."""
        return self.random.choice(self.random.choice(lists))

    def count(self, low, high):
        """An integer of the range, both ends included."""
        return self.random.randint(low, high)

    def key(self, kind="string"):
        """A key that mostly holds a value of this kind (`list`, `hash`, ..: any word; each has eight keys)."""
        if self.flip(FOREIGN_KEY):
            kind = self.random.choice(sorted(self.keys))
        if kind not in self.keys:
            self.keys[kind] = [b"%s%d" % (kind.encode(), i) for i in range(8)]
        return self.random.choice(self.keys[kind])

    def any_key(self):
        return self.key(self.random.choice(sorted(self.keys)))

    def two_keys(self):
        """Of any kind, mostly of the same: values that move, so that few keys hold what nobody expects there."""
        kind, other = self.random.choice(sorted(self.keys)), self.random.choice(sorted(self.keys))
        return [self.key(kind), self.key(kind if self.flip(OWN_KIND) else other)]

    def client(self, kind=b"id"):
        """Stands for the number (`id`) or address (`addr`) of one of the run's clients; see random_client."""
        return b"{%s %d}" % (kind, self.count(0, 7))

    def number(self):
        return self.pick(NUMBERS, NUMBERS, NUMBERS, ODD_NUMBERS)

    def index(self):
        """Mostly a small one, from either end."""
        return b"%d" % self.count(-12, 60) if self.flip(0.8) else self.number()

    def float(self):
        return self.pick(FLOATS, FLOATS, FLOATS, ODD_FLOATS)

    def value(self):
        return self.pick(NUMBERS, TEXTS, TEXTS, FLOATS, ODD_NUMBERS)

    def words(self, *words):
        """Some of the words, each with half a chance, in random letter case."""
        return [self.random.choice([word, word.lower(), word.capitalize()]) for word in words if self.flip()]

    def lifetime(self):
        """An expiry option with its argument, sometimes a wrong one; never one that runs out soon."""
        kind = self.random.choice([b"EX", b"PX", b"EXAT", b"PXAT", b"ex", b"Px"])
        if self.flip(0.2):
            return [kind, self.pick(ODD_SECONDS)]
        if kind == b"EXAT":
            return [kind, self.pick(UNIX_SECONDS)]
        if kind == b"PXAT":
            return [kind, self.pick(UNIX_MS)]
        seconds = self.pick(SECONDS)
        return [kind, seconds + b"000" if kind.upper() == b"PX" else seconds]


class Generator:
    """Chooses rows and breaks some of what they make. One for a run."""

    def __init__(self, chance, chosen):
        self.chance = chance
        self._families = chosen
        self._weights = [family.weight for family in chosen]
        self._talkers = [family for family in chosen if family.name == "pubsub"]

    def call(self, queued=None, listening=False, barred=lambda words: False):
        """The next Call of a client with so many queued commands (None: not in MULTI).

        listening: it has subscriptions and speaks RESP2, so that most commands are refused.
        barred: tells of the words of a command whether this client may not send it now.
        """
        chance = self.chance
        if listening and chance.flip(LISTENS_NO_LONGER):
            return Call([b"RESET"])
        if queued is not None and (chance.flip(0.2) or queued > LONGEST_TRANSACTION):
            return Call([chance.random.choice([b"EXEC", b"EXEC", b"EXEC", b"DISCARD"])])
        talkers = self._talkers if listening and chance.flip(0.6) else None
        call = self._choose(talkers)
        # In a transaction it would run later, when nobody pauses; and EXEC's reply has one place for each command.
        while (queued is not None and (call.pause_s or call.confirms or call.alone)) or barred(call.arguments):
            call = self._choose()
        self._break(call)
        return call

    def _choose(self, families=None):
        if families:
            family = self.chance.random.choice(families)
        else:
            family = self.chance.random.choices(self._families, self._weights)[0]
        return self.chance.random.choices(family.rows, family.weights)[0](self.chance)

    def _break(self, call):
        chance, arguments = self.chance, call.arguments
        if call.pause_s or call.whole or arguments[0] in CHOOSING:
            return
        if chance.flip(WRONG_ARITY):
            if chance.flip() and len(arguments) > 1:
                arguments.pop()
            else:
                arguments.append(chance.random.choice([b"extra", b"", b"1"]))
        elif chance.flip(WRONG_ARGUMENT) and len(arguments) > call.kept and not call.blocks:
            at = chance.count(call.kept, len(arguments) - 1)
            # A wrong word may also be a right one of another meaning: only of a kind that is small.
            arguments[at] = chance.pick(ODD_NUMBERS, [b"-1", b"0", b"1", b"\xff\x00", arguments[1]])
            short = arguments[at] == b"1" and arguments[0].upper() in LIFETIMES
            if short:
                arguments[at] = b"-1"
        if arguments[0].upper() == b"PFMERGE" and len(arguments) == 2:
            arguments.append(arguments[1])  # Redis does not ask ACL about its key (docs/differences.md)
        if chance.flip(0.1):
            arguments[0] = chance.random.choice([arguments[0].lower(), arguments[0].capitalize()])
