"""What MONITOR shows of commands that are refused, queued, given up, run by scripts or woken up; beside redis-server."""

import re
import time
import unittest

from exchange import Closed, Connection, encode
from servers import BothServers

from cairn_server import read_to_end  # pylint: disable=wrong-import-order

WHEN_AND_WHO = re.compile(rb"^\+[\d.]+ \[(\d+) ([a-z]+|127\.0\.0\.1:\d+)\]")
MARK = b"the end of the step"

# Letters are connections; a step without one is the administrator's, who is asked to be silent about it.
STEPS = {
    "transactions": [
        "a EXEC", "a DISCARD", "a MULTI", "a MULTI", "a SET k v", "a GET", "a EXEC", "a MULTI", "a NOSUCH x", "a DISCARD",
        "a WATCH k", "b SET k w", "a MULTI", "a GET k", "a EXEC", "a MULTI", "a GET k", "a SELECT 3", "a GET k",
        "a CONFIG GET hz", "a EXEC", "a MULTI", "a EXEC", "a MULTI", "a WATCH k", "a EXEC", "a MULTI", "a EXEC now",
        "a EXEC", "a MULTI", "a RESET", "a EXEC x",
    ],
    "refused": [
        "a GET", "a NOSUCH", "a LPUSH k x", "a CONFIG GET", "a CONFIG NOSUCH", "a CLIENT NOSUCH", "a HELLO 9",
        "a HELLO 2 AUTH x y", "a AUTH x y", "a SELECT 99", "a BLPOP none abc", "a DEBUG NOSUCH", "a SHUTDOWN x", "a SYNC x",
        "CONFIG SET maxmemory 1", "a SET k v", "a GET k", "a MULTI", "a SET k v", "a EXEC", "CONFIG SET maxmemory 0",
        "CONFIG SET min-replicas-to-write 1", "a SET k v", "a MULTI", "a SET k v", "a EXEC", "CONFIG SET min-replicas-to-write 0",
    ],
    "rights": [
        "ACL SETUSER bob on >pw ~k* +@all -set -debug", "a AUTH bob pw", "a SET k v", "a GET other", "a DEBUG SLEEP 0",
        "a GET k", "a MULTI", "a SET k b", "a EXEC", "a MULTI", "a GET k", "ACL SETUSER bob -get", "a EXEC", "a EXEC",
        "ACL SETUSER bob -exec", "a MULTI", "a PING", "a EXEC", "a EXEC",
        "CONFIG SET requirepass pw", "b GET k", "b PING", "b MULTI", "b EXEC", "b AUTH bad", "b AUTH pw", "b GET k",
        "CONFIG SET requirepass ",
    ],
    "scripts": [
        "a EVAL return(redis.call('get','k')) 0", "a EVAL redis.pcall('nosuch') 0", "a EVAL redis.pcall('get') 0",
        "a EVAL redis.call('lpush','k','a') 0", "a EVAL redis.pcall('config','get','hz') 0", "a EVAL syntax! 0",
        "a EVAL redis.call('select',4)redis.call('get','k') 0", "a EVAL x", "a EVAL x -1", "a EVAL x y", "a EVALSHA zz 0",
        "a EVAL_RO redis.pcall('set','k','v') 0", "a SCRIPT EXISTS x", "a FCALL none 0", "a MULTI",
        "a EVAL return(redis.call('get','k')) 0", "a EXEC",
    ],
    "waiting": ["a BLPOP list 0", "b RPUSH list 1", "a", "b PING", "a BLMOVE list other LEFT LEFT 0", "b RPUSH list 1", "a",
                "a SUBSCRIBE c", "a GET k", "a RESET", "a QUIT"],
}


class Watched:
    """One server, its connections by letter, and what a monitor saw of each step."""

    def __init__(self, port):
        self.port, self.connections, self.seen = port, {}, []
        self.control, self.monitor = Connection(port), Connection(port)
        self.monitor.send(encode([b"MONITOR"]))
        self.monitor.reply()

    def close(self):
        for each in (self.control, self.monitor, *self.connections.values()):
            each.close()

    def ask(self, *words):
        self.control.send(encode(words))
        return self.control.reply()[0]

    def step(self, line):
        letter, _, rest = line.partition(" ")
        if len(letter) > 1:
            self.seen.append((line, self.ask(*line.encode().split(b" ")), []))
            return
        if letter not in self.connections:
            self.connections[letter] = Connection(self.port)
        connection = self.connections[letter]
        if rest:
            connection.send(encode(rest.encode().split(b" ")))
        reply = b"waits" if rest.startswith(("BLPOP list", "BLMOVE")) else self.reply(connection)
        while reply == b"waits" and b"blocked_clients:1" not in self.ask(b"INFO", b"clients"):
            time.sleep(0.01)
        self.seen.append((line, reply, self.lines()))

    @staticmethod
    def reply(connection):
        try:
            return connection.reply()[0]
        except Closed:
            return b"closed"

    def lines(self):
        """What the monitor was told since the last time."""
        self.ask(b"ECHO", MARK)
        lines = []
        while MARK not in (line := self.monitor.reply()[0]):
            shown = WHEN_AND_WHO.sub(lambda m: b"[%s %s]" % (m[1], b"client" if b":" in m[2] else m[2]), line)
            if b'"INFO"' not in shown:
                lines.append(shown)
        return lines


class MonitorTest(unittest.TestCase):

    def test_what_is_shown(self):
        with BothServers() as servers:
            for name, steps in STEPS.items():
                with self.subTest(name):
                    seen = []
                    for port in servers.ports:
                        watched = Watched(port)
                        self.addCleanup(watched.close)
                        watched.ask(b"FLUSHALL")
                        watched.lines()
                        for line in steps:
                            watched.step(line)
                        seen.append(watched.seen)
                    for ours, theirs in zip(*seen):
                        self.assertEqual(theirs, ours)

    def test_what_it_sees_of_itself(self):
        """Nothing once it is to be closed, nor of a command whose reply it does not want."""
        with BothServers() as servers:
            for resp in (b"2", b"3"):
                for lines in (["MONITOR", "ECHO 1", "QUIT"], ["MONITOR", "CLIENT REPLY SKIP", "ECHO 1", "ECHO 2", "QUIT"],
                              ["MONITOR", "CLIENT REPLY SKIP", "QUIT"]):
                    with self.subTest(lines, resp=resp):
                        told = []
                        for server in (servers.ours, servers.theirs):
                            with server.raw(timeout_s=60) as monitor:
                                monitor.sendall(encode([b"HELLO", resp]) + b"".join(encode(line.encode().split()) for line in lines))
                                lines_told = read_to_end(monitor).splitlines()
                            at = lines_told.index(b"+OK")   # MONITOR's; before it stands what HELLO says of the connection
                            told.append([WHEN_AND_WHO.sub(b"", line) for line in lines_told[at:]])
                        self.assertEqual(told[1], told[0])


if __name__ == "__main__":
    unittest.main()
