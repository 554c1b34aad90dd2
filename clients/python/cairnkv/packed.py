"""A small nested state as one blob: u64 length (little-endian), JSON {"tree", "blocks": [[dtype, shape]]}, the blocks' bytes.

Example: {"a": 1} -> 1f 00 00 00 00 00 00 00, then the 31 bytes {"tree":{"dict":[["a",1]]},"blocks":[]} without its spaces
"""

import json
import math
import struct

from cairnkv import dtypes, state as states


def pack(value) -> bytes:
    """Errors: TypeError and ValueError as state.flatten."""
    tree, blocks = states.flatten(value)
    head = json.dumps({"tree": tree, "blocks": [[block.dtype, list(block.shape)] for block in blocks]},
                      allow_nan=False, separators=(",", ":")).encode()
    return b"".join([struct.pack("<Q", len(head)), head, *[bytes(block.memory) for block in blocks]])


def unpack(blob):
    """Errors: ValueError for what pack does not make."""
    if len(blob) < 8 or struct.unpack_from("<Q", blob)[0] > len(blob) - 8:
        raise ValueError("a packed state that is cut short")
    at = 8 + struct.unpack_from("<Q", blob)[0]
    head = json.loads(blob[8:at])
    blocks = []
    for dtype, shape in head["blocks"]:
        size = math.prod(shape) * dtypes.SIZE_BYTES[dtype]
        if size > len(blob) - at:
            raise ValueError("a packed state that is cut short")
        blocks.append((dtype, shape, bytearray(blob[at:at + size])))
        at += size
    return states.unflatten(head["tree"], blocks)
