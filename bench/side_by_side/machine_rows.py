"""What the machine alone makes of a latency: a server that does nothing, under the same generator.

A virtual processor may be stopped by its host, and the kernel may page memory out and in; neither is seen from inside. So: a process that
answers +OK to each request and touches one page of as much memory as a store would have, measured as the servers are. What it shows as
p99.9 and max is no server's. No latency beside such rows is better known than they say.
"""

import select
import signal
import socket
import subprocess
import sys
import types

from peers import SERVER_CORE
from rows import CLIENTS, Group, Row, load

MEMORY_BYTES = 512 << 20
PAGE_BYTES = 4096


def answer(listener, memory):
    """Answers every SET of every connection, and touches a page for each."""
    at, poll, connections = 0, select.epoll(), {}
    poll.register(listener, select.EPOLLIN)
    while True:
        for number, _ in poll.poll():
            if number == listener.fileno():
                connection, _ = listener.accept()
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection
                poll.register(connection, select.EPOLLIN)
                continue
            data = connections[number].recv(65536)
            if not data:
                poll.unregister(number)
                del connections[number]
                continue
            for _ in range(data.count(b"*3\r\n")):
                at = (at + 104_729 * PAGE_BYTES) % MEMORY_BYTES
                memory[at] ^= 1
                connections[number].send(b"+OK\r\n")


def record_machine(run, name, rate=10_000):
    """Three rows of the machine, just before `name` is measured."""
    process = subprocess.Popen(["taskset", "-c", SERVER_CORE, sys.executable, __file__], stdout=subprocess.PIPE)
    try:
        idler = types.SimpleNamespace(process=process, port=int(process.stdout.readline()))
        figures = load(idler, rate=rate, seconds=run.pick(0.5, 4), keys=1_000_000, value_bytes=64, clients=CLIENTS)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    for field, text in (("p50_us", "p50"), ("p99_9_us", "p99.9"), ("max_us", "max")):
        run.record(Row(f"the machine alone, {rate}/s: {text}", "us"), name, figures[field])


def run_machine(run):
    for name in [each for _ in range(run.rounds) for each in run.names()]:
        record_machine(run, name)


def main():
    memory = bytearray(MEMORY_BYTES)
    for at in range(0, MEMORY_BYTES, PAGE_BYTES):
        memory[at] = 1
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        print(listener.getsockname()[1], flush=True)
        answer(listener, memory)


GROUPS = [Group("machine", run_machine)]

if __name__ == "__main__":
    main()
