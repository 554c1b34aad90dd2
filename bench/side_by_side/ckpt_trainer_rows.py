"""Checkpoints as a trainer sees them: clients/python beside torch.save with fsync, many ranks, what is stored, and figures of values.

The baseline of most rows is torch in this process (column "torch"), on the disk that the servers write to.
"""

import os
import shutil
import sys
import tempfile
import time

import numpy

from ckpt_client import CHUNK_BYTES, Wire, begin, bytes_of, commit, layout, map_of, memory, prepare, put, values
from ckpt_rows import on_core, prepared_by_many, ready, start
from rows import OURS, ROOT, Group, Row

TORCH = "torch"
CASES = (("all new", 1.0), ("unchanged", 0.0), ("1 % of chunks changed", 0.01))   # the share of the chunks
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")
REST_S = 10.0


def trainer():
    """torch and the client, which only these rows need."""
    sys.path.insert(0, os.path.join(ROOT, "clients", "python"))
    import cairnkv
    import redis
    import torch
    torch.set_num_threads(1)
    return torch, cairnkv, redis


def torch_save(torch, state, directory):
    """Seconds until the bytes are on the disk, under a name of their own."""
    path = os.path.join(directory, "checkpoint.pt")
    began = time.monotonic()
    with open(path + ".new", "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(path + ".new", path)
    return time.monotonic() - began


def touch(state, share):
    """Changes one element in `share` of the chunks, evenly."""
    cell, every, passed = CHUNK_BYTES // 4, round(1 / share), 0
    for tensor in state.values():
        flat = tensor.view(-1)
        for at in range(0, flat.numel(), cell):
            if passed % every == 0:
                flat[at] += 1
            passed += 1


def run_blocked(run):
    """Until PREPARE returns, from where training may go on; beside it torch.save of the same state."""
    if not ready(run, "ckpt: trainer blocked"):
        return
    torch, cairnkv, redis = trainer()
    state = {name: torch.from_numpy(array) for name, array in values(layout(run.quick), 5).items()}
    directory = tempfile.mkdtemp(prefix="compare-")
    peer = start(run, OURS)
    try:
        runs = {"TCP": cairnkv.Run("tcp", client=redis.Redis(port=peer.port), rank=0, world=1, attempt=0, progress=False),
                "unix": cairnkv.Run("unix", client=redis.Redis(unix_socket_path=peer.unix_path), rank=0, world=1, attempt=0, progress=False)}
        limits = {("all new", "TCP"): 1 / 1.6, ("all new", "unix"): 1 / 2.5, ("unchanged", "TCP"): 1 / 5, ("unchanged", "unix"): 1 / 5,
                  ("1 % of chunks changed", "TCP"): 1 / 4, ("1 % of chunks changed", "unix"): 1 / 4}
        step = 0
        for round_number in range(run.rounds + 1):  # the first one warms all of them up
            blocked = {}
            for way, saver in runs.items():
                for case, share in CASES:
                    if share:
                        touch(state, share)
                    step += 1
                    result = saver.save(step, state, keep=2)
                    if not share and result["sent_bytes"]:
                        raise RuntimeError("an unchanged save sent bytes")
                    blocked[case, way] = result["blocked_s"]
            took = {case: torch_save(torch, state, directory) for case, _ in CASES}  # which knows no difference
            for (case, way), seconds in blocked.items() if round_number else ():
                row = Row(f"ckpt: trainer blocked, {case}, {way}", "s", limits[case, way], baseline=TORCH)
                run.record(row, OURS, seconds)
                run.record(row, TORCH, took[case])
        for way, saver in runs.items():
            check_loads(run, torch, saver, state if way == "unix" else None, directory)
    finally:
        peer.stop()
        shutil.rmtree(directory, ignore_errors=True)


def check_loads(run, torch, saver, state, directory):
    """The last version is what torch saved last, to the bit; and how long each takes to read it."""
    began = time.monotonic()
    loaded, _ = saver.load()
    took = time.monotonic() - began
    began = time.monotonic()
    theirs = torch.load(os.path.join(directory, "checkpoint.pt"))
    torch_took = time.monotonic() - began
    row = Row("ckpt: Run.load beside torch.load of a file in memory", "s", baseline=TORCH)
    run.record(row, OURS, took)
    run.record(row, TORCH, torch_took)
    if state is not None and not all(torch.equal(loaded[name], tensor) and torch.equal(theirs[name], tensor) for name, tensor in state.items()):
        raise RuntimeError("the version that was loaded is not the state that was saved")


def run_durable(run):
    """From BEGIN until COMMIT .. DURABLE DISK has answered, beside torch.save with fsync: the first save of a fresh server and of
    a new file, without and with a reserve (conf/training.conf has one), and saves once both reuse the memory of what they have
    replaced: from the fourth on, for the second still finds the first one's memory held, and the third teaches the server what to
    keep (server/platform/blob_arena.h, B5)."""
    if not ready(run, "ckpt: BEGIN to DURABLE DISK"):
        return
    arrays = values(layout(run.quick), 6)
    save_durably(run, arrays, 0, {0: "first save", **{step: "later saves" for step in range(3, run.rounds + 3)}})
    for _ in range(run.rounds):
        save_durably(run, arrays, bytes_of(arrays), {0: "first save, reserved"})


def save_durably(run, arrays, reserved, steps):
    """Saves up to the last of `steps`, {step: what its row is called}, to a fresh server and a new file."""
    torch, cairnkv, redis = trainer()
    state = {name: torch.from_numpy(array) for name, array in arrays.items()}
    directory = tempfile.mkdtemp(prefix="compare-")
    rows = {step: Row(f"ckpt: BEGIN to DURABLE DISK, all new, {which}", "s", 1 / 1.2, baseline=TORCH) for step, which in steps.items()}
    peer = start(run, OURS, *ALWAYS, logs="yes", reserved=reserved)
    try:
        # Else the file of torch.save gets pages that the peer before this one has just given back, which the host still has
        # ready: 1.7 s in place of 4 to 5.
        time.sleep(REST_S)
        saver = cairnkv.Run("run", client=redis.Redis(unix_socket_path=peer.unix_path), rank=0, world=1, attempt=0, progress=False)
        for step in range(max(rows) + 1):
            touch(state, 1.0)
            try:
                took = saver.save(step, state, durable="DISK", keep=1)["seconds"]
            except cairnkv.SaveFailed as error:
                run.skip(rows[0].name, str(error))
                return
            theirs = torch_save(torch, state, directory)
            loaded, _ = saver.load()
            if not all(torch.equal(loaded[name], tensor) for name, tensor in state.items()):
                raise RuntimeError("DURABLE DISK loaded another state")
            del loaded
            if step in rows:
                run.record(rows[step], OURS, took)
                run.record(rows[step], TORCH, theirs)
    finally:
        peer.stop()
        shutil.rmtree(directory, ignore_errors=True)


def fdatasync_s(directory):
    """Median of one small append that is synced, on this disk."""
    took = []
    with open(os.path.join(directory, "probe"), "wb") as file:
        for _ in range(20):
            began = time.monotonic()
            file.write(b"x" * 200)
            file.flush()
            os.fdatasync(file.fileno())
            took.append(time.monotonic() - began)
    return sorted(took)[len(took) // 2]


def run_commit(run):
    """COMMIT by one of 64 ranks that have prepared, 438 tensors together: each whole on one rank, or each cut in 64."""
    if not ready(run, "ckpt: COMMIT of 64 ranks"):
        return
    arrays = values(layout(True), 7)
    with on_core():
        for more, dealt, label in (((), True, "whole tensors"), (ALWAYS, True, "whole tensors, appendfsync always"),
                                   ((), False, "each tensor in 64 boxes"), (ALWAYS, False, "each tensor in 64 boxes, appendfsync always")):
            peer = start(run, OURS, *more, logs="yes" if more else "no")
            try:
                wire = Wire(peer, True)
                for step in range(run.pick(1, 5) * run.rounds + 1):
                    tx = prepared_by_many(wire, step, arrays, 64, dealt)
                    began = time.monotonic()
                    commit(wire, "run", tx)
                    took = time.monotonic() - began
                    beyond = took - (fdatasync_s(peer.directory) if more else 0)
                    if step:  # the first is the warm-up
                        run.record(Row(f"ckpt: COMMIT of 64 ranks, {label}" + (", beyond one fdatasync" if more else ""), "ms", 5, of_ratio=False),
                                   OURS, beyond * 1e3)
                    checked = map_of(wire.ask("CKPT.VERIFY", "run", step, "DEEP"))
                    if checked["ok"] != 1:
                        raise RuntimeError(f"VERIFY: {checked}")
            finally:
                peer.stop()


def stored_bytes(peer):
    """Tensor memory of the server, as INFO counts it."""
    return int(peer.info("used_memory"))


def run_stored(run):
    """What a second version costs in memory, for states of F32 that did not change and of BF16 of which 1 % of the elements did."""
    if not ready(run, "ckpt: stored bytes"):
        return
    arrays = values(layout(run.quick), 8)
    half = {name: (array.view(numpy.uint32) >> 16).astype(numpy.uint16) for name, array in arrays.items()}
    peer = start(run, OURS)
    try:
        wire = Wire(peer, True)
        for label, state, limit in (("unchanged", arrays, 0.001), ("BF16, 1 % of the elements changed", half, 1 / 30)):
            key = label.split(",")[0]
            versions = [state, changed(state) if state is half else state]
            before = after = 0
            for step, version in enumerate(versions):
                tx = begin(wire, key, step, version)
                put(wire, key, tx, version, None)
                prepare(wire, key, tx)
                commit(wire, key, tx)
                before, after = after, settled(peer)
            run.record(Row(f"ckpt: stored for a second version over its bytes, {label}", "x", limit, of_ratio=False), OURS,
                       max(0, after - before) / bytes_of(state))
            got = numpy.empty_like(state["model.wte.weight"])
            wire.send("CKPT.LOAD", key, 1, "model.wte.weight", "RANGE", 0, got.nbytes)
            wire.reply(memory(got))
            if not numpy.array_equal(got, versions[1]["model.wte.weight"]):
                raise RuntimeError(f"{label}: the second version is another")
            wire.ask("DEL", key)
    finally:
        peer.stop()


def changed(state):
    """A hundredth of the elements, spread by chance, each in its lowest bits."""
    chance = numpy.random.Generator(numpy.random.SFC64(9))
    out = {}
    for name, array in state.items():
        flat = array.reshape(-1).copy()
        at = chance.integers(0, flat.size, max(1, flat.size // 100))
        flat[at] ^= chance.integers(1, 4, at.size).astype(flat.dtype)
        out[name] = flat.reshape(array.shape)
    return out


def settled(peer):
    """Memory once background work no longer changes it, or after 30 s."""
    last, same_since = stored_bytes(peer), time.monotonic()
    deadline = same_since + 30
    while time.monotonic() < deadline and time.monotonic() - same_since < 3:
        time.sleep(0.2)
        now = stored_bytes(peer)
        if abs(now - last) > 1 << 20:
            last, same_since = now, time.monotonic()
    return stored_bytes(peer)


def run_stats(run):
    """TENSOR.STATS of 64 MiB beside isfinite().all() of LibTorch on one thread, over the same F32."""
    if not ready(run, "ckpt: STATS"):
        return
    torch, _, _ = trainer()
    array = values([("w", (run.pick(1, 16) << 20,))], 10)["w"]
    tensor = torch.from_numpy(array)
    peer = start(run, OURS)
    row = Row("ckpt: STATS of 64 MiB beside isfinite().all()", "ms", 1 / 8, baseline=TORCH)
    try:
        wire = Wire(peer)
        for number in range(run.rounds + 1):
            array[number] = number
            wire.ask("TENSOR.SET", "t", "F32", "SHAPE", 1, array.size, "BLOB", memory(array))
            began = time.monotonic()
            figures = map_of(wire.ask("TENSOR.STATS", "t"))
            took = time.monotonic() - began
            began = time.monotonic()
            finite = bool(torch.isfinite(tensor).all())
            theirs = time.monotonic() - began
            if not finite or int(figures["nan"]) + int(figures["inf"]) or abs(float(figures["mean"]) - float(array.mean(dtype=numpy.float64))) > 1e-9:
                raise RuntimeError(f"STATS: {figures}")
            if number:
                run.record(row, OURS, took * 1e3)
                run.record(row, TORCH, theirs * 1e3)
    finally:
        peer.stop()


GROUPS = [Group("ckpt-blocked", run_blocked), Group("ckpt-durable", run_durable), Group("ckpt-commit", run_commit),
          Group("ckpt-stored", run_stored), Group("ckpt-stats", run_stats)]
