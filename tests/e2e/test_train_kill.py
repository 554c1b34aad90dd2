"""A training run of which the trainer, the server or both are killed with SIGKILL at random moments ends in the weights of a run
that was never interrupted, bit for bit; after each kill LATEST verifies, and is no older than what was acknowledged.

clients/python/examples/train_digits.py runs as a process of its own, as a user would start it, against a server with the
tensor module and an append-only file. Seeds are printed; CAIRN_TEST_SEED replays them.
"""

import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import unittest

from cairn_server import SOURCE_DIR, Server

sys.path.insert(0, os.path.join(SOURCE_DIR, "clients", "python"))

import cairnkv  # noqa: E402

EXAMPLE = os.path.join(SOURCE_DIR, "clients", "python", "examples", "train_digits.py")
STEPS = 120
EVERY = 4
VICTIMS = ("server", "trainer", "server, then trainer", "trainer, then server")
KILLS = 6              # each of these once, two of them again; in random order
RUN_LIMIT_S = 60
RUN = "digits:1"       # the key: the example's name and seed


class Trainer:
    """The example as a process; its lines are read by a thread."""

    def __init__(self, server, out, extra=()):
        environment = {**os.environ, "PYTHONPATH": os.path.join(SOURCE_DIR, "clients", "python"), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, EXAMPLE, "--port", str(server.port), "--steps", str(STEPS), "--every", str(EVERY), "--out", out,
             *extra], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        self.lines = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.strip())
                self._changed.notify_all()
        with self._changed:
            self.lines.append("end of output")
            self._changed.notify_all()

    def wait_for(self, wanted):
        """Waits for the line `wanted` or the end. Errors: AssertionError after RUN_LIMIT_S."""
        with self._changed:
            if not self._changed.wait_for(lambda: wanted in self.lines or "end of output" in self.lines, RUN_LIMIT_S):
                raise AssertionError(f"no '{wanted}' in {RUN_LIMIT_S} s: {self.lines[-5:]}")

    def kill(self):
        self.process.kill()
        return self.end()

    def end(self):
        """Waits for the end; returns the exit status and what went to standard error."""
        error = self.process.stderr.read()
        self._reader.join(RUN_LIMIT_S)
        status = self.process.wait(RUN_LIMIT_S)
        self.process.stdout.close()
        self.process.stderr.close()
        return status, error

    def saved(self):
        """The last step whose save was acknowledged to it, or that it resumed from; 0 before the first."""
        with self._changed:
            steps = [int(match[1]) for line in self.lines if (match := re.fullmatch(r"(?:saved|resumed) (\d+)", line))]
        return max(steps, default=0)


class TrainKill(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="cairn-train-")
        self.addCleanup(self.folder.cleanup)

    def weights(self, name):
        with open(os.path.join(self.folder.name, name), "rb") as file:
            return file.read()

    def uninterrupted(self, **settings):
        with Server(tensors=True, settings=settings) as server:
            trainer = Trainer(server, os.path.join(self.folder.name, "whole"))
            status, error = trainer.end()
            self.assertEqual(status, 0, error)
            self.assertIn("fresh 0", trainer.lines)
            accuracy = [float(line.split()[1]) for line in trainer.lines if line.startswith("accuracy")][0]
            self.assertGreater(accuracy, 0.5, "it learns something, so the weights are not those of the start")
        return self.weights("whole")

    def kill_each(self, server, out, seed):
        """Trains with KILLS kills; returns how often a run was resumed beyond step 0."""
        rng = random.Random(seed)
        resumed = 0
        victims = [*VICTIMS, *rng.sample(VICTIMS, KILLS - len(VICTIMS))]
        for victim in rng.sample(victims, KILLS):
            trainer = Trainer(server, out)
            begin = self.begin_of(trainer)
            resumed += begin > 0
            # Far enough for one checkpoint to be whole, even when the kill falls into the next one.
            goal = min(begin + rng.randint(2 * EVERY + 1, STEPS // KILLS), STEPS - 1)
            # Either while the step is being saved or right after it was computed.
            trainer.wait_for(f"{rng.choice(('step', 'saving'))} {goal - goal % EVERY}" if rng.random() < 0.5
                             and goal - goal % EVERY > begin else f"step {goal}")
            if victim.startswith("server"):
                server.kill()
                status, _ = trainer.end() if victim == "server" else trainer.kill()
                self.assertNotEqual(status, 0, "the trainer did not finish without a server")
            else:
                trainer.kill()
                if victim.endswith("server"):
                    server.kill()
            if not server.running():
                server.start()
            self.check_latest(server, trainer.saved())
        return resumed

    def check_latest(self, server, least):
        """LATEST is all there, is as new as the last acknowledged save, and loads as the step that it says."""
        client = server.client()
        run = cairnkv.Run(RUN, client=client)
        self.assertGreaterEqual(run.latest() or 0, least, "an acknowledged checkpoint is lost")
        if run.latest() is not None:
            verdict = client.execute_command("CKPT.VERIFY", RUN, "LATEST", "DEEP")
            self.assertEqual(dict(zip(verdict[::2], verdict[1::2]))[b"ok"], 1, verdict)
            self.assertEqual(cairnkv.load(RUN, client=client)["step"], run.latest())

    def begin_of(self, trainer):
        with trainer._changed:
            self.assertTrue(trainer._changed.wait_for(lambda: trainer.lines, RUN_LIMIT_S))
            return int(trainer.lines[0].split()[1])

    def test_weights_equal_those_of_an_uninterrupted_run(self):
        seed = int(os.environ.get("CAIRN_TEST_SEED") or random.SystemRandom().randrange(2 ** 32))
        print(f"CAIRN_TEST_SEED={seed}")
        settings = {"appendonly": "yes", "appendfsync": "always"}
        whole = self.uninterrupted(**settings)
        out = os.path.join(self.folder.name, "killed")
        with Server(tensors=True, settings=settings) as server:
            resumed = self.kill_each(server, out, seed)
            self.assertGreaterEqual(resumed, KILLS - 2, "the kills came after checkpoints, not before the first")
            last = Trainer(server, out)
            status, error = last.end()
            self.assertEqual(status, 0, error)
            self.assertTrue(last.lines[0].startswith("resumed "), last.lines[:1])
        self.assertEqual(self.weights("killed"), whole)

    def test_the_comparison_can_fail(self):
        """Another seed ends in other weights: equal files are not the only ones this test can see."""
        with Server(tensors=True) as server:
            for name, seed in (("one", "1"), ("two", "2")):
                status, error = Trainer(server, os.path.join(self.folder.name, name), ("--seed", seed, "--steps", "8")).end()
                self.assertEqual(status, 0, error)
        self.assertNotEqual(self.weights("one"), self.weights("two"))


if __name__ == "__main__":
    unittest.main()
