r"""What a server tells its replicas, its effects: reads both servers' streams and compares them; and runs scripts of scenes.

The streams are read from a socket, as a replica does that has just been copied to, and are compared byte for byte, SELECT,
MULTI and EXEC with the rest; master_repl_offset must be where the stream ends. Times in milliseconds, and IDs of streams
made of them, may be LATE_MS apart; which members SPOP took is each server's own choice. The one difference on purpose is
taken out first (docs/differences.md): the XGROUP SETID that CairnKV sends behind XCLAIMs.

A script is as script.py says, replies are compared too, and besides

    !scene blocking pops            begins a scene: an empty dataset, new connections, and effects compared by themselves
    !waits b BLPOP l 0              on connection b, and goes on once one client more is blocked
    !answer b                       what that connection is told at last
    !sleep 0.1                      seconds, for keys to come to the end of their time
"""

import glob
import os
import re
import time

from exchange import Closed, Connection, Pair, encode, shown
from script import UNTIL_LIMIT_S, Script, words_of

# Nothing of the primary's own comes between effects, and a replica that never acknowledges is kept.
SETTINGS = {"repl-ping-replica-period": "3600", "repl-timeout": "3600"}
LATE_MS = 20_000
TIME = re.compile(rb"(\d{13})(-\d+)?")  # milliseconds since 1970, of the years 2001 to 2286
SHOWN_BEFORE, SHOWN_AFTER = 3, 6              # effects around the first that differs


class ReplicaLink(Connection):
    """The connection of a replica that has received its first copy. `offset` is how far it has read. Errors: Closed when the
    server gives none, as it follows another."""

    def __init__(self, port):
        super().__init__(port)
        self.send(encode([b"PSYNC", b"?", b"-1"]))
        answer = self._line()
        if not answer.startswith(b"+FULLRESYNC"):
            raise Closed
        self.offset = int(answer.split()[-1])
        size = int(self._line().lstrip(b"\n")[1:])
        while len(self._buffer) < self._at + size:
            self._receive()
        self._at += size

    def effects_until(self, end):
        """The effects (their bytes) before the one with the bytes `end`, which is read too."""
        effects = []
        while True:
            raw, _ = self.reply()
            self.offset += len(raw)
            if raw == end:
                return effects
            effects.append(raw)


def logged(server):
    """What the append-only files of this server hold behind their base, as bytes."""
    text = b""
    for path in sorted(glob.glob(os.path.join(server.directory, "appendonlydir", "*.incr.aof"))):
        with open(path, "rb") as file:
            text += file.read()
    return text


def effects_of_log(text):
    """The effects in the text of an append-only file, without its notes."""
    effects, at = [], 0
    while at < len(text):
        begin, end = at, text.index(b"\n", at) + 1
        at = end
        if text[begin:begin + 1] == b"#":
            continue
        for _ in range(int(text[begin + 1:end])):
            end = text.index(b"\n", at) + 1
            at = end + int(text[at + 1:end]) + 2
        effects.append(text[begin:at])
    return effects


def words(effect):
    """The words of an effect."""
    found, at = [], effect.index(b"\r\n") + 2
    while at < len(effect):
        begin = effect.index(b"\r\n", at) + 2
        size = int(effect[at + 1:begin - 2])
        found.append(effect[begin:begin + size])
        at = begin + size + 2
    return found


def without_positions(effects):
    """Without each XGROUP SETID right behind an XCLAIM of its group, and the MULTI and EXEC around what is then a single one."""
    kept, before, inside, removed = [], [], False, False
    for effect in effects:
        now = words(effect)
        behind_claim = before[:1] == [b"XCLAIM"] and now[:2] == [b"XGROUP", b"SETID"] and now[2:4] == before[1:3]
        if now == [b"MULTI"]:
            inside, removed = True, False
        before = now
        if inside and behind_claim:
            removed = True
        elif now == [b"EXEC"] and removed and words(kept[-2]) == [b"MULTI"]:
            del kept[-2]
        else:
            kept.append(effect)
        inside = inside and now != [b"EXEC"]
    return kept


def same_word(ours, theirs):
    times = TIME.fullmatch(ours), TIME.fullmatch(theirs)
    return ours == theirs or (all(times) and abs(int(times[0][1]) - int(times[1][1])) <= LATE_MS)


