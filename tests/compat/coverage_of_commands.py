"""Which of the commands that redis-server lists a random run has sent, and which of them ever did something.

A command counts as sent by its name, whatever its arguments; as done when the answer was no error (a QUEUED is
neither). What scripts call is not seen here.
"""

from collections import Counter

from exchange import encode

RARE = 20

class Coverage:
    """Sums over runs. Names are those of COMMAND LIST, of containers those of their subcommands: `config|get`."""

    def __init__(self):
        self.listed, self._containers = set(), set()
        self.sent, self.done = Counter(), Counter()

    def ask(self, pair):
        """Takes the names from redis-server's COMMAND LIST (subcommands are in it). Reads the replies of both."""
        pair.send(encode([b"COMMAND", b"LIST"]))
        names = {item[1].lower() for item in pair.replies()[1][1][1]}
        self._containers = {name.split(b"|")[0] for name in names if b"|" in name}
        # A container that has subcommands is no command by itself.
        self.listed = names - self._containers

    def answered(self, arguments, tree):
        """tree: redis-server's answer."""
        name = arguments[0].lower()
        if name in self._containers and len(arguments) > 1:
            name += b"|" + arguments[1].lower()
        if name in self.listed:
            self.sent[name] += 1
            self.done[name] += tree[0] != b"-" and tree != (b"+", b"QUEUED")

    def report(self):
        """Lines for a person."""
        never = sorted(self.listed - set(self.sent))
        refused = sorted(name for name in self.sent if not self.done[name])
        rare = sorted((self.done[name], name) for name in self.sent if 0 < self.done[name] < RARE)
        return [f"{len(self.listed)} commands and subcommands listed, {len(self.sent)} sent, {len(+self.done)} done",
                "never sent: " + _joined(never), "always refused: " + _joined(refused),
                f"done less than {RARE} times: " + ", ".join(f"{name.decode()} {count}" for count, name in rare)]


def _joined(names):
    return ", ".join(name.decode() for name in names) or "none"
