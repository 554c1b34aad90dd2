"""Append-only files as Redis 4 to 8 left them: one file or several, with and without an RDB preamble.

They are written by hand here, with what each version put into them: scripts as EVAL (before 7), SETEX and PEXPIREAT,
XCLAIM for what a group was handed, transactions, `#TS` notes. Where redis-server 7.0.15 can read them too, its DEBUG
DIGEST must be ours.
"""

import glob
import os
import shutil
import subprocess
import tempfile
import unittest

from cairn_server import BIN_DIR, Server, request

SETTINGS = {"enable-debug-command": "yes", "appendonly": "yes"}
FAR_MS = 4102444800123
NOT_COMPUTED = bytes(8)   # instead of a checksum


def commands(*lines):
    """Requests in the form of the file; a line is words parted by blanks, or a list of them."""
    return b"".join(request(*(line.split(" ") if isinstance(line, str) else line)) for line in lines)


def text(word):
    data = word.encode()
    assert len(data) < 64
    return bytes([len(data)]) + data


def preamble(version, release, *, more=b"", base=False):
    """An RDB file with the key `base` = `of <release>` and whatever `more` brings."""
    out = b"REDIS%04d" % version
    out += b"\xfa" + text("redis-ver") + text(release) + b"\xfa" + text("aof-base" if base else "aof-preamble") + text("1")
    out += b"\xfe\x00\xfb\x02\x00" + b"\x00" + text("base") + text("of " + release) + more
    return out + b"\xff" + NOT_COMPUTED


COMMON = commands("SELECT 0", "SET plain v", "RPUSH list a b c", "SADD set 1 2 x", "ZADD zset 1.5 m 2 n", "HMSET hash f v g w",
                  f"PEXPIREAT plain {FAR_MS}", "MULTI", "SET in multi", "INCR counter", "EXEC", "SELECT 3", "SET third v",
                  "SETEX old 1000000000 v", "DEL third", "SELECT 0", "LPOP list", "PFADD hll a b c",
                  "SETRANGE plain 3 padded", ["SET", b"\x00\r\n", b"\xff\r\n"])
# Scripts were written as they were called.
SCRIPTS = commands(["EVAL", "redis.call('set', KEYS[1], ARGV[1]); return redis.call('incr', 'by script')", "1", "scripted", "v"],
                   ["EVAL", "return redis.call('del', KEYS[1])", "1", "in"])
STREAMS = commands("XADD stream 5-1 f v", "XADD stream 5-2 f w", "XGROUP CREATE stream g 0-0",
                   "XCLAIM stream g alice 0 5-1 TIME 1700000000000 RETRYCOUNT 1 FORCE JUSTID LASTID 5-1",
                   "XSETID stream 9-0")
SEVENTH = commands("XADD stream 6-1 f v", "XGROUP CREATE stream g 0-0 ENTRIESREAD 0", "XGROUP CREATECONSUMER stream g bob",
                   "XSETID stream 9-0 ENTRIESADDED 7 MAXDELETEDID 3-0", f"SET kept v PXAT {FAR_MS}",
                   ["FUNCTION", "LOAD", "#!lua name=l\nredis.register_function('f', function() return 1 end)"])
NOTES = b"#TS:1700000000\r\n"
MANIFEST = "file appendonly.aof.2.base.{kind} seq 2 type b\nfile appendonly.aof.1.incr.aof seq 1 type h\n" \
           "file appendonly.aof.3.incr.aof seq 3 type i\nfile appendonly.aof.4.incr.aof seq 4 type i\n"
# A sorted set with scores in binary (4), a stream's first form is too long to write by hand; RDB version 12 has slots (8).
ZSET_2 = b"\x05" + text("scores") + b"\x01" + text("m") + bytes.fromhex("000000000000f83f")
SLOT = b"\xf4\x01\x01\x00"


def single(*parts):
    return {"appendonly.aof": b"".join(parts)}


def several(kind, base, first, second):
    folder = "appendonlydir/appendonly.aof"
    return {f"{folder}.manifest": MANIFEST.format(kind=kind).encode(), f"{folder}.2.base.{kind}": base,
            f"{folder}.3.incr.aof": first, f"{folder}.4.incr.aof": second}


GENERATIONS = {
    "Redis 4, commands": single(COMMON, SCRIPTS),
    "Redis 4, preamble": single(preamble(8, "4.0.14", more=ZSET_2), COMMON, SCRIPTS),
    "Redis 5, preamble": single(preamble(9, "5.0.14", more=ZSET_2), COMMON, SCRIPTS, STREAMS),
    "Redis 6, commands": single(COMMON, STREAMS, SCRIPTS),
    "Redis 6, preamble alone": single(preamble(9, "6.2.14")),
    "Redis 7.0, several": several("rdb", preamble(10, "7.0.15", base=True), COMMON, NOTES + SEVENTH),
    "Redis 7.0, several of commands": several("aof", COMMON, NOTES + SEVENTH + NOTES, b""),
    # CairnKV's own remark on a file of which only the beginning counts: others skip it.
    "a part of a file, several": {
        **several("rdb", preamble(10, "7.0.15", base=True), COMMON, NOTES + SEVENTH),
        "appendonlydir/appendonly.aof.manifest": MANIFEST.format(kind="rdb").replace(
            "3 type i", f"3 type i bytes {len(COMMON)}").encode()},
    "Redis 7.2, several": several("rdb", preamble(11, "7.2.4", base=True), COMMON, NOTES + SEVENTH),
    "Redis 8, several": several("rdb", preamble(12, "8.0.0", more=SLOT, base=True), COMMON, NOTES + SEVENTH),
}
TOO_NEW_FOR_REDIS = {"Redis 7.2, several", "Redis 8, several"}