def same_effect(ours, theirs):
    if ours == theirs:
        return True
    ours, theirs = words(ours), words(theirs)
    if len(ours) != len(theirs):
        return False
    if ours[:1] == [b"SREM"]:
        return ours[:2] == theirs[:2]
    return all(map(same_word, ours, theirs))


def compared(ours, theirs):
    """None, or where two lists of effects differ, for a person."""
    at = next((i for i, both in enumerate(zip(ours, theirs)) if not same_effect(*both)), min(len(ours), len(theirs)))
    if at == max(len(ours), len(theirs)):
        return None
    texts = [b" / ".join(b" ".join(words(effect)) for effect in side[max(at - SHOWN_BEFORE, 0):at + SHOWN_AFTER])
             for side in (ours, theirs)]
    return f"effect {at + 1}\n    ours   {shown(texts[0], 1000)}\n    theirs {shown(texts[1], 1000)}"


class Effects:
    """The streams of both servers from here on. `seen`: how many effects of redis-server's were compared; `without`: names of
    those that are not. Errors: as ReplicaLink."""

    END = encode([b"PUBLISH", b"--effects--", b"end"])

    def __init__(self, ports, without=()):
        self._links = [ReplicaLink(port) for port in ports]
        self.seen, self._without = 0, without

    def compare(self, control):
        """Whatever was done since the last time. control: a Pair in database 0, of a user who may do all. Returns None, or
        what differs. Errors: Closed when a server has ended the link, or follows another, as clients may ask it to.
        """
        control.send(self.END + encode([b"INFO", b"replication"]))
        control.replies()
        infos = [tree[1] for _, tree in control.replies()]
        if any(b"role:slave" in info for info in infos):
            raise Closed
        ours, theirs = (
            [effect for effect in link.effects_until(self.END) if words(effect)[0].upper() not in self._without]
            for link in self._links)
        self.seen += len(theirs)
        for name, link, info in zip(("ours", "theirs"), self._links, infos):
            offset = int(re.search(rb"master_repl_offset:(\d+)", info)[1])
            if offset != link.offset:
                return f"master_repl_offset of {name} is {offset}, the stream ends at {link.offset}"
        return compared(without_positions(ours), theirs)

    def close(self):
        for link in self._links:
            link.close()


class EffectsScript(Script):
    """One run of one script. `differences`, `exchanges` and `effects.seen` hold the outcome."""

    def __init__(self, path, ports):
        super().__init__(path, ports, 2)
        self._control, self.effects = Pair(ports, 2), Effects(ports)
        self._scene = ""

    def run(self):
        try:
            super().run()
            self._end_scene()
        finally:
            self._control.close()
            self.effects.close()

    def _blocked(self):
        """The numbers of clients that wait."""
        self._control.send(encode([b"INFO", b"clients"]))
        return [int(re.search(rb"blocked_clients:(\d+)", tree[1])[1]) for _, tree in self._control.replies()]

    def _until_blocked(self, wanted):
        deadline = time.monotonic() + UNTIL_LIMIT_S
        while (seen := self._blocked()) != wanted:
            if time.monotonic() > deadline:
                self._note(f"{self._scene}: blocked clients", str(seen[0]).encode(), str(seen[1]).encode())
                return
            time.sleep(0.005)

    def _end_scene(self):
        for pair in self._pairs.values():
            pair.close()
        self._pairs, self._current = {}, "a"
        self._until_blocked([0, 0])
        difference = self.effects.compare(self._control)
        if difference:
            self.differences.append(f"{self.name}, {self._scene}, {difference}")
        self._control.send(encode([b"FLUSHALL"]))
        self._control.replies()

    def _do_scene(self, _, rest):
        if self._scene:
            self._end_scene()
        self._scene = rest.decode()

    def _do_waits(self, _, rest):
        name, _, line = rest.partition(b" ")
        wanted = [count + 1 for count in self._blocked()]
        before, self._current = self._current, name.decode()
        self._pair().send(encode(words_of(line)))
        self._until_blocked(wanted)
        self._current = before

    def _do_answer(self, number, name):
        before, self._current = self._current, name.decode()
        self._do_raw(number, b'1 ""')
        self._current = before

    def _do_sleep(self, _, seconds):
        time.sleep(float(seconds))
