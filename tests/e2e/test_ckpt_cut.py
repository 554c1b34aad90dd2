"""A save of checkpoint runs whose walk is slowed: what it wrote is the runs at its cut, whatever CKPT commands, DEL,
RENAME, times to live and FLUSHALL make of them meanwhile; with the payloads in the file, and with a chunk log beside it.
"""

import os
import random
import subprocess
import unittest

from cairn_server import TENSOR_MODULE, Server

RUNS = 16
OTHERS = 3000             # keys that the runs are spread among: the walker rests behind each few hundred
SAVE_DELAY_US = 400       # a key: a walk of more than a second, in which all is changed at its beginning
CHUNK = 256 * 1024
SIZE = 2 * CHUNK + 1000
TAKEN = "taken"           # of the chunks of a run, the one that another run has as well


def tensor(run, step):
    """Its first chunk is that of every run and step, its second that of the run, the rest of its own."""
    return (random.Random(TAKEN).randbytes(CHUNK) + random.Random(run).randbytes(CHUNK) +
            random.Random(f"{run} {step}").randbytes(SIZE - 2 * CHUNK))


def name(run):
    return f"run:{run}"


class CkptCut(unittest.TestCase):
    def start(self, logs):
        server = Server(settings={"loadmodule": f"{TENSOR_MODULE} chunk-logs {logs}", "enable-debug-command": "yes"})
        self.addCleanup(server.close)
        return server.start()

    def save(self, call, run, step, content=None):
        call("CKPT.SAVE", name(run), step, 1, "w", "U8", "SHAPE", 1, SIZE, "BLOB", tensor(content or run, step), "TAG", f"t{step}")

    def fill(self, call):
        """Of each run two versions, and a transaction that is open. Returns the transactions."""
        call("MSET", *(word for i in range(OTHERS) for word in (f"other:{i}", i)))
        open_ones = []
        for run in range(RUNS):
            self.save(call, run, 1)
            self.save(call, run, 2)
            tx = call("CKPT.BEGIN", name(run), 3, "RANK", 0, "WORLD", 1, "TIMEOUT", 3_600_000)
            call("CKPT.DECLARE", name(run), tx, "RANK", 0, 1, "w", "weights", "U8", "SHAPE", 1, SIZE)
            call("CKPT.PUT", name(run), tx, "RANK", 0, "w", "AT", 0, "BLOB", tensor(run, 3)[:CHUNK + 77])
            call("CKPT.STATE", name(run), tx, "RANK", 0, "s", "KIND", "optim", "BLOB", random.Random(run).randbytes(9000))
            open_ones.append(tx)
        return open_ones

    def look(self, call, open_ones):
        """All that can be asked of the runs, but for what the clock says."""
        seen = []
        for run, tx in enumerate(open_ones):
            versions = call("CKPT.LIST", name(run))
            seen.append((versions, call("CKPT.LOG", name(run)), call("CKPT.OFFSET", name(run), tx, "RANK", 0)))
            for step in (row[1] for row in versions):
                seen.append((call("CKPT.MANIFEST", name(run), step), call("CKPT.LOAD", name(run), step, "w", "RANGE", 0, SIZE),
                             call("CKPT.VERIFY", name(run), step, "DEEP")))
        return seen

    def change(self, call, run, tx):
        """Another kind for each run."""
        key, kind = name(run), run % 8
        if kind == 0:
            self.save(call, run, 2, content=1000)    # in place of the version that is there
            self.save(call, run, 4)
        elif kind == 1:
            call("CKPT.PUT", key, tx, "RANK", 0, "w", "AT", CHUNK + 77, "BLOB", tensor(run, 3)[CHUNK + 77:])
            call("CKPT.PREPARE", key, tx, "RANK", 0)
            call("CKPT.COMMIT", key, tx)
            call("CKPT.DEL", key, 1)
        elif kind == 2:
            call("CKPT.DEL", key, 1)
            call("CKPT.TAG", key, "t1", 2, "PIN")
        elif kind == 3:
            call("CKPT.ROLLBACK", key, 1)
            call("CKPT.ABORT", key, tx)
        elif kind == 4:
            call("DEL", key)
        elif kind == 5:
            call("COPY", key, "copy")
            call("RENAME", key, name(run - 1))
            call("SET", key, "no run any more")
        elif kind == 6:
            call("CKPT.RETAIN", key, "KEEP", 1)
            call("CKPT.PUT", key, tx, "RANK", 0, "w", "AT", CHUNK + 77, "BLOB", b"more")
        else:
            call("PEXPIRE", key, 1)

    def file_of_the_cut(self, logs, flush):
        server = self.start(logs)
        client = server.client()
        call = client.execute_command
        open_ones = self.fill(call)
        at_cut = self.look(call, open_ones)
        changes = client.pipeline(transaction=False)    # all at once: the walker is not to come far meanwhile
        for run, tx in enumerate(open_ones):
            self.change(changes.execute_command, run, tx)
        if flush:
            changes.execute_command("FLUSHALL")
            for run in range(RUNS):
                self.save(changes.execute_command, run, 1, content=2000)
        client.config_set("rdb-key-save-delay", SAVE_DELAY_US)
        client.bgsave()
        changes.execute()
        figures = client.info("persistence")
        self.assertEqual(figures["rdb_bgsave_in_progress"], 1)
        self.assertLess(figures["current_save_keys_processed"], OTHERS // 2, "the walker was to come after the changes")
        server.wait_saved()
        figures = client.info("persistence")
        self.assertEqual(figures["rdb_last_bgsave_status"], "ok")
        self.assertEqual(figures["snapshot_retained_bytes"], 0)
        server.kill()
        path = os.path.join(server.directory, "dump.rdb")
        checked = subprocess.run(["redis-check-rdb", path], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(checked.returncode, 0, checked.stdout)
        self.assertEqual(os.path.getsize(path) > SIZE * RUNS // 2, logs == "no", "where the payloads are")
        server.start()
        call = server.client().execute_command
        self.assertEqual(call("DBSIZE"), RUNS + OTHERS)
        self.assertEqual(self.look(call, open_ones), at_cut)
        for run, tx in enumerate(open_ones):    # the open ones can be finished
            call("CKPT.PUT", name(run), tx, "RANK", 0, "w", "AT", CHUNK + 77, "BLOB", tensor(run, 3)[CHUNK + 77:])
            call("CKPT.PREPARE", name(run), tx, "RANK", 0)
            call("CKPT.COMMIT", name(run), tx)
            self.assertEqual(call("CKPT.LOAD", name(run), 3, "w", "RANGE", 0, SIZE), tensor(run, 3))

    def test_with_the_payloads_in_the_file(self):
        self.file_of_the_cut("no", flush=False)

    def test_with_a_chunk_log(self):
        self.file_of_the_cut("yes", flush=False)

    def test_flushall_with_the_payloads_in_the_file(self):
        self.file_of_the_cut("no", flush=True)

    def test_flushall_with_a_chunk_log(self):
        self.file_of_the_cut("yes", flush=True)


if __name__ == "__main__":
    unittest.main()
