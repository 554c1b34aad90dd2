"""The Node.js clients, and a reader of files, against the real server: one test for each tests/e2e/node/*.test.js.

The packages are those of tests/e2e/node/package.json, put into build/node by npm; nothing is written into the source
tree. Without npm, or without a way to its registry, the tests are skipped and say so.
"""

import fcntl
import glob
import os
import re
import shutil
import subprocess
import unittest

from cairn_server import SOURCE_DIR, Server

SCENARIOS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "node")
INSTALLED = os.path.join(SOURCE_DIR, "build", "node")
INSTALL_LIMIT_S = 300.0
SCENARIO_LIMIT_S = 90


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def install():
    """Returns why the packages are not there, or an empty string."""
    if not shutil.which("npm") or not shutil.which("node"):
        return "no node or npm"
    os.makedirs(INSTALLED, exist_ok=True)
    wanted = read(os.path.join(SCENARIOS, "package.json"))
    stamp = os.path.join(INSTALLED, "installed.json")
    with open(os.path.join(INSTALLED, "lock"), "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if read(stamp) == wanted:
            return ""
        shutil.copy(os.path.join(SCENARIOS, "package.json"), INSTALLED)
        try:
            ended = subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--omit=dev"],
                cwd=INSTALLED, capture_output=True, timeout=INSTALL_LIMIT_S, check=False)
        except subprocess.TimeoutExpired:
            return "npm install took too long"
        if ended.returncode != 0:
            said = ended.stderr.decode(errors="replace")
            if re.search(r"E404|ETARGET|ERESOLVE|EJSONPARSE", said):
                raise AssertionError("package.json cannot be installed:\n" + said)
            return "npm install failed: " + " ".join(said.split())[-200:]
        shutil.copy(os.path.join(SCENARIOS, "package.json"), stamp)
    return ""


class NodeClientsTest(unittest.TestCase):

    @classmethod
    def setUpClass(cls):
        why = install()
        if why:
            raise unittest.SkipTest(why)

    def check(self, path):
        try:
            self.run_once(path)
        except subprocess.TimeoutExpired as hung:
            # Seen once in some fifty runs, under load, of ioredis: not yet known whose fault it is. It is said, and tried
            # again.
            print("hung after saying", (hung.stdout or b"").decode(errors="replace")[-2000:], flush=True)
            self.run_once(path)

    def run_once(self, path):
        with Server(settings={"enable-debug-command": "yes"}, unix=True, tensors=True) as server:
            environment = {**os.environ, "NODE_PATH": os.path.join(INSTALLED, "node_modules"),
                           "CAIRN_PORT": str(server.port), "CAIRN_SOCKET": server.unix_path,
                           "CAIRN_DIRECTORY": server.directory}
            ended = subprocess.run(["node", path], env=environment, capture_output=True, timeout=SCENARIO_LIMIT_S,
                                   check=False)
            said = ended.stdout.decode(errors="replace")
            self.assertTrue(server.running(), server.log_tail())
            counted = re.findall(r"^# (pass|fail) (\d+)$", said, re.M) or re.findall(r"^ℹ (pass|fail) (\d+)$", said, re.M)
            counts = {name: int(number) for name, number in counted}
            self.assertEqual(0, ended.returncode, said + ended.stderr.decode(errors="replace"))
            self.assertEqual(0, counts["fail"], said)
            self.assertGreater(counts["pass"], 0, said)
        print(f"{counts['pass']} scenarios", end=" ", flush=True)


def declare_tests():
    for path in sorted(glob.glob(os.path.join(SCENARIOS, "*.test.js"))):
        name = "test_" + os.path.basename(path)[: -len(".test.js")]
        setattr(NodeClientsTest, name, lambda self, path=path: self.check(path))


declare_tests()

if __name__ == "__main__":
    unittest.main()
