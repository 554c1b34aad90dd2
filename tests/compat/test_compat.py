"""Every script of this folder and a short random run, on CairnKV and on redis-server 7.0.15."""

import glob
import os
import unittest

from random_run import run_seed
from script import Script
from servers import BothServers

SEEDS = [101, 102, 103, 104]
COMMANDS_A_SEED = 4000
SHOWN = 20


class ScriptsTest(unittest.TestCase):
    """One test a script and protocol; each has its own two servers."""

    def check(self, path, resp):
        with BothServers() as servers:
            script = Script(path, servers.ports, resp)
            script.run()
        print(f"{script.exchanges} exchanges", end=" ", flush=True)
        differences = script.differences
        self.assertEqual(0, len(differences), "\n".join([""] + differences[:SHOWN]))
        self.assertGreater(script.exchanges, 0)


class RandomCommandsTest(unittest.TestCase):
    """`./dev compat COMMANDS SEED` replays a seed and runs more of them."""

    def check(self, seed):
        run = run_seed(seed, COMMANDS_A_SEED)
        print(f"seed {seed}, {run.commands} commands, {run.effects_seen} effects", end=" ", flush=True)
        self.assertEqual(0, len(run.differences), "\n".join([""] + run.differences[:SHOWN]))
        self.assertGreaterEqual(run.commands, COMMANDS_A_SEED)
        self.assertGreater(run.effects_seen, 0)


def declare_tests():
    here = os.path.dirname(os.path.abspath(__file__))
    for path in sorted(glob.glob(os.path.join(here, "*.script"))):
        with open(path, "rb") as file:
            only = [line.split()[1] for line in file if line.startswith(b"!resp ")]
        for resp in (2, 3):
            if only and b"%d" % resp not in only:
                continue
            name = f"test_{os.path.basename(path)[:-len('.script')]}_resp{resp}"
            setattr(ScriptsTest, name, lambda self, path=path, resp=resp: self.check(path, resp))
    for seed in SEEDS:
        setattr(RandomCommandsTest, f"test_seed_{seed}", lambda self, seed=seed: self.check(seed))


declare_tests()

if __name__ == "__main__":
    unittest.main()
