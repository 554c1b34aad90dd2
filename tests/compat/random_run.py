"""Runs random commands against CairnKV and redis-server and reports every difference.

    random_run.py [COMMANDS] [SEED] [--families a,b] [--commands-a-seed N] [--coverage]

COMMANDS in runs of 50000, one seed each, from SEED on. The same COMMANDS (up to 50000) and SEED give the same
commands again, as long as the generators are the same. --coverage: what redis-server lists and was never sent, or
only ever refused, is named at the end.
"""

import argparse
import contextlib
import random
import sys
import time

from coverage_of_commands import Coverage
from effects import SETTINGS, Effects
from exchange import MODES, Closed, Pair, encode, shown
from generator import Chance, Generator, families
from generators.anything import known_commands
from keyspace import compare_digests, compare_keyspaces
from random_client import CLOSED, SILENT, Client
from servers import BothServers

COMMANDS_A_SEED = 50000
COMPARE_DIGESTS_EVERY = 500
COMPARE_KEYSPACES_EVERY = 4000
COMPARE_PUSHES_EVERY = 6      # steps
LONGEST_BATCH = 16
CONNECTIONS = 6
BLOCKED_AT_MOST_STEPS = 12    # then CLIENT UNBLOCK ends it
SETTLE_LIMIT_S = 20.0
MOST_PAYLOADS = 200
HISTORY_SHOWN = 12
LAST_SHOWN = 40              # before a server ended
WITHOUT_EFFECTS = {b"SORT"}   # Redis refuses sorts after a number beyond a double's range (docs/differences.md)
DIFFERENCES_SHOWN = 40


