"""XXH3-128 of chunks, as the server has it: from the xxhash binding, or from libxxhash by ctypes.

available() is False where there is neither: saves then send all bytes.
"""

import ctypes
import ctypes.util

CHUNK_BYTES = 256 << 10      # the server's grid


class _Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def _from_binding():
    try:
        import xxhash
    except ImportError:
        return None
    return lambda view: xxhash.xxh3_128_hexdigest(view)


def _from_library():
    name = ctypes.util.find_library("xxhash")
    try:
        function = ctypes.CDLL(name).XXH3_128bits if name else None
    except (OSError, AttributeError):
        return None
    if function is None:
        return None
    function.restype = _Hash128
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def digest(view):
        # numpy gives the address of read-only memory too, which ctypes refuses.
        import numpy
        memory = numpy.frombuffer(view, dtype=numpy.uint8)
        result = function(memory.ctypes.data, memory.nbytes)
        return f"{result.high:016x}{result.low:016x}"

    return digest


_DIGEST = _from_binding() or _from_library()


def available() -> bool:
    return _DIGEST is not None


def chunk_ranges(size_bytes: int, phase: int = 0) -> list:
    """[(begin, end)] of the cells of the server's grid, `phase` being where in its cell byte 0 lies."""
    cuts = [0, *range(CHUNK_BYTES - phase, size_bytes, CHUNK_BYTES), size_bytes]
    return [(begin, end) for begin, end in zip(cuts, cuts[1:]) if begin < end]


def digest(view) -> str:
    """32 hexadecimal digits. Requires: available(). The interpreter's lock is not held by ctypes."""
    return _DIGEST(view)
