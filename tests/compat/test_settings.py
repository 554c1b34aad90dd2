"""The configuration of both servers: names, defaults, the judgement of values, errors at the start, CONFIG REWRITE."""

import os
import re
import subprocess
import tempfile
import unittest

from asked import Asked, as_map
from exchange import Pair, encode, shown
from servers import BINARIES, SOURCE_DIR, Server

START_LIMIT_S = 30.0


class NamesTest(Asked):
    """CONFIG GET * of both with nothing configured."""

    # What the test itself sets, and what differs by its nature.
    OWN = {"port", "dir", "logfile", "pidfile", "bind", "enable-debug-command", "enable-protected-configs"}

    def settings_of_both(self):
        return [{name.decode(): tree[1].decode() for name, tree in as_map(reply).items()}
                for reply in self.ask("CONFIG", "GET", "*")]

    def test_every_name_exists(self):
        ours, theirs = self.settings_of_both()
        self.assertGreater(len(theirs), 180)
        self.assertEqual([], sorted(theirs.keys() - ours.keys()))

    def test_defaults_are_equal(self):
        ours, theirs = self.settings_of_both()
        self.assertEqual({}, {name: (ours[name], value) for name, value in theirs.items()
                              if name in ours and ours[name] != value and name not in self.OWN})

    def test_names_of_our_own_are_documented(self):
        ours, theirs = self.settings_of_both()
        with open(os.path.join(SOURCE_DIR, "docs", "differences.md"), encoding="utf-8") as file:
            text = file.read()
        self.assertEqual([], [name for name in sorted(ours.keys() - theirs.keys()) if f"`{name}`" not in text])

    def test_old_names_exist(self):
        for name in ("slaveof", "slave-priority", "hash-max-ziplist-entries", "list-max-ziplist-size",
                     "lua-time-limit", "min-slaves-to-write", "cluster-slave-no-failover"):
            with self.subTest(name):
                ours, theirs = self.ask("CONFIG", "GET", name)
                self.assertEqual(theirs, ours)


class JudgementTest(Asked):
    """Every setting with values good and bad: the same reply of CONFIG SET, and the same value afterwards."""

    # These act on sockets, files or processes, or ask for a password.
    ACT = {"bind", "port", "tls-port", "requirepass", "appendonly", "watchdog-period", "dir", "tls-cluster",
           "tls-replication", "repl-backlog-size", "save", "hz", "replicaof", "slaveof",
           "maxclients"}  # redis-server tries a billion limits of files, one after the other
    # Redis hands these to its own machinery, which may refuse them for reasons of the moment.
    OF_THE_MOMENT = ("Unable to", "not able to handle")
    VALUES = """|0|1|-1|+1| 1|01|1 |100|101|65536|1kb|1K|1mB|2gb|1tb|b|5%|101%|%|-5%|abc|yes|NO|Yes |no|always|local
default|save|save nosave|default now|now  save|60 1|60 1 30|0 1|60 0 7 7|1 2 3|-2000 0 2000|-2001 0 0|99.999|50 nan
1e1 0.5|101.5|normal 1mb 2mb 3|replica 1mb 2kb 3 pubsub 0 0 0|slave 1 2 -1|master 0 0 0|normal 1 2|KEA
gK$lshzxetdmn|Km|q|a/b|{title}|{x|{nosuch}|host.name-1|a b|2147483647|2147483648|4294967295|4294967296
9223372036854775807|9223372036854775808|-2147483648|-2147483649|volatile-ttl|relative|absolute|swapdb|warning
1048575|1048576|18446744073709551615|18446744073709551616
abc\0x|\0|yes\0x|5\0|1mb\0x|5\0%|5%\0|warning\0|KEA\0q|{title}\0x|60 1\0|normal 0 0 0\0|save\0 nosave|10\0 20""".replace("\n", "|").split("|")

    def names(self):
        ours, theirs = (set(as_map(reply)) for reply in self.ask("CONFIG", "GET", "*"))
        return sorted(name.decode() for name in ours & theirs if name.decode() not in self.ACT)

    def test_values(self):
        # Some values would make redis-server close the connection that sets them.
        self.ask("CLIENT", "NO-EVICT", "on")
        differences, compared = [], 0
        for name in self.names():
            for value in self.VALUES:
                if name.startswith("tls-") and value == "yes":
                    continue
                ours, theirs = self.ask("CONFIG", "SET", name, value)
                if any(word in theirs[1].decode() for word in self.OF_THE_MOMENT):
                    continue
                if ours != theirs:
                    differences.append((name, value, ours[1], theirs[1]))
                    continue
                ours, theirs = self.ask("CONFIG", "GET", name)
                if ours != theirs:
                    differences.append((name, value, ours[1], theirs[1]))
                compared += 1
        print(f"{compared} values", end=" ")
        self.assertGreater(compared, 9000)
        self.fail_with(differences)

    def test_several_at_once(self):
        for words in ("hz 5 hz 6", "HZ 5 hz 6", "slave-priority 5 replica-priority 6", "hz 7 timeout abc",
                      "daemonize 7 nosuch abc", "nosuch 7 daemonize abc", "NoSuch 1", "SLAVE-Priority x",
                      "DaemonizE x", "dbfilename x hz y", "timeout 7 hz 20 maxmemory 1gb", "hz", "hz 1 timeout"):
            with self.subTest(words):
                ours, theirs = self.ask("CONFIG", "SET", *words.split(" "))
                self.assertEqual(theirs, ours)
                for name in ("hz", "timeout", "replica-priority", "maxmemory"):
                    ours, theirs = self.ask("CONFIG", "GET", name)
                    self.assertEqual(theirs, ours)


