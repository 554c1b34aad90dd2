"""Names of element types on the wire (those of safetensors) against torch and numpy, and the bytes.

Blobs are little-endian, C order, bit-exact: NaN payloads and -0.0 survive.
"""

import sys

import numpy
import torch

if sys.byteorder != "little":
    raise ImportError("cairnkv sends memory as it stands and needs a little-endian machine")

TORCH = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool, "C64": torch.complex64, "C128": torch.complex128,
}
NUMPY = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1", "C64": "<c8", "C128": "<c16",
}
SIZE_BYTES = {name: numpy.dtype(kind).itemsize for name, kind in NUMPY.items()} | {"BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
_OF_TORCH = {kind: name for name, kind in TORCH.items()}
_OF_NUMPY = {kind: name for name, kind in NUMPY.items()}


def name_of_torch(dtype: torch.dtype) -> str:
    """Errors: TypeError for a type without a name on the wire (quantized, for one)."""
    if dtype not in _OF_TORCH:
        raise TypeError(f"tensors of {dtype} cannot be stored")
    return _OF_TORCH[dtype]


def name_of_numpy(dtype: numpy.dtype) -> str:
    """Errors: TypeError for a type without a name on the wire (objects, strings, big-endian)."""
    if dtype.str not in _OF_NUMPY:
        raise TypeError(f"arrays of {dtype} cannot be stored")
    return _OF_NUMPY[dtype.str]


def memory_of_torch(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous CPU tensor, without a copy. The view keeps the tensor alive."""
    if tensor.dtype == torch.bfloat16:  # numpy has no such type
        tensor = tensor.view(torch.int16)
    return memory_of_numpy(tensor.numpy())


def memory_of_numpy(array: numpy.ndarray) -> memoryview:
    """The bytes of a C-contiguous array, without a copy. The view keeps the array alive."""
    return memoryview(array.reshape(-1).view(numpy.uint8))


def torch_of_bytes(blob, dtype: str, shape) -> torch.Tensor:
    """A tensor over `blob` (writable memory), which must stay untouched from then on. No copy."""
    if len(blob) == 0:
        return torch.empty(tuple(shape), dtype=TORCH[dtype])
    return torch.frombuffer(blob, dtype=TORCH[dtype]).reshape(tuple(shape))


def numpy_of_bytes(blob, dtype: str, shape) -> numpy.ndarray:
    """An array over `blob`, which must stay untouched from then on. No copy."""
    return numpy.frombuffer(blob, dtype=NUMPY[dtype]).reshape(tuple(shape))
