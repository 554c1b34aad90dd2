"""What the machine alone makes of a latency: a server that does nothing, under the same generator.

A virtual processor may be stopped by its host, and the kernel may page memory out and in; neither is seen from inside. So: a process that
answers +OK to each request and touches one page of as much memory as a store would have, measured as the servers are. What it shows as
p99.9 and max is no server's. No latency beside such rows is better known than they say. And: threads of the highest priority that only
sleep (bench/load/core_pulse.h) see when a core stood still, so that rows can say what is left but for those times.
"""

import select
import signal
import socket
import subprocess
import sys
import types

from latency import longest_us, total_us
from peers import SERVER_CORE
from rows import CLIENTS, Group, Row, load

MEMORY_BYTES = 512 << 20
PAGE_BYTES = 4096
BUT_FOR_STOPS = ", but for stops of cores"


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


def record_stops(run, name, label, requests):
    """What threads of the highest priority that only sleep saw meanwhile (bench/load/core_pulse.h), where they were allowed to."""
    if requests.core_stops is None:
        return
    run.record(Row(f"{label}: all cores stood still, in all", "us"), name, total_us(requests.stops))
    run.record(Row(f"{label}: all cores stood still, longest", "us"), name, longest_us(requests.stops))
    run.record(Row(f"{label}: a core stood still, longest", "us"), name, longest_us(requests.core_stops))


def with_and_without_stops(requests):
    """[(words for a row's name, figures)]: of all requests, and of those that no stop of a core touched, if that is known and there
    are any."""
    calm = requests.undisturbed()
    return [("", requests.figures())] + ([(BUT_FOR_STOPS, calm.figures())] if calm is not None and len(calm.due) else [])


def record_machine(run, name, rate=10_000):
    """What the machine does by itself, just before `name` is measured."""
    process = subprocess.Popen(["taskset", "-c", SERVER_CORE, sys.executable, __file__], stdout=subprocess.PIPE)
    try:
        idler = types.SimpleNamespace(process=process, port=int(process.stdout.readline()))
        requests = load(idler, rate=rate, seconds=run.pick(0.5, 4), keys=1_000_000, value_bytes=64, clients=CLIENTS)["requests"]
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    for but, each in with_and_without_stops(requests):
        for field, text in (("p50_us", "p50"), ("p99_9_us", "p99.9"), ("max_us", "max")):
            run.record(Row(f"the machine alone, {rate}/s: {text}{but}", "us"), name, each[field])
    record_stops(run, name, f"the machine alone, {rate}/s", requests)


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
