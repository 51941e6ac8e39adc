"""Bias, ReLU and dropout in one pass over memory each way, in place.

What was drawn becomes, unit by unit, what is alive: kept and above zero. The way back reads that, a
bit or a byte a unit, and not the outputs; it sums the gradient of the bias on its way.

Shapes (B rows, O units; n of the rows, from `first` on): z and grad (n, O), bias and of_bias
(O,). What was drawn is for all B rows: a byte a unit, kept from `threshold` on; or, where that is
`HALF`, a bit: bit b of byte j is that of unit b * len(drawn) + j, counted through all rows.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mdlora.compiled.drawn_vectors import keep_lanes, pass_lanes
from mdlora.compiled.kernel import bare_kernel
from mdlora.compiled.vectors import LANES, add, inlined, load, load_along, store, store_along

__all__ = ["HALF", "Bytes", "keep", "keep_row", "pass_back", "pass_row"]

HALF = 128
"""The threshold from which half of all bytes are: a bit does as well."""

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]


@inlined
def _piece(unit: int, num: int, drawn: Bytes, threshold: int) -> tuple[int, int, int, int]:
    """Of `num` units, how many lie together from this one on; their byte; their mask and least."""
    if threshold != HALF:
        return num, unit, 255, threshold
    mask = 1
    while unit >= drawn.size:  # 7 times at most, which costs less than a division
        unit -= drawn.size
        mask <<= 1
    return min(num, drawn.size - unit), unit, mask, mask


@inlined
def keep_row(
    z: Floats, i: int, bias: Floats, drawn: Bytes, threshold: int, scale: np.float32, first: int
) -> None:
    """Make row i of z relu(z + bias) * scale where a unit is kept, else 0."""
    zero, width = np.float32(0), z.shape[1]
    unit, done = (first + i) * width, 0
    while done < width:
        num, at, bits, low = _piece(unit + done, width - done, drawn, threshold)
        mask, least, end = np.uint8(bits), np.uint8(low), done + num
        at -= done
        wide = done + num // LANES * LANES
        for j in range(done, wide, LANES):
            x = add(load(z, i, j), load_along(bias, j))
            store(keep_lanes(x, scale, drawn, at + j, mask, least), z, i, j)
        for j in range(wide, end):
            value = (z[i, j] + bias[j]) * scale
            alive = ((drawn[at + j] & mask) >= least) & ~(value <= zero)
            z[i, j] = value if alive else zero
            if not alive:
                drawn[at + j] = drawn[at + j] & ~mask
        done = end


@inlined
def pass_row(
    grad: Floats, i: int, drawn: Bytes, threshold: int, scale: np.float32, of_bias: Floats,
    first: int,
) -> None:  # fmt: skip
    """Make row i of grad grad * scale where a unit is alive, else 0; of_bias gains it."""
    zero, width = np.float32(0), grad.shape[1]
    unit, done = (first + i) * width, 0
    while done < width:
        num, at, bits, low = _piece(unit + done, width - done, drawn, threshold)
        mask, least, end = np.uint8(bits), np.uint8(low), done + num
        at -= done
        wide = done + num // LANES * LANES
        for j in range(done, wide, LANES):
            x = pass_lanes(load(grad, i, j), scale, drawn, at + j, mask, least)
            store(x, grad, i, j)
            store_along(add(load_along(of_bias, j), x), of_bias, j)
        for j in range(wide, end):
            value = grad[i, j] * scale if (drawn[at + j] & mask) >= least else zero
            grad[i, j] = value
            of_bias[j] += value
        done = end


@bare_kernel
def keep(
    z: Floats, bias: Floats, drawn: Bytes, threshold: int, scale: np.float32, first: int
) -> None:
    """Make z relu(z + bias) * scale where a unit is kept, else 0; `drawn` becomes what is alive."""
    for i in range(z.shape[0]):
        keep_row(z, i, bias, drawn, threshold, scale, first)


@bare_kernel
def pass_back(
    grad: Floats, drawn: Bytes, threshold: int, scale: np.float32, of_bias: Floats, first: int
) -> None:
    """Make grad grad * scale where a unit is alive, else 0; of_bias gains its sum."""
    for i in range(grad.shape[0]):
        pass_row(grad, i, drawn, threshold, scale, of_bias, first)
