"""Starts, kills and restarts a server for a test: CairnKV's own, or Debian's redis-server as the oracle.

Not a test by itself. Every server gets a temporary directory, a port from the kernel and, if asked, a
unix socket; nothing is waited for by sleeping a fixed time, only by polling with a deadline.

    with Server(settings={"appendonly": "yes"}) as server:
        server.client().set("k", "v")
        server.kill()          # SIGKILL
        server.start()         # the same directory, the same port
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import redis

READY_LIMIT_S = 60.0   # a loaded machine starts slowly, and a large file takes its time to load
STOP_LIMIT_S = 60.0
POLL_S = 0.01
LOG_TAIL_LINES = 40

SOURCE_DIR = os.environ.get("CAIRN_SOURCE_DIR") or os.path.dirname(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
)
BIN_DIR = os.environ.get("CAIRN_BIN_DIR") or os.path.join(SOURCE_DIR, "build", "release", "bin")
LIB_DIR = os.environ.get("CAIRN_LIB_DIR") or os.path.join(SOURCE_DIR, "build", "release", "lib")
BINARIES = {
    "cairn": os.path.join(BIN_DIR, "cairn-server"),
    "redis": "/usr/bin/redis-server",
}
TENSOR_MODULE = os.path.join(LIB_DIR, "tensor.so")


class Patience:
    """So many seconds of waiting. Time in which this process did not run at all (a machine that was suspended, a stopped
    process group) is not waiting: whoever is waited for did not run either."""

    LONGEST_TURN_S = 2.0

    def __init__(self, limit_s: float):
        self._left_s, self._seen = limit_s, time.monotonic()

    def is_over(self) -> bool:
        now = time.monotonic()
        self._left_s -= min(now - self._seen, self.LONGEST_TURN_S)
        self._seen = now
        return self._left_s <= 0


def free_port() -> int:
    """Returns a TCP port that was free on 127.0.0.1 a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """One server process and its directory, which outlives kills and restarts.

    binary: "cairn", "redis", or the path of another server.
    settings: name to value; a list of values repeats the setting. `save ''` is set unless named here.
    tensors: loads the tensor module (CairnKV only).
    unix: listens on a unix socket too; see `unix_path`.
    directory: where the server works; made and removed here when None.
    prefix: words before the command, such as ["taskset", "-c", "0"].
    """

    def __init__(self, binary="cairn", settings=None, *, tensors=False, unix=False, directory=None,
                 prefix=()):
        self.path = BINARIES.get(binary, binary)
        if not os.path.exists(self.path):
            raise FileNotFoundError(f"{self.path} is not there: build the release preset first")
        self.settings = {"save": "", **(settings or {})}
        self.port = free_port()
        self.process = None
        self.prefix = list(prefix)
        self.tensors = tensors
        self._owns_directory = directory is None
        self.directory = directory or tempfile.mkdtemp(prefix="cairn-test-")
        # Beside the directory, not in it: the path of a socket holds at most 107 bytes.
        self._socket_directory = tempfile.mkdtemp(prefix="cairn-s-") if unix else None
        self.unix_path = os.path.join(self._socket_directory, "s") if unix else None
        self.log_path = os.path.join(self.directory, "server.log")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def command_line(self) -> list:
        words = [*self.prefix, self.path, "--port", str(self.port), "--bind", "127.0.0.1",
                 "--dir", self.directory]
        if self.unix_path:
            words += ["--unixsocket", self.unix_path]
        if self.tensors:
            words += ["--loadmodule", TENSOR_MODULE]
        for name, values in self.settings.items():
            for value in values if isinstance(values, list) else [values]:
                words += ["--" + name, *([""] if value == "" else str(value).split(" "))]
        return words

    def start(self) -> "Server":
        """Starts the process and returns once it answers PING with PONG.

        Errors: RuntimeError with the end of the log when it ends or stays silent for READY_LIMIT_S.
        """
        if self.running():
            raise RuntimeError("the server runs already")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command_line(), stdin=subprocess.DEVNULL,
                                            stdout=log, stderr=log, start_new_session=True)
        self.wait_ready()
        return self

    def wait_ready(self, limit_s=READY_LIMIT_S) -> None:
        patience = Patience(limit_s)
        while not patience.is_over():
            if self.process.poll() is not None:
                raise RuntimeError(
                    f"{self.path} ended with {self.process.returncode}:\n{self.log_tail()}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                    probe.sendall(b"PING\r\n")
                    if probe.recv(64).startswith((b"+PONG", b"-NOAUTH")):
                        return
            except OSError:
                pass
            time.sleep(POLL_S)
        raise RuntimeError(f"{self.path} was not ready after {limit_s} s:\n{self.log_tail()}")

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL: whatever the server had not yet handed to the kernel is lost."""
        if self.running():
            self.process.kill()
        self.process.wait()

    def stop(self, how=signal.SIGTERM) -> int:
        """Asks for an orderly end. Returns the exit status; SIGKILL after STOP_LIMIT_S is an error."""
        if self.running():
            self.process.send_signal(how)
        return self.wait_end()

    def wait_end(self, limit_s=STOP_LIMIT_S) -> int:
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"{self.path} did not end in {limit_s} s:\n{self.log_tail()}")

    def restart(self) -> "Server":
        self.kill()
        return self.start()

    def close(self) -> None:
        """Ends the process and removes what was made here."""
        if self.process is not None:
            self.kill()
        if self._owns_directory:
            shutil.rmtree(self.directory, ignore_errors=True)
        if self._socket_directory:
            shutil.rmtree(self._socket_directory, ignore_errors=True)

    def client(self, unix=False, **options) -> redis.Redis:
        """A redis-py client. `unix`: over the unix socket."""
        if unix:
            return redis.Redis(unix_socket_path=self.unix_path, **options)
        return redis.Redis(host="127.0.0.1", port=self.port, **options)

    def raw(self, timeout_s=20.0) -> socket.socket:
        """A plain connected socket, for bytes that no client would send."""
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=timeout_s)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return plain

    def run_job(self, command: str, counter: str) -> None:
        """Runs a command that begins a job in the background, and waits for its end: until `counter` of INFO
        persistence has grown."""
        client = self.client()
        before = client.info("persistence")[counter]
        client.execute_command(command)
        wait_until(lambda: client.info("persistence")[counter] > before, what=command)

    def wait_saved(self) -> None:
        """Waits for the end of the BGSAVE that runs, if one does, and looks at its outcome."""
        client = self.client()
        wait_until(lambda: client.info("persistence")["rdb_bgsave_in_progress"] == 0, what="the end of the save")
        outcome = client.info("persistence")["rdb_last_bgsave_status"]
        if outcome != "ok":
            raise AssertionError(f"the save ended with {outcome}:\n{self.log_tail()}")

    def log(self) -> str:
        with open(self.log_path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def log_tail(self) -> str:
        return "\n".join(self.log().splitlines()[-LOG_TAIL_LINES:])


def read_to_end(connection):
    """All bytes until the other side ends."""
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return data


def request(*words) -> bytes:
    """A command as an array of bulk strings; what is no bytes is sent as its text."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def wait_until(condition, limit_s=120.0, what="the condition"):
    """Polls until condition() is true and returns its value. Errors: AssertionError after limit_s."""
    patience = Patience(limit_s)
    while True:
        value = condition()
        if value:
            return value
        if patience.is_over():
            raise AssertionError(f"{what} did not come true in {limit_s} s")
        time.sleep(POLL_S)
