"""A client of a random run: one connection to both servers, and what it is told without asking.

Answers and pushes (messages of pub/sub, notifications of keys, invalidations) share a connection. Each server runs one
batch after the other, so that the pushes of a client come in one order only, between the same answers; where the order
is free is said at `sort_runs`.
"""

from exchange import Closed, Pair, encode, first_word, is_confirmation

INVALIDATION_CHANNEL = b"__redis__:invalidate"
MARKER = b"--mark--"
CLOSED = (b"(connection closed)", (b"closed", b""))
SILENT = (b"(no reply)", (b"silent", b""))


# Which keys a script's client remembers differs (docs/differences.md).
RUN_SCRIPTS = {b"EVAL", b"EVALSHA", b"EVAL_RO", b"EVALSHA_RO", b"FCALL", b"FCALL_RO"}

TRACKING = [b"CLIENT", b"TRACKING"]


class PushLog:
    """What one side of a client was told since the last `take`. `answers` counts its answers."""

    def __init__(self):
        self._pushes, self.answers = [], 0

    def add(self, tree):
        if first_word(tree) == b"tracking-redir-broken":  # names a client by its number
            tree = (tree[0], tree[1][:1])
        self._pushes.append((self.answers, tree))

    def forget_current(self):
        """The answer is an error: what was published on the way to it may be missing (docs/differences.md)."""
        self._pushes = [push for push in self._pushes if push[0] != self.answers]

    def take(self, broadcasts):
        """The pushes in comparable form. broadcasts: invalidations may have been gathered by the turn of a loop."""
        taken, self._pushes = self._pushes, []
        plain, invalid = [], []
        for at, tree in taken:
            keys = invalidated_keys(tree)
            if keys is None or not broadcasts:
                plain.append((at, tree))
            else:
                invalid += keys
        return sort_runs(plain), sorted(set(invalid))


def has_error(tree):
    """An error, or EXEC's reply with one in it."""
    return tree[0] == b"-" or (isinstance(tree[1], list) and any(item[0] == b"-" for item in tree[1]))


def invalidated_keys(tree):
    """Of an invalidation, as push or as message of the redirection; None if it is something else."""
    words = tree[1]
    if first_word(tree) == b"invalidate" or (first_word(tree) == b"message" and words[1][1] == INVALIDATION_CHANNEL):
        return [repr(item[1]) for item in words[-1][1]] if words[-1][1] is not None else ["all"]
    return None


def sort_runs(pushes):
    """Where one step tells several things and their order is free, they are sorted: of several patterns that match a
    message any may be first; so may any of several keys that one walk over all keys expired."""
    result, run, name = [], [], None
    for push in [*pushes, None]:
        belongs = run_of(push) if push else None
        if run and belongs != name:
            result += sorted(run, key=repr)
            run = []
        name = belongs
        if belongs is not None:
            run.append(push)
        elif push:
            result.append(push)
    return result


def run_of(push):
    """What a push shares with its neighbours whose order is free; None if its place is its own."""
    at, tree = push
    if invalidated_keys(tree) is not None:
        return at, b"invalidate"
    words = [item[1] for item in tree[1]]
    if words[0] in (b"message", b"pmessage"):
        channel, text = words[-2:]
        for event in (b"expired", b"keymiss"):  # by walks over members of sets
            if text == event or channel.endswith(b"__:" + event):
                return at, event
        if words[0] == b"pmessage":
            return at, channel, text
    return None


