"""torch.distributed's checkpoint package, wherever the installed torch has it, as `checkpoint`; `sharded_tensor` beside it.

torch 1.13 keeps it in torch.distributed._shard, which Python 3.11 refuses to import: a dataclass there has an instance of another
one as a default, and Python takes what has no hash for mutable since 3.11. torch 2 mended it; Debian 12 has this very pair.
So that one class is given its hash while the package is imported.
"""

import dataclasses


def _import():
    try:
        from torch.distributed import checkpoint
    except ImportError:
        from torch.distributed._shard import checkpoint
    from torch.distributed._shard import sharded_tensor
    return checkpoint, sharded_tensor


def _import_with_hash():
    original = dataclasses.dataclass

    def dataclass(cls=None, /, **options):
        if cls is not None and cls.__module__.startswith("torch.distributed._shard") and cls.__name__ == "TensorProperties":
            options = {"unsafe_hash": True, **options}
        return original(cls, **options)

    dataclasses.dataclass = dataclass
    try:
        return _import()
    finally:
        dataclasses.dataclass = original


try:
    checkpoint, sharded_tensor = _import()
except ValueError as error:
    if "mutable default" not in str(error):
        raise
    checkpoint, sharded_tensor = _import_with_hash()
