"""cairnkv: nested state_dicts of tensors in a CairnKV server, over any redis-py connection.

    import redis, cairnkv
    client = redis.Redis(port=6379)
    cairnkv.save("runs:digits", step, {"model": model.state_dict(), "rng": cairnkv.capture_rng()},
                 client=client)
    state = cairnkv.load("runs:digits", client=client)        # the latest version, or a KeyError

A version becomes visible as a whole or not at all, whenever either side is killed. Nothing is ever
pickled or unpickled. Several ranks, saves from a thread and all else: Run.
"""

from cairnkv.checkpoint import load, save
from cairnkv.rng import capture_rng, restore_rng
from cairnkv.run import Run
from cairnkv.shards import Shard, even_rows
from cairnkv.trainer import CheckpointCallback
from cairnkv.upload import SaveFailed

__all__ = [
    "CheckpointCallback",
    "Run",
    "SaveFailed",
    "Shard",
    "capture_rng",
    "even_rows",
    "load",
    "restore_rng",
    "save",
]