class RewriteTest(unittest.TestCase):
    """The same file in the hands of both; CONFIG SET and CONFIG REWRITE, several times."""

    TEXT = """# top comment


  hz   20
port 1
logfile x
SAVE 10 1
# between
save 20 2
save 30 3
slave-priority 7
maxmemory 1048576
maxmemory 2097152
notify-keyspace-events "Ex"


client-output-buffer-limit pubsub 1mb 1 1
client-output-buffer-limit normal 5mb 5mb 5
masterauth "a \\x01 b"
rename-command FLUSHALL ""
latency-tracking-info-percentiles 50
bind 127.0.0.1
hash-max-ziplist-entries 9
pidfile ""
replica-announce-ip 1.2.3.4
maxmemory-clients 5%
unixsocketperm 700
shutdown-on-sigint save now
list-max-ziplist-entries 5
# end
"""
    STEPS = [
        {}, {},
        {"hz": "10"},
        {"save": "10 1", "maxmemory": "30000000", "notify-keyspace-events": ""},
        {"save": "", "replica-announce-ip": "", "masterauth": "", "timeout": "3"},
        {"hash-max-listpack-entries": "512", "bind": "127.0.0.1 -::1", "shutdown-on-sigint": "default"},
        {"oom-score-adj": "no", "appendfsync": "no", "maxmemory-clients": "0", "save": "1 1 2 2"},
        {"bind": "* -::*"},
        {"bind": "127.0.0.1"},
        {"requirepass": "a b\x01\"", "acllog-max-len": "5", "proc-title-template": "{title} \"x\""},
    ]
    MARK = "# Generated by CONFIG REWRITE\n"

    def parts(self, text, server):
        """The lines up to the mark in order, those behind it sorted: Redis appends in the order of a hash table."""
        text = text.replace(str(server.port), "PORT").replace(server.directory, "DIR")
        head, _, tail = text.partition(self.MARK)
        # Users come with ACL.
        return head, sorted(line for line in tail.splitlines() if not line.startswith("user "))

    def test_rewritten_files_are_equal(self):
        self.check(self.TEXT)

    def test_from_an_empty_file(self):
        self.check("")

    def test_from_a_file_without_a_last_line_end(self):
        self.check("hz 20\n\n\n# x\nmaxmemory 5mb")

    def test_a_file_with_everything(self):
        """What DEBUG CONFIG-REWRITE-FORCE-ALL wrote has every setting that Redis's has, and starts a server."""
        self.check("enable-debug-command yes\n", compare=self.compare_forced)

    def compare_forced(self, servers):
        names = []
        for server in servers:
            client = server.client()
            self.assertEqual(b"OK", client.execute_command("DEBUG", "CONFIG-REWRITE-FORCE-ALL"))
            with open(server.conf, encoding="latin-1") as file:
                names.append({line.split()[0] for line in file if line.strip() and line[0] != "#"})
            before = client.config_get("*")
            server.restart()
            self.assertEqual(before, server.client().config_get("*"))
        self.assertEqual({"lua-enable-deprecated-api"}, names[1] - names[0])

    def check(self, text, compare=None):
        servers = []
        try:
            for binary in ("cairn", "redis"):
                server = Server(binary)
                servers.append(server)
                server.conf = os.path.join(server.directory, "server.conf")
                with open(server.conf, "w", encoding="utf-8") as file:
                    file.write(text)
                words = [server.path, server.conf, "--port", str(server.port), "--dir", server.directory,
                         "--logfile", "log", "--enable-protected-configs", "yes"]
                server.command_line = lambda words=words: words
                server.start()
            (compare or self.compare)(servers)
        finally:
            for server in servers:
                server.close()

    def compare(self, servers):
        pair = Pair([server.port for server in servers], 2)
        for at, step in enumerate(self.STEPS):
            with self.subTest(step=at, settings=step):
                if step:
                    words = [word.encode("latin-1") for item in step.items() for word in item]
                    pair.send(encode([b"CONFIG", b"SET", *words]))
                    ours, theirs = pair.replies()
                    self.assertEqual(b"+OK\r\n", theirs[0])
                    self.assertEqual(b"+OK\r\n", ours[0])
                pair.send(encode([b"CONFIG", b"REWRITE"]))
                ours, theirs = pair.replies()
                self.assertEqual(theirs[0], ours[0])
                texts = []
                for server in servers:
                    with open(server.conf, encoding="latin-1") as file:
                        texts.append(self.parts(file.read(), server))
                self.assertEqual(texts[1][0], texts[0][0])
                self.assertEqual(texts[1][1], texts[0][1])
        pair.close()


