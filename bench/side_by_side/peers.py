"""Servers under comparison: start, pin, measure CPU and memory, stop. Linux only (procfs, taskset)."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

SERVER_CORE = "0"
CLIENT_CORE = "1"
START_DEADLINE_S = 60


def free_port():
    """A TCP port of the loopback interface that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Peer:
    """One running server, pinned to SERVER_CORE (all threads share it, as on the goals' machine)."""

    def __init__(self, name, binary, arguments=(), cores=SERVER_CORE, environment=None):
        self.name = name
        self.port = free_port()
        self.directory = tempfile.mkdtemp(prefix="compare-")
        self.unix_path = os.path.join(self.directory, "socket")
        command = ["taskset", "-c", cores, binary, "--port", str(self.port), "--dir", self.directory,
                   "--unixsocket", self.unix_path, "--save", "", "--enable-debug-command", "yes",
                   "--enable-module-command", "yes", *arguments]
        self.command = command
        self.log = open(os.path.join(self.directory, "log"), "w")
        self.environment = {**os.environ, **(environment or {})}
        self.process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=self.environment)
        self._wait_ready()

    def restarted(self, answered):
        """SIGKILL, and the same command again in the same directory. answered() returns when the server has answered it.
        Returns the seconds from the start of the process until then."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        began = time.monotonic()
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log, env=self.environment)
        answered()
        return time.monotonic() - began

    def _wait_ready(self):
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.name} ended with status {self.process.returncode}, see {self.log.name}")
            try:
                if self.cli("PING") == "PONG":
                    return
            except (OSError, subprocess.SubprocessError):
                pass
            time.sleep(0.05)
        raise RuntimeError(f"{self.name} did not answer PING within {START_DEADLINE_S} s")

    def cli(self, *words, timeout=120):
        """One command through redis-cli; returns its output, stripped. An error reply raises."""
        done = subprocess.run(["redis-cli", "-e", "-p", str(self.port), *map(str, words)], capture_output=True, text=True,
                              timeout=timeout, check=True)
        return done.stdout.strip()

    def info(self, field):
        for line in self.cli("INFO", "everything").splitlines():
            if line.startswith(field + ":"):
                return line.split(":", 1)[1].strip()
        raise KeyError(field)

    def cpu_ns(self):
        """On-CPU time of all threads so far, those that have ended too, in nanoseconds (the clock of clock_getcpuclockid(3))."""
        return time.clock_gettime_ns((~self.process.pid << 3) | 2)

    def knows(self, command):
        """Whether the server has this command."""
        return self.cli("COMMAND", "INFO", command) != ""

    def anonymous_bytes(self):
        """Anonymous memory of the server and its forks, in bytes; pages that they share count once."""
        children = _children(self.process.pid)
        if not children:
            return _kib_of(f"/proc/{self.process.pid}/status", "RssAnon:") * 1024
        return sum(_kib_of(f"/proc/{pid}/smaps_rollup", "Pss_Anon:") for pid in [self.process.pid, *children]) * 1024

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def _kib_of(path, field):
    """A field of a procfs file; 0 when the process has ended."""
    try:
        with open(path) as file:
            for line in file:
                if line.startswith(field):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


def _children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def on_client_core(command, timeout=600):
    """Runs a client pinned to CLIENT_CORE; returns its standard output."""
    done = subprocess.run(["taskset", "-c", CLIENT_CORE, *map(str, command)], capture_output=True, text=True,
                          timeout=timeout, check=True)
    return done.stdout
