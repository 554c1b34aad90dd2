"""ChunkLogCase: servers with chunk logs, versions of one tensor in them, and a look at their files."""

import os
import random
import unittest

from cairn_server import TENSOR_MODULE, Server

CHUNK = 256 * 1024
SIZE = 12 * CHUNK + 1000
AOF = {"appendonly": "yes", "appendfsync": "always"}    # so that a kill loses nothing that was answered


def tensor(step: int) -> bytes:
    """Of one step; half of its chunks are those of all others."""
    same = random.Random(0).randbytes(SIZE // 2 // CHUNK * CHUNK)
    return same + random.Random(step).randbytes(SIZE - len(same))


class ChunkLogCase(unittest.TestCase):
    def start(self, settings=None, logs="yes", **more):
        server = Server(settings={"loadmodule": f"{TENSOR_MODULE} chunk-logs {logs}", "enable-debug-command": "yes",
                                  "enable-protected-configs": "yes", **(settings or {})}, **more)
        self.addCleanup(server.close)
        return server.start()

    def save(self, server, step, run="run"):
        server.client().execute_command("CKPT.SAVE", run, step, 1, "w", "U8", "SHAPE", 1, SIZE, "BLOB", tensor(step))

    def check(self, server, steps, run="run"):
        call = server.client().execute_command
        self.assertEqual([row[1] for row in call("CKPT.LIST", run)], sorted(steps, reverse=True))
        for step in steps:
            self.assertEqual(call("CKPT.LOAD", run, step, "w", "RANGE", 0, SIZE), tensor(step))
            self.assertEqual(call("CKPT.VERIFY", run, step, "DEEP")[1], 1)

    def figures(self, server):
        reply = server.client().execute_command("CKPT.LOGS")
        return dict(zip([word.decode() for word in reply[::2]], reply[1::2]))

    def size(self, server, name):
        return os.path.getsize(os.path.join(server.directory, name))

    def segments(self, server):
        directory = os.path.join(server.directory, "chunklogs")
        return sorted(os.path.join(directory, name) for name in os.listdir(directory) if name.endswith(".chunks"))

    def increments(self, server):
        """Bytes of the increments in force, without the padding ahead of what comes."""
        directory = os.path.join(server.directory, "appendonlydir")
        with open(os.path.join(directory, "appendonly.aof.manifest"), encoding="ascii") as manifest:
            rows = [line.split() for line in manifest if not line.startswith("#")]
        total = 0
        for row in rows:
            if row[5] == "i":
                with open(os.path.join(directory, row[1]), "rb") as file:
                    total += len(file.read().rstrip(b"#"))
        return total

    def check_step(self, server, step, want):
        call = server.client().execute_command
        self.assertEqual(call("CKPT.LOAD", "run", step, "w", "RANGE", 0, SIZE), want)
        self.assertEqual(call("CKPT.VERIFY", "run", step, "DEEP")[1], 1)

    def hash(self, server, tx, piece):
        """XXH3-128 of bytes, as TENSOR.SET tells it."""
        server.client().execute_command("TENSOR.SET", "probe", "U8", "SHAPE", 1, len(piece), "BLOB", piece)
        reply = server.client().execute_command("TENSOR.INFO", "probe")
        found = dict(zip(reply[::2], reply[1::2]))[b"xxh3"]
        self.assertEqual(server.client().execute_command("CKPT.HAVE", "run", tx, 1, found), b"\x80")
        return found

    def declare(self, server, step, size):
        call = server.client().execute_command
        tx = call("CKPT.BEGIN", "run", step)
        call("CKPT.DECLARE", "run", tx, "RANK", 0, 1, "w", "weights", "U8", "SHAPE", 1, size)
        return tx

    def refer(self, server, step, blob):
        """A version whose tensor is a chunk that is there already."""
        call = server.client().execute_command
        tx = self.declare(server, step, len(blob))
        call("CKPT.REF", "run", tx, "RANK", 0, "w", "AT", 0, 1, self.hash(server, tx, blob))
        call("CKPT.PREPARE", "run", tx, "RANK", 0)
        call("CKPT.COMMIT", "run", tx, "DURABLE", "DISK")

    def save_blob(self, server, step, blob, run="run"):
        server.client().execute_command("CKPT.SAVE", run, step, 1, "w", "U8", "SHAPE", 1, len(blob), "BLOB", blob)
