"""Bias, ReLU and dropout in one pass over memory each way, in place.

What was drawn becomes, unit by unit, what is alive: kept and above zero. The way back reads that, a
bit or a byte a unit, and not the outputs; it sums the gradient of the bias on its way.

Shapes (B rows, O units; n of the rows, from `first` on): z and grad (n, O), bias and of_bias
(O,). What was drawn is for all B rows; with bits, bit b of byte j is that of unit
b * len(bits) + j, counted through all rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mdlora.compiled.kernel import kernel

__all__ = ["keep_bits", "keep_bytes", "pass_bits", "pass_bytes"]

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@kernel
def keep_bits(z: Floats, bias: Floats, bits: Bytes, scale: np.float32, first: int) -> None:
    """Make z relu(z + bias) * scale where the unit's bit is 1, else 0; zeros lose their bits."""
    units, width = z.reshape(-1), z.shape[1]
    zero, all_bits = np.float32(0), np.uint8(255)
    begin = first * width
    for b in range(8):
        bit, others = np.uint8(1 << b), np.uint8(255 - (1 << b))
        plane = b * bits.size - begin
        at, end = max(plane, 0), min(plane + bits.size, units.size)
        while at < end:  # to the end of the row, or of the bits
            column = at % width
            num = min(width - column, end - at)
            part, shift = units[at : at + num], bias[column : column + num]
            drawn = bits[at - plane : at - plane + num]
            for j in range(num):
                value = (part[j] + shift[j]) * scale
                alive = ((drawn[j] & bit) != 0) & ~(value <= zero)  # no number stays no number
                part[j] = value if alive else zero
                drawn[j] = drawn[j] & (all_bits if alive else others)
            at += num


@kernel
def pass_bits(grad: Floats, bits: Bytes, scale: np.float32, of_bias: Floats, first: int) -> None:
    """Make grad grad * scale where the unit's bit is 1, else 0; of_bias gains its sum."""
    units, width = grad.reshape(-1), grad.shape[1]
    zero = np.float32(0)
    begin = first * width
    for b in range(8):
        bit = np.uint8(1 << b)
        plane = b * bits.size - begin
        at, end = max(plane, 0), min(plane + bits.size, units.size)
        while at < end:
            column = at % width
            num = min(width - column, end - at)
            part, total = units[at : at + num], of_bias[column : column + num]
            alive = bits[at - plane : at - plane + num]
            for j in range(num):
                value = part[j] * scale
                value = value if (alive[j] & bit) != 0 else zero
                part[j] = value
                total[j] += value
            at += num


@kernel
def keep_bytes(
    z: Floats, bias: Floats, drawn: Bytes, threshold: int, scale: np.float32, first: int
) -> None:
    """Make z relu(z + bias) * scale where drawn >= threshold, else 0; drawn becomes 1 or 0."""
    width = z.shape[1]
    zero, least = np.float32(0), np.uint8(threshold)
    for i in range(z.shape[0]):
        at = (first + i) * width
        part, byte = z[i], drawn[at : at + width]
        for j in range(width):
            value = (part[j] + bias[j]) * scale
            alive = (byte[j] >= least) & ~(value <= zero)
            part[j] = value if alive else zero
            byte[j] = np.uint8(1) if alive else np.uint8(0)


@kernel
def pass_bytes(grad: Floats, alive: Bytes, scale: np.float32, of_bias: Floats, first: int) -> None:
    """Make grad grad * scale where alive is 1, else 0; of_bias gains its sum."""
    width = grad.shape[1]
    zero = np.float32(0)
    for i in range(grad.shape[0]):
        at = (first + i) * width
        part, byte = grad[i], alive[at : at + width]
        for j in range(width):
            value = part[j] * scale
            value = value if byte[j] != 0 else zero
            part[j] = value
            of_bias[j] += value