class RandomRun:
    """One seed. `differences` and `commands` hold the outcome."""

    def __init__(self, ports, seed, chosen, coverage=None):
        self.coverage = coverage
        self.random = random.Random(seed)
        self.ports = ports
        self.differences, self.commands, self.steps = [], 0, 0
        self.control = Pair(ports, 2)
        self.examiners = {kind: ask for family in chosen for kind, ask in family.examine.items()}
        self.history = []
        self.broadcasts = False      # some client tracks in broadcasting mode
        self._prepare(chosen)
        if coverage:
            coverage.ask(self.control)
        self.chance = Chance(self.random, self._payloads(), known_commands(self.control))
        for family in chosen:
            self.chance.keys.setdefault(family.name, [])
        self.chance.keys = {kind: keys for kind, keys in self.chance.keys.items() if keys}
        self.generator = Generator(self.chance, chosen)
        self.clients = []
        for at in range(CONNECTIONS):
            self._open(at)
        self.effects, self.effects_seen = None, 0
        self._open_effects()

    def run(self, commands, deadline=None):
        """Stops early at the deadline (monotonic) or when a server no longer answers."""
        next_digests, next_keyspaces = COMPARE_DIGESTS_EVERY, COMPARE_KEYSPACES_EVERY
        while self.commands < commands and len(self.differences) < DIFFERENCES_SHOWN:
            if deadline and time.monotonic() > deadline:
                break
            self._step()
            self.steps += 1
            if self.steps % COMPARE_PUSHES_EVERY == 0:
                self._compare_pushes()
                self._compare_effects()
            if self.commands >= next_digests:
                next_digests += COMPARE_DIGESTS_EVERY
                if not compare_digests(self.control):
                    next_keyspaces = self.commands
            if self.commands >= next_keyspaces:
                next_keyspaces += COMPARE_KEYSPACES_EVERY
                self._compare_keyspaces()
        self._compare_keyspaces()

    def close(self):
        for client in self.clients:
            client.pair.close()
        self.control.close()
        self._close_effects()

    # -------------------------------------------------------------------------------------- preparation

    def _prepare(self, chosen):
        # Whatever clients do to users and to each other, one connection goes on.
        self._ask([b"ACL", b"SETUSER", b"control", b"on", b">control", b"~*", b"&*", b"+@all"])
        self._ask([b"AUTH", b"control", b"control"])
        # Keys that run out stay until somebody looks, on both: the moment of active expiry is chance.
        self._ask([b"DEBUG", b"SET-ACTIVE-EXPIRE", b"0"])
        small = self.random.random() < 0.5
        for family in chosen if small else []:
            for name, value in family.settings.items():
                self._ask([b"CONFIG", b"SET", name.encode(), value.encode()])

    def _payloads(self):
        """Of values that both know, and broken ones."""
        payloads = [b"", b"\x00", b"\x00" * 10, b"\x00" * 20]
        for value in (b"1", b"-129", b"70000", b"5000000000", b"text", b"a" * 300, b"\x00\xff"):
            self._ask([b"SET", b"payload", value])
            payload = self._ask([b"DUMP", b"payload"])[1][1]
            payloads += [payload, payload[:-1], bytes([payload[0] ^ 64]) + payload[1:]]
        self._ask([b"DEL", b"payload"])
        return payloads

    def _ask(self, arguments):
        """On the control connection. Returns redis-server's reply; a difference is noted."""
        self.control.send(encode(arguments))
        ours, theirs = self.control.replies()
        if ours[0] != theirs[0]:
            self._note("control: " + shown(b" ".join(arguments)), ours[0], theirs[0])
        return theirs

    def _open(self, at):
        client = Client(at, self.ports, self.random.choice([2, 3]))
        if at < len(self.clients):
            self.clients[at].pair.close()
            self.clients[at] = client
        else:
            self.clients.append(client)

    # -------------------------------------------------------------------------------------- the run

    def _step(self):
        free = [client for client in self.clients if client.blocked is None]
        if not free:
            self._unblock(self.random.choice(self.clients))
            return
        client = self.random.choice(free)
        calls = self._batch(client)
        client.send(calls, self.clients)
        for call in calls:
            self.commands += 1
            self.history.append((client.name, call.arguments))
            if call.blocks and client.queued is None:
                self._settle_one(client, call)
            elif not self._read_reply(client, call):
                return
            if call.pause_s:
                time.sleep(call.pause_s)
        self._serve_blocked()

    def _batch(self, client):
        """Ends where it depends on the reply what comes next."""
        calls = []
        queued = None if client.queued is None else len(client.queued)
        for _ in range(self.random.randint(1, LONGEST_BATCH)):
            call = self.generator.call(queued, client.listening, lambda words: self._barred(client, words))
            calls.append(call)
            client.sends(call)
            calls += [type(call)(list(arguments)) for arguments in call.after]
            name = call.arguments[0].upper()
            if call.blocks or call.pause_s or name in (b"MULTI", b"EXEC", b"DISCARD", b"RESET", b"HELLO", b"AUTH"):
                break
            if queued is not None:
                queued += 1
            self.broadcasts = self.broadcasts or b"BCAST" in [word.upper() for word in call.arguments]
        return calls

    def _barred(self, client, words):
        """What would make the answers a matter of chance, or end redis-server."""
        # Of several keys that are ready all at once, Redis serves the first in the order of a hash table.
        several_ready = words[0].upper() == b"SWAPDB" and any(other.blocked for other in self.clients)
        # There is a replica to hand over to, which does not answer.
        fails_over = words[0].upper() == b"FAILOVER" and len(words) != 2
        return several_ready or fails_over or client.barred(words)

    def _read_reply(self, client, call):
        """Returns False when the connection is gone."""
        ours, theirs = client.confirmations() if call.confirms else client.replies()
        if self._gone(client, ours, theirs, call):
            return False
        if self.coverage:
            self.coverage.answered(call.arguments, theirs[1])
        if not self._same(client, call, ours, theirs):
            self._mismatch(client, call, ours[0], theirs[0])
        self._follow_transaction(client, call, theirs)
        return True

    def _gone(self, client, ours, theirs, call=None):
        if ours not in (CLOSED, SILENT) and theirs not in (CLOSED, SILENT):
            return False
        if ours[0] != theirs[0]:
            self._mismatch(client, call, ours[0], theirs[0])
        elif ours == SILENT:
            self._note(f"command {self.commands}, client {client.name}: no reply from either", b"", b"")
        self._open(client.name)
        return True

    @staticmethod
    def _same(client, call, ours, theirs):
        queued = client.queued
        is_exec = call.arguments[0].upper() == b"EXEC" and queued is not None
        lists = [isinstance(reply[1][1], list) for reply in (ours, theirs)]
        if is_exec and all(lists):
            mine, others = ours[1][1], theirs[1][1]
            return len(mine) == len(others) == len(queued) and all(
                compare((a, a), (b, b), mode) for mode, a, b in zip(queued, mine, others))
        if theirs[1] == (b"+", b"QUEUED"):
            return ours[0] == theirs[0]
        return compare(ours, theirs, call.mode)

    @staticmethod
    def _follow_transaction(client, call, theirs):
        name, tree = call.arguments[0].upper(), theirs[1]
        client.answered(call, tree)
        if tree == (b"+", b"QUEUED") and client.queued is not None:
            client.queued.append(call.mode)
        elif name == b"MULTI" and tree == (b"+", b"OK"):
            client.queued = []
        elif name == b"EXEC":    # refused ones too: EXECABORT
            client.queued = None
        elif (name, tree) in ((b"DISCARD", (b"+", b"OK")), (b"RESET", (b"+", b"RESET"))):
            client.queued = None
            client.listening = client.listening and name != b"RESET"

    # -------------------------------------------------------------------------------------- blocking

    def _settle_one(self, client, call):
        """The command was served at once by both, or blocks on both."""
        states = [self._state(client, side) for side in (0, 1)]
        if states == ["blocked", "blocked"]:
            client.blocked = [call, BLOCKED_AT_MOST_STEPS]
        elif "blocked" in states:
            self._mismatch(client, call, states[0].encode(), states[1].encode())
            self._open(client.name)
        else:
            self._read_reply(client, call)

    def _state(self, client, side):
        """`blocked` or `served`, once the server has come to the command."""
        deadline = time.monotonic() + SETTLE_LIMIT_S
        while time.monotonic() < deadline:
            if client.has_answer(side):
                return "served"
            self.control.sides[side].send(encode([b"CLIENT", b"LIST", b"ID", client.ids[side]]))
            line = self.control.sides[side].reply()[1][1]
            if b" flags=" in line and b"b" in line.split(b" flags=")[1].split(b" ")[0]:
                # The reply may have left just before the question.
                return "blocked"
        return "neither"

    def _serve_blocked(self):
        """After a step: who waited may have been served; on both servers the same ones."""
        waiting = [client for client in self.clients if client.blocked is not None]
        if not waiting:
            return
        for _ in range(2):  # once they answer this, what the step's commands served has been sent
            self._ask([b"PING"])
        for client in waiting:
            call = client.blocked[0]
            states = [client.has_answer(side) for side in (0, 1)]
            if states[0] != states[1]:  # one may only be slow
                states = [self._state(client, side) == "served" for side in (0, 1)]
            if states[0] != states[1]:
                self._mismatch(client, call, *[b"served" if state else b"blocked" for state in states])
                self._open(client.name)
            elif states[0]:
                client.blocked = None
                self._read_reply(client, call)
            else:
                client.blocked[1] -= 1
                if client.blocked[1] <= 0:
                    self._unblock(client)

    def _unblock(self, client):
        call, how = client.blocked[0], self.random.choice([b"TIMEOUT", b"ERROR"])
        client.blocked = None
        for side in (0, 1):
            self.control.sides[side].send(encode([b"CLIENT", b"UNBLOCK", client.ids[side], how]))
            self.control.sides[side].reply()
        self._read_reply(client, call)

    # -------------------------------------------------------------------------------------- differences

    def _compare_pushes(self):
        """Of all clients that can be asked whether everything has arrived."""
        asked = [client for client in self.clients if client.blocked is None and client.queued is None]
        if self.broadcasts:
            self._ask([b"PING"])  # a turn ends: what was gathered for it leaves
        for client in list(asked):
            if self._gone(client, *client.mark()):
                asked.remove(client)
        for client in asked:
            ours, theirs = client.pushes(self.broadcasts)
            if ours != theirs:
                what = f"command {self.commands}, pushes to client {client.name} (answers before, words)"
                self._note(what, *parted(ours, theirs), self._recent())

    def _open_effects(self):
        """While a server follows another it has no replicas."""
        with contextlib.suppress(Closed):
            self.effects = Effects(self.ports, WITHOUT_EFFECTS)

    def _close_effects(self):
        if self.effects is not None:
            self.effects_seen += self.effects.seen
            self.effects.close()
        self.effects = None

    def _compare_effects(self):
        if self.effects is None:
            self._open_effects()
            return
        try:
            difference = self.effects.compare(self.control)
        except Closed:  # some client has ended the links of replicas
            self._close_effects()
            return
        if difference:
            self.differences.append("\n".join([f"command {self.commands}, {difference}", *self._recent()]))

    def _compare_keyspaces(self):
        before = len(self.differences)
        examiners = self.examiners
        if self.chance.reloads:
            examiners = {**examiners, b"hash": lambda key: [([b"HGETALL", key], "unordered")]}
        replies = compare_keyspaces(self.control, self._note, examiners)
        self._keep_payloads(replies)
        if len(self.differences) > before:
            self._start_over()

    def _keep_payloads(self, dumps):
        """Values of every type for RESTORE, some with a bit turned."""
        for payload in self.random.sample(dumps, min(len(dumps), 20)):
            if self.random.random() < 0.3:
                at = self.random.randrange(len(payload))
                payload = payload[:at] + bytes([payload[at] ^ 1 << self.random.randrange(8)]) + payload[at + 1:]
            if len(self.chance.payloads) < MOST_PAYLOADS:
                self.chance.payloads.append(payload)
            else:
                self.chance.payloads[self.random.randrange(MOST_PAYLOADS)] = payload

    def _mismatch(self, client, call, ours, theirs):
        words = call.arguments if call else [b"(a marker)"]
        what = f"command {self.commands}, client {client.name}: {shown(b' '.join(words))}"
        self._note(what, ours, theirs, self._recent(set(words[1:])))
        self._start_over()

    def _recent(self, words=None):
        """The last commands; those with one of the words, and those that change what others mean."""
        around = (b"MULTI", b"EXEC", b"SELECT", b"SWAPDB", b"AUTH", b"RESET", b"CLIENT")
        chosen = [f"        {name}: {shown(b' '.join(arguments), 160)}" for name, arguments in self.history[:-1]
                  if words is None or words & set(arguments[1:]) or arguments[0].upper() in around]
        return chosen[-HISTORY_SHOWN:]

    def _note(self, what, ours, theirs, before=()):
        self.differences.append("\n".join([what, f"    ours   {shown(ours)}", f"    theirs {shown(theirs)}", *before]))

    def _start_over(self):
        """Empties both, so that one difference is not seen in every later command."""
        self.history.clear()
        self.control.send(encode([b"FLUSHALL"]))
        self.control.replies()


