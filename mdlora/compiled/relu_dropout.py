"""ReLU and dropout in one pass over memory each way; the way there is in place.

What was drawn becomes, unit by unit, what is alive: kept and above zero. The way back reads that, a
bit or a byte a unit, and not the outputs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mdlora.compiled.kernel import kernel

__all__ = ["pass_alive_bits", "pass_alive_bytes", "relu_keep_bits", "relu_keep_bytes"]

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@kernel
def relu_keep_bits(x: Floats, bits: Bytes, scale: np.float32) -> None:
    """x[i] becomes relu(x[i]) * scale where unit i's bit is 1, else 0; zeros' bits are cleared.

    Bit b of byte j is unit b * len(bits) + j's.
    """
    zero, all_bits = np.float32(0), np.uint8(255)
    for b in range(8):
        bit, others = np.uint8(1 << b), np.uint8(255 - (1 << b))
        start = b * bits.size
        num = min(bits.size, x.size - start)
        part = x[start : start + num]
        for j in range(num):
            value = part[j] * scale
            alive = ((bits[j] & bit) != 0) & ~(part[j] <= zero)  # what is not a number stays so
            part[j] = value if alive else zero
            bits[j] = bits[j] & (all_bits if alive else others)


@kernel
def relu_keep_bytes(x: Floats, drawn: Bytes, threshold: int, scale: np.float32) -> None:
    """x[i] becomes relu(x[i]) * scale where drawn[i] >= threshold, else 0; drawn[i] 1 or 0."""
    zero, least = np.float32(0), np.uint8(threshold)
    for i in range(x.size):
        value = x[i] * scale
        alive = (drawn[i] >= least) & ~(x[i] <= zero)
        x[i] = value if alive else zero
        drawn[i] = np.uint8(1) if alive else np.uint8(0)


@kernel
def pass_alive_bits(grad: Floats, bits: Bytes, scale: np.float32, of_x: Floats) -> None:
    """of_x[i] = grad[i] * scale where unit i's bit is 1, else 0; bits as in `relu_keep_bits`."""
    zero = np.float32(0)
    for b in range(8):
        bit = np.uint8(1 << b)
        start = b * bits.size
        num = min(bits.size, grad.size - start)
        part, out = grad[start : start + num], of_x[start : start + num]
        for j in range(num):
            value = part[j] * scale
            out[j] = zero if (bits[j] & bit) == 0 else value


@kernel
def pass_alive_bytes(grad: Floats, alive: Bytes, scale: np.float32, of_x: Floats) -> None:
    """of_x[i] = grad[i] * scale where alive[i] is not 0, else 0."""
    zero = np.float32(0)
    for i in range(grad.size):
        value = grad[i] * scale
        of_x[i] = zero if alive[i] == 0 else value
