"""One rank of a job that saves a checkpoint after the other, for test_ckpt_kill.py, which kills it. Plain redis-py.

Resumes from LATEST and saves the steps after it; writes each step to a file once its COMMIT was answered. Ends when the
server is gone or another attempt has begun, and writes the error to another file, for a test that wonders.
"""

import random

import redis

ROWS, COLUMNS = 3000, 100          # of the sharded tensor, U8: over a chunk in all
PIECE_BYTES = 70_000
OWN_BYTES = 5000


def sharded(step: int) -> bytes:
    """The tensor that all ranks hold together; most rows are those of the step before."""
    rows = [bytearray(random.Random(row).randbytes(COLUMNS)) for row in range(0, ROWS, 100)]
    body = bytearray(b"".join(bytes(row) * 100 for row in rows))
    at = step * 7919 % (len(body) - 8)
    body[at:at + 8] = step.to_bytes(8, "little")
    return bytes(body)


def own(step: int, rank: int) -> bytes:
    return random.Random(step * 1000 + rank).randbytes(OWN_BYTES)


def bounds(rank: int, world: int) -> tuple:
    return ROWS * rank // world, ROWS * (rank + 1) // world


def save(client, run: str, step: int, rank: int, world: int, attempt: int) -> None:
    call = client.execute_command
    tx = call("CKPT.BEGIN", run, step, "RANK", rank, "WORLD", world, "ATTEMPT", attempt)
    begin, end = bounds(rank, world)
    call("CKPT.DECLARE", run, tx, "RANK", rank, 2,
         "w", "weights", "U8", "SHAPE", 2, ROWS, COLUMNS, "SHARD", "OFF", 2, begin, 0, "LEN", 2, end - begin, COLUMNS,
         f"own.{rank}", "weights", "U8", "SHAPE", 1, OWN_BYTES)
    part = sharded(step)[begin * COLUMNS:end * COLUMNS]
    with client.pipeline(transaction=False) as pipeline:
        for at in range(0, len(part), PIECE_BYTES):
            pipeline.execute_command("CKPT.PUT", run, tx, "RANK", rank, "w", "AT", at, "BLOB", part[at:at + PIECE_BYTES])
        pipeline.execute_command("CKPT.PUT", run, tx, "RANK", rank, f"own.{rank}", "AT", 0, "BLOB", own(step, rank))
        pipeline.execute_command("CKPT.STATE", run, tx, "RANK", rank, "pos", "KIND", "loader", "BLOB", str(step))
        pipeline.execute_command("CKPT.PREPARE", run, tx, "RANK", rank)
        pipeline.execute()
    call("CKPT.COMMIT", run, tx, "WAIT", 20000, "DURABLE", "DISK")


def latest(client, run: str) -> int:
    try:
        rows = client.execute_command("CKPT.LIST", run, "LIMIT", 1)
    except redis.ResponseError:
        return 0
    return rows[0][1] if rows else 0


def work(port: int, run: str, rank: int, world: int, attempt: int, path: str) -> None:
    client = redis.Redis(port=port)
    try:
        step = latest(client, run)
        with open(path, "a", encoding="ascii") as acknowledged:
            while True:
                step += 1
                save(client, run, step, rank, world, attempt)
                acknowledged.write(f"{step}\n")
                acknowledged.flush()
    except redis.RedisError as error:
        with open(path + ".ends", "a", encoding="ascii", errors="backslashreplace") as ends:
            ends.write(f"attempt {attempt}, rank {rank} of {world}: {type(error).__name__}: {error}\n")
