"""Checkpoints: GPT-2 small with Adam's moments (ckpt_client.py) pushed, loaded, sliced, read in another layout, and kept.

redis-server has no checkpoints: SET and GET of the same bytes in the same pieces stand beside. Every push is read back. `--quick`
takes a tenth of the bytes. The trainer's rows, beside torch.save, are in ckpt_trainer_rows.py.
"""

import glob
import os
import statistics
import threading
import time

import numpy

from ckpt_client import (CHUNK_BYTES, PIECE_BYTES, Wire, begin, bytes_of, commit, hex_of, layout, memory, pieces, prepare, put,
                         set_all, values)
from machine_rows import record_machine, record_stops, with_and_without_stops
from peers import CLIENT_CORE
from rows import LIB, OURS, Group, Row, load

MODULE = os.path.join(LIB, "tensor.so")
BOTH = "0,1"                 # cores: hashing is a worker's, beside the loop
GIVING_WAY_BYTES = 128 << 10  # of one system call


def ready(run, label):
    """Whether the module is there; else the rows are named as not measured."""
    if os.path.exists(MODULE):
        return True
    run.skip(label, f"module not there: {MODULE}")
    return False


def start(run, name, *more, cores=BOTH, logs="no", reserved=0):
    """logs: whether saves name chunks (docs/checkpoints.md, "Chunk logs"). reserved: for how many bytes of tensors our server
    has memory before they come."""
    if name != OURS:
        return run.start(name, more, cores)
    peer = run.start(name, ("--loadmodule", MODULE, "chunk-logs", logs, "--blob-arena-reserve", str(reserved * 5 // 4), *more), cores)
    # LibTorch comes in the background: its memory and its time are none of what is measured.
    peer.cli("TENSOR.SET", "t", "U8", "SHAPE", 0, "VALUES", 1, 1)
    peer.cli("TENSOR.CAST", "t", "t", "F32")
    peer.cli("DEL", "t")
    deadline, held = time.monotonic() + 120, -1
    # Until no more comes, or the fetching of the rest would be measured as well.
    while reserved and (held < reserved or int(peer.info("blob_arena_retained_bytes")) > held):
        if time.monotonic() > deadline:
            peer.stop()
            raise RuntimeError(f"{reserved} bytes were not reserved")
        held = int(peer.info("blob_arena_retained_bytes"))
        time.sleep(0.2)
    return peer


class on_core:
    """This process on the client's core meanwhile."""

    def __enter__(self):
        os.sched_setaffinity(0, {int(CLIENT_CORE)})

    def __exit__(self, *_):
        os.sched_setaffinity(0, set(range(os.cpu_count())))


def push(wire, name, step, arrays, digests):
    """All bytes to either server, until they are a version or values. Returns seconds."""
    began = time.monotonic()
    if name == OURS:
        tx = begin(wire, "run", step, arrays)
        put(wire, "run", tx, arrays, digests)
        prepare(wire, "run", tx)
        commit(wire, "run", tx)
    else:
        set_all(wire, arrays)
    return time.monotonic() - began


def requests_of(name, step, arrays):
    """(request, memory of the reply) of all bytes in pieces."""
    for tensor, at, view in pieces(arrays):
        if name == OURS:
            yield ("CKPT.LOAD", "run", step, tensor, "RANGE", at, view.nbytes), view
        else:
            yield ("GET", f"t:{tensor}:{at}"), view


def read_all(wire, name, step, arrays, into):
    """Reads all into arrays of the same shapes, one request ahead. Returns seconds."""
    asked, began = [], time.monotonic()
    for words, view in requests_of(name, step, into):
        wire.send(*words)
        asked.append(view)
        if len(asked) > 1:
            wire.reply(asked.pop(0))
    for view in asked:
        wire.reply(view)
    took = time.monotonic() - began
    for tensor, array in arrays.items():
        if not numpy.array_equal(memory(array), memory(into[tensor])):
            raise RuntimeError(f"{name}: {tensor} is not what was pushed")
    return took


def run_put(run):
    """A push to a server that has just begun, with and without a reserve, and pushes of other bytes once its memory is warm."""
    if not ready(run, "ckpt: PUT"):
        return
    arrays = values(layout(run.quick), 1)
    into = {name: numpy.empty_like(array) for name, array in arrays.items()}
    size = bytes_of(arrays)
    limits = {("fresh", False): 2.5, ("reserved, fresh", False): 2.5, ("warm", False): 1.0, ("warm", True): 1.6}
    with on_core():
        for _ in range(run.rounds):
            for unix in (False, True):
                for array in arrays.values():
                    array += numpy.float32(0.001)
                digests = {(tensor, at): hex_of(view) for tensor, at, view in pieces(arrays)}
                for name in run.names():
                    measure_put(run, name, unix, arrays, digests, into, size, limits)
                for name in run.names():
                    measure_put(run, name, unix, arrays, digests, into, size, limits, reserved=size)


def measure_put(run, name, unix, arrays, digests, into, size, limits, reserved=0):
    peer = start(run, name, reserved=reserved)
    try:
        wire, empty = Wire(peer, unix), peer.anonymous_bytes()
        for step, state in enumerate(("reserved, fresh",) if reserved else ("fresh", "warm")):
            if step and name == OURS:  # as redis-server frees what a SET replaces
                wire.ask("CKPT.DEL", "run", 0)
            took, used = push(wire, name, step, arrays, digests), peer.anonymous_bytes()
            way = "unix" if unix else "TCP"
            run.record(Row(f"ckpt: PUT of {size / 1e9:.2g} GB with hashes, {way}, {state} server", "GB/s", limits.get((state, unix)),
                           at_least=True), name, size / took / 1e9)
            if not step and not reserved:
                run.record(Row("ckpt: memory over payload", "x", 1.05, of_ratio=False), name, (used - empty) / size)
            read_all(wire, name, step, arrays, into)
        wire.close()
    finally:
        peer.stop()


def run_load(run):
    """All bytes, a slice, and other boxes than were saved."""
    if not ready(run, "ckpt: LOAD"):
        return
    arrays = values(layout(run.quick), 2)
    into = {name: numpy.empty_like(array) for name, array in arrays.items()}
    size = bytes_of(arrays)
    with on_core():
        peers = [start(run, name) for name in run.names()]
        try:
            wires = {peer.name: Wire(peer) for peer in peers}
            for name, wire in wires.items():
                push(wire, name, 0, arrays, None)
                read_all(wire, name, 0, arrays, into)
            commit(wires[OURS], "run", prepared_by_many(wires[OURS], 1, arrays, 4))
            for _ in range(run.rounds):
                for name, wire in wires.items():
                    took = read_all(wire, name, 0, arrays, into)
                    run.record(Row(f"ckpt: LOAD of {size / 1e9:.2g} GB, TCP", "GB/s", 1.2, at_least=True), name, size / took / 1e9)
                measure_boxes(run, wires[OURS], arrays)
        finally:
            for peer in peers:
                peer.stop()


def row_bounds(array, rank, world):
    return array.shape[0] * rank // world, array.shape[0] * (rank + 1) // world


def prepared_by_many(wire, step, arrays, world, dealt=False):
    """A transaction in which each of `world` ranks has prepared its even share of the rows, or, dealt out, its share of the tensors;
    returns its name."""
    tx = None
    for rank in range(world):
        tx = wire.ask("CKPT.BEGIN", "run", step, "RANK", rank, "WORLD", world).decode()
        words, parts = [], {}
        for number, (name, array) in enumerate(arrays.items()):
            first, last = row_bounds(array, rank, world) if not dealt else (0, array.shape[0] if number % world == rank else 0)
            if first == last:
                continue
            parts[name] = array[first:last]
            words += [name, "weights", "F32", "SHAPE", array.ndim, *array.shape, "SHARD", "OFF", array.ndim, first, *(0,) * (array.ndim - 1),
                      "LEN", array.ndim, last - first, *array.shape[1:]]
        wire.ask("CKPT.DECLARE", "run", tx, "RANK", rank, len(parts), *words)
        put(wire, "run", tx, parts, None, rank)
        prepare(wire, "run", tx, rank)
    return tx


def read_rows(wire, step, arrays, world):
    """Every rank's box of every tensor, one rank after the other. Returns seconds."""
    took = 0.0
    for rank in range(world):
        # Touched before the clock runs: how fast this process gets memory is no figure of the server.
        boxes = {name: numpy.full_like(array[slice(*row_bounds(array, rank, world))], -1) for name, array in arrays.items()}
        began, asked = time.monotonic(), []
        for name, box in boxes.items():
            first, last = row_bounds(arrays[name], rank, world)
            if first == last:
                continue
            wire.send("CKPT.LOAD", "run", step, name, "SLICE", 1, first, last, 1)
            asked.append(memory(box))
            if len(asked) > 1:
                wire.reply(asked.pop(0))
        for view in asked:
            wire.reply(view)
        took += time.monotonic() - began
        for name, box in boxes.items():
            if not numpy.array_equal(box, arrays[name][slice(*row_bounds(arrays[name], rank, world))]):
                raise RuntimeError(f"rank {rank} of {world} read another {name}")
    return took


def measure_boxes(run, wire, arrays):
    name = max(arrays, key=lambda tensor: arrays[tensor].nbytes)
    array = arrays[name]
    times = {}
    for label, first, box in (("whole", 0, numpy.empty_like(array)), ("slice", array.shape[0] // 2, numpy.empty_like(array[:max(1, array.shape[0] // 100)]))):
        took = []
        for _ in range(6):  # the first touches this process's memory
            began = time.monotonic()
            wire.send("CKPT.LOAD", "run", 0, name, "SLICE", 1, first, first + box.shape[0], 1)
            wire.reply(memory(box))
            took.append(time.monotonic() - began)
        times[label] = statistics.median(took[1:])
        if not numpy.array_equal(box, array[first:first + box.shape[0]]):
            raise RuntimeError(f"the {label} of {name} is not what was pushed")
    run.record(Row("ckpt: a slice of 1 % over the whole tensor's LOAD", "x", 0.02, of_ratio=False), OURS, times["slice"] / times["whole"])
    read_rows(wire, 1, arrays, 4)
    took = {world: [] for world in (4, 3)}
    for _ in range(3):  # in turns, as one read may stand still with its core
        for world, times in took.items():
            times.append(read_rows(wire, 1, arrays, world))
    run.record(Row("ckpt: saved by 4 ranks, read by 3, over read by 4", "x", 1.25, of_ratio=False), OURS,
               statistics.median(took[3]) / statistics.median(took[4]))


def run_ping(run):
    """A small request (GET of a key that is not there) every 0.5 ms, beside pushes that never pause. The pushing thread gives way.
    Memory for the two versions that there are at a time is reserved."""
    if not ready(run, "ckpt: small requests beside a push"):
        return
    arrays = values(layout(run.quick), 3)
    with on_core():
        for _ in range(run.rounds):
            for name in run.names():
                peer = start(run, name, reserved=2 * bytes_of(arrays))
                try:
                    push(Wire(peer), name, 0, arrays, None)
                    record_machine(run, name)
                    figures, pushed = beside_pushes(run, peer, name, arrays)
                    run.record(Row("ckpt: push that small requests stand beside", "GB/s"), name, pushed)
                    for but, each in with_and_without_stops(figures["requests"]):
                        run.record(Row(f"ckpt: small request beside a push, max{but}", "us", 0.1), name, each["max_us"])
                        run.record(Row(f"ckpt: small request beside a push, p99.9{but}", "us", 2000, of_ratio=False), name, each["p99_9_us"])
                    record_stops(run, name, "ckpt: small requests beside a push", figures["requests"])
                    if name == OURS:
                        read_all(Wire(peer), name, int(figures["step"]), arrays, {n: numpy.empty_like(a) for n, a in arrays.items()})
                finally:
                    peer.stop()


def beside_pushes(run, peer, name, arrays):
    """What cairn-load saw, and the rate of the pushes meanwhile."""
    stop, state = threading.Event(), {"step": 0, "bytes": 0, "error": None}

    def pusher():
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        try:
            wire = Wire(peer, send_bytes=GIVING_WAY_BYTES)
            while not stop.is_set():
                step = state["step"] + 1
                for array in arrays.values():
                    array.reshape(-1)[::CHUNK_BYTES // 16] += 1  # every chunk is another one
                push(wire, name, step, arrays, None)
                if name == OURS:
                    wire.ask("CKPT.DEL", "run", state["step"])
                state["step"], state["bytes"] = step, state["bytes"] + bytes_of(arrays)
        except (OSError, RuntimeError) as error:
            state["error"] = error

    thread = threading.Thread(target=pusher)
    thread.start()
    began = time.monotonic()
    try:
        figures = load(peer, clients=4, rate=2000, seconds=run.pick(2, 8), keys=1, write_percent=0)
    finally:
        stop.set()
        thread.join()
    if state["error"]:
        raise state["error"]
    return {**figures, "step": state["step"]}, state["bytes"] / (time.monotonic() - began) / 1e9


def run_restart(run):
    """From the start of the process to the first value, all bytes being in its files; SAVE made them."""
    if not ready(run, "ckpt: restart"):
        return
    arrays = values(layout(run.quick), 4)
    tensor, at, first = next(pieces(arrays))
    got = numpy.empty(first.nbytes, dtype=numpy.uint8)
    for _ in range(run.rounds):
        for name in run.names():
            peer = start(run, name, logs="yes")
            try:
                wire = Wire(peer)
                push(wire, name, 0, arrays, None)
                wire.ask("SAVE")
                files = sum(os.path.getsize(path) for path in glob.glob(os.path.join(peer.directory, "**"), recursive=True) if os.path.isfile(path))
                if files < bytes_of(arrays) * 0.8:
                    raise RuntimeError(f"{name} saved {files} bytes only")
                words = ("CKPT.LOAD", "run", 0, tensor, "RANGE", at, first.nbytes) if name == OURS else ("GET", f"t:{tensor}:{at}")
                took = peer.restarted(lambda: first_answer(peer, words, memory(got)))
                if memory(got) != first:
                    raise RuntimeError(f"{name} came back with other bytes")
                run.record(Row(f"ckpt: restart to the first LOAD, {bytes_of(arrays) / 1e9:.2g} GB", "s", 0.2), name, took)
                read_all(Wire(peer), name, 0, arrays, {n: numpy.empty_like(a) for n, a in arrays.items()})
            finally:
                peer.stop()


def first_answer(peer, words, into):
    """Asks until the server answers with the bytes."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            wire = Wire(peer)
            if wire.ask_into(into, *words) is not None:
                return
        except (OSError, RuntimeError):
            time.sleep(0.002)
    raise RuntimeError(f"{peer.name} did not come back")


GROUPS = [Group("ckpt-put", run_put), Group("ckpt-load", run_load), Group("ckpt-ping", run_ping), Group("ckpt-restart", run_restart)]
assert PIECE_BYTES % CHUNK_BYTES == 0
