"""XXH3-128 of chunks, as the server has it: from the xxhash binding, or from libxxhash by ctypes.

available() is False where there is neither: saves then send all bytes.
"""

import ctypes
import ctypes.util

import numpy

CHUNK_BYTES = 256 << 10      # the server's grid


class _Hash128(ctypes.Structure):
    _fields_ = [("low", ctypes.c_uint64), ("high", ctypes.c_uint64)]


def _from_binding():
    """A function (memory, [(begin, end)]) -> digests, or None where there is no binding."""
    try:
        from xxhash import xxh3_128_hexdigest
    except ImportError:
        return None
    return lambda memory, ranges: [xxh3_128_hexdigest(memory[begin:end]) for begin, end in ranges]


def _from_library():
    """The same by libxxhash (0.8 and later). The interpreter's lock is not held while it hashes."""
    name = ctypes.util.find_library("xxhash")
    try:
        function = ctypes.CDLL(name).XXH3_128bits if name else None
    except (OSError, AttributeError):
        return None
    if function is None:
        return None
    function.restype = _Hash128
    function.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

    def digests(memory, ranges):
        # numpy gives the address of read-only memory too, which ctypes refuses.
        whole = numpy.frombuffer(memory, dtype=numpy.uint8)
        address, size = whole.ctypes.data, whole.nbytes
        out = []
        for begin, end in ranges:
            if not 0 <= begin <= end <= size:
                raise ValueError(f"bytes {begin} to {end} of {size}")
            result = function(address + begin, end - begin)
            out.append(f"{result.high:016x}{result.low:016x}")
        return out

    return digests


_DIGESTS = _from_binding() or _from_library()


def available() -> bool:
    return _DIGESTS is not None


def chunk_ranges(size_bytes: int, phase: int = 0) -> list:
    """[(begin, end)] of the cells of the server's grid, `phase` being where in its cell byte 0 lies."""
    cuts = [0, *range(CHUNK_BYTES - phase, size_bytes, CHUNK_BYTES), size_bytes]
    return [(begin, end) for begin, end in zip(cuts, cuts[1:]) if begin < end]


def digests(memory, ranges) -> list:
    """32 hexadecimal digits of each range of `memory`. Requires: available(); a memory that is not empty."""
    return _DIGESTS(memory, ranges)
