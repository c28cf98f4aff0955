"""Element-wise arithmetic of the VECTOR command; the only module of the GPU that needs numpy."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from vfiodev.gpu.commands import VectorOp

_Operation = Callable[[memoryview, memoryview, NDArray[np.float32]], NDArray[np.generic]]


def compute(operation: VectorOp, first: memoryview, second: memoryview, scalar: bytes) -> memoryview:
    """Return the bytes of the result; operands are whole 32-bit words, ``scalar`` is a float."""
    with np.errstate(all="ignore"):
        return _OPERATIONS[operation](first, second, _floats(memoryview(scalar))).view(np.uint8).data


def _words(view: memoryview) -> NDArray[np.uint32]:
    return np.frombuffer(view, dtype="<u4")


def _floats(view: memoryview) -> NDArray[np.float32]:
    return np.frombuffer(view, dtype="<f4")


_OPERATIONS: dict[VectorOp, _Operation] = {
    VectorOp.ADD_U32: lambda a, b, _: _words(a) + _words(b),
    VectorOp.MULTIPLY_U32: lambda a, b, _: _words(a) * _words(b),
    VectorOp.XOR: lambda a, b, _: _words(a) ^ _words(b),
    VectorOp.ADD_F32: lambda a, b, _: _floats(a) + _floats(b),
    VectorOp.MULTIPLY_F32: lambda a, b, _: _floats(a) * _floats(b),
    VectorOp.SCALE_ADD_F32: lambda a, b, scalar: scalar * _floats(a) + _floats(b),
}
