"""Real-time priority for whoever's latency is measured.

The kernel looks at how long a thread has run at its ticks only, 4 ms apart: on a machine with few cores what one then sees as latency
is who stood behind whom. So the loop of the server and the generator that times it go ahead of everything else while requests come at a
fixed rate: of the server's other threads, of its forks and of the rest of the machine. In a flood nothing would be left for the others, and
there the usual rules hold.

Each stays on its core meanwhile, whatever cores the server's other threads have: what only looks for stops of the cores (core_pulse.h) goes
ahead of both for a moment a few thousand times a second, and the kernel would carry the one it puts off to the other core, behind its peer.
"""

import contextlib
import ctypes
import os
import platform
import sys

SET_ATTRIBUTES, GET_ATTRIBUTES = {"x86_64": (314, 315), "aarch64": (274, 275)}.get(platform.machine(), (None, None))
SIZE = 56  # struct sched_attr with utilization
libc = ctypes.CDLL(None, use_errno=True)


def allowed():
    """Whether this machine lets us; told once when not."""
    if not hasattr(allowed, "answer"):
        try:
            policy = os.sched_getscheduler(0)
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
            os.sched_setscheduler(0, policy, os.sched_param(0))
            allowed.answer = SET_ATTRIBUTES is not None
        except OSError:
            allowed.answer = False
        if not allowed.answer:
            print("no real-time priority here: latencies are those of the scheduler as well", file=sys.stderr)
    return allowed.answer


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "sched_setattr or sched_getattr")


@contextlib.contextmanager
def ahead(process_id, core):
    """The first thread of a process ahead of all others on that core meanwhile; threads and processes that it makes are not."""
    if not allowed():
        yield
        return
    before = ctypes.create_string_buffer(SIZE)  # with the slice that a server may have asked for
    checked(libc.syscall(GET_ATTRIBUTES, process_id, before, SIZE, 0))
    cores = os.sched_getaffinity(process_id)
    os.sched_setaffinity(process_id, {int(core)})
    os.sched_setscheduler(process_id, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setaffinity(process_id, cores)
        os.sched_setscheduler(process_id, os.SCHED_OTHER, os.sched_param(0))
        checked(libc.syscall(SET_ATTRIBUTES, process_id, before, 0))


def client_prefix():
    """Words before a command that shall be ahead as well."""
    return ["chrt", "-f", "1"] if allowed() else []