def parted(ours, theirs, most=3):
    """Two lists of pushes, from the first difference on, as bytes to show."""
    lists = [[*plain, *[(0, (b">", [(b"$", key.encode())])) for key in invalid]] for plain, invalid in (ours, theirs)]
    at = 0
    while at < min(map(len, lists)) and lists[0][at] == lists[1][at]:
        at += 1
    return [b" | ".join(b"%d %s" % (before, b" ".join(_text(item) for item in tree[1]))
                        for before, tree in pushes[at:at + most]) for pushes in lists]


def _text(tree):
    return tree[1] if isinstance(tree[1], bytes) else repr(tree[1]).encode()


def compare(ours, theirs, mode):
    name, _, argument = mode.partition(":")
    return MODES[name](ours, theirs, argument)


def run_seed(seed, commands, names=None, deadline=None, coverage=None):
    """Starts both servers for one seed. coverage: a Coverage that counts along. Returns the RandomRun."""
    chosen = [family for family in families() if not names or family.name in names]
    with BothServers(SETTINGS) as servers:
        run = RandomRun(servers.ports, seed, chosen, coverage)
        try:
            run.run(commands, deadline)
        except (Closed, ConnectionRefusedError):
            pass  # a server ended; its log says why
        except TimeoutError:
            run.differences.append(f"a new connection got no answer after {run.commands} commands")
        finally:
            run.close()
        for server in (servers.ours, servers.theirs):
            if not server.running():
                last = "\n".join(f"        {name}: {shown(b' '.join(words))}" for name, words in run.history[-LAST_SHOWN:])
                run.differences.append(f"{server.path} ended after {run.commands} commands:\n{server.log_tail()}\n{last}")
    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="?", type=int, default=COMMANDS_A_SEED)
    parser.add_argument("seed", nargs="?", type=int, default=1)
    parser.add_argument("--families", help="only these, separated by commas")
    parser.add_argument("--commands-a-seed", type=int, default=COMMANDS_A_SEED)
    parser.add_argument("--coverage", action="store_true", help="name the commands that were never sent or always refused")
    options = parser.parse_args()
    names = options.families.split(",") if options.families else None
    coverage = Coverage() if options.coverage else None
    left, seed, total, bad = options.commands, options.seed, 0, 0
    while left > 0:
        count, begin = min(left, options.commands_a_seed), time.monotonic()
        run = run_seed(seed, count, names, coverage=coverage)
        for difference in run.differences:
            print(difference)
        print(f"seed {seed}: {run.commands} commands, {len(run.differences)} differences, "
              f"{time.monotonic() - begin:.0f} s", flush=True)
        left, seed, total, bad = left - count, seed + 1, total + run.commands, bad + len(run.differences)
    for line in coverage.report() if coverage else []:
        print(line)
    print(f"{total} commands over {seed - options.seed} seeds, {bad} differences")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