class RefusedStartTest(unittest.TestCase):
    """A file or an argument that is wrong: both end with the same words on standard error and status 1."""

    TEXTS = [
        "nosuch 1", "port", "port 1 2", "port abc", "port 65536", "port -1", "hz 0x1", "maxmemory 1x", "maxmemory",
        "maxmemory -1", "appendonly maybe", "save 1", "save a b", "save 0 1", "loglevel loud", "bind", "daemonize 1",
        "databases 0", "timeout -1", "tcp-backlog 99999999999", "maxmemory-policy none", "rename-command nosuch x",
        "rename-command get", "rename-command get set", "rename-command get a b", "hz \"1", "hz '1", "\"hz\" 1\"",
        "include /nosuch/file", "dir /nosuch/dir", "dbfilename a/b", "appendfilename \"\"", "appendfilename a/b",
        "client-output-buffer-limit normal 1", "client-output-buffer-limit none 1 1 1", "unixsocketperm 999",
        "notify-keyspace-events q", "oom-score-adj-values 1 2", "oom-score-adj-values 1 2 3000",
        "latency-tracking-info-percentiles 101", "proc-title-template {x}", "user", "user a", "loadmodule",
        "shutdown-on-sigterm save nosave", "port 0\nhz abc", "# fine\n\nhz abc\n", "sentinel monitor x",
        "cluster-enabled yes\nreplicaof a 1", "replicaof a", "replicaof a b", "slaveof a 99999", "requirepass",
        "aclfile x\nuser a on", "user bob on +@bogus", "user bob on\nuser bob off", "user a on (~x", "user a on +get (~x) (~y",
        "user a +bogus foo", "user a on #12", "user \"a b\" on", "user a on +get bar -foo", "user a %X~a", "user default bar",
        "user a on +config|bogus", "rename-command get g\nuser a +g", "rename-command get g\nuser a on +get", "supervised maybe", "syslog-facility local9", "io-threads 0", "io-threads 200",
        "list-max-ziplist-entries", "hash-max-ziplist-entries -1", "maxclients 0", "repl-backlog-size a",
        "activedefrag yes", "tracking-table-max-keys x", "lfu-log-factor -1", "save \"\" 1", "hz 10 # comment",
    ]
    # What differs on purpose; docs/differences.md says why.
    OUR_WORDS = {"aclfile x\nuser a on"}

    @staticmethod
    def words(said):
        """Lines that are not of the log, and of the log the fatal ones without process and time."""
        logged = re.compile(r"^\d+:\w \d+ \w+ \d+ [\d:.]+ [-.*#] ")
        lines = [line for line in said.splitlines() if line]
        return [logged.sub("", line) for line in lines if not logged.match(line) or "Fatal" in line]

    def start(self, binary, text):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "f.conf")
            with open(path, "w", encoding="utf-8") as file:
                file.write(f"port 0\nunixsocket {directory}/s\n" + text + "\n")
            # Whatever starts all the same ends at once: nothing can be made in this directory.
            words = [BINARIES[binary], path, "--unixsocket", "/nosuch/s", "--save", "", "--port", "0"]
            ended = subprocess.run(words, cwd=directory, capture_output=True, timeout=START_LIMIT_S, check=False)
            said = (ended.stderr + ended.stdout).decode(errors="replace").replace(directory, "DIR")
            return ended.returncode, self.words(said)

    def test_the_same_words(self):
        for text in self.TEXTS:
            if text in self.OUR_WORDS:
                continue
            with self.subTest(shown(text.encode())):
                self.assertEqual(self.start("redis", text), self.start("cairn", text))

    def test_arguments(self):
        for words in (["--hz"], ["--hz", "a"], ["--nosuch", "1"], ["--port", "abc"], ["/nosuch/file"], ["--save", "a"],
                      ["--hz", "--port", "1"], ["--loglevel", "x", "--hz", "1"]):
            with self.subTest(" ".join(words)):
                said = []
                for binary in ("redis", "cairn"):
                    ended = subprocess.run([BINARIES[binary], *words], capture_output=True, timeout=START_LIMIT_S,
                                           check=False, cwd="/tmp")
                    said.append((ended.returncode, self.words((ended.stderr + ended.stdout).decode(errors="replace"))))
                self.assertEqual(said[0], said[1])


if __name__ == "__main__":
    unittest.main()