class AofHistory(unittest.TestCase):
    def place(self, files):
        directory = tempfile.mkdtemp(prefix="cairn-test-")
        self.addCleanup(shutil.rmtree, directory, True)
        for name, content in files.items():
            path = os.path.join(directory, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(content)
        return directory

    def picture(self, client):
        return {"digest": client.execute_command("DEBUG", "DIGEST"), "left": client.pexpiretime("plain"),
                "functions": client.execute_command("FUNCTION", "LIST"),
                "groups": client.xinfo_groups("stream") if client.exists("stream") else None}

    def test_every_generation_is_read(self):
        for name, files in GENERATIONS.items():
            with self.subTest(name):
                directory = self.place(files)
                with Server(settings=SETTINGS, directory=directory) as server:
                    client = server.client()
                    found = self.picture(client)
                    if "preamble" in name or name.endswith("several"):
                        self.assertTrue(client.get("base").startswith(b"of "))
                    if "alone" not in name:
                        self.assertEqual(client.get(b"\x00\r\n"), b"\xff\r\n")
                        self.assertEqual(client.get("counter"), b"1")
                        self.assertEqual(client.lrange("list", 0, -1), [b"b", b"c"])
                        self.assertEqual(found["left"], FAR_MS)
                    # It goes on from there: written, rewritten, read again.
                    client.set("more", "v")
                    client.execute_command("DEBUG", "LOADAOF")
                    self.assertEqual(client.get("more"), b"v")
                    client.delete("more")
                    self.assertEqual(self.picture(client), found)
                    server.stop()
                    checked = subprocess.run([os.path.join(BIN_DIR, "cairn-check"), "aof", os.path.join(directory, "appendonlydir")],
                                             capture_output=True, text=True, timeout=60, check=False)
                    self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
                if name in TOO_NEW_FOR_REDIS:
                    continue
                with Server("redis", SETTINGS, directory=self.place(files)) as oracle:
                    self.assertEqual(self.picture(oracle.client()), found)

    def test_what_is_too_new_is_refused_by_name(self):
        for what, files, words in (
                ("a command", several("rdb", preamble(12, "8.0.0", base=True), COMMON, commands("HPEXPIREAT hash 4102444800123 FIELDS 1 f")),
                 ("hpexpireat",)),
                ("a format", several("rdb", preamble(99, "99.0.0", base=True), COMMON, b""), ("99",)),
        ):
            with self.subTest(what):
                directory = self.place(files)
                before = self.bytes_of(directory)
                server = Server(settings=SETTINGS, directory=directory)
                self.addCleanup(server.close)
                with self.assertRaises(RuntimeError) as refusal:
                    server.start()
                for word in words:
                    self.assertIn(word, str(refusal.exception).lower())
                self.assertEqual(self.bytes_of(directory), before)

    def bytes_of(self, directory):
        found = {}
        for path in glob.glob(os.path.join(directory, "**", "*.*"), recursive=True):
            if not path.endswith("server.log") and os.path.isfile(path):
                with open(path, "rb") as file:
                    found[path] = file.read()
        return found

    def test_files_of_a_lost_manifest_are_left_alone(self):
        files = several("rdb", preamble(10, "7.0.15", base=True), COMMON, SEVENTH)
        files = {name: content for name, content in files.items() if not name.endswith("manifest")}
        directory = self.place(files)
        before = self.bytes_of(directory)
        with Server(settings=SETTINGS, directory=directory) as server:
            client = server.client()
            client.set("new", "v")
            client.bgrewriteaof()
            server.stop()
            after = self.bytes_of(directory)
            self.assertEqual({path: after.get(path) for path in before}, before)
            for name in files:
                self.assertIn(f"names {os.path.basename(name)}: it is neither read nor touched", server.log())
            server.start()
            self.assertEqual(server.client().get("new"), b"v")

    def outcome_of_a_torn_transaction(self, binary):
        """What there is after a start from a file torn in MULTI, a write that was acknowledged, and another start."""
        torn = commands("SELECT 0", "SET before v", "MULTI", "SET inside v", "INCR counter")
        directory = self.place(several("rdb", preamble(10, "7.0.15", base=True), b"", torn[:-3]))
        settings = {**SETTINGS, "appendfsync": "always", "aof-load-truncated": "yes", "auto-aof-rewrite-percentage": "0"}
        with Server(binary, settings=settings, directory=directory) as server:
            client = server.client()
            first = {name: client.get(name) for name in ("base", "before", "inside", "counter")}
            self.assertTrue(client.set("after", "acknowledged"))
            server.restart()
            return first, server.client().get("after")

    def test_a_tail_torn_inside_multi_is_cut_back_to_before_it(self):
        kept = {"base": b"of 7.0.15", "before": b"v", "inside": None, "counter": None}
        first, after = self.outcome_of_a_torn_transaction("cairn")
        self.assertEqual(first, kept)
        self.assertEqual(after, b"acknowledged")
        # redis-server leaves the open MULTI in the file: what follows stands inside it, and the next start drops it.
        first, after = self.outcome_of_a_torn_transaction("redis")
        self.assertEqual(first, kept)
        self.assertIsNone(after, "redis-server keeps the write: docs/differences.md is to say so")


if __name__ == "__main__":
    unittest.main()