class Client:
    """`queued`: modes of the queued commands while in MULTI. `blocked`: [call, steps left]."""

    def __init__(self, name, ports, resp):
        self.name, self.pair = name, Pair(ports, resp)
        self.queued, self.blocked = None, None
        self.listening = False      # speaks RESP2 and has subscriptions: little else is allowed
        self.tracks = False         # may be told of keys that it read
        self.subscribed, self.authenticated = False, False   # has once tried to
        self.logs = [PushLog(), PushLog()]
        for side, log in zip(self.pair.sides, self.logs):
            side.on_push = log.add
        self.pair.send(encode([b"CLIENT", b"ID"]))
        self.ids = [reply[1][1] for reply in self.replies()]
        self.addresses = [b"%s:%d" % (host.encode(), port) for host, port in (side.address for side in self.pair.sides)]

    def send(self, calls, clients):
        """All in one write. In arguments `{id 2}` and `{addr 2}` become the number and address of client 2."""
        for side, connection in enumerate(self.pair.sides):
            data = []
            for call in calls:
                data.append(encode([self.expand(word, side, clients) for word in call.arguments]))
                if call.confirms:
                    data.append(encode([b"PING", MARKER]))
            connection.send(b"".join(data))

    def sends(self, call):
        """Remembers what bears on `barred`."""
        words = [word.upper() for word in call.arguments[:2]]
        self.tracks = self.tracks or words == TRACKING
        self.subscribed = self.subscribed or call.confirms
        self.authenticated = self.authenticated or words[0] == b"AUTH"

    def answered(self, call, tree):
        """Of what was sent: whether it tracks still."""
        words = [word.upper() for word in call.arguments[:3]]
        if tree == (b"+", b"RESET") or (words == [*TRACKING, b"OFF"] and tree == (b"+", b"OK")):
            self.tracks = False
        elif words[:2] == TRACKING and tree == (b"+", b"OK"):
            self.tracks = True

    def barred(self, words):
        """Whether this client may not send it, for what it is or what it sent before."""
        if words[0] in RUN_SCRIPTS:
            return self.tracks
        if words[:2] == TRACKING:
            return self.name % 2 == 0   # these have scripts instead
        # redis-server 7.0.15 frees a client whose own ACL SETUSER takes its channels away, and goes on with it.
        return self.subscribed and self.authenticated and words[:2] == [b"ACL", b"SETUSER"]

    @staticmethod
    def expand(word, side, clients):
        if not word.startswith(b"{"):
            return word
        kind, _, rest = word[1:].partition(b" ")
        number = rest[:-1]
        if kind not in (b"id", b"addr") or not number.isdigit():
            return word
        client = clients[int(number) % len(clients)]
        return client.ids[side] if kind == b"id" else client.addresses[side]

    def replies(self):
        """The next answer of either side, as (raw, tree)."""
        return [self._guarded(side, side_connection.answer) for side, side_connection in enumerate(self.pair.sides)]

    def confirmations(self):
        """All that comes before the answer to the marker, as one array."""
        return [self._guarded(side, lambda side=side: self._until_marker(side)) for side in (0, 1)]

    def has_answer(self, side):
        try:
            return self.pair.sides[side].has_answer()
        except (Closed, TimeoutError):
            return True

    def mark(self):
        """Sends a marker and reads up to it. Returns False when the connection is gone on both sides."""
        self.pair.send(encode([b"PING", MARKER]))
        return self.confirmations()

    def pushes(self, broadcasts):
        return [log.take(broadcasts) for log in self.logs]

    def _guarded(self, side, read):
        try:
            reply = read()
        except Closed:
            return CLOSED
        except TimeoutError:
            return SILENT
        if has_error(reply[1]):
            self.logs[side].forget_current()
        self.logs[side].answers += 1
        return reply

    def _until_marker(self, side):
        connection, log, told = self.pair.sides[side], self.logs[side], []
        def keep(tree):
            if is_confirmation(tree):
                told.append(tree)
                self.listening = self.listening or tree[0] == b"*"
                if tree[0] == b"*" and first_word(tree).startswith((b"un", b"pun", b"sun")):
                    self.listening = tree[1][2][1] != b"0"
            else:
                log.add(tree)
        connection.on_push = keep
        try:
            while True:
                tree = connection.answer()[1]
                if is_confirmation(tree):
                    keep(tree)
                    continue
                if tree[1] == MARKER or (first_word(tree) == b"pong" and tree[1][1][1] == MARKER):
                    break
                told.append(tree)
                if tree[0] == b"-" and b"'ping'" in tree[1]:
                    break
        finally:
            connection.on_push = log.add
        return repr(told).encode(), (b"*", told)
